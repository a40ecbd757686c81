/* SPDX-License-Identifier: MIT
 *
 * replay/replay.h - what policies would have made of a trace: one run per policy and size, over names only.
 *
 * A run is a ghost cache (policy/ghost_cache.h) fed with the requests of a trace in file order, on one thread from its
 * first event to its last, because the VM of a Lua policy belongs to a thread. Runs share nothing but the trace, so the
 * same trace, seed and policies give the same figures however many threads there are; only `seconds` differs. Not here:
 * how figures are shown (cli/replay.c, replay/report.h). */
#pragma once
#include "policy/ghost_cache.h"
#include "policy/registry.h"
#include "replay/tiers.h"
#include "trace/trace.h"

/* --- a trace as replays see it ------------------------------------------------------------------------------------ */

#define NEAP__REPLAY_BUCKETS 60 /* points of the hit ratio over time */
#define NEAP__REPLAY_GROUPS 12  /* tenants that are shown; the last one stands for all others if there are more */

/* units         size by chunk number in KiB; NULL: each chunk is one unit
 * distinct      chunks that are referenced
 * next          [references] as neap__ghost_request.next, in the order of trace->chunk; NULL if it was not asked for
 * bucket_first  requests of bucket b: bucket_first[b] .. bucket_first[b + 1] - 1
 * by_time       a bucket is a stretch of time; else, as the requests are not in the order of time, of requests
 * group_of      [tenants] which group a tenant belongs to, the busiest first */
typedef struct neap__replay_input {
  const neap__trace *trace;
  bool head_first, by_time;
  uint32_t distinct, groups;
  const uint32_t *units;
  uint64_t units_total; /* of all distinct chunks */
  uint32_t *next;
  uint32_t bucket_first[NEAP__REPLAY_BUCKETS + 1];
  uint8_t *group_of;
  const char *group_name[NEAP__REPLAY_GROUPS];
} neap__replay_input;

/* The trace is borrowed until neap__replay_input_close. uniform: what the trace tells of sizes is ignored. future:
 * compute `next`. 0, NEAP_ENOMEM, NEAP_EINVAL (no references) or NEAP_ELIMIT (too many of them). */
int neap__replay_input_open(const neap__trace *trace, bool head_first, bool uniform, bool future,
                            neap__replay_input *out, neap_error *err);
void neap__replay_input_close(neap__replay_input *input);

/* True for policies that may look at neap_policy_context.next: Belady, and those from files. */
bool neap__replay_needs_future(const neap__policy_spec *policy);

/* --- reuse distances ---------------------------------------------------------------------------------------------- */

/* How many distinct chunks were touched between two touches of the same one, exactly (Mattson, Gecsei, Slutz and
 * Traiger, "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970). An LRU of c objects hits
 * whenever that is less than c, so hits[c] is its curve for all sizes at once.
 * histogram[0]: distance 0; [b]: distances from 2^(b-1) to 2^b - 1 */
typedef struct neap__replay_reuse {
  uint64_t histogram[33], cold; /* cold: first touches */
  uint64_t *hits;               /* [distinct + 1] */
} neap__replay_reuse;

/* 0 or NEAP_ENOMEM. */
int neap__replay_reuse_open(const neap__replay_input *input, neap__replay_reuse *out);
void neap__replay_reuse_close(neap__replay_reuse *reuse);

/* --- sizes -------------------------------------------------------------------------------------------------------- */

#define NEAP__REPLAY_SIZES_MAX 64u /* of one study */

typedef enum neap__replay_size_kind {
  NEAP_REPLAY_FRACTION,
  NEAP_REPLAY_CHUNKS,
  NEAP_REPLAY_BYTES
} neap__replay_size_kind;

typedef struct neap__replay_size {
  neap__replay_size_kind kind;
  double value; /* 0.05, chunks, or bytes */
  char text[24];
} neap__replay_size;

/* "5%", "0.1%", "20000" (chunks), "64M", "2GiB" (bytes). NEAP_EINVAL with the word and what was expected. */
int neap__replay_size_parse(const char *word, neap__replay_size *out, neap_error *err);

/* The capacity in the units of the input, and in chunks (of average size if they differ). A percentage is one of the
 * distinct chunks, floor, at least 1. Bytes need chunk_bytes, or a trace that tells sizes. */
int neap__replay_capacity(const neap__replay_size *size, const neap__replay_input *input, uint64_t chunk_bytes,
                          uint64_t *units, uint64_t *chunks, neap_error *err);

/* --- runs --------------------------------------------------------------------------------------------------------- */

/* "NAME:SIZE:BANDWIDTH[:LATENCY]", such as "ssd:50%:3GBps" or "remote:1T:1GBps:2ms". */
typedef struct neap__replay_tier_spec {
  neap__replay_tier tier; /* but for its capacity */
  neap__replay_size size;
} neap__replay_tier_spec;
int neap__replay_tier_parse(const char *word, neap__replay_tier_spec *out, neap_error *err);

/* cost: of recomputing a chunk; load_us: of loading one from L1 instead. chunk_bytes: 0 if it is not known; tiers need
 * it, or a trace that tells sizes. batch: victims asked for at once. */
typedef struct neap__replay_options {
  uint64_t seed, chunk_bytes;
  uint32_t batch, threads;
  neap_cost cost;
  double load_us;
  neap__replay_tier tier[NEAP__REPLAY_TIERS];
  uint32_t tiers;
  /* Said about ten times a second on the caller's thread: references done and total, of all runs. May be NULL. */
  void (*progress)(void *ctx, uint64_t done, uint64_t total);
  void *ctx;
} neap__replay_options;

typedef struct neap__replay_share {
  uint64_t accesses, hits, prefix_hits;
} neap__replay_share;

/* A run: policy, size and capacity are the caller's to set, the rest is the result.
 * rc         0, NEAP_ENOMEM, or what the policy did: then err says what, with file and line, and the figures end there
 * seconds    of the processor, for the requests alone
 * all_us     cost of recomputing every chunk; saved_us: of those found, less their loading
 * saved_kib  of the chunks found; 0 if sizes are not known
 * usable     chunks that were not recomputed: prefix hits, and with tiers what they brought besides */
typedef struct neap__replay_run {
  const neap__policy_spec *policy;
  const neap__replay_size *size;
  uint64_t capacity, chunks;
  int rc;
  neap_error err;
  neap__ghost_stats stats;
  double seconds, all_us, saved_us;
  uint64_t saved_kib, usable;
  neap__replay_tier_stats tier[NEAP__REPLAY_TIERS];
  neap__replay_share bucket[NEAP__REPLAY_BUCKETS], group[NEAP__REPLAY_GROUPS];
} neap__replay_run;

/* Does all runs on at most options->threads threads and returns when the last one has ended. Each run's own rc tells
 * how it went; this one is 0 or NEAP_ENOMEM (no thread could be started). */
int neap__replay(const neap__replay_input *input, const neap__replay_options *options, neap__replay_run *runs,
                 uint32_t count);
