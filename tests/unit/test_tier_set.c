/* SPDX-License-Identifier: MIT
 *
 * Tiers that come, go and change under requests: what is routed, what is waited for, what is given up, and that nothing
 * of it is left. */
#include "support/flow_rig.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* --- changes on a thread of their own ------------------------------------------------------------------------- */

typedef struct change {
  flow_rig *rig;
  const char *name;
  bool reload;
  uint64_t grace_ms;
  uint32_t left;
  int rc;
  neap_error err;
  pthread_t thread;
} change;

static void *run_change(void *arg) {
  change *c = arg;
  if (c->reload)
    c->rc = neap__tier_set_reload(c->rig->engine->tiers, c->name, NULL, c->grace_ms, &c->left, &c->err);
  else
    c->rc = neap__engine_detach(c->rig->engine, c->name, c->grace_ms, &c->err);
  return NULL;
}

static void begin_change(change *c) { assert_int_equal(pthread_create(&c->thread, NULL, run_change, c), 0); }

static int end_change(change *c) {
  pthread_join(c->thread, NULL);
  return c->rc;
}

static int detach(flow_rig *rig, const char *name, uint64_t grace_ms, neap_error *err) {
  return neap__engine_detach(rig->engine, name, grace_ms, err);
}

static void attach(flow_rig *rig, const char *json, uint32_t index, const char *name) {
  neap__tier_entry e;
  neap_error err = {""};
  if (neap__tier_set_attach(rig->engine->tiers, json, 0, &e, &err) != 0) fail_msg("%s", err.text);
  assert_int_equal(e.index, index);
  assert_string_equal(e.name, name);
}

/* Whether the tier in that slot drains; -1: none is there. */
static int draining(flow_rig *rig, uint32_t index) {
  neap__tier_view view;
  int found = -1;
  neap__tier_set_view(rig->engine->tiers, &view);
  for (uint32_t i = 0; i < view.count; i++)
    if (view.entries[i].index == index) found = view.entries[i].draining;
  neap__tier_view_drop(rig->engine->tiers, &view);
  return found;
}

static void wait_draining(flow_rig *rig, uint32_t index) {
  uint64_t until = neap__now_ns() + UINT64_C(30000000000);
  while (draining(rig, index) != 1 && neap__now_ns() < until) flow_turn(rig);
  assert_int_equal(draining(rig, index), 1);
}

/* Detaches the first tier on a thread of its own; it drains. */
static void begin_detach(flow_rig *rig, change *c) {
  *c = (change){.rig = rig, .name = "scripted0", .grace_ms = 30000};
  begin_change(c);
  wait_draining(rig, 0);
}

static void wait_opened(flow_rig *rig, uint32_t store, uint32_t count) {
  uint64_t until = neap__now_ns() + UINT64_C(30000000000);
  uint32_t opened = 0;
  while (opened < count && neap__now_ns() < until) {
    flow_turn(rig);
    pthread_mutex_lock(&flow_stores[store].lock);
    opened = flow_stores[store].opened;
    pthread_mutex_unlock(&flow_stores[store].lock);
  }
  assert_int_equal(opened, count);
}

/* --- requests under way --------------------------------------------------------------------------------------- */

/* An engine over so many stores, and a fetch of object 5, which the first store has and does not give yet. */
static flow_fetch *open_with_held_load(flow_rig *rig, uint32_t stores) {
  flow_open(rig, stores);
  flow_put(0, 5, 0);
  flow_hold(0, NEAP_OP_LOAD, true);
  flow_fetch *f = flow_ask(rig, 5, 1);
  flow_wait_held(0, 1);
  return f;
}

/* An engine over two stores, and a fetch of object 5, which the first store has found; the second one still looks. */
static flow_fetch *open_with_held_lookup(flow_rig *rig) {
  flow_open(rig, 2);
  flow_put(0, 5, 0);
  flow_hold(1, NEAP_OP_LOOKUP, true);
  flow_fetch *f = flow_ask(rig, 5, 1);
  flow_wait_held(1, 1);
  flow_turn(rig); /* the first one has answered */
  return f;
}

/* --- coming and going ----------------------------------------------------------------------------------------- */

static void a_tier_gets_the_lowest_free_slot_and_a_name_of_its_own(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  flow_open(rig, 2);
  attach(rig, "{\"type\":\"scripted2\"}", 2, "scripted2");
  attach(rig, "{\"type\":\"scripted2\"}", 3, "scripted2-2");
  attach(rig, "{\"type\":\"scripted2\",\"name\":\"third\"}", 4, "third");
  assert_int_equal(neap__tier_set_count(rig->engine->tiers), 5);
  assert_int_equal(detach(rig, "scripted1", 1000, &err), 0);
  attach(rig, "{\"type\":\"scripted2\",\"name\":\"again\"}", 1, "again");
  assert_int_equal(detach(rig, "4", 1000, &err), 0);
  assert_int_equal(detach(rig, "third", 1000, &err), NEAP_ENOENT);
  assert_int_equal(detach(rig, "agian", 1000, &err), NEAP_ENOENT);
  assert_string_equal(err.text, "no adapter 'agian' is attached; did you mean 'again'?");
  assert_int_equal(neap__tier_set_count(rig->engine->tiers), 4);
}

static void a_name_that_is_taken_is_refused_and_so_is_one_tier_too_many(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  flow_open(rig, 1);
  assert_int_equal(
      neap__tier_set_attach(rig->engine->tiers, "{\"type\":\"scripted1\",\"name\":\"scripted0\"}", 0, NULL, &err),
      NEAP_EEXIST);
  assert_string_equal(err.text, "name: an adapter 'scripted0' is attached already");
  assert_int_equal(neap__tier_set_attach(rig->engine->tiers, "{\"type\":\"scripted1\",\"name\":\"7\"}", 0, NULL, &err),
                   NEAP_EINVAL);
  for (uint32_t i = 1; i < NEAP_TIERS_MAX; i++)
    assert_int_equal(neap__tier_set_attach(rig->engine->tiers, "{\"type\":\"scripted1\"}", 0, NULL, &err), 0);
  assert_int_equal(neap__tier_set_attach(rig->engine->tiers, "{\"type\":\"scripted1\"}", 0, NULL, &err), NEAP_ELIMIT);
  assert_int_equal(flow_stores[1].opened, NEAP_TIERS_MAX - 1);
}

static void a_tier_that_does_not_open_leaves_its_slot_free(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  flow_open(rig, 1);
  flow_stores[1].refuse_open = true;
  assert_int_equal(neap__tier_set_attach(rig->engine->tiers, flow_adapters()[1], 0, NULL, &err), NEAP_EIO);
  assert_string_equal(err.text, "scripted1: told not to open");
  assert_int_equal(draining(rig, 1), -1);
  flow_stores[1].refuse_open = false;
  attach(rig, flow_adapters()[1], 1, "scripted1");
}

static void what_is_stored_goes_to_the_tiers_that_are_there(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  flow_open(rig, 0);
  for (uint32_t n = 0; n < 4; n++) assert_int_equal(flow_commit(rig, n), 0);
  flow_offer(rig, 0, 1);
  attach(rig, flow_adapters()[0], 0, "scripted0");
  flow_offer(rig, 1, 1);
  flow_settle(rig);
  attach(rig, flow_adapters()[1], 1, "scripted1");
  flow_offer(rig, 2, 1);
  flow_settle(rig);
  assert_int_equal(detach(rig, "scripted0", 1000, &err), 0);
  flow_offer(rig, 3, 1);
  flow_settle(rig);
  const bool first[4] = {false, true, true, false}, second[4] = {false, false, true, true};
  for (uint32_t n = 0; n < 4; n++) {
    assert_int_equal(flow_has(0, n), first[n]);
    assert_int_equal(flow_has(1, n), second[n]);
  }
}

static void skip_l1_keeps_what_was_on_its_way_to_a_tier_that_went(void **state) {
  flow_rig *rig = *state;
  rig->config.skip_l1 = true;
  flow_open(rig, 1);
  flow_hold(0, NEAP_OP_STORE, true);
  for (uint32_t n = 0; n < 300; n++) /* more than is in flight at once */
    if (flow_commit_sized(rig, n, 0, 128) == 0) flow_offer(rig, n, 1);
  flow_wait_held(0, 1);
  change c;
  begin_detach(rig, &c);
  flow_finish_all(0);
  assert_int_equal(end_change(&c), 0);
  flow_settle(rig);
  assert_int_equal(flow_storing(rig).pending_objects, 0);
  for (uint32_t n = 0; n < 300; n++) assert_true(flow_resident(rig, n) || flow_has(0, n));
}

/* --- draining ------------------------------------------------------------------------------------------------- */

static void a_detach_waits_for_a_load_and_nothing_new_is_routed(void **state) {
  flow_rig *rig = *state;
  flow_fetch *f = open_with_held_load(rig, 2);
  change c;
  begin_detach(rig, &c);
  assert_int_equal(flow_commit(rig, 6), 0);
  flow_offer(rig, 6, 1);
  assert_int_equal(flow_hits(rig, 7, 1), 0);
  while (!flow_has(1, 6)) flow_turn(rig);
  assert_false(flow_has(0, 6));
  assert_int_equal(flow_stores[0].calls[NEAP_OP_LOOKUP], 1);
  assert_int_equal(flow_stores[0].closed, 0);
  flow_finish(0, 0);
  assert_int_equal(flow_answer(f), 1);
  assert_int_equal(end_change(&c), 0);
  assert_int_equal(flow_stores[0].closed, 1);
  assert_int_equal(draining(rig, 0), -1);
  flow_end(f);
}

static void what_a_lookup_found_is_loaded_from_a_draining_tier(void **state) {
  flow_rig *rig = *state;
  flow_fetch *f = open_with_held_lookup(rig);
  change c;
  begin_detach(rig, &c);
  flow_turn(rig);
  assert_int_equal(flow_stores[0].closed, 0);
  flow_finish_all(1);
  assert_int_equal(flow_answer(f), 1);
  assert_int_equal(end_change(&c), 0);
  assert_int_equal(flow_stores[0].calls[NEAP_OP_LOAD], 1);
  assert_int_equal(flow_stores[0].closed, 1);
  flow_end(f);
}

static void after_the_grace_what_is_waited_for_is_given_up_and_the_tier_goes_on_draining(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  flow_fetch *f = open_with_held_load(rig, 1);
  assert_int_equal(detach(rig, "scripted0", 1, &err), NEAP_ETIMEDOUT);
  assert_non_null(strstr(err.text, "has not given back 1 operations"));
  assert_int_equal(flow_answer(f), 0);
  assert_int_equal(draining(rig, 0), 1);
  assert_int_equal(flow_stores[0].closed, 0);
  assert_int_equal(neap__tier_set_count(rig->engine->tiers), 0);
  flow_finish_all(0);
  assert_int_equal(detach(rig, "scripted0", 30000, &err), 0);
  assert_int_equal(flow_stores[0].closed, 1);
  flow_end(f);
}

static void a_detach_in_a_hurry_says_what_has_not_come_back(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  flow_fetch *f = open_with_held_load(rig, 1);
  neap__tier_set_hurry(rig->engine->tiers);
  assert_int_equal(detach(rig, "scripted0", 30000, &err), NEAP_ETIMEDOUT);
  assert_non_null(strstr(err.text, "has not given back 1 operations"));
  flow_end(f);
}

static void after_the_grace_lookups_forget_what_they_found_there(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  flow_fetch *f = open_with_held_lookup(rig);
  assert_int_equal(detach(rig, "scripted0", 1, &err), 0); /* only the lookup's promise was in the way */
  assert_int_equal(flow_stores[0].closed, 1);
  flow_finish_all(1);
  assert_int_equal(flow_answer(f), 0);
  flow_end(f);
}

static void a_tier_is_changed_by_one_at_a_time(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  uint32_t left;
  flow_fetch *f = open_with_held_load(rig, 1);
  change c;
  begin_detach(rig, &c);
  assert_int_equal(detach(rig, "scripted0", 1, &err), NEAP_EBUSY);
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", NULL, 1, &left, &err), NEAP_EBUSY);
  flow_finish_all(0);
  assert_int_equal(end_change(&c), 0);
  flow_end(f);
}

static void a_tier_that_is_held_is_not_closed(void **state) {
  flow_rig *rig = *state;
  neap__tier_entry e;
  neap_error err = {""};
  flow_open(rig, 1);
  assert_int_equal(neap__tier_set_hold(rig->engine->tiers, "0", &e, &err), 0);
  change c = {.rig = rig, .name = "scripted0", .grace_ms = 30000};
  begin_change(&c);
  uint64_t until = neap__now_ns() + UINT64_C(30000000000);
  while (draining(rig, 0) != -1 && neap__now_ns() < until) flow_turn(rig);
  char text[512];
  assert_true(neap__tier_status(e.tier, text, sizeof text) > 0);
  assert_int_equal(flow_stores[0].closed, 0);
  neap__tier_set_drop(rig->engine->tiers, e.index);
  assert_int_equal(end_change(&c), 0);
  assert_int_equal(flow_stores[0].closed, 1);
}

/* --- reload --------------------------------------------------------------------------------------------------- */

static void a_reload_hands_over_at_once_and_closes_the_old_one_after_its_last_operation(void **state) {
  flow_rig *rig = *state;
  flow_fetch *f = open_with_held_load(rig, 1);
  flow_put(0, 6, 0);
  flow_hold(0, NEAP_OP_LOAD, false);
  change c = {.rig = rig, .name = "scripted0", .reload = true, .grace_ms = 30000};
  begin_change(&c);
  wait_opened(rig, 0, 2);
  assert_int_equal(flow_hits(rig, 6, 1), 1); /* by whichever has taken over */
  assert_int_equal(flow_stores[0].closed, 0);
  flow_finish(0, 0);
  assert_int_equal(flow_answer(f), 1);
  assert_int_equal(end_change(&c), 0);
  assert_int_equal(c.left, 0);
  assert_int_equal(flow_stores[0].closed, 1);
  flow_end(f);
}

static void a_reload_under_way_does_not_keep_a_server_from_its_end(void **state) {
  flow_rig *rig = *state;
  flow_fetch *f = open_with_held_load(rig, 1);
  change c = {.rig = rig, .name = "scripted0", .reload = true, .grace_ms = 60000};
  uint64_t begin = neap__now_ns();
  begin_change(&c);
  wait_opened(rig, 0, 2);
  neap__tier_set_hurry(rig->engine->tiers);
  end_change(&c); /* made, or given up before the new one took over */
  assert_true(neap__now_ns() - begin < UINT64_C(50000000000));
  assert_int_equal(flow_stores[0].busy[NEAP_OP_LOAD], 1);
  flow_finish_all(0);
  assert_int_equal(flow_answer(f), 1);
  flow_end(f);
}

static void an_old_instance_that_keeps_operations_is_closed_when_it_gave_them_back(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  uint32_t left = 0;
  flow_fetch *f = open_with_held_load(rig, 1);
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", NULL, 1, &left, &err), 0);
  assert_int_equal(left, 1);
  assert_int_equal(flow_stores[0].closed, 0);
  flow_finish_all(0);
  assert_int_equal(flow_answer(f), 1); /* also what is late from the old one counts */
  flow_settle(rig);
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", NULL, 1000, &left, &err), 0);
  assert_int_equal(left, 0);
  assert_int_equal(flow_stores[0].closed, 2);
  flow_end(f);
}

static void a_new_instance_that_does_not_open_or_answer_rightly_changes_nothing(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  uint32_t left = 0;
  flow_open(rig, 1);
  flow_put(0, 5, 0);
  flow_stores[0].refuse_open = true;
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", NULL, 1000, &left, &err), NEAP_EIO);
  assert_string_equal(err.text, "scripted0: told not to open; the running instance stays");
  flow_stores[0].refuse_open = false;
  flow_stores[0].nothing = NEAP_EIO;
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", NULL, 1000, &left, &err), NEAP_EIO);
  assert_non_null(strstr(err.text, "self-check: a lookup ended with"));
  assert_int_equal(flow_stores[0].opened, 2);
  assert_int_equal(flow_stores[0].closed, 1);
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", "{\"x\":1", 1000, &left, &err), NEAP_EINVAL);
  assert_int_equal(flow_hits(rig, 5, 1), 1);
}

static void a_reload_keeps_what_the_tier_knows_and_forgets_that_it_was_failing(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  neap__tier_entry e;
  neap__tier_stats before, after;
  uint32_t left = 0;
  flow_open(rig, 1);
  assert_int_equal(flow_commit(rig, 5), 0);
  flow_offer(rig, 5, 1);
  flow_settle(rig);
  assert_int_equal(neap__tier_set_hold(rig->engine->tiers, "scripted0", &e, &err), 0);
  for (uint32_t n = 100; n < 140; n++) {
    flow_force(0, NEAP_OP_LOOKUP, n, NEAP_EIO);
    flow_hits(rig, n, 1);
  }
  neap__tier_stats_get(e.tier, &before);
  assert_false(before.healthy);
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", NULL, 1000, &left, &err), 0);
  neap__tier_stats_get(e.tier, &after);
  assert_true(after.healthy);
  assert_int_equal(after.stored_objects, before.stored_objects);
  assert_int_equal(after.used_bytes, before.used_bytes);
  assert_int_equal(after.lookups, before.lookups);
  assert_true(after.used_bytes > 0);
  neap__tier_set_drop(rig->engine->tiers, e.index);
  flow_stores[0].flip[5 * FLOW_ROWS] = true; /* the checksum is still known */
  neap__l1_clear(rig->l1, false);
  assert_int_equal(flow_hits(rig, 5, 1), 0);
}

/* Ten seconds of patience pass here. */
static void an_instance_that_failed_its_check_is_closed_when_it_has_answered(void **state) {
  flow_rig *rig = *state;
  neap_error err = {""};
  uint32_t left = 0;
  if (!getenv("NEAP_SLOW")) skip();
  flow_open(rig, 1);
  flow_hold(0, NEAP_OP_LOOKUP, true);
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", NULL, 1, &left, &err), NEAP_ETIMEDOUT);
  assert_int_equal(flow_stores[0].closed, 0);
  assert_int_equal(detach(rig, "scripted0", 1, &err), NEAP_ETIMEDOUT);
  assert_non_null(strstr(err.text, "has not given back 1 operations"));
  assert_int_equal(flow_stores[0].closed, 0);
  flow_finish_all(0);
  assert_int_equal(detach(rig, "scripted0", 30000, &err), 0);
  assert_int_equal(flow_stores[0].closed, 2);
}

static void what_hangs_in_an_old_instance_takes_no_place_of_the_new_one(void **state) {
  flow_rig *rig = *state;
  static const char *const one_place[1] = {
      "{\"type\":\"scripted0\",\"concurrency\":1,\"breaker\":{\"failures\":1,\"cooldown\":0.001,"
      "\"cooldown_max\":0.001,\"probe_deadline\":0.001}}"};
  neap_error err = {""};
  uint32_t left = 0;
  rig->config.l2_adapters = one_place;
  flow_fetch *f = open_with_held_load(rig, 1);
  flow_hold(0, NEAP_OP_LOAD, false);
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", NULL, 1, &left, &err), 0);
  assert_int_equal(left, 1);
  flow_put(0, 6, 0);
  assert_int_equal(flow_hits(rig, 6, 1), 1);

  flow_force(0, NEAP_OP_LOOKUP, 7, NEAP_EIO);
  flow_hold(0, NEAP_OP_LOOKUP, true);
  flow_fetch *late = flow_ask(rig, 7, 1);
  flow_wait_held(0, 2);
  flow_finish(0, 1);
  flow_wait_held(0, 2 + 4); /* all the probes that it gets */
  flow_hold(0, NEAP_OP_LOOKUP, false);
  assert_int_equal(neap__tier_set_reload(rig->engine->tiers, "scripted0", NULL, 1, &left, &err), 0);
  assert_int_equal(left, 4);
  assert_int_equal(flow_hits(rig, 7, 1), 0); /* opens the breaker of the new one, which has four of its own */
  uint64_t until = neap__now_ns() + UINT64_C(30000000000);
  uint32_t hits = 0;
  while (!hits && neap__now_ns() < until) {
    neap__l1_clear(rig->l1, false);
    hits = flow_hits(rig, 6, 1);
  }
  assert_int_equal(hits, 1);
  flow_finish_all(0);
  assert_int_equal(flow_answer(f), 0); /* the breaker let it go */
  flow_end(f);
  flow_end(late);
}

/* --- all of it at once ---------------------------------------------------------------------------------------- */

typedef struct changer {
  flow_rig *rig;
  const char *name, *json;
  uint32_t rounds;
  bool reload;
  atomic_bool ended;
  pthread_t thread;
} changer;

static void *keep_changing(void *arg) {
  changer *c = arg;
  neap_error err = {""};
  for (uint32_t i = 0; i < c->rounds; i++) {
    uint32_t left;
    int rc = c->reload ? neap__tier_set_reload(c->rig->engine->tiers, c->name, NULL, 30000, &left, &err)
                       : neap__engine_detach(c->rig->engine, c->name, 30000, &err);
    if (rc == 0 && !c->reload) rc = neap__tier_set_attach(c->rig->engine->tiers, c->json, 0, NULL, &err);
    if (rc) fprintf(stderr, "round %u: %s\n", i, err.text);
    NEAP_ASSERT(rc == 0);
  }
  atomic_store(&c->ended, true);
  return NULL;
}

static void requests_do_not_notice_changes(void **state) {
  flow_rig *rig = *state;
  flow_open(rig, 3);
  for (uint32_t n = 0; n < 16; n++)
    for (uint32_t store = 0; store < FLOW_STORES; store++) flow_put(store, n, 0);
  changer changers[2] = {{.rig = rig, .name = "scripted0", .json = flow_adapters()[0], .rounds = 100},
                         {.rig = rig, .name = "scripted1", .rounds = 100, .reload = true}};
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&changers[i].thread, NULL, keep_changing, &changers[i]), 0);
  uint32_t rounds = 0;
  while (!atomic_load(&changers[0].ended) || !atomic_load(&changers[1].ended) || rounds < 50) {
    assert_int_equal(flow_hits(rig, 0, 16), 16);
    neap__l1_clear(rig->l1, false);
    uint32_t n = 100 + rounds++ % 200;
    if (flow_commit(rig, n) == 0) flow_offer(rig, n, 1);
  }
  for (int i = 0; i < 2; i++) pthread_join(changers[i].thread, NULL);
  assert_int_equal(neap__tier_set_count(rig->engine->tiers), 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, flow_setup, flow_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_tier_gets_the_lowest_free_slot_and_a_name_of_its_own),
      TEST(a_name_that_is_taken_is_refused_and_so_is_one_tier_too_many),
      TEST(a_tier_that_does_not_open_leaves_its_slot_free),
      TEST(what_is_stored_goes_to_the_tiers_that_are_there),
      TEST(skip_l1_keeps_what_was_on_its_way_to_a_tier_that_went),
      TEST(a_detach_waits_for_a_load_and_nothing_new_is_routed),
      TEST(what_a_lookup_found_is_loaded_from_a_draining_tier),
      TEST(after_the_grace_what_is_waited_for_is_given_up_and_the_tier_goes_on_draining),
      TEST(a_detach_in_a_hurry_says_what_has_not_come_back),
      TEST(after_the_grace_lookups_forget_what_they_found_there),
      TEST(a_tier_is_changed_by_one_at_a_time),
      TEST(a_tier_that_is_held_is_not_closed),
      TEST(a_reload_hands_over_at_once_and_closes_the_old_one_after_its_last_operation),
      TEST(a_reload_under_way_does_not_keep_a_server_from_its_end),
      TEST(an_old_instance_that_keeps_operations_is_closed_when_it_gave_them_back),
      TEST(a_new_instance_that_does_not_open_or_answer_rightly_changes_nothing),
      TEST(a_reload_keeps_what_the_tier_knows_and_forgets_that_it_was_failing),
      TEST(an_instance_that_failed_its_check_is_closed_when_it_has_answered),
      TEST(what_hangs_in_an_old_instance_takes_no_place_of_the_new_one),
      TEST(requests_do_not_notice_changes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
