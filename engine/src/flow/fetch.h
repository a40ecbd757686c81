/* SPDX-License-Identifier: MIT
 *
 * flow/fetch.h - the journey up: a lookup, and the loads from L2 that make its answer true.
 *
 * A fetch asks for a matrix of objects, chunks x rows (a row is one rank of one layout; a chunk is usable when all its
 * rows are there). It leases what L1 has, asks the tiers only for what L1 lacks, folds presence into the longest
 * usable prefix, asks the policy how much of it to load, from where, and what of it to keep, if it makes such plans,
 * loads it (one load per key however many fetches want it), and ends with every object of the prefix leased to its
 * owner and nothing else. The first part runs on the caller's thread: a fetch that L1 can answer alone is done when
 * neap__fetch_start returns. One deadline per fetch; at the deadline the prefix that is usable by then is the answer.
 */
#pragma once
#include "flow/evict.h"
#include "flow/known.h"
#include "l2/tier_set.h"
#include "lab/fate.h"

typedef struct neap__fetcher neap__fetcher;
typedef struct neap__fetch neap__fetch;

typedef struct neap__fetcher_config {
  neap__l1 *l1;
  neap__evictor *evictor;
  neap__loop *loop;
  neap__tier_set *tiers;
  neap__stream *stream;
  neap__known *known;
  uint32_t in_flight_max; /* fetches that use L2 at once; the rest wait in order */
  uint64_t deadline_ms;   /* for the L2 part of one fetch; 0 = 30 s */
  bool retain;            /* keep what was loaded; else it is temporary while L1 is above its watermark */
  double watermark;
  neap__fate *fate; /* hears of objects that were lost; may be NULL */
} neap__fetcher_config;

int neap__fetcher_open(const neap__fetcher_config *config, neap__fetcher **out);
/* No fetch turns to a tier from now on: those that wait or look up end with what L1 has, loads under way go on. Before
 * the tiers close. Not on the loop thread. */
void neap__fetcher_drain(neap__fetcher *fetcher);
/* Lookups under way forget what they found in the tier of that index. Loop thread. */
void neap__fetcher_forget(neap__fetcher *fetcher, uint32_t tier);
/* After the tiers closed: nothing of a fetch is in flight any more. Not on the loop thread. */
void neap__fetcher_close(neap__fetcher *fetcher);

typedef struct neap__fetch_request {
  uint32_t chunks, rows;
  uint32_t chunks_asked;     /* for log and statistics, when some were ruled out before; 0 = chunks */
  const neap__key *keys;     /* [chunks][rows], copied */
  const uint64_t *row_bytes; /* [rows]: size of each row's objects */
  neap__owner owner;         /* leases of the answer; kind REQUEST or LOCAL */
  uint32_t readers;          /* readers per lease, at least 1 */
  bool warm;                 /* load and keep, but lease nothing when done (prefetch without a reader) */
  char name[128];            /* request id, for the log line */
  void (*done)(void *ctx);   /* called once when the state becomes final, loop thread or inside start; may be NULL */
  void *ctx;
} neap__fetch_request;

#define NEAP_FETCH_CELLS_MAX (1u << 20) /* chunks * rows of one fetch */

/* Starts a fetch. 0 and *out (one reference), or NEAP_ENOMEM, NEAP_ELIMIT (no row, or more cells than
 * NEAP_FETCH_CELLS_MAX). Any thread. */
int neap__fetch_start(neap__fetcher *fetcher, const neap__fetch_request *request, neap__fetch **out);

/* True when final: *hit_chunks is the usable prefix. Any thread, no lock. */
bool neap__fetch_poll(neap__fetch *fetch, uint32_t *hit_chunks);

/* After the fetch is final: its lease on the object (chunk < hit, row); taking it (take = true) makes it the
 * caller's, and the slot reads NEAP_NO_LEASE from then on. One caller at a time. */
neap__lease neap__fetch_lease(neap__fetch *fetch, uint32_t chunk, uint32_t row, bool take);

/* Ends the caller's reference: leases not taken are released, now or as soon as running loads let go of them. */
void neap__fetch_end(neap__fetch *fetch);

typedef struct neap__fetcher_stats {
  uint64_t lookups, chunks_requested, chunks_hit, l1_objects_hit, l2_objects_hit;
  uint64_t l2_lookups, l2_lookup_objects, loads, load_objects, loaded_objects;
  uint64_t failed_l1_oom, failed_not_found, failed_deadline;
  uint64_t recomputed_chunks; /* there, but a plan left them out */
  uint32_t in_flight, waiting, lookup_phase, load_phase;
} neap__fetcher_stats;
void neap__fetcher_stats_get(neap__fetcher *fetcher, neap__fetcher_stats *out);
