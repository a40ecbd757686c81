/* SPDX-License-Identifier: MIT
 *
 * Policies in Lua: the twins of built-ins against them, bad policies of every kind, plans, what is hidden from a
 * sandboxed one. The tree's root is the working directory, or NEAP_SOURCE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <malloc.h>

#include "base/base.h"
#include "policy/ghost_cache.h"
#include "policy/registry.h"
#include "script/lua_policy.h"
#include "script/script.h"
#include "trace/trace.h"

static const char *root;
static uint64_t seed;

static uint32_t rnd(uint32_t below) { /* xorshift64*, Vigna 2016 */
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return (uint32_t)((seed * 0x2545f4914f6cdd1dull) >> 33) % below;
}

static int setup(void **state) {
  (void)state;
  char dir[4096];
  root = getenv("NEAP_SOURCE");
  if (root == NULL) root = ".";
  snprintf(dir, sizeof(dir), "%s/lua", root);
  neap__lua_setup(dir);
  const char *given = getenv("NEAP_SEED");
  seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
  if (seed == 0) seed = 1;
  print_message("NEAP_SEED=%llu\n", (unsigned long long)seed);
  return 0;
}

static const neap_policy *load_shipped(const char *name) {
  char path[4200];
  const neap_policy *policy = NULL;
  neap_error err = {""};
  snprintf(path, sizeof(path), "%s/lua/neap/policies/%s.lua", root, name);
  if (neap__lua_policy_load(&(neap__lua_policy_source){.path = path}, &policy, &err) != 0) fail_msg("%s", err.text);
  return policy;
}

/* --- two policies that must agree ------------------------------------------------------------------------------- */

/* A policy of two: both are told everything and asked everything, and every answer is compared. */
typedef struct pair {
  neap_policy table;
  const neap_policy *of[2];
} pair;

typedef struct pair_at_work {
  const pair *pair;
  void *self[2];
  uint64_t compared;
} pair_at_work;

static uint64_t last_compared;

static int pair_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  pair_at_work *w = calloc(1, sizeof(*w));
  assert_non_null(w);
  w->pair = (const pair *)policy;
  for (int i = 0; i < 2; i++)
    if (w->pair->of[i]->create(w->pair->of[i], context, &w->self[i], err) != 0) fail_msg("%s", err->text);
  *self = w;
  return 0;
}

static void pair_destroy(void *self) {
  pair_at_work *w = self;
  for (int i = 0; i < 2; i++) w->pair->of[i]->destroy(w->self[i]);
  last_compared = w->compared;
  free(w);
}

static int pair_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  pair_at_work *w = self;
  for (int i = 0; i < 2; i++)
    if (w->pair->of[i]->on_events(w->self[i], events, count, err) != 0) fail_msg("%s", err->text);
  return 0;
}

static int pair_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  pair_at_work *w = self;
  uint32_t *other = calloc(max, sizeof(*other));
  assert_non_null(other);
  int got = w->pair->of[0]->victims(w->self[0], scope, out, max, err);
  int same = w->pair->of[1]->victims(w->self[1], scope, other, max, err);
  if (same < 0) fail_msg("%s", err->text);
  assert_int_equal(got, same);
  for (int i = 0; i < got; i++)
    if (out[i] != other[i])
      fail_msg("%s: victim %d after %llu: %u, in Lua %u", w->pair->table.name, i, (unsigned long long)w->compared,
               out[i], other[i]);
  w->compared += (uint64_t)got;
  free(other);
  return got;
}

static void pair_make(pair *p, const neap_policy *a, const neap_policy *b) {
  assert_int_equal(a->wants, b->wants);
  assert_int_equal(a->constraint, b->constraint);
  *p = (pair){.table = {.magic = NEAP_POLICY_MAGIC,
                        .abi = NEAP_POLICY_ABI,
                        .size = sizeof(neap_policy),
                        .wants = a->wants,
                        .constraint = a->constraint,
                        .name = a->name,
                        .create = pair_create,
                        .destroy = pair_destroy,
                        .on_events = pair_on_events,
                        .victims = pair_victims},
              .of = {a, b}};
}

static const struct {
  const char *builtin, *lua;
} twins[] = {{"LRU", "lru"},          {"FIFO", "fifo"},   {"SLRU", "slru"},    {"2Q", "two_q"},
             {"S3FIFO", "s3fifo"},    {"SIEVE", "sieve"}, {"ARC", "arc"},      {"WTinyLFU", "wtinylfu"},
             {"LeafLRU", "leaf_lru"}, {"GDSF", "gdsf"},   {"Random", "random"}};

static void twin(pair *p, size_t i) {
  neap__policy_spec spec;
  neap_error err = {""};
  if (neap__policy_find(twins[i].builtin, &spec, &err) != 0) fail_msg("%s", err.text);
  pair_make(p, spec.policy, load_shipped(twins[i].lua));
}

/* --- ... over a trace ------------------------------------------------------------------------------------------- */

static void run_trace(const neap__trace *t, const neap_policy *policy, uint32_t share, uint32_t batch) {
  neap__ghost_cache *cache;
  neap_error err = {""};
  neap__ghost_stats stats;
  const neap__ghost_config config = {.policy = policy,
                                     .lineage = &t->lineage,
                                     .numbers = t->lineage.count,
                                     .capacity = t->lineage.count * share / 100,
                                     .batch = batch,
                                     .seed = 7,
                                     .cost = {.base_us = 10, .slope_us = 0.5}};
  if (neap__ghost_open(&config, &cache, &err) != 0) fail_msg("%s", err.text);
  for (uint32_t r = 0; r < t->request_count; r++) {
    const neap__trace_request *q = &t->requests[r];
    const neap__ghost_request request = {
        .chunk = t->chunk + q->first, .chunks = q->chunks, .time_ms = q->time_ms, .request = r + 1};
    neap__ghost_answer found;
    neap__ghost_use(cache, &request, &found);
  }
  neap__ghost_stats_get(cache, &stats);
  if (stats.policy.out) fail_msg("%s", stats.policy.why.text);
  assert_true(stats.evictions > 1000);
  neap__ghost_close(cache);
  assert_true(last_compared > 1000);
}

static void agree_on(const char *file, uint64_t requests) {
  char path[4200];
  neap__trace *t = NULL;
  neap_error err = {""};
  const neap__trace_options options = {.requests_max = requests};
  snprintf(path, sizeof(path), "%s/tests/data/%s", root, file);
  if (neap__trace_load(path, &options, &t, &err) != 0) fail_msg("%s", err.text);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(twins); i++) {
    pair p;
    twin(&p, i);
    run_trace(t, &p.table, 2, 1);
    run_trace(t, &p.table, 10, 7);
  }
  neap__trace_free(t);
}

static void twins_agree_on_traces(void **state) {
  (void)state;
  agree_on("lmcache_agents_256ch.jsonl.xz", 0);
  agree_on("mooncake_conversation.jsonl.xz", 3000);
}

/* --- ... over events of every kind ------------------------------------------------------------------------------ */

#define SLOTS 40u
#define NAMES 90u
static const uint32_t tenants[] = {0, 3, 70000};

typedef struct world {
  neap__instance *instance;
  bool resident[SLOTS], out[SLOTS];
  uint32_t name[SLOTS], tenant[SLOTS];
  uint32_t order; /* time */
} world;

static void tell(world *w, uint32_t slot, neap_event_type type, uint32_t detail) {
  const neap_event ev = {.slot = slot,
                         .type = (uint8_t)type,
                         .detail = (uint8_t)detail,
                         .pos = (uint16_t)(w->name[slot] % 11),
                         .h1 = w->name[slot],
                         .h2 = ~w->name[slot],
                         .tenant = w->tenant[slot],
                         .kib = w->name[slot] % 5,
                         .time_ms = w->order++};
  neap__instance_deliver(w->instance, &ev, 1);
}

static void step(world *w) {
  uint32_t slot = rnd(SLOTS), what = rnd(100), out[SLOTS];
  if (!w->resident[slot]) {
    w->resident[slot] = true;
    w->name[slot] = rnd(NAMES);
    w->tenant[slot] = tenants[rnd(3)];
    tell(w, slot, NEAP_EV_INSERT, 0);
  } else if (what < 55) {
    tell(w, slot, NEAP_EV_HIT, 0);
  } else if (what < 70) {
    neap_chunk *row = &neap__instance_chunks(w->instance)[slot];
    row->children = row->children == 0;
    tell(w, slot, row->children ? NEAP_EV_UNLEAF : NEAP_EV_LEAF, 0);
  } else if (what < 74) {
    w->resident[slot] = w->out[slot] = false;
    tell(w, slot, NEAP_EV_REMOVE, 1 + rnd(4));
  } else if (what < 76) {
    neap__instance_context(w->instance)->capacity = SLOTS / 2 + rnd(SLOTS / 2);
  } else if (w->out[slot]) {
    w->out[slot] = false;
    if (rnd(3) == 0) {
      tell(w, slot, NEAP_EV_KEEP, 0);
    } else {
      w->resident[slot] = false;
      tell(w, slot, NEAP_EV_REMOVE, NEAP_REMOVE_EVICT);
    }
  } else {
    uint32_t scope = rnd(2) ? NEAP_SCOPE_ALL : tenants[rnd(3)];
    uint32_t got = neap__instance_victims(w->instance, scope, out, 1 + rnd(6));
    for (uint32_t i = 0; i < got; i++) w->out[out[i]] = true;
  }
}

static void twins_agree_on_any_events(void **state) {
  (void)state;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(twins); i++) {
    pair p;
    world w = {0};
    neap_error err = {""};
    neap__instance_stats stats;
    twin(&p, i);
    p.table.flags = NEAP_POLICY_SHORT_STANDS;
    const neap__instance_config config = {.policy = &p.table, .slots = SLOTS, .seed = 3, .cost = {.slope_us = 2}};
    if (neap__instance_open(&config, &w.instance, &err) != 0) fail_msg("%s", err.text);
    for (int n = 0; n < 20000; n++) step(&w);
    neap__instance_stats_get(w.instance, &stats);
    if (stats.out) fail_msg("%s", stats.why.text);
    neap__instance_close(w.instance);
    assert_true(last_compared > 1000);
  }
}

/* --- the prelude's parts ------------------------------------------------------------------------------------------ */

/* tests/unit/policy_parts.lua is a policy whose `new` compares each part with a naive model of itself. */
static void parts_do_what_they_say(void **state) {
  (void)state;
  char path[4200], params[64];
  const neap_policy *policy = NULL;
  neap_error err = {""};
  void *self;
  neap_chunk rows[64] = {0};
  for (uint32_t s = 0; s < 64; s++) rows[s].tenant = s % 3;
  snprintf(path, sizeof(path), "%s/tests/unit/policy_parts.lua", root);
  snprintf(params, sizeof(params), "seed=%u", rnd(1u << 30));
  const neap_policy_context context = {
      .size = sizeof(context), .slots = 64, .capacity = 64, .chunk = rows, .params = params};
  if (neap__lua_policy_load(&(neap__lua_policy_source){.path = path}, &policy, &err) != 0) fail_msg("%s", err.text);
  if (policy->create(policy, &context, &self, &err) != 0) fail_msg("%s: %s", params, err.text);
  policy->destroy(self);
}

/* --- bad policies ----------------------------------------------------------------------------------------------- */

#define HEAD "local policy = require 'neap.policy'\n"
/* Line 3 is BODY. */
#define WITH(BODY) \
  HEAD "return policy { name = 'bad', new = function(ctx) local l = policy.list(ctx.slots) return {\n" BODY "} end }"
#define LIST "insert = function(s) l:push(s) end, remove = function(s) l:remove(s) end, "
#define POP "victim = function(t) return l:pop(t) end,"

static int load_text(const char *text, bool sandboxed, const neap_policy **out, neap_error *err) {
  return neap__lua_policy_load(&(neap__lua_policy_source){.path = "bad.lua", .text = text, .sandboxed = sandboxed}, out,
                               err);
}

static void expect(const char *text, const char *expected) {
  if (strstr(text, expected) == NULL) fail_msg("'%s' does not tell '%s'", text, expected);
}

static void files_that_are_no_policies(void **state) {
  (void)state;
  static const struct {
    const char *text, *expected;
  } files[] = {
      {"return {", "bad.lua:1: "},
      {"\nerror('oh')", "bad.lua:2: oh"},
      {"", "bad.lua: the file returned nothing, expected what policy {"},
      {"return 7", "bad.lua: the file returned a number"},
      {"return { name = 'x' }", "bad.lua: the file returned a table"},
      {"\27LJ", "bad.lua"},
      {HEAD "\nreturn policy 'x'", "bad.lua:3: neap.policy: got a string"},
      {HEAD "return policy { nam = 'x' }",
       "bad.lua:2: neap.policy: 'nam' is not a part of a policy, did you mean 'name'?"},
      {HEAD "return policy { name = 'x' }", "bad.lua:2: neap.policy: 'new' is missing"},
      {HEAD "return policy { name = 5, new = print }", "bad.lua:2: neap.policy: 'name' is a number, expected a string"},
      {HEAD "return policy { name = 'a b', new = print }", "'name' is 'a b', expected letters"},
      {HEAD "return policy { name = 'x', new = print, constraint = 'tree' }",
       "'constraint' is 'tree', expected 'leaf'"},
      {HEAD "return policy { name = 'x', new = print, wants = 'HIT INSRT' }",
       "bad.lua:2: neap.policy: 'wants' names 'INSRT', which is no event, did you mean 'INSERT'?"},
      {HEAD "return policy { name = 'x', new = print, params = { a = '1' } }", "'params.a' is '1', expected a number"},
      {HEAD "return policy { name = 'x', new = print, params = { a = { 3, max = 2 } } }",
       "'params.a' has the default 3, expected a number from -inf to 2"},
      {HEAD "return policy { name = 'x', new = print, memory = 5 }", "'memory' is 5, expected 4194304 to"},
      {HEAD "return policy { name = 'x', new = function() end }", "bad.lua:2: new returned nothing, expected a table"},
      {HEAD "return policy { name = 'x', new = function() return {} end }",
       "bad.lua:2: new returned none of 'victim', 'victims' and 'score', expected one of them"},
      {WITH("hitt = print, " POP), "bad.lua:2: new returned 'hitt', which is no hook, did you mean 'hit'?"},
      {WITH("hit = 5, " POP), "bad.lua:2: new returned a number as 'hit', expected a function"},
      {WITH("score = print, " POP), "returned more of 'victim', 'victims' and 'score'"},
      {WITH("on_events = print, " POP), "the declaration has no 'wants'"},
      {WITH("on_events = print, hit = print, " POP), "returned both 'on_events' and 'hit'"},
      {WITH("hit = ctx.slotz, " POP), "bad.lua:3: ctx has no 'slotz', did you mean 'slots'?"},
      {WITH("hit = ctx.params.small, " POP), "bad.lua:3: ctx.params has no 'small'"},
      {WITH("hit = policy.list(0), " POP), "bad.lua:3: lists: slots is 0, expected a number from 1 to"},
      {WITH("hit = l:push(64), " POP), "bad.lua:3: list: slot is 64, expected 0 to 63"},
      {WITH("hit = ctx.chunk[-1], " POP), "bad.lua:3: ctx.chunk: index is -1, expected 0 to 63"},
      {WITH("hit = rawset(ctx, 'chunk', 1) and setmetatable(ctx.chunk, {}), " POP), "bad.lua:3: "},
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(files); i++) {
    const neap_policy *policy;
    neap_error err = {""};
    int rc = load_text(files[i].text, false, &policy, &err);
    if (rc != NEAP_ESCRIPT) fail_msg("%s: %d %s", files[i].text, rc, err.text);
    expect(err.text, files[i].expected);
  }
  const neap_policy *policy;
  neap_error err = {""};
  assert_int_equal(neap__lua_policy_load(&(neap__lua_policy_source){.path = "/no/such.lua"}, &policy, &err),
                   NEAP_ENOENT);
  expect(err.text, "/no/such.lua");
}

static void what_a_sandbox_hides(void **state) {
  (void)state;
  static const char *const tries[] = {"require 'ffi'",      "require 'neap.core'", "io.open('/')",
                                      "os.execute('true')", "debug.getinfo(1)",    "getfenv(1)",
                                      "setfenv(1, {})",     "package.path()",      "jit.on()",
                                      "string.dump(print)", "require 'x'",         "require 'neap.policy_parts'",
                                      "newproxy()",         "collectgarbage()"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(tries); i++) {
    char text[512];
    const neap_policy *policy;
    neap_error err = {""};
    snprintf(text, sizeof(text), "\nlocal x = %s", tries[i]);
    if (load_text(text, true, &policy, &err) != NEAP_ESCRIPT) fail_msg("%s is there", tries[i]);
    expect(err.text, "bad.lua:2: ");
  }
  const neap_policy *policy;
  neap_error err = {""};
  if (load_text(WITH(LIST POP), true, &policy, &err) != 0) fail_msg("%s", err.text);
}

static void feed(neap__instance *in, uint32_t slots, const neap_policy *policy) {
  for (uint32_t s = 0; s < slots; s++) {
    const neap_event ev = {.slot = s, .type = NEAP_EV_INSERT, .h1 = s, .pos = (uint16_t)s, .kib = 1};
    neap__instance_deliver(in, &ev, 1);
  }
  for (uint32_t type = NEAP_EV_HIT; type <= NEAP_EV_TICK; type++) {
    if (type == NEAP_EV_REMOVE || type == NEAP_EV_KEEP) continue;
    const neap_event ev = {
        .slot = type == NEAP_EV_TICK || type == NEAP_EV_MISS || type == NEAP_EV_REQUEST ? NEAP_POLICY_NO_SLOT : 1,
        .type = (uint8_t)type};
    if (policy->wants >> type & 1u) neap__instance_deliver(in, &ev, 1);
  }
}

/* The policy is out, with that in its message, and everything can still be evicted. */
static void expect_out(const char *text, const char *params, const char *expected) {
  const neap_policy *policy;
  neap__instance *in;
  neap_error err = {""};
  neap__instance_stats stats;
  uint32_t out[64], got = 0;
  if (load_text(text, false, &policy, &err) != 0) fail_msg("%s", err.text);
  const neap__instance_config config = {.policy = policy, .slots = 32, .params = params};
  if (neap__instance_open(&config, &in, &err) != 0) fail_msg("%s", err.text);
  feed(in, 32, policy);
  for (int n = 0; n < 8; n++) {
    uint32_t more = neap__instance_victims(in, NEAP_SCOPE_ALL, out, 4);
    for (uint32_t i = 0; i < more; i++) {
      const neap_event ev = {
          .slot = out[i], .type = i == 0 ? NEAP_EV_KEEP : NEAP_EV_REMOVE, .detail = NEAP_REMOVE_EVICT};
      neap__instance_deliver(in, &ev, 1);
      got += i != 0;
    }
  }
  assert_int_equal(got, 24);
  neap__instance_stats_get(in, &stats);
  if (!stats.out) fail_msg("it works on: %s", text);
  expect(stats.why.text, expected);
  neap__instance_close(in);
}

static void policies_that_fail(void **state) {
  (void)state;
  static const struct {
    const char *text, *expected;
  } bad[] = {
      {WITH("insert = function() error 'boo' end, " POP), "bad.lua:3: boo"},
      {WITH(LIST "hit = function(s) local x = nil + s end, " POP), "bad.lua:3: attempt to perform arithmetic"},
      {WITH(LIST "keep = function() error({}) end, " POP), "bad.lua:"},
      {WITH("insert = function(s) l:push(s) end, remove = function(s) error 'gone' end, " POP), "bad.lua:3: gone"},
      {WITH(LIST "tick = function() error 'tock' end, " POP), "bad.lua:3: tock"},
      {WITH(LIST "miss = function(s, e) error('missed ' .. s) end, " POP), "bad.lua:3: missed -1"},
      {WITH(LIST "pin = function() error 'pin' end, " POP), "bad.lua:3: pin"},
      {WITH(LIST "stored = function(s) return l:push(s + 40) end, " POP), "list: slot is 41, expected 0 to 31"},
      {WITH(LIST "hit = function(s, e) e.slot = 3 end, " POP), "bad.lua:3: "},
      {WITH(LIST "victim = function() error 'none' end"), "victims: bad.lua:3: none"},
      {WITH(LIST "victim = function() return 'x' end"),
       "bad.lua:3: victim returned 'x', expected a slot, 0 to 31, or nil"},
      {WITH(LIST "victim = function() return 32 end"), "bad.lua:3: victim returned 32"},
      {WITH(LIST "victim = function() return 0 / 0 end"), "bad.lua:3: victim returned "},
      {WITH(LIST "victims = function(out, n) return -1 end"),
       "bad.lua:3: victims returned -1, expected a whole number from 0 to 4"},
      {WITH(LIST "victims = function(out, n) return n + 1 end"), "bad.lua:3: victims returned 5"},
      {WITH(LIST "victims = function(out, n) out[n] = 1 return n end"), "bad.lua:3: out: index is 4, expected 0 to 3"},
      {WITH(LIST "victims = function(out, n) out[0] = -7 return 1 end"), "bad.lua:3: out[0] = -7, expected a slot"},
      {WITH(LIST "victims = function(out, n) end"), "bad.lua:3: victims returned nil"},
      {WITH("score = function(s) return 0 / 0 end"), "bad.lua:3: score returned "},
      {WITH("score = function(s) return 'much' end"), "bad.lua:3: score returned 'much' for slot "},
      {WITH("score = function(s) return ctx.chunk[s + 32].pos end"), "bad.lua:3: ctx.chunk: index is "},
      {HEAD "return policy { name = 'x', memory = 2 ^ 23, new = function(ctx) local t = {} return {\n"
            "insert = function(s) for i = 1, 1e7 do t[#t + 1] = {} end end, victim = function() end } end }",
       "bad.lua:"},
      {HEAD "return policy { name = 'x', guarded = true, slice = 0.05, new = function(ctx) return {\n"
            "insert = function(s) while true do end end, victim = function() end } end }",
       "bad.lua:3: stopped: a guarded script may run for 50 ms"},
      {HEAD "return policy { name = 'x', wants = 'INSERT', new = function(ctx) return {\n"
            "on_events = function(ev, n) return ev[n].slot end, victim = function() end } end }",
       "bad.lua:3: ev: index is "},
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++) expect_out(bad[i].text, "", bad[i].expected);
}

/* Wrong, but not impossible: what is refused is completed, and nothing is evicted twice. */
static void policies_that_talk_nonsense(void **state) {
  (void)state;
  static const char *const wild[] = {
      WITH("victims = function(out, n) for i = 0, n - 1 do out[i] = 5 end return n end"),
      WITH("victim = function() return 31 end"),
      WITH("victim = function() end"),
      WITH("insert = function(s) l:push(31 - s) end, victim = function() return l:pop() end"), /* knows of no REMOVE */
      WITH("score = function(s) return s % 2 == 0 and 1 / 0 or -1 / 0 end"),
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(wild); i++) {
    const neap_policy *policy;
    neap__instance *in;
    neap_error err = {""};
    bool gone[32] = {false};
    if (load_text(wild[i], false, &policy, &err) != 0) fail_msg("%s", err.text);
    const neap__instance_config config = {.policy = policy, .slots = 32};
    assert_int_equal(neap__instance_open(&config, &in, &err), 0);
    feed(in, 32, policy);
    for (int n = 0; n < 8; n++) {
      uint32_t out[4];
      assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, out, 4), 4);
      for (uint32_t k = 0; k < 4; k++) {
        const neap_event ev = {.slot = out[k], .type = NEAP_EV_REMOVE, .detail = NEAP_REMOVE_EVICT};
        assert_false(gone[out[k]]);
        gone[out[k]] = true;
        neap__instance_deliver(in, &ev, 1);
      }
    }
    neap__instance_close(in);
  }
}

/* --- the other hooks -------------------------------------------------------------------------------------------- */

static void parameters_are_checked(void **state) {
  (void)state;
  static const char text[] = HEAD
      "return policy { name = 'p', params = { small = { 0.1, min = 0, max = 1 }, k = 3 }, new = function(ctx)\n"
      "return { score = function(s) return ctx.params.small * 100 + ctx.params.k end } end }";
  const neap_policy *policy;
  neap_error err = {""};
  uint32_t slot = 0;
  double score = 0;
  void *self;
  neap_chunk rows[4] = {0};
  neap_policy_context context = {.size = sizeof(context), .slots = 4, .capacity = 4, .chunk = rows, .params = ""};
  assert_int_equal(load_text(text, false, &policy, &err), 0);
  const struct {
    const char *params;
    double score;
  } good[] = {{"", 13}, {"small=0.5", 53}, {"k=1,small=0", 1}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(good); i++) {
    context.params = good[i].params;
    assert_int_equal(policy->create(policy, &context, &self, &err), 0);
    assert_int_equal(policy->score(self, &slot, 1, &score, &err), 0);
    assert_true(score == good[i].score);
    policy->destroy(self);
  }
  context.params = "smal=1";
  assert_int_equal(policy->create(policy, &context, &self, &err), NEAP_EINVAL);
  expect(err.text, "'smal' is unknown");
  context.params = "small=2";
  assert_int_equal(policy->create(policy, &context, &self, &err), NEAP_EINVAL);
  expect(err.text, "from 0 to 1");
}

static const char planner[] = HEAD
    "return policy { name = 'planner', new = function(ctx) local seen, state = {}, 'none' return {\n"
    "victim = function() end,\n"
    "store_plan = function(plan)\n"
    "  for t = 0, plan.tiers - 1 do\n"
    "    plan.cut[t] = plan.tier[t].name == 'disk' and math.min(plan.cut[t], 2) or plan.chunks + ctx.params_wrong\n"
    "  end\n"
    "end,\n"
    "load_plan = function(plan)\n"
    "  plan.load, plan.keep = plan.chunks - 1, 1\n"
    "  for i = 0, plan.chunks - 1 do if plan.chunk[i].slot < 0 then plan.source[i] = 1 end end\n"
    "end,\n"
    "on_hint = function(hints, n) for i = 0, n - 1 do seen[i] = hints[i].h1 end seen.n = n end,\n"
    "predict = function(out, max) for i = 0, seen.n - 1 do out[i].h1, out[i].h2 = seen[i], 9 end return seen.n end,\n"
    "save = function() return 'state of ' .. state end,\n"
    "load = function(s) state = s end } end }";

static neap__instance *open_text(const char *text) {
  const neap_policy *policy;
  neap__instance *in;
  neap_error err = {""};
  if (load_text(text, false, &policy, &err) != 0) fail_msg("%s", err.text);
  const neap__instance_config config = {.policy = policy, .slots = 8};
  if (neap__instance_open(&config, &in, &err) != 0) fail_msg("%s", err.text);
  return in;
}

static void plans_and_hints(void **state) {
  (void)state;
  const neap_plan_chunk chunks[3] = {
      {.slot = 4, .tiers = 3}, {.slot = NEAP_POLICY_NO_SLOT, .tiers = 2}, {.slot = NEAP_POLICY_NO_SLOT, .tiers = 2}};
  const neap_tier_view tiers[2] = {{.name = "disk", .healthy = 1}, {.name = "far", .healthy = 1}};
  neap__instance *in = open_text(planner);
  uint8_t source[3] = {UINT8_MAX, 0, 0};
  neap_load_plan load = {.size = sizeof(load),
                         .chunks = 3,
                         .tiers = 2,
                         .chunk = chunks,
                         .tier = tiers,
                         .source = source,
                         .load = 3,
                         .keep = 3};
  assert_true(neap__instance_load_plan(in, &load));
  assert_int_equal(load.load, 2);
  assert_int_equal(load.keep, 1);
  assert_int_equal(source[0], UINT8_MAX);
  assert_int_equal(source[1], 1);

  const neap_hint hints[2] = {{.h1 = 11}, {.h1 = 22}};
  neap_hint out[4];
  neap__instance_hint(in, hints, 2);
  assert_int_equal(neap__instance_predict(in, out, 4), 2);
  assert_int_equal(out[1].h1, 22);
  assert_int_equal(out[1].h2, 9);

  uint32_t cut[2] = {3, 3};
  neap_store_plan store = {.size = sizeof(store), .chunks = 3, .tiers = 1, .chunk = chunks, .tier = tiers, .cut = cut};
  assert_true(neap__instance_store_plan(in, &store));
  assert_int_equal(cut[0], 2);
  store.tiers = 2; /* now it stumbles */
  assert_false(neap__instance_store_plan(in, &store));
  neap__instance_stats stats;
  neap__instance_stats_get(in, &stats);
  assert_true(stats.out);
  expect(stats.why.text, "store_plan: bad.lua:6: ctx has no 'params_wrong'");
  neap__instance_close(in);
}

static void state_is_saved(void **state) {
  (void)state;
  const neap_policy *policy;
  neap_error err = {""};
  void *self;
  char bytes[64] = "";
  neap_chunk rows[4] = {0};
  const neap_policy_context context = {.size = sizeof(context), .slots = 4, .capacity = 4, .chunk = rows, .params = ""};
  assert_int_equal(load_text(planner, false, &policy, &err), 0);
  assert_int_equal(policy->create(policy, &context, &self, &err), 0);
  assert_int_equal(policy->load(self, "mine", 4, &err), 0);
  assert_int_equal(policy->save(self, NULL, 0, &err), 13);
  assert_int_equal(policy->save(self, bytes, sizeof(bytes), &err), 13);
  assert_string_equal(bytes, "state of mine");
  policy->destroy(self);
}

static void places_are_told(void **state) {
  (void)state;
  const neap_policy *policy;
  neap_error err = {""};
  neap__policy_spec lru;
  assert_int_equal(load_text(planner, false, &policy, &err), 0);
  assert_string_equal(neap__lua_policy_place(policy, "victims"), "bad.lua:3");
  assert_string_equal(neap__lua_policy_place(policy, "load_plan"), "bad.lua:9");
  assert_null(neap__lua_policy_place(policy, "score"));
  assert_int_equal(neap__policy_find("LRU", &lru, &err), 0);
  assert_null(neap__lua_policy_place(lru.policy, "victims"));
}

/* --- a thousand times ------------------------------------------------------------------------------------------- */

static void reloaded_a_thousand_times(void **state) {
  (void)state;
  const char *sanitizer = getenv("NEAP_SANITIZE");
  const neap_policy *first = NULL;
  neap__instance *in = NULL;
  neap_error err = {""};
  size_t before = 0;
  for (int n = 0; n < 1000; n++) {
    const neap_policy *policy;
    if (load_text(WITH(LIST POP), false, &policy, &err) != 0) fail_msg("%s", err.text);
    if (first == NULL) {
      const neap__instance_config config = {.policy = policy, .slots = 1024};
      assert_int_equal(neap__instance_open(&config, &in, &err), 0);
      feed(in, 1024, policy);
      first = policy;
    }
    assert_ptr_equal(policy, first);
    assert_int_equal(neap__instance_switch(in, policy, "", &err), 0);
    if (n == 100) before = mallinfo2().uordblks;
  }
  uint32_t slot;
  assert_int_equal(neap__instance_victims(in, NEAP_SCOPE_ALL, &slot, 1), 1);
  assert_int_equal(slot, 0);
  if (sanitizer == NULL || sanitizer[0] == '\0') assert_true(mallinfo2().uordblks < before + 1024 * 1024);
  neap__instance_close(in);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(twins_agree_on_traces),
      cmocka_unit_test(twins_agree_on_any_events),
      cmocka_unit_test(parts_do_what_they_say),
      cmocka_unit_test(files_that_are_no_policies),
      cmocka_unit_test(what_a_sandbox_hides),
      cmocka_unit_test(policies_that_fail),
      cmocka_unit_test(policies_that_talk_nonsense),
      cmocka_unit_test(parameters_are_checked),
      cmocka_unit_test(plans_and_hints),
      cmocka_unit_test(state_is_saved),
      cmocka_unit_test(places_are_told),
      cmocka_unit_test(reloaded_a_thousand_times),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
