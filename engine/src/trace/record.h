/* SPDX-License-Identifier: MIT
 *
 * trace/record.h - a recording of requests that is always on: compact, within a bound of memory, saved when asked for.
 *
 * Requests are coded into blocks; some blocks begin anew (keyframes), so that the oldest ones can be dropped. One
 * thread appends; any thread may save, flush or ask for figures meanwhile, and appending waits for it no longer than it
 * takes to list the blocks. With a salt nothing in the file can be traced to a prompt, tenant or session: hashes,
 * sessions and tenant names are replaced by keyed hashes of them, and the salt is not in the file.
 *
 * The file ("neap" of trace.h): a header of 24 bytes, then blocks; all numbers little endian.
 *   header   "neap-rec", u32 version (1), u32 tokens of a chunk (0: not told), u32 flags (1: salted), u32 CRC-32C of
 *            the 20 bytes before
 *   block    u32 payload bytes, u32 requests, u32 references, u32 flags (1: begins anew), u64 time in microseconds from
 *            which the first request counts (0 unless it begins anew), u32 CRC-32C of the 24 bytes before and the
 * payload payload  requests, one after another, as model.c codes them; at the end the words of 64 bits that they use
 * (hashes of new chunks, new sessions), the last one first */
#pragma once
#include "trace/model.h"
#include "trace/sink.h"

#define NEAP__RECORD_BYTES_MIN (64u << 10)

typedef struct neap__record_options {
  uint64_t bytes_max;    /* of blocks, at least NEAP__RECORD_BYTES_MIN; 0: no bound. The model of the newest requests
                            takes up to 2 MiB and as much again beside it */
  uint32_t chunk_tokens; /* 0: not told */
  bool salted;           /* without a salt here: what is appended is salted already */
  const uint8_t *salt;   /* NEAP_HASH_BYTES, copied; NULL: what is appended is recorded as it is */
} neap__record_options;

typedef struct neap__record neap__record;

/* 0, NEAP_EINVAL (bytes_max) or NEAP_ENOMEM. */
int neap__record_open(const neap__record_options *options, neap__record **out, neap_error *err);
void neap__record_close(neap__record *record); /* no other call may be under way */

/* Adds a request: chunk hashes head first, parents follow from their order if chained. Times may go back. 0, or
 * NEAP_ENOMEM or NEAP_ELIMIT (more than NEAP__REQUEST_CHUNKS_MAX chunks): the request is lost and counted. */
int neap__record_append(neap__record *record, const neap__model_request *request);

/* Ends the block, so that it is in what is saved next (save does that itself). 0 or NEAP_ENOMEM. */
int neap__record_flush(neap__record *record);

/* Writes what is held into a file, which appears whole or not at all. 0, NEAP_ENOMEM, NEAP_EIO or NEAP_ENOSPC. */
int neap__record_save(neap__record *record, const char *path, neap_error *err);
/* The same into a file that is open. 0 or NEAP_ENOMEM; the sink keeps its own errors. */
int neap__record_write(neap__record *record, neap__sink *sink);

typedef struct neap__record_stats {
  uint64_t requests, bytes, blocks;    /* that are held */
  uint64_t dropped, lost;              /* requests: for room, for errors */
  uint64_t references, repeated;       /* appended in all; repeated: to chunks known since the block that began anew */
  double spent_bits[NEAP_CODER_KINDS]; /* in all */
} neap__record_stats;
void neap__record_stats_get(neap__record *record, neap__record_stats *out);
