/* SPDX-License-Identifier: MIT
 *
 * What every built-in promises, whatever happens: it proposes residents only, of the scope, each once until its REMOVE
 * or KEEP, leaves where it says so, and every one of them sooner or later. Random events in batches: insertions into a
 * tree of chunks, uses, deletions, clears, victims that go and victims that are kept, a capacity that changes. */
#include <string.h>

#include "base/base.h"
#include "policies/builtin.h"
#include "support/policies.h"
#include "support/random.h"

#define SLOTS 48u
#define STEPS 30000
#define BATCH 32u
#define NOBODY UINT32_MAX

static const uint32_t tenants[] = {0, 3, 259, 70000}; /* the second and the third share an instance when isolated */

static uint64_t seed;

typedef struct world {
  const neap_policy *policy;
  void *self;
  neap_policy_context context;
  neap_chunk rows[SLOTS];
  uint32_t next[SLOTS];
  uint32_t parent[SLOTS], kids[SLOTS];
  bool resident[SLOTS], proposed[SLOTS];
  neap_event batch[BATCH];
  uint32_t batched;
  uint32_t named, kept;
} world;

/* --- telling it ------------------------------------------------------------------------------------------------- */

static void deliver(world *w) {
  neap_error err = {""};
  assert_int_equal(w->policy->on_events(w->self, w->batch, w->batched, &err), 0);
  w->batched = 0;
}

static void emit(world *w, neap_event_type type, uint32_t slot, uint8_t detail) {
  if (!(w->policy->wants & 1u << type)) return;
  if (w->batched == BATCH) deliver(w);
  const neap_chunk *row = &w->rows[slot];
  w->batch[w->batched++] = (neap_event){.slot = slot,
                                        .type = (uint8_t)type,
                                        .detail = detail,
                                        .pos = row->pos,
                                        .h1 = row->h1,
                                        .h2 = row->h2,
                                        .tenant = row->tenant,
                                        .kib = row->kib};
}

static void insert(world *w, uint32_t slot) {
  uint32_t parent = random_below(&seed, SLOTS);
  w->rows[slot] = (neap_chunk){.h1 = random_below(&seed, 3 * SLOTS),
                               .tenant = tenants[random_below(&seed, NEAP_ARRAY_LEN(tenants))],
                               .kib = random_below(&seed, 5),
                               .pos = (uint16_t)random_below(&seed, 100),
                               .state = 1};
  w->next[slot] = random_below(&seed, 10) == 0 ? UINT32_MAX : random_below(&seed, 1000);
  w->resident[slot] = true;
  w->kids[slot] = 0;
  w->parent[slot] = w->resident[parent] && parent != slot && random_below(&seed, 2) ? parent : NOBODY;
  emit(w, NEAP_EV_INSERT, slot, 0);
  if (w->parent[slot] != NOBODY && ++w->kids[parent] == 1) emit(w, NEAP_EV_UNLEAF, parent, 0);
}

static void remove_slot(world *w, uint32_t slot, neap_remove_reason reason) {
  emit(w, NEAP_EV_REMOVE, slot, (uint8_t)reason);
  w->resident[slot] = w->proposed[slot] = false;
  for (uint32_t s = 0; s < SLOTS; s++) /* those that continued it are heads now */
    if (w->resident[s] && w->parent[s] == slot) w->parent[s] = NOBODY;
  uint32_t parent = w->parent[slot];
  if (parent != NOBODY && --w->kids[parent] == 0) emit(w, NEAP_EV_LEAF, parent, 0);
}

/* --- asking it -------------------------------------------------------------------------------------------------- */

static uint32_t ask(world *w, uint32_t scope, uint32_t *out, uint32_t max) {
  neap_error err = {""};
  deliver(w);
  int got = w->policy->victims(w->self, scope, out, max, &err);
  assert_true(got >= 0 && (uint32_t)got <= max);
  for (int i = 0; i < got; i++) {
    uint32_t slot = out[i];
    assert_true(slot < SLOTS && w->resident[slot]);
    assert_false(w->proposed[slot]);
    if (scope != NEAP_SCOPE_ALL) assert_int_equal(w->rows[slot].tenant, scope);
    if (w->policy->constraint & NEAP_EVICT_LEAF) assert_int_equal(w->kids[slot], 0);
    w->proposed[slot] = true;
  }
  w->named += (uint32_t)got;
  return (uint32_t)got;
}

static void answer(world *w, uint32_t slot) {
  if (random_below(&seed, 4) == 0) {
    w->proposed[slot] = false;
    w->kept++;
    emit(w, NEAP_EV_KEEP, slot, 0);
  } else {
    remove_slot(w, slot, NEAP_REMOVE_EVICT);
  }
}

static void random_question(world *w) {
  uint32_t out[SLOTS], max = random_below(&seed, 5) == 0 ? SLOTS : 1 + random_below(&seed, 4);
  uint32_t scope = random_below(&seed, 3) ? NEAP_SCOPE_ALL : tenants[random_below(&seed, NEAP_ARRAY_LEN(tenants))];
  if (random_below(&seed, 8) == 0) w->context.capacity = 1 + random_below(&seed, SLOTS);
  uint32_t got = ask(w, scope, out, max);
  for (uint32_t i = 0; i < got; i++)
    if (random_below(&seed, 8)) answer(w, out[i]); /* the others later */
}

static void random_event(world *w) {
  uint32_t slot = random_below(&seed, SLOTS);
  uint32_t dice = random_below(&seed, 100);
  if (!w->resident[slot]) {
    if (dice < 95)
      insert(w, slot);
    else
      emit(w, dice < 98 ? NEAP_EV_KEEP : NEAP_EV_HIT, slot, 0); /* of nobody: nothing happens */
  } else if (dice < 3) {
    remove_slot(w, slot, dice == 0 ? NEAP_REMOVE_CLEAR : NEAP_REMOVE_DELETE);
  } else if (w->proposed[slot] && dice < 60) {
    answer(w, slot);
  } else {
    w->next[slot] = random_below(&seed, 1000);
    emit(w, NEAP_EV_HIT, slot, 0);
  }
}

/* Everything leaves: each round at least one, leaves before what they continue. */
static void drain(world *w, uint32_t scope) {
  uint32_t out[SLOTS];
  for (uint32_t slot = 0; slot < SLOTS; slot++)
    if (w->resident[slot] && w->proposed[slot]) remove_slot(w, slot, NEAP_REMOVE_EVICT);
  for (uint32_t got = 1; got != 0;) {
    got = ask(w, scope, out, 1 + random_below(&seed, 7));
    for (uint32_t i = 0; i < got; i++) remove_slot(w, out[i], NEAP_REMOVE_EVICT);
  }
  for (uint32_t slot = 0; slot < SLOTS; slot++)
    if (scope == NEAP_SCOPE_ALL) assert_false(w->resident[slot]);
}

static void keeps_its_promises(const char *text) {
  neap__policy_spec spec = spec_of(text);
  neap_error err = {""};
  static world w;
  w = (world){.policy = spec.policy};
  w.context = (neap_policy_context){.size = sizeof(w.context),
                                    .slots = SLOTS,
                                    .capacity = SLOTS,
                                    .seed = seed,
                                    .chunk = w.rows,
                                    .next = w.next,
                                    .params = spec.params,
                                    .cost = {.base_us = 3, .slope_us = 1}};
  assert_int_equal(w.policy->create(w.policy, &w.context, &w.self, &err), 0);
  for (uint32_t step = 0; step < STEPS; step++) {
    if (random_below(&seed, 10))
      random_event(&w);
    else
      random_question(&w);
    if (step % 5000 == 4999) drain(&w, step % 10000 == 9999 ? NEAP_SCOPE_ALL : tenants[step / 10000 % 4]);
  }
  drain(&w, NEAP_SCOPE_ALL);
  print_message("%s: %u named, %u of them kept\n", text, w.named, w.kept);
  assert_true(w.named > STEPS / 30 && w.kept > STEPS / 200);
  w.policy->destroy(w.self);
}

static void every_builtin_keeps_its_promises(void **state) {
  (void)state;
  for (const char *const *name = neap__policy_names(); *name != NULL; name++)
    if (strcmp(*name, "noop") != 0) keeps_its_promises(*name);
}

static void every_builtin_keeps_its_promises_when_isolated(void **state) {
  (void)state;
  char text[64];
  for (const char *const *name = neap__policy_names(); *name != NULL; name++) {
    if (strcmp(*name, "noop") == 0) continue;
    snprintf(text, sizeof(text), "isolated:%s", *name);
    keeps_its_promises(text);
  }
}

static void policies_with_parameters_keep_their_promises(void **state) {
  (void)state;
  static const char *const specs[] = {
      "s3fifo:small=0,ghost=0",
      "s3fifo:small=1,promote=1",
      "s3fifo:ghost=8",
      "2q:in=1,out=0",
      "2q:in=0,out=8",
      "slru:segments=1",
      "slru:segments=9",
      "lirs:cold=1",
      "lirs:cold=0,stack=1",
      "lirs:cold=0.5,stack=8",
      "wtinylfu:window=0",
      "wtinylfu:window=1",
      "wtinylfu:probation=1",
      "wtinylfu:probation=0",
      "wtinylfu:window=0.3,window_uses=1",
      "isolated:s3fifo:small=0.3",
      "isolated:lirs:cold=0.2",
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(specs); i++) keeps_its_promises(specs[i]);
}

static int seed_setup(void **state) {
  (void)state;
  seed = random_seed("policy properties");
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_builtin_keeps_its_promises),
      cmocka_unit_test(every_builtin_keeps_its_promises_when_isolated),
      cmocka_unit_test(policies_with_parameters_keep_their_promises),
  };
  return cmocka_run_group_tests(tests, seed_setup, NULL);
}
