/* SPDX-License-Identifier: MIT
 *
 * support/flow_rig.c - see flow_rig.h. A store's operations come on the loop thread and end there or, when held, on
 * the test's. */
#include "support/flow_rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "l2/tier_defs.h"
#include "support/test_host.h" /* test_fill, test_filled */

flow_store flow_stores[FLOW_STORES];

/* --- the scripted stores -------------------------------------------------------------------------------------- */

static uint32_t cell_of(const neap_object_key *key) {
  return (key->hash[0] | (uint32_t)key->hash[1] << 8) * FLOW_ROWS + ((key->rank >> 16) & 0xff);
}

static int act_on(flow_store *s, uint32_t kind, neap_object *o) {
  if (strcmp(o->key.model, "demo/tiny") != 0) return s->nothing ? s->nothing : NEAP_ENOENT; /* the framework asks */
  uint32_t cell = cell_of(&o->key);
  s->stores[cell] += kind == NEAP_OP_STORE;
  s->loads[cell] += kind == NEAP_OP_LOAD;
  if (s->forced[kind][cell]) return s->forced[kind][cell];
  if (kind == NEAP_OP_STORE) {
    o->stored_bytes = s->data[cell] ? 0 : o->bytes;
    if (!s->data[cell]) s->data[cell] = memcpy(malloc(o->bytes), o->data, o->bytes);
    s->bytes[cell] = o->bytes;
    return 0;
  }
  if (!s->data[cell]) return NEAP_ENOENT;
  if (kind == NEAP_OP_LOOKUP) return 0;
  uint64_t bytes = s->cut[cell] ? s->bytes[cell] / 2 : s->bytes[cell];
  memcpy(o->data, s->data[cell], NEAP_MIN(bytes, o->bytes));
  if (s->flip[cell]) ((uint8_t *)o->data)[bytes / 2] ^= 4;
  return bytes == o->bytes ? 0 : NEAP_ECORRUPT;
}

static void end(flow_store *s, neap_op *op) {
  pthread_mutex_lock(&s->lock);
  for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = act_on(s, op->kind, &op->objects[i]);
  s->busy[op->kind]--;
  bool twice = s->twice;
  const neap_host *host = s->host;
  pthread_mutex_unlock(&s->lock);
  host->done(host->engine, op);
  if (twice) host->done(host->engine, op);
}

static void operate(void *self, neap_op *op) {
  flow_store *s = self;
  pthread_mutex_lock(&s->lock);
  s->calls[op->kind]++;
  s->busy[op->kind]++;
  s->busy_max[op->kind] = NEAP_MAX(s->busy_max[op->kind], s->busy[op->kind]);
  bool hold = s->hold[op->kind] && s->held_count < FLOW_HELD_MAX;
  if (hold) s->held[s->held_count++] = op;
  pthread_cond_broadcast(&s->change);
  pthread_mutex_unlock(&s->lock);
  if (!hold) end(s, op);
}

static int store_open(const neap_adapter *adapter, const neap_host *host, const char *params, void **self,
                      neap_error *err) {
  (void)params;
  flow_store *s = &flow_stores[adapter->name[strlen(adapter->name) - 1] - '0'];
  if (s->refuse_open) return neap__fail(err, NEAP_EIO, "%s: told not to open", adapter->name);
  pthread_mutex_lock(&s->lock);
  s->host = host;
  s->opened++;
  pthread_mutex_unlock(&s->lock);
  *self = s;
  return 0;
}

static void store_close(void *self) {
  flow_store *s = self;
  pthread_mutex_lock(&s->lock);
  s->closed++;
  pthread_mutex_unlock(&s->lock);
}

#define SCRIPTED(name)                                                                                      \
  {                                                                                                         \
    NEAP_ADAPTER_INIT(name, "1"), .open = store_open, .store = operate, .lookup = operate, .load = operate, \
                                  .close = store_close                                                      \
  }
static const neap_adapter tables[FLOW_STORES] = {SCRIPTED("scripted0"), SCRIPTED("scripted1"), SCRIPTED("scripted2")};

const char *const *flow_adapters(void) {
  static const char *const texts[FLOW_STORES] = {"{\"type\":\"scripted0\"}", "{\"type\":\"scripted1\"}",
                                                 "{\"type\":\"scripted2\"}"};
  return texts;
}

void flow_put(uint32_t store, uint32_t n, uint32_t row) {
  flow_store *s = &flow_stores[store];
  uint32_t cell = n * FLOW_ROWS + row;
  pthread_mutex_lock(&s->lock);
  s->data[cell] = malloc(FLOW_BYTES);
  s->bytes[cell] = FLOW_BYTES;
  test_fill(s->data[cell], FLOW_BYTES, cell);
  pthread_mutex_unlock(&s->lock);
}

bool flow_has(uint32_t store, uint32_t n) {
  pthread_mutex_lock(&flow_stores[store].lock);
  bool has = flow_stores[store].data[n * FLOW_ROWS] != NULL;
  pthread_mutex_unlock(&flow_stores[store].lock);
  return has;
}

void flow_force(uint32_t store, neap_op_kind kind, uint32_t n, int result) {
  pthread_mutex_lock(&flow_stores[store].lock);
  flow_stores[store].forced[kind][n * FLOW_ROWS] = result;
  pthread_mutex_unlock(&flow_stores[store].lock);
}

void flow_hold(uint32_t store, neap_op_kind kind, bool hold) {
  pthread_mutex_lock(&flow_stores[store].lock);
  flow_stores[store].hold[kind] = hold;
  pthread_mutex_unlock(&flow_stores[store].lock);
}

static struct timespec in_30s(void) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  at.tv_sec += 30;
  return at;
}

void flow_wait_held(uint32_t store, uint32_t count) {
  flow_store *s = &flow_stores[store];
  struct timespec at = in_30s();
  int rc = 0;
  pthread_mutex_lock(&s->lock);
  while (s->held_count < count && rc == 0) rc = pthread_cond_timedwait(&s->change, &s->lock, &at);
  pthread_mutex_unlock(&s->lock);
  assert_int_equal(rc, 0);
}

void flow_finish(uint32_t store, uint32_t i) {
  flow_store *s = &flow_stores[store];
  pthread_mutex_lock(&s->lock);
  neap_op *op = s->held[i];
  s->held[i] = NULL;
  pthread_mutex_unlock(&s->lock);
  if (op) end(s, op);
}

void flow_finish_all(uint32_t store) {
  for (uint32_t kind = 0; kind < FLOW_KINDS; kind++) flow_hold(store, (neap_op_kind)kind, false);
  for (uint32_t i = 0; i < flow_stores[store].held_count; i++) flow_finish(store, i);
}

/* --- L1 ------------------------------------------------------------------------------------------------------- */

neap__key flow_key(const flow_rig *rig, uint32_t n, uint32_t row) {
  neap__key key = {.space = rig->space, .rank = neap__rank(FLOW_ROWS, row)};
  key.hash[0] = (uint8_t)n;
  key.hash[1] = (uint8_t)(n >> 8);
  return key;
}

int flow_reserve(flow_rig *rig, const neap__key *key, uint64_t bytes, neap__lease *lease) {
  const neap__owner owner = {.kind = NEAP_OWNER_TRANSFER, .id = 7};
  int result = 0, rc = neap__evictor_reserve(rig->engine->evictor, 1, key, &bytes, 0, &owner, lease, &result);
  return rc ? rc : result;
}

int flow_commit_sized(flow_rig *rig, uint32_t n, uint32_t row, uint64_t bytes) {
  neap__key key = flow_key(rig, n, row);
  neap__lease lease;
  neap__view view;
  int rc = flow_reserve(rig, &key, bytes, &lease);
  if (rc) return rc;
  rc = neap__l1_view(rig->l1, lease, &view);
  if (!rc) test_fill(view.data, bytes, n * FLOW_ROWS + row);
  return rc ? rc : neap__l1_commit(rig->l1, lease, NULL, NULL, 0, NULL);
}

int flow_commit(flow_rig *rig, uint32_t n) { return flow_commit_sized(rig, n, 0, FLOW_BYTES); }

void flow_offer(flow_rig *rig, uint32_t first, uint32_t count) {
  for (uint32_t i = 0; i < count;) {
    neap__key keys[64];
    uint32_t some = 0;
    for (; some < 64 && i < count; some++, i++) keys[some] = flow_key(rig, first + i, 0);
    neap__storer_offer(rig->engine->storer, 0, some, keys, NULL);
  }
}

bool flow_resident(flow_rig *rig, uint32_t n) {
  neap__key key = flow_key(rig, n, 0);
  bool present;
  neap__l1_contains(rig->l1, 1, &key, &present);
  return present;
}

neap__lease flow_lease(flow_rig *rig, uint32_t n) {
  const neap__owner owner = {.kind = NEAP_OWNER_LOCAL};
  neap__key key = flow_key(rig, n, 0);
  neap__lease lease;
  neap__l1_acquire(rig->l1, 1, &key, &owner, 1, true, &lease);
  return lease;
}

neap__l1_stats flow_l1(flow_rig *rig) {
  neap__l1_stats stats;
  neap__l1_stats_get(rig->l1, &stats);
  return stats;
}

static void nothing(void *arg) { (void)arg; }

void flow_turn(flow_rig *rig) {
  for (int i = 0; i < 8; i++) neap__loop_call(rig->engine->loop, nothing, NULL);
}

/* --- fetches -------------------------------------------------------------------------------------------------- */

static void became_final(void *ctx) { sem_post(&((flow_fetch *)ctx)->done); }

flow_fetch *flow_ask_rows(flow_rig *rig, uint32_t first, uint32_t chunks, uint32_t rows, bool warm) {
  uint64_t row_bytes[FLOW_ROWS];
  neap__key *keys = calloc(chunks * rows + 1, sizeof *keys);
  flow_fetch *f = calloc(1, sizeof *f);
  *f = (flow_fetch){.rig = rig, .chunks = chunks, .rows = rows, .first = first};
  sem_init(&f->done, 0, 0);
  for (uint32_t i = 0; i < chunks * rows; i++) keys[i] = flow_key(rig, first + i / rows, i % rows);
  for (uint32_t row = 0; row < rows; row++) row_bytes[row] = FLOW_BYTES;
  neap__fetch_request request = {.chunks = chunks,
                                 .rows = rows,
                                 .keys = keys,
                                 .row_bytes = row_bytes,
                                 .owner = {.kind = NEAP_OWNER_REQUEST, .id = first + 1},
                                 .readers = 1,
                                 .warm = warm,
                                 .name = "test",
                                 .done = became_final,
                                 .ctx = f};
  int rc = neap__fetch_start(rig->engine->fetcher, &request, &f->fetch);
  free(keys);
  assert_int_equal(rc, 0);
  return f;
}

flow_fetch *flow_ask(flow_rig *rig, uint32_t first, uint32_t chunks) {
  return flow_ask_rows(rig, first, chunks, 1, false);
}

bool flow_final(flow_fetch *f) {
  uint32_t hit;
  return neap__fetch_poll(f->fetch, &hit);
}

static void wait_final(flow_fetch *f) {
  struct timespec at = in_30s();
  while (sem_timedwait(&f->done, &at) != 0) assert_int_equal(errno, EINTR);
  sem_post(&f->done); /* may be waited for again */
}

uint32_t flow_answer(flow_fetch *f) {
  uint32_t hit = UINT32_MAX;
  wait_final(f);
  flow_turn(f->rig); /* what made it final may still hold a lease of its own */
  assert_true(neap__fetch_poll(f->fetch, &hit));
  assert_true(hit <= f->chunks);
  for (uint32_t i = 0; i < f->chunks * f->rows; i++) {
    neap__lease lease = neap__fetch_lease(f->fetch, i / f->rows, i % f->rows, false);
    if (i >= hit * f->rows) assert_int_equal(lease, NEAP_NO_LEASE);
    if (lease == NEAP_NO_LEASE) continue;
    neap__view view;
    neap__key key = flow_key(f->rig, f->first + i / f->rows, i % f->rows);
    assert_int_equal(neap__l1_view(f->rig->l1, lease, &view), 0);
    assert_memory_equal(&view.key, &key, sizeof key);
    assert_true(test_filled(view.data, view.bytes, (f->first + i / f->rows) * FLOW_ROWS + i % f->rows));
  }
  return hit;
}

void flow_abandon(flow_fetch *f) {
  if (f->fetch) neap__fetch_end(f->fetch);
  f->fetch = NULL;
}

void flow_end(flow_fetch *f) {
  flow_abandon(f);
  wait_final(f);
  sem_destroy(&f->done);
  free(f);
}

uint32_t flow_hits(flow_rig *rig, uint32_t first, uint32_t chunks) {
  flow_fetch *f = flow_ask(rig, first, chunks);
  uint32_t hit = flow_answer(f);
  flow_end(f);
  return hit;
}

/* --- the whole ------------------------------------------------------------------------------------------------ */

neap__fetcher_stats flow_fetches(flow_rig *rig) {
  neap__fetcher_stats stats;
  neap__fetcher_stats_get(rig->engine->fetcher, &stats);
  return stats;
}

neap__storer_stats flow_storing(flow_rig *rig) {
  neap__storer_stats stats;
  neap__storer_stats_get(rig->engine->storer, &stats);
  return stats;
}

static bool idle(flow_rig *rig) {
  neap__fetcher_stats fetches = flow_fetches(rig);
  neap__storer_stats storing = flow_storing(rig);
  bool busy = fetches.in_flight || fetches.waiting || storing.pending_objects || storing.in_flight;
  neap__tier_view tiers;
  neap__tier_set_view(rig->engine->tiers, &tiers);
  for (uint32_t i = 0; i < tiers.count; i++) {
    neap__tier *tier = tiers.entries[i].tier;
    pthread_mutex_lock(&tier->lock);
    busy |= tier->flying_count || tier->stats.queued;
    pthread_mutex_unlock(&tier->lock);
  }
  neap__tier_view_drop(rig->engine->tiers, &tiers);
  return !busy;
}

void flow_settle(flow_rig *rig) {
  uint64_t until = neap__now_ns() + UINT64_C(30000000000);
  while (!idle(rig) && neap__now_ns() < until) flow_turn(rig);
  flow_turn(rig);
  assert_true(idle(rig));
}

static uint32_t locks_held(flow_rig *rig) {
  uint32_t locks = 0;
  neap__tier_view tiers;
  neap__tier_set_view(rig->engine->tiers, &tiers);
  for (uint32_t t = 0; t < tiers.count; t++) {
    neap__tier *tier = tiers.entries[t].tier;
    pthread_mutex_lock(&tier->lock);
    locks += tier->pins;
    for (uint32_t cell = 0; cell < FLOW_CELLS; cell++) {
      neap__key id, key = flow_key(rig, cell / FLOW_ROWS, cell % FLOW_ROWS);
      neap__item *item =
          neap__catalogue_id(tier->catalogue, &key, &id) ? NULL : neap__catalogue_find(tier->catalogue, &id);
      if (item) locks += item->locks;
    }
    pthread_mutex_unlock(&tier->lock);
  }
  neap__tier_view_drop(rig->engine->tiers, &tiers);
  return locks;
}

void flow_open(flow_rig *rig, uint32_t stores) {
  static bool registered;
  neap_error err;
  for (uint32_t i = 0; i < FLOW_STORES && !registered; i++) assert_int_equal(neap_adapter_register(&tables[i]), 0);
  registered = true;
  if (!rig->config.l2_adapters) rig->config.l2_adapters = flow_adapters();
  rig->config.l2_adapter_count = stores;
  if (neap__engine_open(&rig->config, &rig->engine, &err) != 0) fail_msg("%s", err.text);
  rig->l1 = rig->engine->l1;
  neap__layout layout;
  const uint64_t shape[1] = {FLOW_BYTES / 2};
  assert_int_equal(neap__layout_init(&layout, shape, 1, "bfloat16", 16, NULL), 0);
  assert_int_equal(neap__names_space(rig->engine->names, "demo/tiny", 9, &layout, &rig->space), 0);
  assert_int_equal(neap__names_tenant(rig->engine->names, "tenant", 6, &rig->tenant), 0);
}

void flow_close(flow_rig *rig) {
  neap_error err = {0};
  for (uint32_t i = 0; i < FLOW_STORES; i++) flow_finish_all(i);
  flow_settle(rig);
  neap__l1_stats l1 = flow_l1(rig);
  int broken = neap__l1_check(rig->l1, &err);
  uint32_t locks = locks_held(rig);
  neap__engine_close(rig->engine, false);
  rig->engine = NULL;
  assert_string_equal(err.text, "");
  assert_int_equal(broken, 0);
  assert_int_equal(l1.leases_used, 0);
  assert_int_equal(l1.staged, 0);
  assert_int_equal(locks, 0);
  for (uint32_t i = 0; i < FLOW_STORES; i++) assert_int_equal(flow_stores[i].closed, flow_stores[i].opened);
}

int flow_setup(void **state) {
  flow_rig *rig = calloc(1, sizeof *rig);
  *state = rig;
  neap__log_set_level(NEAP_ERROR);
  for (uint32_t i = 0; i < FLOW_STORES; i++) {
    flow_stores[i] = (flow_store){0};
    pthread_mutex_init(&flow_stores[i].lock, NULL);
    pthread_cond_init(&flow_stores[i].change, NULL);
  }
  rig->config = (neap__engine_config){.l1 = {.pool_bytes = 64 * FLOW_BYTES, .align_bytes = 64, .chunk_tokens = 16},
                                      .eviction_policy = "LRU",
                                      .watermark = 0.9,
                                      .ratio = 0.2,
                                      .workers = 2};
  return 0;
}

int flow_teardown(void **state) {
  flow_rig *rig = *state;
  if (rig->engine) flow_close(rig);
  for (uint32_t i = 0; i < FLOW_STORES; i++)
    for (uint32_t cell = 0; cell < FLOW_CELLS; cell++) free(flow_stores[i].data[cell]);
  free(rig);
  return 0;
}
