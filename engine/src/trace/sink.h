/* SPDX-License-Identifier: MIT
 *
 * trace/sink.h - a file that appears whole or not at all: written beside its place under another name, then renamed.
 * The first error sticks, and close tells it. One thread at a time. */
#pragma once
#include "base/base.h"

typedef struct neap__sink neap__sink;

/* 0, NEAP_EIO, NEAP_ENOSPC or NEAP_ENOMEM. */
int neap__sink_open(const char *path, neap__sink **out, neap_error *err);
void neap__sink_write(neap__sink *sink, const void *data, size_t bytes);
void neap__sink_printf(neap__sink *sink, const char *fmt, ...) NEAP_PRINTF(2, 3); /* at most 1023 bytes */
uint64_t neap__sink_bytes(const neap__sink *sink);
/* True once writing has failed: what follows is not written. */
bool neap__sink_failed(const neap__sink *sink);
/* Keeps the file, synced, under its name, or takes it away. Frees the sink. 0, or the first error with its text. */
int neap__sink_close(neap__sink *sink, bool keep, neap_error *err);
