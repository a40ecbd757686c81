/* SPDX-License-Identifier: MIT
 *
 * kit/checks.h - the checks, between the files of kit/ only. Each is called in a process of its own; see kit/case.h. */
#pragma once
#include "kit/case.h"

/* checks_basic.c */
void neap__check_loads(neap__kit *kit);
void neap__check_open(neap__kit *kit);
void neap__check_store_load(neap__kit *kit);
void neap__check_batches(neap__kit *kit);
void neap__check_per_key(neap__kit *kit);
void neap__check_first_wins(neap__kit *kit);
void neap__check_sizes(neap__kit *kit);
void neap__check_wrong_size(neap__kit *kit);
void neap__check_keys(neap__kit *kit);
void neap__check_long_keys(neap__kit *kit);
void neap__check_tenants(neap__kit *kit);
void neap__check_lookup(neap__kit *kit);
void neap__check_delete(neap__kit *kit);
void neap__check_delete_missing(neap__kit *kit);
