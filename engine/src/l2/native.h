/* SPDX-License-Identifier: MIT
 *
 * l2/native.h - tables from shared objects, and what any table must have. Between the files of l2/ only. */
#pragma once
#include "l2/registry.h"

/* The loader for ".so". */
extern const neap__loader neap__native_loader;

/* Whether table can be called: magic, ABI, size, name, required functions. from: for messages. 0, NEAP_EABI,
 * NEAP_EINVAL. */
int neap__native_check(const neap_adapter *table, const char *from, neap_error *err);

/* The loader for the suffix of path, or NULL with err. */
const neap__loader *neap__registry_loader(const char *path, neap_error *err);
