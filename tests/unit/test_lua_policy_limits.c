/* SPDX-License-Identifier: MIT
 *
 * Where a policy in Lua ends: what it keeps of what it was given, parts that are larger than the cache, and how many
 * versions of policies a process remembers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "policy/instance.h"
#include "script/lua_policy.h"
#include "script/script.h"

#define HEAD "local policy = require 'neap.policy'\n"
#define PLAIN HEAD "return policy { name = 'plain', new = function() return { victim = function() end } end }"

static int setup(void **state) {
  (void)state;
  char dir[4096];
  const char *root = getenv("NEAP_SOURCE");
  snprintf(dir, sizeof(dir), "%s/lua", root != NULL ? root : ".");
  neap__lua_setup(dir);
  return 0;
}

static void expect(const char *text, const char *expected) {
  if (strstr(text, expected) == NULL) fail_msg("'%s' does not tell '%s'", text, expected);
}

static int load_text(const char *text, const neap_policy **out, neap_error *err) {
  return neap__lua_policy_load(&(neap__lua_policy_source){.path = "bad.lua", .text = text}, out, err);
}

static neap__instance *open_text(const char *text) {
  const neap_policy *policy;
  neap__instance *in;
  neap_error err = {""};
  if (load_text(text, &policy, &err) != 0) fail_msg("%s", err.text);
  const neap__instance_config config = {.policy = policy, .slots = 8};
  if (neap__instance_open(&config, &in, &err) != 0) fail_msg("%s", err.text);
  return in;
}

/* A policy that keeps the chunks of a plan has as many of them as that plan had. */
static void a_plan_that_was_kept_does_not_grow(void **state) {
  (void)state;
  static const char keeper[] = HEAD
      "return policy { name = 'keeper', new = function() local kept return {\n"
      "victim = function() end,\n"
      "store_plan = function(plan) kept = kept or plan.chunk return kept[plan.chunks - 1].pos end } end }";
  neap__instance *in = open_text(keeper);
  neap_plan_chunk *chunks = calloc(5000, sizeof(*chunks));
  const neap_tier_view tier = {.name = "disk"};
  uint32_t cut = 0;
  neap_store_plan plan = {.size = sizeof(plan), .chunks = 3, .tiers = 1, .chunk = chunks, .tier = &tier, .cut = &cut};
  assert_true(neap__instance_store_plan(in, &plan));
  plan.chunks = 5000;
  assert_false(neap__instance_store_plan(in, &plan));
  neap__instance_stats stats;
  neap__instance_stats_get(in, &stats);
  expect(stats.why.text, "bad.lua:4: plan.chunk: index is 4999, expected 0 to 2");
  neap__instance_close(in);
  free(chunks);
}

/* Asked for a tenant, parts that have slots which the engine has not pass over them. */
static void parts_that_are_too_large_belong_to_nobody(void **state) {
  (void)state;
  static const char *const wide[] = {
      "local l = policy.list(2 ^ 24) l:push(2 ^ 24 - 1) return { victim = function(t) return l:pop(t) end } end }",
      "local h = policy.heap(2 ^ 22) h:put(2 ^ 22 - 1, 1) return { victim = function(t) return h:first(t) end } end }",
      "local s, r = policy.sampler(2 ^ 24), policy.rng(1) s:add(2 ^ 24 - 1)\n"
      "return { victim = function(t) return s:draw(r, t) end } end }"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(wide); i++) {
    char text[512];
    uint32_t out[4];
    neap__instance_stats stats;
    snprintf(text, sizeof(text), HEAD "return policy { name = 'wide', new = function() %s", wide[i]);
    neap__instance *in = open_text(text);
    assert_int_equal(neap__instance_victims(in, 0, out, 4), 0);
    neap__instance_stats_get(in, &stats);
    if (stats.out) fail_msg("%s", stats.why.text);
    neap__instance_close(in);
  }
}

/* What is loaded stays, so there is an end to it. The last test: nothing new can be loaded after it. */
static void versions_without_end_are_refused(void **state) {
  (void)state;
  const size_t room = 1 << 20;
  const neap_policy *first = NULL, *policy;
  neap_error err = {""};
  char *text = malloc(room);
  uint32_t n = 0;
  int rc = 0;
  for (; n < 100 && rc == 0; n++) {
    int used = snprintf(text, room, "%s --%u", PLAIN, n);
    memset(text + used, '-', room - 1 - (size_t)used);
    text[room - 1] = '\0';
    rc = load_text(text, &policy, &err);
    if (first == NULL) first = policy;
  }
  assert_int_equal(rc, NEAP_ELIMIT);
  assert_true(n > 50 && n < 66);
  expect(err.text, "bad.lua: policies of 64 MiB have been loaded, and stay");
  snprintf(text + strlen(PLAIN), 5, " --0");
  text[strlen(text)] = '-';
  assert_int_equal(load_text(text, &policy, &err), 0); /* an old one is there */
  assert_ptr_equal(policy, first);
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_plan_that_was_kept_does_not_grow),
      cmocka_unit_test(parts_that_are_too_large_belong_to_nobody),
      cmocka_unit_test(versions_without_end_are_refused),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
