/* SPDX-License-Identifier: MIT
 *
 * Keys that a prediction can be turned into loads with: found by the beginning of their hash, bounded in number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "flow/known.h"

static int made(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy, (void)context, (void)err;
  *self = NULL;
  return 0;
}

static int hears(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)self, (void)events, (void)count, (void)err;
  return 0;
}

static int names(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)self, (void)scope, (void)out, (void)max, (void)err;
  return 0;
}

static int foresees(void *self, neap_hint *out, uint32_t max, neap_error *err) {
  (void)self, (void)out, (void)max, (void)err;
  return 0;
}

static void ends(void *self) { (void)self; }

static const neap_policy blind = {.magic = NEAP_POLICY_MAGIC,
                                  .abi = NEAP_POLICY_ABI,
                                  .size = sizeof(neap_policy),
                                  .name = "blind",
                                  .create = made,
                                  .on_events = hears,
                                  .victims = names,
                                  .destroy = ends};

typedef struct rig {
  neap_policy policy;
  neap__stream *stream;
  neap__known *known;
} rig;

static void open_rig(rig *r, bool predicts) {
  r->policy = blind;
  if (predicts) r->policy.predict = foresees;
  const neap__instance_config config = {.policy = &r->policy, .slots = 4};
  assert_int_equal(neap__stream_open(&config, &r->stream, NULL), 0);
  assert_int_equal(neap__known_open(r->stream, &r->known), 0);
}

static void close_rig(rig *r) {
  neap__known_close(r->known);
  neap__stream_close(r->stream);
}

static neap__key key_of(uint32_t h1, uint32_t h2, uint32_t rank) {
  neap__key key = {.rank = neap__rank(8, rank)};
  memcpy(key.hash, &h1, sizeof(h1));
  memcpy(key.hash + 4, &h2, sizeof(h2));
  return key;
}

static uint32_t find(const rig *r, uint32_t h1, uint32_t h2) {
  neap__key keys[8];
  uint32_t count = neap__known_find(r->known, h1, h2, keys, 8);
  for (uint32_t i = 0; i < count; i++) {
    const neap__key key = key_of(h1, h2, 0);
    assert_memory_equal(keys[i].hash, key.hash, sizeof(key.hash));
  }
  return count;
}

static void all_ranks_of_a_chunk_are_found_each_once(void **state) {
  (void)state;
  rig r;
  open_rig(&r, true);
  for (uint32_t i = 0; i < 12; i++) {
    const neap__key key = key_of(5, 6, i % 6), other = key_of(6, 5, i);
    neap__known_note(r.known, &key);
    neap__known_note(r.known, &other);
  }
  assert_int_equal(find(&r, 5, 6), 6);
  assert_int_equal(find(&r, 6, 5), 8); /* as many as were asked for */
  assert_int_equal(find(&r, 5, 5), 0);
  close_rig(&r);
}

static void the_oldest_are_forgotten(void **state) {
  (void)state;
  rig r;
  open_rig(&r, true);
  for (uint32_t i = 0; i < NEAP_KNOWN_MAX + 1000; i++) {
    const neap__key key = key_of(i, 1, 0);
    neap__known_note(r.known, &key);
  }
  assert_int_equal(find(&r, 999, 1), 0);
  for (uint32_t i = 1000; i < NEAP_KNOWN_MAX + 1000; i++) assert_int_equal(find(&r, i, 1), 1);
  close_rig(&r);
}

static void nothing_is_noted_for_a_policy_that_does_not_predict(void **state) {
  (void)state;
  rig r;
  open_rig(&r, false);
  const neap__key key = key_of(5, 6, 0);
  neap__known_note(r.known, &key);
  assert_int_equal(find(&r, 5, 6), 0);
  close_rig(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_ranks_of_a_chunk_are_found_each_once),
      cmocka_unit_test(the_oldest_are_forgotten),
      cmocka_unit_test(nothing_is_noted_for_a_policy_that_does_not_predict),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
