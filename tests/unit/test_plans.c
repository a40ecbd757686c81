/* SPDX-License-Identifier: MIT
 *
 * What becomes of a policy's plans, events and predictions in the journeys; and that none of them, however wild, breaks
 * anything: flow_close looks at every invariant of L1, at leases and at locks. */
#include <semaphore.h>
#include <string.h>
#include <time.h>

#include "support/flow_rig.h"
#include "support/random.h"

#define NOBODY NEAP_POLICY_NO_SLOT

/* --- a policy that does as it is told ------------------------------------------------------------------------- */

/* What a plan showed and what to answer; written before a journey begins, read on the loop thread. */
static struct {
  uint32_t cut[NEAP_TIERS_MAX];
  bool cuts, fails;
  uint32_t load, keep;
  uint8_t source;
  bool loads;
  uint64_t wild; /* seed of random answers, 0: none */
  sem_t *entered, *go_on;
  neap_hint predict[4];
  uint32_t predict_count;
  /* seen */
  _Atomic uint32_t store_plans, load_plans, predictions;
  neap_plan_chunk chunk[64];
  neap_tier_view tier[NEAP_TIERS_MAX];
  uint32_t chunks, tiers, tenant, request, cut_before[NEAP_TIERS_MAX], load_before, keep_before;
  uint8_t source_before[64];
  neap_event heard[256];
  uint32_t heard_count;
} told;

static int told_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy, (void)context, (void)err;
  *self = &told;
  return 0;
}

static void told_destroy(void *self) { (void)self; }

static int told_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)self, (void)err;
  for (uint32_t i = 0; i < count; i++) told.heard[told.heard_count++ % NEAP_ARRAY_LEN(told.heard)] = events[i];
  return 0;
}

static int told_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)self, (void)scope, (void)out, (void)max, (void)err;
  return 0; /* the built-in completes it */
}

static void look(uint32_t chunks, const neap_plan_chunk *chunk, uint32_t tiers, const neap_tier_view *tier) {
  told.chunks = chunks;
  told.tiers = tiers;
  memcpy(told.chunk, chunk, NEAP_MIN(chunks, 64u) * sizeof(*chunk));
  memcpy(told.tier, tier, tiers * sizeof(*tier));
}

static int told_store(void *self, neap_store_plan *plan, neap_error *err) {
  (void)self;
  look(plan->chunks, plan->chunk, plan->tiers, plan->tier);
  told.tenant = plan->tenant, told.request = plan->request;
  memcpy(told.cut_before, plan->cut, plan->tiers * sizeof(*plan->cut));
  told.store_plans++;
  if (told.go_on) sem_post(told.entered), sem_wait(told.go_on);
  if (told.cuts) memcpy(plan->cut, told.cut, plan->tiers * sizeof(*plan->cut));
  for (uint32_t t = 0; told.wild && t < plan->tiers; t++) plan->cut[t] = random_below(&told.wild, plan->chunks + 2);
  return told.fails ? neap__fail(err, NEAP_ESCRIPT, "p.lua:3: no plan") : 0;
}

static int told_load(void *self, neap_load_plan *plan, neap_error *err) {
  (void)self;
  look(plan->chunks, plan->chunk, plan->tiers, plan->tier);
  told.load_before = plan->load, told.keep_before = plan->keep;
  memcpy(told.source_before, plan->source, NEAP_MIN(plan->chunks, 64u));
  told.load_plans++;
  if (told.loads) {
    plan->load = told.load, plan->keep = told.keep;
    for (uint32_t i = 0; i < plan->chunks; i++)
      if (plan->source[i] != UINT8_MAX) plan->source[i] = told.source;
  }
  if (told.wild) {
    plan->load = random_below(&told.wild, plan->chunks + 2);
    plan->keep = random_below(&told.wild, plan->chunks + 2);
    for (uint32_t i = 0; i < plan->chunks; i++)
      if (random_below(&told.wild, 4) == 0) plan->source[i] = (uint8_t)random_below(&told.wild, 4);
  }
  return told.fails ? neap__fail(err, NEAP_ESCRIPT, "p.lua:4: no plan") : 0;
}

static int told_predict(void *self, neap_hint *out, uint32_t max, neap_error *err) {
  (void)self, (void)err;
  told.predictions++;
  uint32_t count = NEAP_MIN(told.predict_count, max);
  memcpy(out, told.predict, count * sizeof(*out));
  return (int)count;
}

static const neap_policy planner = {
    .magic = NEAP_POLICY_MAGIC,
    .abi = NEAP_POLICY_ABI,
    .size = sizeof(neap_policy),
    .name = "planner",
    .create = told_create,
    .on_events = told_events,
    .victims = told_victims,
    .destroy = told_destroy,
    .store_plan = told_store,
    .load_plan = told_load,
};

static void rule(flow_rig *rig, const neap_policy *policy) {
  neap_error err = {""};
  if (neap__stream_switch(rig->engine->stream, policy, "", &err) != 0) fail_msg("%s", err.text);
}

static bool is_out(flow_rig *rig, const char *why) {
  neap__stream_stats stats;
  neap__stream_stats_get(rig->engine->stream, &stats);
  if (stats.instance.out) assert_string_equal(stats.instance.why.text, why);
  return stats.instance.out;
}

static int setup(void **state) {
  memset(&told, 0, sizeof(told));
  return flow_setup(state);
}

static void commit(flow_rig *rig, uint32_t first, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) assert_int_equal(flow_commit(rig, first + i), 0);
}

static void put(uint32_t store, uint32_t first, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) flow_put(store, first + i, 0);
}

static uint32_t stored_in(uint32_t store, uint32_t count) {
  uint32_t has = 0;
  while (has < count && flow_has(store, has)) has++;
  for (uint32_t n = has; n < count; n++) assert_false(flow_has(store, n)); /* a cut, no hole */
  return has;
}

/* --- stores --------------------------------------------------------------------------------------------------- */

static void a_cut_sends_the_first_chunks_of_an_offer_to_a_tier(void **state) {
  flow_rig *rig = *state;
  rig->config.l1.pool_bytes = 128 * FLOW_BYTES;
  flow_open(rig, 3);
  rule(rig, &planner);
  commit(rig, 0, 50); /* more than a batch */
  told.cuts = true;
  told.cut[0] = 50, told.cut[1] = 40, told.cut[2] = 0;
  flow_offer(rig, 0, 50);
  flow_settle(rig);
  assert_int_equal(told.store_plans, 1);
  assert_int_equal(told.cut_before[2], 50);
  assert_int_equal(stored_in(0, 50), 50);
  assert_int_equal(stored_in(1, 50), 40);
  assert_int_equal(stored_in(2, 50), 0);
  assert_int_equal(flow_storing(rig).planned_out_objects, 60);
  assert_int_equal(flow_storing(rig).completed_objects, 90);
  assert_int_equal(flow_l1(rig).objects, 50);
}

static void a_plan_shows_chunks_and_tiers_as_they_are(void **state) {
  flow_rig *rig = *state;
  rig->config.recompute = (neap_cost){.base_us = 1000, .slope_us = 10};
  flow_open(rig, 2);
  rule(rig, &planner);
  commit(rig, 0, 4);
  neap__key keys[2] = {flow_key(rig, 1, 0), flow_key(rig, 3, 0)};
  neap__l1_touch(rig->l1, 1, &keys[1], 3, 0);
  neap__storer_offer(rig->engine->storer, 77, 2, keys, (const uint32_t[]){1, 3});
  flow_settle(rig);
  assert_int_equal(told.chunks, 2);
  assert_int_equal(told.request, 77);
  assert_int_equal(told.chunk[0].h1, 1);
  assert_int_equal(told.chunk[1].pos, 3);
  assert_int_equal(told.chunk[1].hits, 1);
  assert_int_equal(told.chunk[1].recompute_us, 1030);
  assert_int_equal(told.chunk[1].kib, 1);
  assert_int_equal(told.chunk[1].tiers, 0);
  assert_string_equal(told.tier[1].name, "scripted1");
  assert_int_equal(told.tier[1].healthy, 1);
  assert_true(told.tier[1].store_us_per_mib == 0);
  neap__storer_offer(rig->engine->storer, 78, 2, keys, NULL);
  flow_settle(rig);
  assert_int_equal(told.chunk[1].tiers, 3); /* though the policy hears of no event */
  assert_int_equal(told.heard_count, 0);
  assert_true(told.tier[1].store_us_per_mib > 0);
}

static void skip_l1_keeps_what_a_plan_left_out(void **state) {
  flow_rig *rig = *state;
  rig->config.skip_l1 = true;
  flow_open(rig, 2);
  rule(rig, &planner);
  commit(rig, 0, 3);
  told.cuts = true;
  told.cut[0] = 3, told.cut[1] = 2;
  flow_offer(rig, 0, 3);
  flow_settle(rig);
  assert_false(flow_resident(rig, 0) || flow_resident(rig, 1));
  assert_true(flow_resident(rig, 2));
}

static void a_store_plan_that_fails_is_the_last_one_and_stores_go_everywhere(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 2);
  neap__log_set_level(NEAP_ERROR + 1);
  rule(rig, &planner);
  commit(rig, 0, 8);
  told.cuts = told.fails = true;
  flow_offer(rig, 0, 4);
  flow_settle(rig);
  assert_true(is_out(rig, "store_plan: p.lua:3: no plan"));
  flow_offer(rig, 4, 4);
  flow_settle(rig);
  assert_int_equal(told.store_plans, 1);
  assert_int_equal(stored_in(0, 8) + stored_in(1, 8), 16);
  told.fails = false;
  told.cut[1] = 9; /* behind the last chunk */
  rule(rig, &planner);
  commit(rig, 8, 4);
  flow_offer(rig, 8, 4);
  flow_settle(rig);
  assert_true(is_out(rig, "store_plan: a cut lies behind the last chunk; expected 0 to the number of chunks"));
  assert_int_equal(stored_in(0, 12) + stored_in(1, 12), 24);
}

static neap__storer *own_storer(flow_rig *rig) {
  neap__storer *storer = NULL;
  neap__storer_config config = {.l1 = rig->l1,
                                .loop = rig->engine->loop,
                                .tiers = rig->engine->tiers,
                                .stream = rig->engine->stream,
                                .known = rig->engine->known,
                                .pending_bytes_max = 1 << 20};
  assert_int_equal(neap__storer_open(&config, &storer), 0);
  return storer;
}

/* The hook is inside when close runs out of patience: what it was asked about is stored, or let go of, afterwards. */
static void a_storer_closes_while_a_plan_is_made(void **state) {
  flow_rig *rig = *state;
  sem_t entered, go_on;
  sem_init(&entered, 0, 0);
  sem_init(&go_on, 0, 0);
  flow_open(rig, 1);
  neap__log_set_level(NEAP_ERROR + 1);
  rule(rig, &planner);
  commit(rig, 0, 8);
  told.entered = &entered, told.go_on = &go_on;
  neap__storer *storer = own_storer(rig);
  neap__key keys[8];
  for (uint32_t n = 0; n < 8; n++) keys[n] = flow_key(rig, n, 0);
  neap__storer_offer(storer, 0, 4, keys, NULL);
  sem_wait(&entered);
  neap__storer_offer(storer, 0, 4, keys + 4, NULL);
  neap__storer_close(storer, 1);
  sem_post(&go_on);
  flow_settle(rig);
  for (uint32_t i = 0; flow_l1(rig).leases_used && i < 1000; i++) flow_turn(rig);
  assert_int_equal(stored_in(0, 8), 4);
  told.go_on = NULL;
  sem_destroy(&entered);
  sem_destroy(&go_on);
}

static void a_storer_that_closes_waits_for_plans(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  rule(rig, &planner);
  commit(rig, 0, 8);
  for (uint32_t round = 0; round < 300; round++) {
    neap__storer *storer = own_storer(rig);
    neap__key key = flow_key(rig, round % 8, 0);
    neap__storer_offer(storer, 0, 1, &key, NULL);
    neap__storer_close(storer, 30000);
  }
  assert_int_equal(stored_in(0, 8), 8);
  assert_int_equal(told.store_plans, 300);
}

/* --- loads ---------------------------------------------------------------------------------------------------- */

static void a_load_plan_says_how_many_chunks_are_loaded(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  rule(rig, &planner);
  put(0, 0, 6);
  told.loads = true;
  told.load = told.keep = 2;
  assert_int_equal(flow_hits(rig, 0, 8), 2);
  assert_int_equal(told.load_before, 6); /* what could be had */
  assert_int_equal(told.keep_before, 6);
  assert_int_equal(flow_fetches(rig).loaded_objects, 2);
  assert_int_equal(flow_fetches(rig).recomputed_chunks, 4);
  told.load = told.keep = 0;
  assert_int_equal(flow_hits(rig, 3, 3), 0);
}

static void a_load_plan_chooses_among_the_tiers_that_have_a_chunk(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 3);
  rule(rig, &planner);
  commit(rig, 0, 1);
  put(0, 1, 4);
  put(2, 1, 4);
  told.loads = true;
  told.load = told.keep = 5;
  told.source = 2;
  assert_int_equal(flow_hits(rig, 0, 5), 5);
  assert_int_equal(told.source_before[0], UINT8_MAX);
  assert_int_equal(told.source_before[1], 0);
  assert_int_equal(told.chunk[1].tiers, 1u | 4u);
  assert_int_equal(told.chunk[1].slot, NOBODY);
  assert_int_not_equal(told.chunk[0].slot, NOBODY);
  assert_int_equal(flow_stores[0].calls[NEAP_OP_LOAD], 0);
  assert_int_equal(flow_stores[2].loads[4 * FLOW_ROWS], 1);
}

static void rows_that_the_chosen_tier_lacks_come_from_where_they_are(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 2);
  rule(rig, &planner);
  flow_put(0, 0, 0);
  flow_put(1, 0, 0);
  flow_put(0, 0, 1); /* row 1 is in the first store only */
  told.loads = true;
  told.load = told.keep = 1;
  told.source = 1;
  flow_fetch *f = flow_ask_rows(rig, 0, 1, 2, false);
  assert_int_equal(flow_answer(f), 1);
  flow_end(f);
  assert_int_equal(flow_stores[1].loads[0], 1);
  assert_int_equal(flow_stores[0].loads[0], 0);
  assert_int_equal(flow_stores[0].loads[1], 1);
}

static void what_is_not_kept_leaves_with_its_last_lease(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  rule(rig, &planner);
  put(0, 0, 6);
  told.loads = true;
  told.load = 6, told.keep = 2;
  assert_int_equal(flow_hits(rig, 0, 6), 6);
  flow_settle(rig);
  for (uint32_t n = 0; n < 6; n++) assert_int_equal(flow_resident(rig, n), n < 2);
}

static void what_l1_has_alone_and_what_is_fetched_ahead_needs_no_plan(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 1);
  rule(rig, &planner);
  commit(rig, 0, 2);
  put(0, 4, 2);
  told.loads = true;
  assert_int_equal(flow_hits(rig, 0, 3), 2); /* behind it there is nothing to load */
  flow_end(flow_ask_rows(rig, 4, 2, 1, true));
  flow_settle(rig);
  assert_true(flow_resident(rig, 5));
  assert_int_equal(told.load_plans, 0);
}

static void a_load_plan_that_makes_no_sense_is_not_followed(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 2);
  neap__log_set_level(NEAP_ERROR + 1);
  const struct {
    uint32_t load, keep;
    uint8_t source;
    bool fails;
    const char *why;
  } wrong[] = {{4, 0, 0, false, "load_plan: 'load' is more than there are chunks"},
               {2, 4, 0, false, "load_plan: 'keep' is more than there are chunks"},
               {3, 3, 1, false, "load_plan: a chunk's 'source' is not a tier that has it"},
               {3, 3, 200, false, "load_plan: a chunk's 'source' is not a tier that has it"},
               {1, 1, 0, true, "load_plan: p.lua:4: no plan"}};
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(wrong); i++) {
    rule(rig, &planner);
    put(0, 10 * i, 3);
    told.loads = true;
    told.load = wrong[i].load, told.keep = wrong[i].keep, told.source = wrong[i].source, told.fails = wrong[i].fails;
    assert_int_equal(flow_hits(rig, 10 * i, 3), 3);
    assert_true(is_out(rig, wrong[i].why));
    assert_true(flow_resident(rig, 10 * i + 2));
  }
}

/* Random answers, right and wrong, over random stores and lookups in a full L1: every answer has the right bytes, and
 * flow_close finds nothing broken. */
static void no_plan_however_wild_breaks_anything(void **state) {
  flow_rig *rig = *state;
  uint64_t random = random_seed("test_plans");
  rig->config.l1.pool_bytes = 24 * FLOW_BYTES;
  flow_open(rig, 3);
  neap__log_set_level(NEAP_ERROR + 1);
  for (uint32_t round = 0; round < 400; round++) {
    uint32_t first = random_below(&random, 100), count = 1 + random_below(&random, 12);
    if (round % 3 == 0) {
      flow_settle(rig); /* no plan is being made */
      told.wild = random_next(&random) | 1;
      rule(rig, &planner);
    }
    flow_fetch *f = flow_ask(rig, first, count);
    uint32_t hit = flow_answer(f);
    flow_end(f);
    for (uint32_t n = first + hit; n < first + count; n++) (void)flow_commit(rig, n); /* some are there already */
    flow_offer(rig, first, count);
    if (random_below(&random, 4) == 0) flow_settle(rig);
  }
  flow_settle(rig);
  assert_true(told.store_plans > 50 && told.load_plans > 20);
}

/* --- events --------------------------------------------------------------------------------------------------- */

static void expect_heard(uint32_t at, neap_event_type type, uint32_t h1, uint32_t pos, uint32_t detail) {
  assert_true(at < told.heard_count);
  assert_int_equal(told.heard[at].type, type);
  assert_int_equal(told.heard[at].h1, h1);
  assert_int_equal(told.heard[at].pos, pos);
  assert_int_equal(told.heard[at].detail, detail);
}

static void misses_come_tail_first_and_loads_say_from_where(void **state) {
  flow_rig *rig = *state;
  static neap_policy p; /* outlives the engine */
  p = planner;
  p.wants = NEAP_WANTS(MISS) | NEAP_WANTS(INSERT) | NEAP_WANTS(LOADED) | NEAP_WANTS(STORED);
  p.store_plan = NULL;
  p.load_plan = NULL;
  flow_open(rig, 2);
  rule(rig, &p);
  commit(rig, 4, 1);
  commit(rig, 6, 1);
  put(1, 5, 1);
  told.heard_count = 0;
  assert_int_equal(flow_hits(rig, 4, 4), 3);
  flow_settle(rig);
  neap__stream_flush(rig->engine->stream);
  expect_heard(2, NEAP_EV_MISS, 7, 3, 0); /* after the two of commit */
  expect_heard(3, NEAP_EV_MISS, 5, 1, 0);
  expect_heard(4, NEAP_EV_INSERT, 5, 1, 0);
  expect_heard(5, NEAP_EV_LOADED, 5, 0, 1);
  assert_int_equal(told.heard_count, 6);
  flow_offer(rig, 6, 1);
  flow_settle(rig);
  neap__stream_flush(rig->engine->stream);
  assert_int_equal(told.heard_count, 8);
  assert_int_equal(told.heard[6].type, NEAP_EV_STORED);
}

static void a_lookup_teaches_what_continues_what(void **state) {
  flow_rig *rig = *state;
  static neap_policy p; /* outlives the engine */
  p = planner;
  p.wants = NEAP_WANTS(LEAF);
  flow_open(rig, 0);
  rule(rig, &p);
  assert_int_equal(flow_hits(rig, 10, 3), 0);
  for (uint32_t n = 13; n-- > 10;) commit(rig, n, 1);
  neap__stream_flush(rig->engine->stream);
  assert_int_equal(told.heard_count, 0); /* LEAF only: nobody has become one */
  neap__key tail = flow_key(rig, 12, 0);
  assert_int_equal(neap__l1_remove(rig->l1, &tail, false), 0);
  neap__stream_flush(rig->engine->stream);
  expect_heard(0, NEAP_EV_LEAF, 11, 0, 0);
  assert_int_equal(told.heard_count, 1);
}

static void a_new_policy_hears_of_the_leases_that_there_are(void **state) {
  flow_rig *rig = *state;
  static neap_policy p; /* outlives the engine */
  p = planner;
  p.wants = NEAP_WANTS(PIN) | NEAP_WANTS(UNPIN);
  flow_open(rig, 0);
  commit(rig, 0, 2);
  neap__lease lease = flow_lease(rig, 1);
  rule(rig, &p);
  neap__stream_flush(rig->engine->stream);
  expect_heard(0, NEAP_EV_PIN, 1, 0, 0);
  neap__l1_release(rig->l1, lease, UINT32_MAX);
  rule(rig, &p); /* delivers what is pending first */
  expect_heard(1, NEAP_EV_UNPIN, 1, 0, 0);
  assert_int_equal(told.heard_count, 2);
}

/* --- predictions ---------------------------------------------------------------------------------------------- */

static bool within_10s(bool (*holds)(flow_rig *rig), flow_rig *rig) {
  const struct timespec pause = {.tv_nsec = 5000000};
  for (uint32_t i = 0; i < 2000; i++) {
    if (holds(rig)) return true;
    nanosleep(&pause, NULL);
  }
  return false;
}

static bool has_predicted(flow_rig *rig) { return flow_resident(rig, 2) && flow_resident(rig, 3); }
static bool has_asked_twice(flow_rig *rig) {
  (void)rig;
  return told.predictions >= 2;
}

static void what_is_predicted_comes_up_while_nothing_else_does(void **state) {
  flow_rig *rig = *state;
  static neap_policy p; /* outlives the engine */
  p = planner;
  p.predict = told_predict;
  p.store_plan = NULL;
  p.load_plan = NULL;
  p.wants = NEAP_WANTS(TICK);
  told.predict[0].h1 = 2, told.predict[1].h1 = 60, told.predict[2].h1 = 3;
  told.predict_count = 3;
  rig->config.l1.pool_bytes = 2048 * FLOW_BYTES;
  flow_open(rig, 1);
  rule(rig, &p);
  put(0, 0, 4);
  assert_int_equal(flow_hits(rig, 0, 4), 4); /* makes them known */
  neap__l1_clear(rig->l1, true);
  assert_true(within_10s(has_predicted, rig));
  assert_false(flow_resident(rig, 0));
  neap__foresight_stats stats;
  neap__foresight_stats_get(rig->engine->foresight, &stats);
  assert_true(stats.unknown > 0 && stats.fetched >= 2 && stats.predicted >= 3);
  told.predictions = 0;
  assert_true(within_10s(has_asked_twice, rig));
  neap__stream_flush(rig->engine->stream);
  assert_true(told.heard_count >= 2 && told.heard[0].type == NEAP_EV_TICK);
}

static bool has_second_row(flow_rig *rig) {
  neap__key key = flow_key(rig, 2, 1);
  bool present;
  neap__l1_contains(rig->l1, 1, &key, &present);
  return present;
}

static void one_rank_that_is_gone_does_not_keep_the_others_down(void **state) {
  flow_rig *rig = *state;
  static neap_policy p; /* outlives the engine */
  p = planner;
  p.predict = told_predict;
  p.store_plan = NULL;
  p.load_plan = NULL;
  told.predict[0].h1 = 2;
  told.predict_count = 1;
  rig->config.l1.pool_bytes = 2048 * FLOW_BYTES;
  flow_open(rig, 1);
  rule(rig, &p);
  flow_put(0, 2, 0);
  flow_put(0, 2, 1);
  flow_fetch *f = flow_ask_rows(rig, 2, 1, 2, false); /* makes them known */
  assert_int_equal(flow_answer(f), 1);
  flow_end(f);
  flow_force(0, NEAP_OP_LOOKUP, 2, NEAP_ENOENT);
  neap__l1_clear(rig->l1, true);
  assert_true(within_10s(has_second_row, rig));
  assert_false(flow_resident(rig, 2));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, flow_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_cut_sends_the_first_chunks_of_an_offer_to_a_tier),
      TEST(a_plan_shows_chunks_and_tiers_as_they_are),
      TEST(skip_l1_keeps_what_a_plan_left_out),
      TEST(a_store_plan_that_fails_is_the_last_one_and_stores_go_everywhere),
      TEST(a_storer_closes_while_a_plan_is_made),
      TEST(a_storer_that_closes_waits_for_plans),
      TEST(a_load_plan_says_how_many_chunks_are_loaded),
      TEST(a_load_plan_chooses_among_the_tiers_that_have_a_chunk),
      TEST(rows_that_the_chosen_tier_lacks_come_from_where_they_are),
      TEST(what_is_not_kept_leaves_with_its_last_lease),
      TEST(what_l1_has_alone_and_what_is_fetched_ahead_needs_no_plan),
      TEST(a_load_plan_that_makes_no_sense_is_not_followed),
      TEST(no_plan_however_wild_breaks_anything),
      TEST(misses_come_tail_first_and_loads_say_from_where),
      TEST(a_lookup_teaches_what_continues_what),
      TEST(a_new_policy_hears_of_the_leases_that_there_are),
      TEST(what_is_predicted_comes_up_while_nothing_else_does),
      TEST(one_rank_that_is_gone_does_not_keep_the_others_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
