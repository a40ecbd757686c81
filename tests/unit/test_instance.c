/* SPDX-License-Identifier: MIT
 *
 * One policy at work: what it proposes is checked, what it leaves out is completed, and when it fails the built-in goes
 * on with what is resident. The policies here do as the test says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "policies/builtin.h"
#include "policy/instance.h"
#include "support/random.h"

#define SLOTS 256u

typedef struct puppet {
  int alive;
  int loads, save_rc, load_rc;
  int create_said, create_rc, events_rc, victims_rc, score_rc, plan_rc;
  uint32_t say[SLOTS], say_count;
  double score[SLOTS];
  neap_event heard[8 * SLOTS];
  uint32_t heard_count;
  void (*spoil_store)(neap_store_plan *plan);
  void (*spoil_load)(neap_load_plan *plan);
} puppet;

static puppet it;

static int create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy, (void)context;
  if (it.create_rc != 0) return neap__fail(err, it.create_rc, "mine.lua:3: no");
  it.alive++;
  *self = &it;
  return it.create_said;
}

static void destroy(void *self) { ((puppet *)self)->alive--; }

static int on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  puppet *p = self;
  if (p->events_rc != 0) return neap__fail(err, p->events_rc, "mine.lua:7: boom");
  for (uint32_t i = 0; i < count && p->heard_count < NEAP_ARRAY_LEN(p->heard); i++)
    p->heard[p->heard_count++] = events[i];
  return 0;
}

static int victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  puppet *p = self;
  (void)scope;
  if (p->victims_rc != 0) return neap__fail(err, p->victims_rc, "mine.lua:9: boom");
  for (uint32_t i = 0; i < p->say_count && i < max; i++) out[i] = p->say[i];
  return (int)p->say_count;
}

static int score(void *self, const uint32_t *slots, uint32_t count, double *scores, neap_error *err) {
  puppet *p = self;
  if (p->score_rc != 0) return neap__fail(err, p->score_rc, "mine.lua:11: boom");
  for (uint32_t i = 0; i < count; i++) scores[i] = p->score[slots[i]];
  return 0;
}

static int store_plan(void *self, neap_store_plan *plan, neap_error *err) {
  puppet *p = self;
  if (p->plan_rc != 0) return neap__fail(err, p->plan_rc, "mine.lua:13: boom");
  if (p->spoil_store) p->spoil_store(plan);
  return 0;
}

static int load_plan(void *self, neap_load_plan *plan, neap_error *err) {
  puppet *p = self;
  if (p->plan_rc != 0) return neap__fail(err, p->plan_rc, "mine.lua:15: boom");
  if (p->spoil_load) p->spoil_load(plan);
  return 0;
}

static const neap_policy obedient = {
    .magic = NEAP_POLICY_MAGIC,
    .abi = NEAP_POLICY_ABI,
    .size = sizeof(neap_policy),
    .wants = UINT32_MAX,
    .name = "obedient",
    .create = create,
    .destroy = destroy,
    .on_events = on_events,
    .victims = victims,
    .store_plan = store_plan,
    .load_plan = load_plan,
};

static neap_policy scoring(void) {
  neap_policy p = obedient;
  p.name = "scoring";
  p.victims = NULL;
  p.score = score;
  return p;
}

static int reset(void **state) {
  (void)state;
  it = (puppet){.alive = 0};
  return 0;
}

static int nothing_left(void **state) {
  (void)state;
  return it.alive;
}

static neap__instance *open_instance(const neap_policy *policy) {
  neap_error err = {""};
  neap__instance *in = NULL;
  const neap__instance_config config = {.policy = policy, .slots = SLOTS, .seed = 1};
  assert_int_equal(neap__instance_open(&config, &in, &err), 0);
  return in;
}

static void tell(neap__instance *in, neap_event_type type, uint32_t slot) {
  const neap_event ev = {
      .slot = slot, .type = (uint8_t)type, .tenant = slot % 3, .h1 = 7 * slot, .kib = 4, .detail = NEAP_REMOVE_EVICT};
  neap__instance_deliver(in, &ev, 1);
}

static void fill(neap__instance *in, uint32_t count) {
  for (uint32_t slot = 0; slot < count; slot++) tell(in, NEAP_EV_INSERT, slot);
}

static void say(uint32_t count, const uint32_t *slots) {
  memcpy(it.say, slots, count * sizeof(*slots));
  it.say_count = count;
}

#define LIST(...) \
  (uint32_t)(sizeof((const uint32_t[]){__VA_ARGS__}) / 4), (const uint32_t[]) { __VA_ARGS__ }

static void expect(neap__instance *in, uint32_t max, uint32_t count, const uint32_t *slots) {
  uint32_t out[SLOTS];
  assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, out, max), count);
  assert_memory_equal(out, slots, count * sizeof(out[0]));
}

static neap__instance_stats stats_of(const neap__instance *in) {
  neap__instance_stats stats;
  neap__instance_stats_get(in, &stats);
  return stats;
}

static void expect_out(const neap__instance *in, const char *why) {
  neap__instance_stats stats = stats_of(in);
  assert_true(stats.out);
  assert_string_equal(stats.why.text, why);
}

/* --- failing -------------------------------------------------------------------------------------------------- */

static void a_policy_that_fails_in_events_is_replaced(void **state) {
  (void)state;
  neap__instance *in = open_instance(&obedient);
  fill(in, 4);
  tell(in, NEAP_EV_HIT, 1);
  it.events_rc = NEAP_ESCRIPT;
  tell(in, NEAP_EV_HIT, 0);
  expect_out(in, "on_events: mine.lua:7: boom");
  it.events_rc = 0;
  tell(in, NEAP_EV_INSERT, 9);
  say(LIST(9));
  expect(in, 5, LIST(2, 3, 1, 0, 9)); /* the order of use, what the policy says does not count */
  neap__instance_close(in);
}

static void a_policy_that_fails_to_name_victims_is_replaced(void **state) {
  (void)state;
  neap__instance *in = open_instance(&obedient);
  fill(in, 3);
  it.victims_rc = NEAP_ETIMEDOUT;
  expect(in, 2, LIST(0, 1));
  expect_out(in, "victims: mine.lua:9: boom");
  neap__instance_close(in);
}

static void a_policy_that_names_no_residents_for_long_is_replaced(void **state) {
  (void)state;
  neap__instance *in = open_instance(&obedient);
  fill(in, 3);
  say(LIST(100, 101, 102, 103, 104, 105, 106, 107));
  uint32_t out[8];
  for (uint32_t i = 0; i < 5000 && !stats_of(in).out; i++) {
    uint32_t got = neap__instance_victims(in, NEAP_SCOPE_ALL, out, 8);
    assert_int_equal(got, 3);
    for (uint32_t n = 0; n < got; n++) tell(in, NEAP_EV_KEEP, out[n]);
  }
  assert_true(stats_of(in).out);
  assert_true(stats_of(in).refused > 10000);
  neap__instance_close(in);
}

static void a_plan_that_makes_no_sense_is_not_followed(void **state) {
  (void)state;
  const neap_plan_chunk chunk[2] = {{.slot = 0}, {.slot = NEAP_POLICY_NO_SLOT, .tiers = 2}};
  const neap_tier_view tier[2] = {{.name = "a"}, {.name = "b"}};
  uint8_t source[2];
  neap_load_plan plan;
#define PLAN(...)                        \
  (source[0] = UINT8_MAX, source[1] = 1, \
   plan = (neap_load_plan){.chunks = 2, .tiers = 2, .chunk = chunk, .tier = tier, .source = source, __VA_ARGS__})
  neap__instance *in = open_instance(&obedient);
  PLAN(.load = 2, .keep = 2);
  assert_true(neap__instance_load_plan(in, &plan));
  PLAN(.load = 1, .keep = 0);
  assert_true(neap__instance_load_plan(in, &plan));
  PLAN(.load = 3);
  assert_false(neap__instance_load_plan(in, &plan));
  expect_out(in, "load_plan: 'load' is more than there are chunks");
  neap_error err = {""};
  assert_int_equal(neap__instance_switch(in, &obedient, "", &err), 0);
  PLAN(.load = 1, .keep = 2);
  assert_true(neap__instance_load_plan(in, &plan));
  assert_int_equal(plan.keep, 1);
  PLAN(.load = 1, .keep = 3);
  assert_false(neap__instance_load_plan(in, &plan));
  expect_out(in, "load_plan: 'keep' is more than there are chunks");
  assert_int_equal(neap__instance_switch(in, &obedient, "", &err), 0);
  PLAN(.load = 2);
  source[1] = 0;
  assert_false(neap__instance_load_plan(in, &plan));
  expect_out(in, "load_plan: a chunk's 'source' is not a tier that has it");
  assert_false(neap__instance_load_plan(in, &plan)); /* it is out */
  neap__instance_close(in);
}

static void cut_behind_the_end(neap_store_plan *plan) { plan->cut[0] = plan->chunks + 1; }
static void cut_everything(neap_store_plan *plan) { plan->cut[0] = 0; }

static void a_cut_lies_within_the_chunks(void **state) {
  (void)state;
  const neap_plan_chunk chunk[2] = {{.slot = 0}, {.slot = 1}};
  uint32_t cut[1] = {2};
  neap_store_plan plan = {.chunks = 2, .tiers = 1, .chunk = chunk, .cut = cut};
  neap__instance *in = open_instance(&obedient);
  it.spoil_store = cut_everything;
  assert_true(neap__instance_store_plan(in, &plan));
  assert_int_equal(cut[0], 0);
  it.spoil_store = cut_behind_the_end;
  assert_false(neap__instance_store_plan(in, &plan));
  expect_out(in, "store_plan: a cut lies behind the last chunk; expected 0 to the number of chunks");
  neap__instance_close(in);
}

/* --- leaves --------------------------------------------------------------------------------------------------- */

static void a_victim_with_children_is_handed_back(void **state) {
  (void)state;
  neap_policy leafy = obedient;
  leafy.constraint = NEAP_EVICT_LEAF;
  neap__instance *in = open_instance(&leafy);
  fill(in, 3);
  neap__instance_chunks(in)[1].children = 2;
  it.heard_count = 0;
  say(LIST(1, 2));
  expect(in, 1 + 1, LIST(2, 0)); /* the second one is LRU's */
  assert_int_equal(it.heard_count, 1);
  assert_int_equal(it.heard[0].type, NEAP_EV_KEEP);
  assert_int_equal(it.heard[0].slot, 1);
  neap__instance_close(in);
}

/* --- scores --------------------------------------------------------------------------------------------------- */

static void the_lowest_score_goes_first(void **state) {
  (void)state;
  neap_policy p = scoring();
  neap__instance *in = open_instance(&p);
  fill(in, 100); /* all of them are asked for: the sample is not smaller than half of it */
  for (uint32_t slot = 0; slot < 100; slot++) it.score[slot] = fabs(40.5 - slot);
  expect(in, 3, LIST(40, 41, 39));
  tell(in, NEAP_EV_KEEP, 41);
  tell(in, NEAP_EV_REMOVE, 40);
  expect(in, 2, LIST(41, 42));
  neap__instance_close(in);
}

static void a_sample_of_many_is_good_on_average(void **state) {
  (void)state;
  neap_policy p = scoring();
  neap__instance *in = open_instance(&p);
  fill(in, SLOTS);
  for (uint32_t slot = 0; slot < SLOTS; slot++) it.score[slot] = slot;
  uint32_t out[8], sum = 0;
  assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, out, 8), 8);
  for (uint32_t i = 0; i < 8; i++) sum += out[i];
  assert_true(sum / 8 < 16); /* the lowest of 64 among 256 is at 4 on average */
  assert_int_equal(stats_of(in).completed, 0);
  neap__instance_close(in);
}

static void a_score_that_is_no_number_ends_it(void **state) {
  (void)state;
  neap_policy p = scoring();
  neap__instance *in = open_instance(&p);
  fill(in, 10);
  it.score[6] = (double)NAN;
  expect(in, 1, LIST(0));
  expect_out(in, "score: a score is not a number; expected one for every slot");
  neap__instance_close(in);
}

static void a_tenants_slots_are_scored_and_then_completed(void **state) {
  (void)state;
  neap_policy p = scoring();
  neap__instance *in = open_instance(&p);
  fill(in, 9);
  uint32_t out[9];
  assert_int_equal(neap__instance_victims(in, 1, out, 9), 3);
  for (uint32_t i = 0; i < 3; i++) assert_int_equal(out[i] % 3, 1);
  neap__instance_close(in);
}

/* --- switching ------------------------------------------------------------------------------------------------ */

static void a_switch_tells_of_the_residents_in_order_of_use(void **state) {
  (void)state;
  neap__instance *in = open_instance(&neap__policy_arc);
  fill(in, 5);
  tell(in, NEAP_EV_HIT, 1);
  tell(in, NEAP_EV_PIN, 3);
  tell(in, NEAP_EV_REMOVE, 2);
  neap_error err = {""};
  assert_int_equal(neap__instance_switch(in, &obedient, "", &err), 0);
  const uint32_t slots[] = {0, 3, 3, 4, 1, 1};
  const neap_event_type types[] = {NEAP_EV_INSERT, NEAP_EV_INSERT, NEAP_EV_PIN,
                                   NEAP_EV_INSERT, NEAP_EV_INSERT, NEAP_EV_HIT};
  assert_int_equal(it.heard_count, NEAP_ARRAY_LEN(slots));
  for (uint32_t i = 0; i < it.heard_count; i++) {
    assert_int_equal(it.heard[i].slot, slots[i]);
    assert_int_equal(it.heard[i].type, types[i]);
    assert_int_equal(it.heard[i].h1, 7 * slots[i]);
    assert_int_equal(it.heard[i].tenant, slots[i] % 3);
    assert_int_equal(it.heard[i].kib, 4);
  }
  assert_int_equal(stats_of(in).residents, 4);
  neap__instance_close(in);
}

static void a_switch_tells_which_tiers_have_a_resident(void **state) {
  (void)state;
  neap__instance *in = open_instance(&neap__policy_lru);
  fill(in, 200);
  for (uint32_t slot = 0; slot < 200; slot++)
    for (uint8_t tier = 0; tier < 8; tier++) {
      const neap_event ev = {.slot = slot, .type = tier % 2 ? NEAP_EV_LOADED : NEAP_EV_STORED, .detail = tier};
      if (slot >> tier & 1) neap__instance_deliver(in, &ev, 1);
    }
  neap_error err = {""};
  assert_int_equal(neap__instance_switch(in, &obedient, "", &err), 0);
  uint32_t tiers[200] = {0};
  for (uint32_t i = 0; i < it.heard_count; i++) {
    const neap_event *ev = &it.heard[i];
    assert_true(ev->type == NEAP_EV_INSERT || ev->type == NEAP_EV_STORED);
    if (ev->type == NEAP_EV_STORED) tiers[ev->slot] |= 1u << ev->detail;
  }
  for (uint32_t slot = 0; slot < 200; slot++) assert_int_equal(tiers[slot], slot);
  neap__instance_close(in);
}

/* A hook returns 0 or more when it worked. */
static void a_create_that_returns_more_than_0_has_worked(void **state) {
  (void)state;
  it.create_said = 7;
  neap__instance *in = open_instance(&obedient);
  fill(in, 3);
  neap_error err = {""};
  assert_int_equal(neap__instance_switch(in, &obedient, "", &err), 0);
  assert_int_equal(it.alive, 1);
  neap__instance_close(in);
}

static int64_t save(void *self, void *bytes, uint64_t room, neap_error *err) {
  const puppet *p = self;
  if (p->save_rc < 0) return neap__fail(err, (int)p->save_rc, "mine.lua:17: boom");
  if (room >= 5) memcpy(bytes, "learnt", 5);
  return 5;
}

static int load(void *self, const void *bytes, uint64_t count, neap_error *err) {
  puppet *p = self;
  if (p->load_rc != 0) return neap__fail(err, p->load_rc, "mine.lua:19: what is this?");
  assert_int_equal(count, 5);
  assert_memory_equal(bytes, "learn", 5);
  assert_int_equal(p->heard_count, 0); /* before the first event */
  p->loads++;
  return 0;
}

static void what_a_policy_has_learnt_outlives_a_reload(void **state) {
  (void)state;
  neap_policy learns = obedient, other = obedient;
  learns.save = other.save = save, learns.load = other.load = load, other.name = "another";
  neap__instance *in = open_instance(&learns);
  neap_error err = {""};
  fill(in, 3);
  it.heard_count = 0;
  assert_int_equal(neap__instance_switch(in, &learns, "", &err), 0);
  assert_int_equal(it.loads, 1);
  assert_int_equal(neap__instance_switch(in, &other, "", &err), 0); /* another one's state is its own */
  assert_int_equal(it.loads, 1);
  it.load_rc = NEAP_ESCRIPT;
  assert_int_equal(neap__instance_switch(in, &other, "", &err), NEAP_ESCRIPT);
  assert_string_equal(err.text, "mine.lua:19: what is this?");
  it.save_rc = NEAP_ESCRIPT; /* nothing to load */
  assert_int_equal(neap__instance_switch(in, &other, "", &err), 0);
  assert_int_equal(it.alive, 1);
  neap__instance_close(in);
}

static void a_switch_that_fails_changes_nothing(void **state) {
  (void)state;
  neap__instance *in = open_instance(&neap__policy_lru);
  fill(in, 3);
  neap_error err = {""};
  it.create_rc = NEAP_ESCRIPT;
  assert_int_equal(neap__instance_switch(in, &obedient, "", &err), NEAP_ESCRIPT);
  assert_string_equal(err.text, "mine.lua:3: no");
  it.create_rc = 0;
  it.events_rc = NEAP_ESCRIPT;
  neap_error other = {""};
  assert_int_equal(neap__instance_switch(in, &obedient, "", &other), NEAP_ESCRIPT);
  assert_string_equal(other.text, "mine.lua:7: boom");
  assert_ptr_equal(neap__instance_policy(in), &neap__policy_lru);
  expect(in, 3, LIST(0, 1, 2));
  neap__instance_close(in);
}

static void victims_that_are_out_survive_a_switch(void **state) {
  (void)state;
  neap__instance *in = open_instance(&neap__policy_lru);
  fill(in, 4);
  expect(in, 1, LIST(0));
  neap_error err = {""};
  assert_int_equal(neap__instance_switch(in, &neap__policy_arc, "", &err), 0);
  expect(in, 4, LIST(1, 2, 3)); /* 0 was named, but is somebody's to answer for */
  tell(in, NEAP_EV_KEEP, 0);
  expect(in, 4, LIST(0));
  neap__instance_close(in);
}

static void a_policy_that_is_out_comes_back_when_told(void **state) {
  (void)state;
  neap__instance *in = open_instance(&obedient);
  fill(in, 3);
  it.victims_rc = NEAP_ESCRIPT;
  expect(in, 1, LIST(0));
  it.victims_rc = 0;
  neap_error err = {""};
  tell(in, NEAP_EV_KEEP, 0);
  assert_int_equal(neap__instance_switch(in, &obedient, "", &err), 0);
  assert_false(stats_of(in).out);
  say(LIST(2));
  expect(in, 1, LIST(2));
  neap__instance_close(in);
}

/* --- wild ----------------------------------------------------------------------------------------------------- */

static uint64_t seed;

static uint32_t rnd(uint32_t below) { return random_below(&seed, below); }

/* Whatever a policy says, in whatever hook it fails, and whoever follows it: victims are resident and distinct, and
 * when all are asked for all come. */
static void no_answer_however_wild_breaks_an_invariant(void **state) {
  (void)state;
  seed = random_seed("test_instance");
  neap_policy p = scoring(), leafy = obedient;
  leafy.constraint = NEAP_EVICT_LEAF;
  const neap_policy *policies[] = {&obedient, &p, &leafy, &neap__policy_lru, &neap__policy_arc};
  neap__instance *in = open_instance(&obedient);
  uint8_t resident[SLOTS] = {0}; /* 2: out */
  for (uint32_t step = 0; step < 60000; step++) {
    uint32_t slot = rnd(SLOTS), out[32], max = rnd(33);
    it.events_rc = rnd(2000) == 0 ? NEAP_ESCRIPT : 0;
    it.victims_rc = rnd(2000) == 0 ? -(int)rnd(100) : 0;
    it.score_rc = rnd(2000) == 0 ? NEAP_ESCRIPT : 0;
    it.say_count = rnd(33);
    for (uint32_t i = 0; i < 32; i++) it.say[i] = rnd(20) ? rnd(SLOTS) : rnd(UINT32_MAX);
    it.score[rnd(SLOTS)] = rnd(5000) ? (double)rnd(100) - 50 : rnd(2) ? (double)NAN : (double)INFINITY;
    it.heard_count = 0;
    neap__instance_chunks(in)[rnd(SLOTS)].children = (uint16_t)(rnd(3) == 0);
    if (resident[slot] == 0 && rnd(3)) tell(in, NEAP_EV_INSERT, slot), resident[slot] = 1;
    tell(in, (neap_event_type[]){NEAP_EV_HIT, NEAP_EV_PIN, NEAP_EV_UNPIN, NEAP_EV_LEAF, NEAP_EV_STORED}[rnd(5)], slot);
    if (rnd(300) == 0) {
      neap_error err = {""};
      neap__instance_switch(in, policies[rnd(NEAP_ARRAY_LEN(policies))], "", &err);
    }
    uint32_t scope = rnd(4), got = neap__instance_victims(in, scope == 3 ? NEAP_SCOPE_ALL : scope, out, max);
    assert_true(got <= max);
    for (uint32_t i = 0; i < got; i++) {
      assert_true(out[i] < SLOTS);
      assert_int_equal(resident[out[i]], 1);
      resident[out[i]] = 2;
    }
    for (uint32_t i = 0; i < got; i++) {
      bool kept = rnd(2);
      tell(in, kept ? NEAP_EV_KEEP : NEAP_EV_REMOVE, out[i]);
      resident[out[i]] = kept;
    }
  }
  uint32_t left = 0, all[SLOTS];
  for (uint32_t i = 0; i < SLOTS; i++) left += resident[i] == 1;
  it.victims_rc = it.score_rc = it.events_rc = 0;
  assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, all, SLOTS), left);
  neap__instance_close(in);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, reset, nothing_left)
  const struct CMUnitTest tests[] = {
      CASE(a_policy_that_fails_in_events_is_replaced),
      CASE(a_policy_that_fails_to_name_victims_is_replaced),
      CASE(a_policy_that_names_no_residents_for_long_is_replaced),
      CASE(a_plan_that_makes_no_sense_is_not_followed),
      CASE(a_cut_lies_within_the_chunks),
      CASE(a_victim_with_children_is_handed_back),
      CASE(the_lowest_score_goes_first),
      CASE(a_sample_of_many_is_good_on_average),
      CASE(a_score_that_is_no_number_ends_it),
      CASE(a_tenants_slots_are_scored_and_then_completed),
      CASE(a_switch_tells_of_the_residents_in_order_of_use),
      CASE(a_switch_tells_which_tiers_have_a_resident),
      CASE(what_a_policy_has_learnt_outlives_a_reload),
      CASE(a_create_that_returns_more_than_0_has_worked),
      CASE(a_switch_that_fails_changes_nothing),
      CASE(victims_that_are_out_survive_a_switch),
      CASE(a_policy_that_is_out_comes_back_when_told),
      CASE(no_answer_however_wild_breaks_an_invariant),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
