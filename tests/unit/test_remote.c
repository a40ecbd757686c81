/* SPDX-License-Identifier: MIT
 *
 * A policy on a thread of its own: decides as it does without, and whatever it does, whoever asks it gets an answer in
 * time. Its threads come from neap__remote (the engine's side is one thread, as pthread_create would have it). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "policy/instance.h"
#include "policy/registry.h"
#include "policy/remote.h"
#include "script/lua_policy.h"
#include "script/script.h"

static int setup(void **state) {
  (void)state;
  char dir[4096];
  const char *root = getenv("NEAP_SOURCE");
  snprintf(dir, sizeof(dir), "%s/lua", root != NULL ? root : ".");
  neap__lua_setup(dir);
  return 0;
}

static const neap_policy *wrap(const neap_policy *inner, uint32_t budget_ms) {
  const neap_policy *out = NULL;
  neap_error err = {""};
  const neap__remote_config config = {.inner = inner, .budget_ms = budget_ms, .place = neap__lua_policy_place};
  assert_int_equal(neap__remote_wrap(&config, &out, &err), 0);
  return out;
}

static const neap_policy *builtin(const char *name) {
  neap__policy_spec spec;
  neap_error err = {""};
  if (neap__policy_find(name, &spec, &err) != 0) fail_msg("%s", err.text);
  return spec.policy;
}

static const neap_policy *from_text(const char *body, bool sandboxed) {
  char text[2048];
  const neap_policy *policy = NULL;
  neap_error err = {""};
  snprintf(text, sizeof(text),
           "local policy = require 'neap.policy'\nreturn policy { name = 'p', slice = 0.05, new = function(ctx) return "
           "{\n%s } end }",
           body);
  const neap__lua_policy_source source = {.path = "live.lua", .text = text, .sandboxed = sandboxed};
  if (neap__lua_policy_load(&source, &policy, &err) != 0) fail_msg("%s", err.text);
  return policy;
}

static neap__instance *open_one(const neap_policy *policy, uint32_t slots) {
  neap__instance *in;
  neap_error err = {""};
  const neap__instance_config config = {.policy = policy, .slots = slots};
  if (neap__instance_open(&config, &in, &err) != 0) fail_msg("%s", err.text);
  return in;
}

static void tell(neap__instance *in, neap_event_type type, uint32_t slot) {
  const neap_event ev = {.slot = slot, .type = (uint8_t)type, .h1 = slot, .h2 = 1, .detail = NEAP_REMOVE_EVICT};
  neap__instance_deliver(in, &ev, 1);
}

static neap__instance_stats stats_of(neap__instance *in) {
  neap__instance_stats stats;
  neap__instance_stats_get(in, &stats);
  return stats;
}

/* --- it decides alike ------------------------------------------------------------------------------------------- */

#define SLOTS 3000u

static void decides_as_it_does_without(void **state) {
  (void)state;
  static const char *const names[] = {"LRU", "S3FIFO", "Random"};
  for (size_t n = 0; n < NEAP_ARRAY_LEN(names); n++) {
    neap__instance *in[2] = {open_one(builtin(names[n]), SLOTS), open_one(wrap(builtin(names[n]), 1000), SLOTS)};
    uint32_t out[2][32], random = 1;
    for (uint32_t s = 0; s < SLOTS; s++)
      for (int i = 0; i < 2; i++) tell(in[i], NEAP_EV_INSERT, s);
    for (int step = 0; step < 600; step++) {
      for (int k = 0; k < 100; k++) {
        random = random * 1664525u + 1013904223u;
        for (int i = 0; i < 2; i++) tell(in[i], NEAP_EV_HIT, (random >> 8) % SLOTS);
      }
      for (int i = 0; i < 2; i++) assert_int_equal(neap__instance_victims(in[i], NEAP_SCOPE_ALL, out[i], 32), 32);
      assert_memory_equal(out[0], out[1], sizeof(out[0]));
      for (uint32_t k = 0; k < 32; k++) {
        for (int i = 0; i < 2; i++) tell(in[i], k % 3 ? NEAP_EV_REMOVE : NEAP_EV_KEEP, out[i][k]);
        for (int i = 0; i < 2 && k % 3; i++) tell(in[i], NEAP_EV_INSERT, out[i][k]);
      }
    }
    for (int i = 0; i < 2; i++) {
      assert_false(stats_of(in[i]).out);
      neap__instance_close(in[i]);
    }
  }
}

static void a_lua_policy_reads_rows_and_scores(void **state) {
  (void)state;
  const neap_policy *lua = from_text("score = function(slot) return ctx.chunk[slot].h1 end", false);
  neap__instance *in = open_one(wrap(lua, 1000), 64);
  uint32_t out[8];
  for (uint32_t s = 0; s < 64; s++) tell(in, NEAP_EV_INSERT, 63 - s);
  assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, out, 8), 8);
  for (uint32_t i = 0; i < 8; i++) assert_int_equal(out[i], i);
  assert_false(stats_of(in).out);
  neap__instance_close(in);
}

/* Who continues whom, and which tiers have it, is in the rows of a policy that asks for no such event. */
static void rows_are_kept_without_events(void **state) {
  (void)state;
  static const char body[] =
      "return policy { name = 'rows', constraint = 'leaf', new = function(ctx) return {\n"
      "insert = function() end, store_plan = function() end,\n"
      "victim = function() error(('%d of %d, %d'):format(ctx.chunk[1].children, ctx.chunk[2].children, "
      "ctx.chunk[1].tiers)) end } end }";
  char text[512];
  const neap_policy *lua;
  neap_error err = {""};
  snprintf(text, sizeof(text), "local policy = require 'neap.policy'\n%s", body);
  const neap__lua_policy_source source = {.path = "rows.lua", .text = text};
  if (neap__lua_policy_load(&source, &lua, &err) != 0) fail_msg("%s", err.text);
  neap__instance *in = open_one(wrap(lua, 1000), 8);
  uint32_t slot;
  for (uint32_t s = 1; s < 4; s++) tell(in, NEAP_EV_INSERT, s);
  neap__instance_chunks(in)[1].children = 1; /* as the tree does, which then tells */
  tell(in, NEAP_EV_UNLEAF, 1);
  neap__instance_chunks(in)[2].children = 1;
  tell(in, NEAP_EV_UNLEAF, 2);
  neap__instance_chunks(in)[2].children = 0;
  tell(in, NEAP_EV_LEAF, 2);
  const neap_event stored = {.slot = 1, .type = NEAP_EV_STORED, .detail = 3};
  neap__instance_deliver(in, &stored, 1);
  assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, &slot, 1), 1);
  const char *why = stats_of(in).why.text;
  if (strstr(why, ": 1 of 0, 8") == NULL) fail_msg("%s", why);
  neap__instance_close(in);
}

static void plans_come_back(void **state) {
  (void)state;
  const neap_policy *lua = from_text(
      "victim = function() end,\n"
      "store_plan = function(p) for t = 0, p.tiers - 1 do p.cut[t] = p.tier[t].name == 'b' and p.chunk[1].pos or 0 end "
      "end,\n"
      "load_plan = function(p) p.load, p.keep = 1, 0 p.source[0] = 1 end,\n"
      "on_hint = function(h, n) ctx.chunk[0] = n end",
      false);
  neap__instance *in = open_one(wrap(lua, 1000), 8);
  const neap_plan_chunk chunks[2] = {{.slot = NEAP_POLICY_NO_SLOT, .tiers = 3}, {.slot = 1, .pos = 2}};
  const neap_tier_view tiers[2] = {{.name = "a"}, {.name = "b"}};
  uint32_t cut[2] = {2, 1};
  uint8_t source[2] = {0, UINT8_MAX};
  neap_store_plan store = {.size = sizeof(store), .chunks = 2, .tiers = 2, .chunk = chunks, .tier = tiers, .cut = cut};
  neap_load_plan load = {.size = sizeof(load),
                         .chunks = 2,
                         .tiers = 2,
                         .chunk = chunks,
                         .tier = tiers,
                         .source = source,
                         .load = 2,
                         .keep = 2};
  assert_true(neap__instance_store_plan(in, &store));
  assert_int_equal(cut[0], 0);
  assert_int_equal(cut[1], 2);
  assert_true(neap__instance_load_plan(in, &load));
  assert_int_equal(load.load, 1);
  assert_int_equal(load.keep, 0);
  assert_int_equal(source[0], 1);
  const neap_hint hint = {.h1 = 1};
  neap__instance_hint(in, &hint, 1);
  assert_non_null(strstr(stats_of(in).why.text, "live.lua:6: ctx.chunk: read-only"));
  neap__instance_close(in);
}

/* --- it takes too long ------------------------------------------------------------------------------------------ */

/* The engine's answer comes within a second whatever happens, and names who was late. */
static void expect_overrun(const neap_policy *policy, uint32_t told, const char *expected) {
  neap__instance *in = open_one(policy, 4096);
  uint32_t out[4];
  uint64_t began = neap__now_ns();
  for (uint32_t i = 0; i < told; i++) tell(in, i < 4096 ? NEAP_EV_INSERT : NEAP_EV_HIT, i % 4096);
  assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, out, 4), 4);
  assert_int_equal(out[0], told < 4096 ? 0 : told % 4096); /* the built-in LRU's */
  assert_true(neap__now_ns() - began < UINT64_C(5000000000));
  neap__instance_stats stats = stats_of(in);
  assert_true(stats.out);
  if (strstr(stats.why.text, expected) == NULL) fail_msg("'%s' does not tell '%s'", stats.why.text, expected);
  neap__instance_close(in);
}

static void a_compiled_loop_is_left_behind(void **state) {
  (void)state;
  const neap_policy *lua = from_text("victim = function() while true do end end", false);
  uint32_t before = neap__remote_abandoned();
  expect_overrun(wrap(lua, 0), 64,
                 "victims: live.lua:3: victims has not returned within 5 ms; its thread is abandoned");
  assert_int_equal(neap__remote_abandoned(), before + 1);
}

static void a_loop_over_events_fills_the_queue(void **state) {
  (void)state;
  const neap_policy *lua = from_text("insert = function() while true do end end, victim = function() end", false);
  expect_overrun(wrap(lua, 0), 40000, "on_events: live.lua:2: on_events has not returned within 5 ms");
}

/* A guarded one is stopped by its own guard: the thread comes back and cleans up. */
static void a_guarded_loop_comes_back(void **state) {
  (void)state;
  const neap_policy *lua = from_text("victim = function() while true do end end", true);
  uint32_t before = neap__remote_abandoned();
  expect_overrun(wrap(lua, 0), 64, "victims has not returned within 5 ms");
  for (int i = 0; i < 1000 && neap__remote_abandoned() > before; i++) usleep(10000);
  assert_int_equal(neap__remote_abandoned(), before);
}

/* Sleeps instead of working: the processor's clock stands still, the patience by the other clock ends. */
static atomic_bool awake;

static int sleepy_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy, (void)context, (void)err;
  *self = &awake;
  return 0;
}
static void sleepy_destroy(void *self) { (void)self; }
static int sleepy_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)self, (void)events, (void)count, (void)err;
  return 0;
}
static int sleepy_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)self, (void)scope, (void)err;
  while (!atomic_load(&awake)) usleep(1000);
  for (uint32_t i = 0; i < max; i++) out[i] = i; /* nobody reads it any more */
  return (int)max;
}

static const neap_policy sleepy = {.magic = NEAP_POLICY_MAGIC,
                                   .abi = NEAP_POLICY_ABI,
                                   .size = sizeof(neap_policy),
                                   .name = "sleepy",
                                   .create = sleepy_create,
                                   .destroy = sleepy_destroy,
                                   .on_events = sleepy_on_events,
                                   .victims = sleepy_victims};

static void a_sleeper_is_left_behind_and_cleans_up(void **state) {
  (void)state;
  uint32_t before = neap__remote_abandoned();
  expect_overrun(wrap(&sleepy, 2), 64, "victims has not returned within 2 ms");
  assert_int_equal(neap__remote_abandoned(), before + 1);
  atomic_store(&awake, true);
  for (int i = 0; i < 1000 && neap__remote_abandoned() > before; i++) usleep(1000);
  assert_int_equal(neap__remote_abandoned(), before);
}

/* Threads that are stuck do not pile up, whoever loads one bad policy after the other. */
static void no_more_are_created_when_many_are_stuck(void **state) {
  (void)state;
  atomic_store(&awake, false);
  uint32_t slot, left = neap__remote_abandoned(), created = 0;
  neap_error err = {""};
  int rc = 0;
  for (uint32_t n = 0; n < 100 && rc == 0; n++) {
    neap__instance *in;
    const neap__instance_config config = {.policy = wrap(&sleepy, 1), .slots = 8};
    rc = neap__instance_open(&config, &in, &err);
    if (rc != 0) break;
    created++;
    tell(in, NEAP_EV_INSERT, 0);
    assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, &slot, 1), 1);
    neap__instance_close(in);
  }
  assert_int_equal(rc, NEAP_ELIMIT);
  assert_true(created >= 8 - left); /* a thread that was given up before it began is not stuck */
  assert_non_null(strstr(err.text, "8 threads of policies before it have not come back; expected fewer than 8"));
  atomic_store(&awake, true);
  for (int i = 0; i < 1000 && neap__remote_abandoned() > left; i++) usleep(1000);
  assert_int_equal(neap__remote_abandoned(), left);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void failures_are_told(void **state) {
  (void)state;
  neap__instance *in =
      open_one(wrap(from_text("insert = function() error 'no' end, victim = function() end", false), 1000), 16);
  uint32_t slot;
  neap_error err = {""};
  tell(in, NEAP_EV_INSERT, 3);
  assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, &slot, 1), 1);
  assert_non_null(strstr(stats_of(in).why.text, "live.lua:3: no"));
  assert_int_equal(neap__instance_switch(in, wrap(builtin("LRU"), 0), "small=1", &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "'small'"));
  assert_int_equal(neap__instance_switch(in, wrap(builtin("LRU"), 0), "", &err), 0);
  assert_false(stats_of(in).out);
  neap__instance_close(in);
}

static void switched_with_more_residents_than_the_queue_holds(void **state) {
  (void)state;
  enum { MANY = 60000 };
  neap__instance *in = open_one(builtin("LRU"), MANY);
  neap_error err = {""};
  uint32_t slot;
  for (uint32_t s = 0; s < MANY; s++) tell(in, NEAP_EV_INSERT, s);
  for (int n = 0; n < 10; n++)
    if (neap__instance_switch(in, wrap(builtin(n % 2 ? "LRU" : "FIFO"), 1000), "", &err) != 0) fail_msg("%s", err.text);
  assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, &slot, 1), 1);
  assert_int_equal(slot, 0);
  assert_false(stats_of(in).out);
  neap__instance_close(in);
}

static void equal_wrappers_are_one(void **state) {
  (void)state;
  assert_ptr_equal(wrap(&sleepy, 3), wrap(&sleepy, 3));
  assert_ptr_not_equal(wrap(&sleepy, 3), wrap(&sleepy, 4));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(decides_as_it_does_without),
      cmocka_unit_test(a_lua_policy_reads_rows_and_scores),
      cmocka_unit_test(rows_are_kept_without_events),
      cmocka_unit_test(plans_come_back),
      cmocka_unit_test(a_compiled_loop_is_left_behind),
      cmocka_unit_test(a_loop_over_events_fills_the_queue),
      cmocka_unit_test(a_guarded_loop_comes_back),
      cmocka_unit_test(a_sleeper_is_left_behind_and_cleans_up),
      cmocka_unit_test(no_more_are_created_when_many_are_stuck),
      cmocka_unit_test(failures_are_told),
      cmocka_unit_test(switched_with_more_residents_than_the_queue_holds),
      cmocka_unit_test(equal_wrappers_are_one),
  };
  int failed = cmocka_run_group_tests(tests, setup, NULL);
  fflush(NULL);
  _exit(failed); /* threads that never come back are still there: nothing may be taken down under them */
}
