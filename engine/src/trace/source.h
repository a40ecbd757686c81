/* SPDX-License-Identifier: MIT
 *
 * trace/source.h - a file read from front to end, decompressed on the way, as lines or as records of equal length.
 *
 * Memory is bounded by the longest line. gzip, xz and zstd are told by content; anything else is read as it is. One
 * thread at a time. Not here: what lines and records mean. */
#pragma once
#include "trace/trace.h"

#define NEAP__LINE_MAX (64u << 20) /* bytes */

typedef struct neap__source neap__source;

/* 0, NEAP_ENOENT, NEAP_EIO, NEAP_ENOMEM, or NEAP_EINVAL (a damaged compressed file). The path is not kept. */
int neap__source_open(const char *path, neap__source **out, neap_error *err);
void neap__source_close(neap__source *source);

/* Looks at the next bytes without taking them: at least `bytes` unless the file ends before. Valid until the next
 * call. 0, or an error as above. */
int neap__source_peek(neap__source *source, size_t bytes, const char **data, size_t *have, neap_error *err);

/* The next line, NUL-terminated, without its line end ("\n" or "\r\n"); it may be changed, and is valid until the next
 * call. 1, 0 at the end, or an error: NEAP_EINVAL for a line longer than NEAP__LINE_MAX or one that holds a NUL. */
int neap__source_line(neap__source *source, char **line, size_t *bytes, neap_error *err);

/* The next `bytes` bytes, valid until the next call. 1, 0 at the end, or an error: NEAP_EINVAL if the file ends
 * within the record. */
int neap__source_record(neap__source *source, size_t bytes, const uint8_t **record, neap_error *err);

/* Takes bytes that neap__source_peek showed, without counting them as a record. */
void neap__source_skip(neap__source *source, size_t bytes);

/* Where reading is: the number of the last line or record, from 1, and bytes of the file as it lies on the disk. */
uint64_t neap__source_number(const neap__source *source);
uint64_t neap__source_done(const neap__source *source);
uint64_t neap__source_total(const neap__source *source); /* 0 if it is no regular file */
