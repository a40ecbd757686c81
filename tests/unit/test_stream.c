/* SPDX-License-Identifier: MIT
 *
 * The event stream: order and bulk of delivery, completion of short answers, containment of policies that misbehave,
 * and many threads at once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/base.h"
#include "policy/stream.h"
#include "support/policies.h"

#define SLOTS 1024u
#define THREADS 4u
#define PER_THREAD (SLOTS / THREADS)
#define BATCH 16u
#define ROUNDS 300u

/* --- a policy that does as it is told ------------------------------------------------------------------------- */

typedef struct script {
  uint32_t say[64]; /* its next answer */
  uint32_t say_count, claim;
  uint32_t calls, events;
  uint32_t next_in[THREADS]; /* events must carry 0, 1, 2, ... in h2 per request number */
  uint32_t misordered, torn;
  neap_event last;
  int create_rc;
  int alive;
} script;

static script told;

static int told_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy, (void)err;
  *self = &told;
  if (told.create_rc != 0) return told.create_rc;
  told.alive += context->slots == SLOTS ? 1 : 100;
  return 0;
}

static int told_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  script *s = self;
  s->calls++;
  s->events += count;
  for (uint32_t i = 0; i < count; i++) {
    const neap_event *ev = &events[i];
    if (ev->request == 0) {
      s->last = *ev;
      continue;
    }
    if (ev->h2 != s->next_in[ev->request - 1]++) s->misordered++;
    if (ev->pos % BATCH != 0 && (s->last.request != ev->request || s->last.pos + 1 != ev->pos)) s->torn++;
    s->last = *ev;
  }
  return 0;
}

static int told_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  script *s = self;
  (void)scope, (void)err;
  for (uint32_t i = 0; i < s->say_count && i < max; i++) out[i] = s->say[i];
  return (int)s->claim;
}

static void told_destroy(void *self) { ((script *)self)->alive--; }

static const neap_policy told_policy = {
    .magic = NEAP_POLICY_MAGIC,
    .abi = NEAP_POLICY_ABI,
    .size = sizeof(neap_policy),
    .wants = UINT32_MAX & ~(NEAP_WANTS(LEAF) | NEAP_WANTS(UNLEAF)),
    .name = "told",
    .create = told_create,
    .on_events = told_on_events,
    .victims = told_victims,
    .destroy = told_destroy,
};

static void say(uint32_t claim, uint32_t count, const uint32_t *slots) {
  memcpy(told.say, slots, count * sizeof(*slots));
  told.say_count = count;
  told.claim = claim;
}

static int told_reset(void **state) {
  (void)state;
  told = (script){.alive = 0};
  return 0;
}

static neap__stream *open_stream(const neap_policy *policy) {
  neap_error err = {""};
  neap__stream *s = NULL;
  assert_int_equal(neap__stream_open(&(neap__instance_config){.policy = policy, .slots = SLOTS}, &s, &err), 0);
  return s;
}

static void emit(neap__stream *s, neap_event_type type, uint32_t slot) {
  const neap_event ev = {.slot = slot, .type = (uint8_t)type, .tenant = slot % 2, .detail = NEAP_REMOVE_EVICT};
  neap__stream_emit(s, &ev, 1);
}

static neap__stream_stats stats_of(neap__stream *s) {
  neap__stream_stats stats;
  neap__stream_stats_get(s, &stats);
  return stats;
}

static uint64_t refused(neap__stream *s) { return stats_of(s).instance.refused; }

static void insert_upto(neap__stream *s, uint32_t count) {
  for (uint32_t slot = 0; slot < count; slot++) emit(s, NEAP_EV_INSERT, slot);
}

static void expect_victims(neap__stream *s, uint32_t scope, uint32_t max, uint32_t count, const uint32_t *slots) {
  uint32_t out[64];
  assert_int_equal(neap__stream_victims(s, scope, out, max), count);
  assert_memory_equal(out, slots, count * sizeof(out[0]));
}

#define LIST(...) \
  (uint32_t)(sizeof((const uint32_t[]){__VA_ARGS__}) / 4), (const uint32_t[]) { __VA_ARGS__ }

/* --- events --------------------------------------------------------------------------------------------------- */

static void events_arrive_in_order_and_in_bulk(void **state) {
  (void)state;
  neap__stream *s = open_stream(&told_policy);
  for (uint32_t i = 0; i < 10000; i++) {
    const neap_event ev = {.slot = i % SLOTS, .type = NEAP_EV_HIT, .request = 1, .h2 = i};
    neap__stream_emit(s, &ev, 1);
  }
  assert_int_equal(told.events, 8192); /* two full buffers */
  assert_int_equal(told.calls, 2);
  neap__stream_flush(s);
  assert_int_equal(told.events, 10000);
  neap__stream_flush(s);
  assert_int_equal(told.calls, 3); /* nothing pending, no call */
  assert_int_equal(told.misordered, 0);
  neap__stream_close(s);
  assert_int_equal(told.alive, 0);
}

static void a_batch_larger_than_the_buffer_arrives_whole_and_in_order(void **state) {
  (void)state;
  enum { COUNT = 9001 };
  neap_event *events = calloc(COUNT, sizeof(*events));
  assert_non_null(events);
  for (uint32_t i = 0; i < COUNT; i++)
    events[i] = (neap_event){.slot = i % SLOTS, .type = NEAP_EV_HIT, .request = 1, .h2 = i};
  neap__stream *s = open_stream(&told_policy);
  neap__stream_emit(s, events, COUNT);
  neap__stream_emit(s, events, 0);
  neap__stream_flush(s);
  assert_int_equal(told.events, COUNT);
  assert_int_equal(told.misordered, 0);
  neap__stream_close(s);
  free(events);
}

static void pending_events_count_before_victims_are_named(void **state) {
  (void)state;
  neap__stream *s = open_stream(policy_of("LRU"));
  for (uint32_t k = 3; k-- > 0;) emit(s, NEAP_EV_INSERT, k); /* one request, tail first */
  emit(s, NEAP_EV_HIT, 2);
  expect_victims(s, NEAP_SCOPE_ALL, 64, LIST(1, 0, 2));
  neap__stream_close(s);
}

static void a_kept_victim_comes_back_last(void **state) {
  (void)state;
  neap__stream *s = open_stream(policy_of("LRU"));
  insert_upto(s, 4);
  expect_victims(s, NEAP_SCOPE_ALL, 2, LIST(0, 1));
  neap__stream_keep(s, 0);
  emit(s, NEAP_EV_REMOVE, 1);
  expect_victims(s, NEAP_SCOPE_ALL, 64, LIST(2, 3, 0));
  neap__stream_close(s);
}

/* --- short and wrong answers ---------------------------------------------------------------------------------- */

static void a_short_answer_is_completed_by_lru(void **state) {
  (void)state;
  neap__stream *s = open_stream(&told_policy);
  insert_upto(s, 6);
  say(2, LIST(4, 1));
  expect_victims(s, NEAP_SCOPE_ALL, 5, LIST(4, 1, 0, 2, 3));
  assert_int_equal(refused(s), 0);
  neap__stream_close(s);
}

static void a_tenants_short_answer_is_completed_from_that_tenant(void **state) {
  (void)state;
  neap__stream *s = open_stream(&told_policy);
  insert_upto(s, 8);
  say(1, LIST(5));
  expect_victims(s, 1, 8, LIST(5, 1, 3, 7));
  neap__stream_close(s);
}

static void proposals_that_are_no_slot_are_dropped_and_counted(void **state) {
  (void)state;
  neap__stream *s = open_stream(&told_policy);
  insert_upto(s, 6);
  say(6, LIST(SLOTS, UINT32_MAX, 3, 3, 900, 2)); /* 900 is a slot, but nothing is in it */
  expect_victims(s, NEAP_SCOPE_ALL, 6, LIST(3, 2, 0, 1, 4, 5));
  assert_int_equal(refused(s), 4);
  neap__stream_close(s);
}

static void a_policy_that_claims_more_than_it_was_asked_is_cut_short(void **state) {
  (void)state;
  neap__stream *s = open_stream(&told_policy);
  insert_upto(s, 8);
  say(10, LIST(7, 6, 5, 4));
  expect_victims(s, NEAP_SCOPE_ALL, 3, LIST(7, 6, 5));
  assert_int_equal(refused(s), 7);
  uint32_t out[3] = {3, 2, 1}; /* what lies there from before is no proposal of a policy that claims but writes none */
  say(INT32_MAX, LIST(4));
  assert_int_equal(neap__stream_victims(s, NEAP_SCOPE_ALL, out, 3), 3);
  assert_memory_equal(out, ((const uint32_t[]){4, 0, 1}), sizeof(out));
  neap__stream_close(s);
}

static void a_victim_is_not_handed_out_twice_by_policy_and_completion(void **state) {
  (void)state;
  neap__stream *s = open_stream(&told_policy);
  insert_upto(s, 5);
  say(1, LIST(2));
  expect_victims(s, NEAP_SCOPE_ALL, 2, LIST(2, 0));
  say(2, LIST(0, 2)); /* both are out */
  expect_victims(s, NEAP_SCOPE_ALL, 64, LIST(1, 3, 4));
  assert_int_equal(refused(s), 2);
  neap__stream_keep(s, 2);
  emit(s, NEAP_EV_REMOVE, 0);
  expect_victims(s, NEAP_SCOPE_ALL, 64, LIST(2));
  neap__stream_close(s);
}

static void noop_is_not_completed(void **state) {
  (void)state;
  neap__stream *s = open_stream(policy_of("noop"));
  insert_upto(s, 5);
  uint32_t out[4];
  assert_int_equal(neap__stream_victims(s, NEAP_SCOPE_ALL, out, 4), 0);
  assert_string_equal(stats_of(s).policy, "noop");
  neap__stream_close(s);
}

static void asking_for_nothing_gives_nothing(void **state) {
  (void)state;
  neap__stream *s = open_stream(policy_of("ARC"));
  insert_upto(s, 5);
  assert_int_equal(neap__stream_victims(s, NEAP_SCOPE_ALL, NULL, 0), 0);
  neap__stream_close(s);
}

/* Whatever it says, what comes out is resident, distinct, and in the end everything. */
static void a_policy_that_says_random_things_cannot_do_harm(void **state) {
  (void)state;
  const char *given = getenv("NEAP_SEED");
  unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
  print_message("NEAP_SEED=%u\n", seed);
  neap__stream *s = open_stream(&told_policy);
  int resident[SLOTS] = {0}; /* 2: handed out */
  for (uint32_t step = 0; step < 3000; step++) {
    uint32_t slot = (uint32_t)rand_r(&seed) % SLOTS;
    if (resident[slot] == 0) {
      emit(s, NEAP_EV_INSERT, slot);
      resident[slot] = 1;
    }
    uint32_t out[64];
    uint32_t max = (uint32_t)rand_r(&seed) % 4;
    for (uint32_t i = 0; i < 64; i++) told.say[i] = (uint32_t)rand_r(&seed) % (SLOTS + SLOTS / 4);
    told.say_count = told.claim = (uint32_t)rand_r(&seed) % 6;
    uint32_t got = neap__stream_victims(s, NEAP_SCOPE_ALL, out, max);
    assert_true(got <= max);
    for (uint32_t i = 0; i < got; i++) {
      assert_int_equal(resident[out[i]], 1);
      resident[out[i]] = 2;
    }
    for (uint32_t i = 0; i < got; i++) {
      bool kept = rand_r(&seed) % 2 == 0;
      if (kept) neap__stream_keep(s, out[i]);
      if (!kept) emit(s, NEAP_EV_REMOVE, out[i]);
      resident[out[i]] = kept;
    }
  }
  uint32_t left = 0, all[SLOTS];
  for (uint32_t i = 0; i < SLOTS; i++) left += resident[i] == 1;
  assert_int_equal(neap__stream_victims(s, NEAP_SCOPE_ALL, all, SLOTS), left);
  neap__stream_close(s);
}

/* --- opening -------------------------------------------------------------------------------------------------- */

static void expect_refusal(const neap_policy *policy, uint32_t slots, int code, const char *text) {
  neap_error err = {""};
  neap__stream *s = NULL;
  assert_int_equal(neap__stream_open(&(neap__instance_config){.policy = policy, .slots = slots}, &s, &err), code);
  assert_null(s);
  assert_string_equal(err.text, text);
}

static void a_policy_of_another_version_is_refused(void **state) {
  (void)state;
  neap_policy p = told_policy;
  expect_refusal(NULL, SLOTS, NEAP_EINVAL, "policy is NULL; expected a neap_policy");
  p.magic = 1;
  expect_refusal(&p, SLOTS, NEAP_EABI, "policy magic is 0x00000001; expected 0x4e504f4c");
  p = told_policy;
  p.abi = 1;
  expect_refusal(&p, SLOTS, NEAP_EABI, "policy abi is 1; expected 2");
  p = told_policy;
  p.size = 8;
  expect_refusal(&p, SLOTS, NEAP_EABI, "policy size is 8; expected at least 120");
  p = told_policy;
  p.victims = NULL;
  expect_refusal(&p, SLOTS, NEAP_EABI, "policy members 'victims' and 'score' are both NULL; expected one of them");
  p = told_policy;
  p.on_events = NULL;
  expect_refusal(&p, SLOTS, NEAP_EABI, "policy member 'on_events' is NULL; expected it to be set");
  expect_refusal(&told_policy, 0, NEAP_EINVAL, "slots is 0; expected 1 to 4294967293");
  expect_refusal(&told_policy, UINT32_MAX, NEAP_EINVAL, "slots is 4294967295; expected 1 to 4294967293");
}

static void the_error_of_create_is_passed_on(void **state) {
  (void)state;
  told.create_rc = NEAP_ESCRIPT;
  expect_refusal(&told_policy, SLOTS, NEAP_ESCRIPT, "");
  assert_int_equal(told.alive, 0);
}

/* --- what the policy wants and has ---------------------------------------------------------------------------- */

static int raising(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)self, (void)events, (void)count;
  return neap__fail(err, NEAP_ESCRIPT, "a.lua:7: no");
}

static void what_a_policy_wants_is_a_word_and_falls_back_when_it_is_out(void **state) {
  (void)state;
  neap_policy p = told_policy;
  p.on_events = raising;
  p.constraint = NEAP_EVICT_LEAF;
  p.wants = NEAP_WANTS(INSERT) | NEAP_WANTS(PIN);
  neap__stream *s = open_stream(&p);
  const _Atomic uint32_t *word = neap__stream_wants_word(s);
  assert_int_equal(*word, NEAP_WANTS(INSERT) | NEAP_WANTS(PIN) | NEAP_WANTS(LEAF) | NEAP_WANTS(UNLEAF));
  neap__log_set_level(NEAP_ERROR + 1);
  emit(s, NEAP_EV_INSERT, 3);
  neap__stream_flush(s);
  assert_int_equal(*word, NEAP_WANTS(INSERT) | NEAP_WANTS(HIT) | NEAP_WANTS(REMOVE) | NEAP_WANTS(KEEP));
  assert_true(stats_of(s).instance.out);
  assert_string_equal(stats_of(s).instance.why.text, "on_events: a.lua:7: no");
  expect_victims(s, NEAP_SCOPE_ALL, 4, LIST(3));
  neap__stream_close(s);
}

/* Cuts at 2; takes chunks of hits for a reason. */
static int cutting(void *self, neap_store_plan *plan, neap_error *err) {
  (void)self, (void)err;
  assert_int_equal(plan->chunk[0].hits, 2);
  assert_int_equal(plan->chunk[1].hits, 0); /* the slot holds another object */
  assert_int_equal(plan->chunk[0].tiers, 1u << 4 | 1u);
  assert_int_equal(plan->chunk[1].recompute_us, 100 + 10 * 5);
  plan->cut[0] = 2;
  return 0;
}

static int leaving_out(void *self, neap_load_plan *plan, neap_error *err) {
  (void)self, (void)err;
  plan->load = plan->chunks + 1;
  return 0;
}

static int hinted(void *self, const neap_hint *hints, uint32_t count, neap_error *err) {
  (void)err;
  ((script *)self)->events += count * hints[0].h1;
  return 0;
}

static int predicting(void *self, neap_hint *out, uint32_t max, neap_error *err) {
  (void)self, (void)err;
  out[0] = (neap_hint){.h1 = max};
  return 1;
}

static void plans_hints_and_predictions_reach_the_policy_that_has_hooks_for_them(void **state) {
  (void)state;
  uint32_t cut = 9;
  uint8_t source[2] = {0};
  neap_plan_chunk chunks[2] = {{.slot = 7, .h1 = 70, .tiers = 1}, {.slot = 8, .h1 = 81, .pos = 5}};
  neap_store_plan store = {.size = sizeof(store), .chunks = 2, .tiers = 1, .cut = &cut};
  neap_load_plan load = {.size = sizeof(load), .chunks = 2, .tiers = 1, .source = source};
  neap_hint hint = {.h1 = 5};
  neap__stream *s = open_stream(&told_policy);
  assert_false(neap__stream_store_plan(s, &store, chunks) || neap__stream_load_plan(s, &load, chunks));
  assert_false(neap__stream_hint(s, &hint, 1));
  assert_int_equal(neap__stream_predict(s, &hint, 1), 0);
  neap__stream_close(s);

  neap_policy p = told_policy;
  p.store_plan = cutting, p.load_plan = leaving_out, p.on_hint = hinted, p.predict = predicting;
  const neap__instance_config config = {.policy = &p, .slots = SLOTS, .cost = {.base_us = 100, .slope_us = 10}};
  assert_int_equal(neap__stream_open(&config, &s, NULL), 0);
  neap__stream_emit(s,
                    (neap_event[]){{.slot = 7, .type = NEAP_EV_INSERT, .h1 = 70},
                                   {.slot = 8, .type = NEAP_EV_INSERT, .h1 = 80},
                                   {.slot = 8, .type = NEAP_EV_HIT, .h1 = 80},
                                   {.slot = 7, .type = NEAP_EV_HIT, .h1 = 70},
                                   {.slot = 7, .type = NEAP_EV_HIT, .h1 = 70},
                                   {.slot = 7, .type = NEAP_EV_STORED, .h1 = 70, .detail = 4}},
                    6);
  assert_true(neap__stream_store_plan(s, &store, chunks));
  assert_int_equal(cut, 2);
  uint32_t before = told.events;
  assert_true(neap__stream_hint(s, &hint, 1));
  assert_int_equal(told.events - before, 5);
  assert_int_equal(neap__stream_predict(s, &hint, 1), 1);
  assert_int_equal(hint.h1, 1);
  neap__log_set_level(NEAP_ERROR + 1);
  assert_false(neap__stream_load_plan(s, &load, chunks)); /* nonsense: it is out, with all its hooks */
  assert_string_equal(stats_of(s).instance.why.text, "load_plan: 'load' is more than there are chunks");
  assert_false(neap__stream_store_plan(s, &store, chunks) || neap__stream_hint(s, &hint, 1));
  neap__stream_close(s);
}

/* --- switching ------------------------------------------------------------------------------------------------ */

static void note_switch(void *ctx, uint32_t wants) { *(uint32_t *)ctx = wants; }

static void a_switch_tells_the_new_policy_of_residents_in_order_of_recency(void **state) {
  (void)state;
  uint32_t wanted = 1;
  neap__stream *s = open_stream(policy_of("LRU"));
  neap__stream_on_switch(s, note_switch, &wanted);
  insert_upto(s, 4);
  emit(s, NEAP_EV_HIT, 0); /* pending when the switch comes */
  neap_error err = {""};
  neap_policy bad = told_policy;
  bad.abi = 9;
  assert_int_equal(neap__stream_switch(s, &bad, "", &err), NEAP_EABI);
  assert_int_equal(wanted, 1);
  assert_string_equal(stats_of(s).policy, "LRU");
  told.create_rc = NEAP_ESCRIPT;
  assert_int_equal(neap__stream_switch(s, &told_policy, "", &err), NEAP_ESCRIPT);
  expect_victims(s, NEAP_SCOPE_ALL, 1, LIST(1));
  told.create_rc = 0;
  assert_int_equal(neap__stream_switch(s, &told_policy, "a=1", &err), 0);
  assert_int_equal(wanted, neap__stream_wants(s));
  assert_string_equal(stats_of(s).policy, "told");
  assert_string_equal(stats_of(s).params, "a=1");
  assert_int_equal(told.events, 5); /* four residents, one of them used */
  assert_int_equal(told.last.slot, 0);
  neap__stream_close(s);
  assert_int_equal(told.alive, 0);
}

static void capacity_is_what_was_resident_when_l1_was_full(void **state) {
  (void)state;
  neap__stream *s = open_stream(policy_of("ARC"));
  assert_int_equal(stats_of(s).capacity, SLOTS);
  insert_upto(s, 40);
  neap__stream_full(s);
  emit(s, NEAP_EV_REMOVE, 3);
  assert_int_equal(stats_of(s).capacity, 40);
  assert_int_equal(stats_of(s).instance.residents, 39);
  neap__stream_close(s);
}

/* --- leaves --------------------------------------------------------------------------------------------------- */

static void insert_chunk(neap__stream *s, uint32_t slot, uint32_t h1) {
  const neap_event ev = {.slot = slot, .type = NEAP_EV_INSERT, .h1 = h1};
  neap__stream_emit(s, &ev, 1);
}

static void a_policy_that_evicts_leaves_only_gets_its_other_victims_back(void **state) {
  (void)state;
  enum { LONG = 300 };
  uint64_t prompt[LONG];
  neap_policy p = told_policy;
  p.constraint = NEAP_EVICT_LEAF;
  neap__stream *s = open_stream(&p);
  for (uint32_t i = 0; i < LONG; i++) prompt[i] = 1000 + i;
  neap__stream_chain(s, 0, prompt, sizeof(prompt[0]), LONG);
  for (uint32_t i = LONG; i-- > 0;) insert_chunk(s, i, 1000 + i);
  say(3, LIST(0, LONG - 2, LONG - 1));
  expect_victims(s, NEAP_SCOPE_ALL, 1, LIST(LONG - 1)); /* by completion, should the first not be enough */
  neap__stream_close(s);
}

/* Keeps what it hears of leaves. */
static uint32_t heard_type[64], heard_slot[64], heard_count;

static int hearing(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)self, (void)err;
  for (uint32_t i = 0; i < count; i++, heard_count++) {
    assert_true(heard_count < 64);
    heard_type[heard_count] = events[i].type;
    heard_slot[heard_count] = events[i].slot;
  }
  return 0;
}

static void leaves_are_told_to_who_comes_later_and_follow_their_cause(void **state) {
  (void)state;
  const uint64_t prompt[] = {50, 51, 52};
  neap_policy p = told_policy;
  p.on_events = hearing;
  p.wants = NEAP_WANTS(LEAF) | NEAP_WANTS(INSERT) | NEAP_WANTS(UNLEAF) | NEAP_WANTS(REMOVE);
  neap__stream *s = open_stream(policy_of("LRU"));
  insert_chunk(s, 5, 50);
  neap__stream_chain(s, 0, prompt, 8, 3); /* nobody wants it */
  heard_count = 0;
  assert_int_equal(neap__stream_switch(s, &p, "", NULL), 0);
  assert_int_equal(heard_count, 1);
  neap__stream_chain(s, 0, prompt, 8, 3);
  insert_chunk(s, 6, 51);
  const neap_event gone = {.slot = 6, .type = NEAP_EV_REMOVE, .h1 = 51};
  neap__stream_emit(s, &gone, 1);
  insert_chunk(s, 6, 51);
  neap__stream_flush(s);
  const uint32_t types[] = {NEAP_EV_INSERT, NEAP_EV_INSERT, NEAP_EV_UNLEAF, NEAP_EV_REMOVE,
                            NEAP_EV_LEAF,   NEAP_EV_INSERT, NEAP_EV_UNLEAF};
  assert_int_equal(heard_count, NEAP_ARRAY_LEN(types));
  assert_memory_equal(heard_type, types, sizeof(types));
  assert_memory_equal(heard_slot, ((const uint32_t[]){5, 6, 5, 6, 5, 6, 5}), 7 * sizeof(uint32_t));
  heard_count = 0;
  assert_int_equal(neap__stream_switch(s, &p, "", NULL), 0); /* again: all at once, as it is */
  assert_int_equal(heard_count, 3);
  assert_int_equal(heard_type[1], NEAP_EV_UNLEAF);
  assert_int_equal(neap__stream_switch(s, policy_of("LRU"), "", NULL), 0);
  heard_count = 0;
  assert_int_equal(neap__stream_switch(s, &p, "", NULL), 0);
  assert_int_equal(heard_count, 2); /* what continued what was forgotten meanwhile */
  neap__stream_close(s);
}

/* --- threads -------------------------------------------------------------------------------------------------- */

typedef struct worker {
  pthread_t thread;
  neap__stream *stream;
  uint32_t number;
} worker;

static void *work(void *arg) {
  worker *w = arg;
  uint32_t sequence = 0;
  for (uint32_t round = 0; round < ROUNDS; round++) {
    neap_event batch[BATCH];
    for (uint32_t i = 0; i < BATCH; i++) {
      uint32_t nth = (round * BATCH + i) % PER_THREAD;
      batch[i] = (neap_event){.slot = w->number * PER_THREAD + nth,
                              .type = round * BATCH < PER_THREAD ? NEAP_EV_INSERT : NEAP_EV_HIT,
                              .tenant = w->number,
                              .pos = (uint16_t)(round * BATCH + i),
                              .request = w->number + 1,
                              .h2 = sequence++};
    }
    neap__stream_emit(w->stream, batch, BATCH);
  }
  return NULL;
}

/* Evicts what it is given, each slot once; every fourth proposal is kept the first time. */
static uint32_t evict_some(neap__stream *s, uint8_t *seen) {
  uint32_t out[8];
  uint32_t evicted = 0;
  uint32_t got = neap__stream_victims(s, NEAP_SCOPE_ALL, out, 8);
  for (uint32_t i = 0; i < got; i++) {
    assert_true(out[i] < SLOTS && seen[out[i]] < 2);
    bool keep = out[i] % 4 == 0 && seen[out[i]] == 0;
    seen[out[i]] = keep ? 1 : 2;
    if (keep) neap__stream_keep(s, out[i]);
    if (!keep) emit(s, NEAP_EV_REMOVE, out[i]);
    evicted += !keep;
  }
  return evicted;
}

static void threads_against_while(const neap_policy *policy, void *(*meanwhile)(void *stream)) {
  worker workers[THREADS];
  pthread_t beside;
  uint8_t seen[SLOTS] = {0};
  uint32_t evicted = 0;
  neap__stream *s = open_stream(policy);
  for (uint32_t t = 0; t < THREADS; t++) {
    workers[t] = (worker){.stream = s, .number = t};
    assert_int_equal(pthread_create(&workers[t].thread, NULL, work, &workers[t]), 0);
  }
  if (meanwhile) assert_int_equal(pthread_create(&beside, NULL, meanwhile, s), 0);
  for (uint32_t i = 0; i < 200; i++) evicted += evict_some(s, seen);
  for (uint32_t t = 0; t < THREADS; t++) assert_int_equal(pthread_join(workers[t].thread, NULL), 0);
  if (meanwhile) assert_int_equal(pthread_join(beside, NULL), 0);
  for (uint32_t i = 0; i < SLOTS; i++) evicted += evict_some(s, seen);
  assert_int_equal(evicted, SLOTS);
  neap__stream_close(s);
}

static void threads_against(const neap_policy *policy) { threads_against_while(policy, NULL); }

static void batches_of_many_threads_arrive_whole_and_in_their_order(void **state) {
  (void)state;
  threads_against(&told_policy);
  for (uint32_t t = 0; t < THREADS; t++) assert_int_equal(told.next_in[t], ROUNDS * BATCH);
  assert_int_equal(told.misordered, 0);
  assert_int_equal(told.torn, 0);
}

/* No event and no victim is lost, whoever rules. */
static void *switch_often(void *arg) {
  neap__stream *s = arg;
  static const char *const names[] = {"ARC", "LRU", "IsolatedLRU"};
  for (uint32_t i = 0; i < 100; i++) assert_int_equal(neap__stream_switch(s, policy_of(names[i % 3]), "", NULL), 0);
  return NULL;
}

static void a_switch_among_many_threads_loses_no_slot(void **state) {
  (void)state;
  threads_against_while(policy_of("LRU"), switch_often);
}

static void many_threads_and_the_built_ins_evict_every_slot_once(void **state) {
  (void)state;
  threads_against(policy_of("LRU"));
  threads_against(policy_of("IsolatedLRU"));
  threads_against(policy_of("ARC"));
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup(f, told_reset)
  const struct CMUnitTest tests[] = {
      CASE(events_arrive_in_order_and_in_bulk),
      CASE(a_batch_larger_than_the_buffer_arrives_whole_and_in_order),
      CASE(pending_events_count_before_victims_are_named),
      CASE(a_kept_victim_comes_back_last),
      CASE(a_short_answer_is_completed_by_lru),
      CASE(a_tenants_short_answer_is_completed_from_that_tenant),
      CASE(proposals_that_are_no_slot_are_dropped_and_counted),
      CASE(a_policy_that_claims_more_than_it_was_asked_is_cut_short),
      CASE(a_victim_is_not_handed_out_twice_by_policy_and_completion),
      CASE(noop_is_not_completed),
      CASE(asking_for_nothing_gives_nothing),
      CASE(a_policy_that_says_random_things_cannot_do_harm),
      CASE(a_policy_of_another_version_is_refused),
      CASE(the_error_of_create_is_passed_on),
      CASE(what_a_policy_wants_is_a_word_and_falls_back_when_it_is_out),
      CASE(plans_hints_and_predictions_reach_the_policy_that_has_hooks_for_them),
      CASE(a_switch_tells_the_new_policy_of_residents_in_order_of_recency),
      CASE(capacity_is_what_was_resident_when_l1_was_full),
      CASE(a_policy_that_evicts_leaves_only_gets_its_other_victims_back),
      CASE(leaves_are_told_to_who_comes_later_and_follow_their_cause),
      CASE(batches_of_many_threads_arrive_whole_and_in_their_order),
      CASE(a_switch_among_many_threads_loses_no_slot),
      CASE(many_threads_and_the_built_ins_evict_every_slot_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
