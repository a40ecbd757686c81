/* SPDX-License-Identifier: MIT
 *
 * engine.c - opens, wires up and closes everything below the front ends; the only file that knows all of it. Runs on
 * the thread of whoever opens and closes the engine. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

#include "policy/registry.h"
#include "script/lua_policy.h"
#include "script/script.h"

#define WORKERS 16u /* they wait for disks more than they compute: this is how deep reads go */
#define WORK_QUEUE 65536u
#define GRACE_MS 10000u
#define PREFETCHES 8u
#define CHANGES 4u /* changes of adapters at once; each may wait for an adapter */
#define CHANGE_QUEUE 64u
#define FATES_MIN 65536u
#define FATES_MAX (1u << 20) /* 32 MiB */

/* A policy that has just begun may want to hear of leases. */
static void tell_pins(void *ctx, uint32_t wants) {
  neap__engine *e = ctx;
  if (wants & (NEAP_WANTS(PIN) | NEAP_WANTS(UNPIN))) neap__l1_tell_pins(e->l1);
}

static int open_l1(neap__engine *e, neap_error *err) {
  neap__l1_config l1 = e->config.l1;
  uint32_t slots = neap__l1_slots(&l1);
  neap__lab_policy policy;
  int rc = neap__lab_find(e->config.eviction_policy, neap__lua_policy_place, &policy, err);
  if (rc) return rc;
  const neap__instance_config instance = {
      .policy = policy.spec.policy, .params = policy.spec.params, .slots = slots, .cost = e->config.recompute};
  rc = neap__stream_open(&instance, &e->stream, err);
  if (rc) return rc;
  l1.emit = neap__stream_emit;
  l1.emit_ctx = e->stream;
  l1.wanted = neap__stream_wants_word(e->stream);
  rc = neap__fate_open(NEAP_MIN(NEAP_MAX(2 * slots, FATES_MIN), FATES_MAX), &e->fate);
  if (rc) return neap__fail(err, rc, "out of memory for what became of chunks");
  l1.moved = neap__fate_moved;
  l1.moved_ctx = e->fate;
  rc = neap__l1_open(&l1, &e->l1, &e->report, err);
  if (rc) return rc;
  e->names = neap__l1_names(e->l1);
  neap__stream_on_switch(e->stream, tell_pins, e);
  const neap__lab_config lab = {.stream = e->stream,
                                .fate = e->fate,
                                .policy = policy,
                                .l1_bytes = (uint64_t)((double)l1.pool_bytes * NEAP_MIN(e->config.watermark, 1.0)),
                                .window = e->config.policy_window,
                                .record_bytes = e->config.record_bytes,
                                .chunk_tokens = l1.chunk_tokens,
                                .place = neap__lua_policy_place};
  rc = neap__lab_open(&lab, &e->lab, err);
  if (rc) return rc;
  const neap__l1_report *r = &e->report;
  if (r->removed[0]) NEAP_LOG_WARN("removed an earlier L1 pool of this name: %s", r->removed);
  if (r->took_over)
    NEAP_LOG_INFO("took over L1 of an earlier server: %u objects kept, %u damaged dropped, %u being written, %u leases",
                  r->kept, r->damaged, r->staged, r->leases);
  return 0;
}

static int open_tiers(neap__engine *e, neap_error *err) {
  if (e->config.l2_adapter_count > NEAP_TIERS_MAX)
    return neap__fail(err, NEAP_EINVAL, "--l2-adapter: %u given; expected at most %u", e->config.l2_adapter_count,
                      NEAP_TIERS_MAX);
  neap__tier_env env = {.loop = e->loop, .pool = e->pool, .names = e->names};
  neap__l1_memory(e->l1, &env.memory);
  int rc = neap__tier_set_open(&env, e->config.plugin_dirs, &e->tiers);
  if (rc) return neap__fail(err, rc, "out of memory opening the adapters");
  for (uint32_t i = 0; i < e->config.l2_adapter_count && rc == 0; i++)
    rc = neap__tier_set_attach(e->tiers, e->config.l2_adapters[i], i + 1, NULL, err);
  return rc;
}

static int open_flows(neap__engine *e, neap_error *err) {
  int rc = neap__known_open(e->stream, &e->known);
  neap__evictor_config evict = {
      .l1 = e->l1, .stream = e->stream, .loop = e->loop, .watermark = e->config.watermark, .ratio = e->config.ratio};
  neap__storer_config store = {.l1 = e->l1,
                               .loop = e->loop,
                               .tiers = e->tiers,
                               .stream = e->stream,
                               .known = e->known,
                               .pending_bytes_max = e->config.l1.pool_bytes / 2,
                               .skip_l1 = e->config.skip_l1};
  uint32_t in_flight = e->config.prefetch_in_flight;
  if (!rc) rc = neap__evictor_open(&evict, &e->evictor);
  if (!rc) rc = neap__storer_open(&store, &e->storer);
  neap__fetcher_config fetch = {.l1 = e->l1,
                                .evictor = e->evictor,
                                .loop = e->loop,
                                .tiers = e->tiers,
                                .stream = e->stream,
                                .known = e->known,
                                .in_flight_max = in_flight ? in_flight : PREFETCHES,
                                .deadline_ms = e->config.prefetch_deadline_ms,
                                .retain = e->config.retain,
                                .watermark = e->config.watermark,
                                .fate = e->fate};
  if (!rc) rc = neap__fetcher_open(&fetch, &e->fetcher);
  const neap__foresight_config foresee = {
      .l1 = e->l1, .loop = e->loop, .stream = e->stream, .known = e->known, .fetcher = e->fetcher};
  if (!rc) rc = neap__foresight_open(&foresee, &e->foresight);
  return rc ? neap__fail(err, rc, "cannot start the flows: %s", neap_strerror(rc)) : 0;
}

int neap__engine_open(const neap__engine_config *config, neap__engine **out, neap_error *err) {
  neap__engine *e = calloc(1, sizeof *e);
  if (!e) return neap__fail(err, NEAP_ENOMEM, "out of memory opening the engine");
  e->config = *config;
  e->opened_ns = neap__now_ns();
  if (config->lua_dir) {
    neap__lua_setup(config->lua_dir);
    neap__registry_add_loader(&neap__lua_loader);
    neap__policy_add_loader(&neap__lua_policy_loader);
  }
  int rc = neap__loop_open("neap-loop", &e->loop);
  if (!rc) rc = neap__pool_open(config->workers ? config->workers : WORKERS, WORK_QUEUE, &e->pool);
  if (!rc) rc = neap__pool_open(CHANGES, CHANGE_QUEUE, &e->changes);
  if (rc) neap__fail(err, rc, "cannot start the engine's threads: %s", neap_strerror(rc));
  if (!rc) rc = open_l1(e, err);
  if (!rc) rc = open_tiers(e, err);
  if (!rc) rc = open_flows(e, err);
  if (rc) {
    neap__engine_close(e, e->report.took_over);
    return rc;
  }
  *out = e;
  return 0;
}

static void forget(void *ctx, uint32_t index) { neap__fetcher_forget(((neap__engine *)ctx)->fetcher, index); }

int neap__engine_detach(neap__engine *e, const char *name, uint64_t grace_ms, neap_error *err) {
  return neap__tier_set_detach(e->tiers, name, grace_ms, forget, e, err);
}

/* Changes first, then stores (they need tiers), then fetches stop using L2, then the tiers wait for what is in flight;
 * only then may the memory go that adapters were given. */
void neap__engine_close(neap__engine *e, bool keep_l1) {
  if (!e) return;
  uint64_t grace_ms = e->config.close_grace_ms ? e->config.close_grace_ms : GRACE_MS;
  if (e->tiers) neap__tier_set_hurry(e->tiers);
  if (e->changes) neap__pool_close(e->changes);
  neap__lab_close(e->lab);
  neap__storer_close(e->storer, grace_ms);
  neap__foresight_close(e->foresight);
  if (e->fetcher) neap__fetcher_drain(e->fetcher);
  bool all_closed = !e->tiers || neap__tier_set_close(e->tiers, grace_ms); /* one grace for all of them */
  neap__fetcher_close(e->fetcher);
  neap__evictor_close(e->evictor);
  if (!all_closed) {
    NEAP_LOG_ERROR("an adapter was left open; L1 stays mapped and the worker threads stay until the process ends");
    neap__l1_leave(e->l1, keep_l1);
    free(e);
    return;
  }
  if (e->pool) neap__pool_close(e->pool);
  if (e->loop) neap__loop_close(e->loop);
  neap__known_close(e->known);
  neap__l1_close(e->l1, keep_l1);
  neap__stream_close(e->stream);
  neap__fate_close(e->fate);
  free(e);
}
