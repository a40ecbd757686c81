/* SPDX-License-Identifier: MIT
 *
 * engine.h - everything below the front ends, opened, wired up and closed in one place.
 *
 *   serve/  ->  engine  =  flow/{store,fetch,evict,foresee}  over  l2/tier*, policy/stream, l1/l1, chunk/names,
 * base/loop
 *
 * The struct is open to serve/ and to the host API: they call the flows directly. Members are set by open and do not
 * change until close; what the set of tiers holds does (live.h). */
#pragma once
#include "flow/evict.h"
#include "flow/fetch.h"
#include "flow/foresee.h"
#include "flow/store.h"
#include "lab/lab.h"

typedef struct neap__engine_config {
  neap__l1_config l1;          /* emit and wanted are set by the engine */
  const char *eviction_policy; /* as in policy/registry.h */
  neap_cost recompute;         /* of a chunk, as the policy is told */
  double watermark, ratio;
  const char *const *l2_adapters; /* JSON texts */
  uint32_t l2_adapter_count;
  const char *plugin_dirs; /* colon-separated */
  const char *lua_dir;     /* where lua/neap/ lies */
  bool skip_l1, retain;
  uint32_t prefetch_in_flight;
  uint64_t prefetch_deadline_ms;
  uint32_t workers;        /* threads of the pool, 0 = 16 */
  uint64_t record_bytes;   /* bound of the recording of requests; 0: none is made */
  uint32_t policy_window;  /* requests of a sliding window of hit ratios; 0 = 4096 */
  uint64_t close_grace_ms; /* how long close waits for stores, and then for all tiers; 0 = 10 s */
} neap__engine_config;

typedef struct neap__engine {
  neap__engine_config config;
  neap__loop *loop;
  neap__pool *pool;
  neap__l1 *l1;
  neap__names *names;
  neap__l1_report report;
  neap__stream *stream;
  neap__evictor *evictor;
  neap__tier_set *tiers;
  neap__pool *changes; /* its threads open and close adapters while the engine runs */
  neap__known *known;
  neap__storer *storer;
  neap__fetcher *fetcher;
  neap__fate *fate;
  neap__lab *lab;
  neap__foresight *foresight;
  uint64_t opened_ns;
} neap__engine;

/* Opens everything; on failure nothing is left behind and err names the part. Strings of config are borrowed. */
int neap__engine_open(const neap__engine_config *config, neap__engine **out, neap_error *err);
/* Detaches a tier; see neap__tier_set_detach. Blocks: on a thread of engine->changes, for instance. */
int neap__engine_detach(neap__engine *engine, const char *name, uint64_t grace_ms, neap_error *err);
/* Drains: stores in flight finish (bounded), tiers and L1 close. keep_l1 leaves L1 for the next start. All fetches have
 * been ended before, and no change is asked for any more. An adapter that does not give its operations back in time is
 * left open, and with it the memory and the threads that it may use: that is said in the log, and L1's names are
 * removed all the same. */
void neap__engine_close(neap__engine *engine, bool keep_l1);
