/* SPDX-License-Identifier: MIT
 *
 * The catalogue of a tier against a naive list, and its bounds. */
#include "l2/catalogue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#include "policy/registry.h"

typedef struct fixture {
  void *memory;
  neap__names *names;
  neap__catalogue *catalogue;
} fixture;

static void open_with(fixture *f, uint32_t items_max) {
  f->memory = mmap(NULL, neap__names_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(f->memory, MAP_FAILED);
  assert_int_equal(neap__names_open(f->memory, &f->names, NULL), 0);
  assert_int_equal(neap__catalogue_open(f->names, items_max, &f->catalogue), 0);
}

static void close_it(fixture *f) {
  neap__catalogue_close(f->catalogue);
  neap__names_close(f->names);
  munmap(f->memory, neap__names_bytes());
}

static neap__key id_of(uint32_t n, uint32_t tenant) {
  neap__key id;
  memset(&id, 0, sizeof(id));
  memcpy(id.hash, &n, sizeof(n));
  id.tenant = tenant;
  return id;
}

static uint64_t next_random(uint64_t *state) { /* Vigna, xorshift64*, 2016 */
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * UINT64_C(2685821657736338717);
}

/* --- against a naive list, oldest first ----------------------------------------------------------------------- */

enum { NUMBERS = 3000 };
typedef struct naive {
  uint32_t number, tenant;
  uint64_t bytes, seq;
} naive;

static uint32_t naive_find(const naive *list, uint32_t count, uint32_t number) {
  uint32_t i = 0;
  while (i < count && list[i].number != number) i++;
  return i;
}

static void to_the_end(naive *list, uint32_t count, uint32_t i) {
  naive moved = list[i];
  memmove(&list[i], &list[i + 1], (count - 1 - i) * sizeof(*list));
  list[count - 1] = moved;
}

static void check_sums(neap__catalogue *c, const naive *list, uint32_t count) {
  uint64_t total = 0, by_tenant[3] = {0};
  for (uint32_t i = 0; i < count; i++) {
    total += list[i].bytes;
    by_tenant[list[i].tenant] += list[i].bytes;
  }
  assert_int_equal(neap__catalogue_count(c), count);
  assert_int_equal(neap__catalogue_bytes(c), total);
  for (uint32_t t = 0; t < 3; t++) assert_int_equal(neap__catalogue_tenant_bytes(c, t), by_tenant[t]);
}

static void it_agrees_with_a_naive_list_over_random_operations(void **state) {
  (void)state;
  uint64_t seed = (uint64_t)time(NULL), random = seed | 1;
  print_message("seed %llu\n", (unsigned long long)seed);
  fixture f;
  open_with(&f, 1u << 20);
  neap__catalogue *c = f.catalogue;
  naive *list = calloc(NUMBERS, sizeof(*list));
  uint32_t count = 0;
  for (uint64_t seq = 1; seq < 20000; seq++) {
    uint32_t number = (uint32_t)(next_random(&random) % NUMBERS), tenant = number % 3;
    neap__key id = id_of(number, tenant);
    uint32_t at = naive_find(list, count, number);
    switch (next_random(&random) % 4) {
      case 0:
      case 1: {
        uint64_t bytes = next_random(&random) % 1000 + 1;
        assert_non_null(neap__catalogue_put(c, &id, bytes, NULL, seq));
        if (at == count) count++;
        list[at] = (naive){number, tenant, bytes, seq};
        to_the_end(list, count, at);
        break;
      }
      case 2: {
        uint64_t until = seq - next_random(&random) % 4000 % seq;
        neap__catalogue_forget(c, &id, until);
        if (at < count && list[at].seq <= until) memmove(&list[at], &list[at + 1], (--count - at) * sizeof(*list));
        break;
      }
      default: {
        neap__item *item = neap__catalogue_find(c, &id);
        assert_int_equal(item != NULL, at < count);
        if (!item) break;
        neap__catalogue_touch(c, item);
        to_the_end(list, count, at);
      }
    }
    if (seq % 500 == 0) check_sums(c, list, count);
  }
  /* Everything leaves, oldest first. */
  neap__key *ids = calloc(NUMBERS, sizeof(*ids));
  uint64_t all = neap__catalogue_bytes(c);
  assert_int_equal(neap__catalogue_victims(c, UINT64_MAX, NUMBERS, false, ids), count);
  assert_int_equal(neap__catalogue_leaving(c), all);
  for (uint32_t i = 0; i < count; i++) {
    neap__key id = id_of(list[i].number, list[i].tenant);
    assert_memory_equal(&ids[i], &id, sizeof(id));
    neap__catalogue_forget(c, &id, UINT64_MAX);
  }
  check_sums(c, list, 0);
  assert_int_equal(neap__catalogue_leaving(c), 0);
  free(ids);
  free(list);
  close_it(&f);
}

/* --- bounds --------------------------------------------------------------------------------------------------- */

static void a_full_catalogue_forgets_its_oldest_unlocked_entry(void **state) {
  (void)state;
  fixture f;
  open_with(&f, 4);
  for (uint32_t n = 0; n < 4; n++) {
    neap__key id = id_of(n, 0);
    assert_non_null(neap__catalogue_put(f.catalogue, &id, 10, NULL, n));
  }
  neap__key first = id_of(0, 0), second = id_of(1, 0), more = id_of(9, 0);
  neap__catalogue_find(f.catalogue, &first)->locks = 1;
  assert_non_null(neap__catalogue_put(f.catalogue, &more, 10, NULL, 9));
  assert_non_null(neap__catalogue_find(f.catalogue, &first));
  assert_null(neap__catalogue_find(f.catalogue, &second));
  assert_int_equal(neap__catalogue_bytes(f.catalogue), 40);
  for (uint32_t n = 0; n < 10; n++) {
    neap__key id = id_of(n, 0);
    neap__item *item = neap__catalogue_find(f.catalogue, &id);
    if (item) item->locks = 1;
  }
  neap__key over = id_of(77, 0);
  assert_null(neap__catalogue_put(f.catalogue, &over, 10, NULL, 10));
  close_it(&f);
}

static void of_a_listing_that_does_not_fit_the_last_used_stay(void **state) {
  (void)state;
  fixture f;
  open_with(&f, 4);
  neap__key known = id_of(3, 0), newest = id_of(5, 0), left_out = id_of(1, 0), ids[4];
  neap__catalogue_put(f.catalogue, &known, 10, NULL, 1);
  neap__found found[6];
  for (uint32_t n = 0; n < 6; n++) found[n] = (neap__found){.id = id_of(n, 0), .bytes = 20, .used_unix_s = 100 + n};
  neap__found_sort(found, 6);
  neap__catalogue_reserve(f.catalogue, 6);
  assert_int_equal(neap__catalogue_adopt(f.catalogue, found, 2), 2);
  assert_int_equal(neap__catalogue_adopt(f.catalogue, found + 2, 4), 2); /* 5, 4, 3 (known), 2 */
  assert_non_null(neap__catalogue_find(f.catalogue, &newest));
  assert_null(neap__catalogue_find(f.catalogue, &left_out));
  assert_int_equal(neap__catalogue_bytes(f.catalogue), 70);
  assert_int_equal(neap__catalogue_victims(f.catalogue, UINT64_MAX, 4, false, ids), 4);
  const uint32_t order[4] = {2, 4, 5, 3};
  for (int i = 0; i < 4; i++) {
    neap__key id = id_of(order[i], 0);
    assert_memory_equal(&ids[i], &id, sizeof(id));
  }
  close_it(&f);
}

static void names_from_outside_come_back_as_they_went_in(void **state) {
  (void)state;
  fixture f;
  open_with(&f, 4);
  neap_object_key key = {.model = "a/b", .salt = "t1", .rank = 7, .group = 2, .hash = {1, 2, 3}}, back;
  neap__key id, same;
  assert_int_equal(neap__catalogue_id_of(f.catalogue, &key, &id), 0);
  back = neap__catalogue_name(f.catalogue, &id);
  assert_string_equal(back.model, "a/b");
  assert_string_equal(back.salt, "t1");
  assert_memory_equal(back.hash, key.hash, sizeof(key.hash));
  neap__layout layout;
  const uint64_t shape[1] = {64};
  uint32_t space;
  assert_int_equal(neap__layout_init(&layout, shape, 1, "float16", 16, NULL), 0);
  assert_int_equal(neap__names_space(f.names, "other", 5, &layout, &space), 0);
  assert_int_equal(neap__names_space(f.names, "a/b", 3, &layout, &space), 0);
  neap__key inside = {.space = space, .rank = 7, .group = 2, .tenant = id.tenant, .hash = {1, 2, 3}};
  assert_int_equal(neap__catalogue_id(f.catalogue, &inside, &same), 0);
  assert_memory_equal(&id, &same, sizeof(id)); /* a recovered object is found by the engine's key */
  close_it(&f);
}

/* --- with a policy -------------------------------------------------------------------------------------------- */

/* The same story told to a policy of its own: slots are numbers there, positions in the catalogue. */
typedef struct listener {
  const neap_policy *policy;
  void *self;
  neap_policy_context context;
} listener;

static void says(const listener *l, uint32_t number, neap_event_type type, uint8_t detail) {
  neap__key id = id_of(number, number % 3);
  neap_event event = {.slot = number, .type = (uint8_t)type, .detail = detail, .tenant = id.tenant, .kib = 1};
  memcpy(&event.h1, id.hash, sizeof(event.h1));
  memcpy(&event.h2, id.hash + 4, sizeof(event.h2));
  l->policy->on_events(l->self, &event, 1, NULL);
}

static uint32_t number_of(const neap__key *id) {
  uint32_t number;
  memcpy(&number, id->hash, sizeof(number));
  return number;
}

static void follow(fixture *f, listener *l, uint32_t slots) {
  l->context = (neap_policy_context){.size = sizeof(l->context), .slots = slots, .capacity = slots, .params = ""};
  neap_error err = {""};
  neap__policy_spec spec;
  assert_int_equal(neap__policy_find("ARC", &spec, &err), 0);
  l->policy = spec.policy;
  assert_int_equal(l->policy->create(l->policy, &l->context, &l->self, &err), 0);
  open_with(f, slots);
  assert_int_equal(neap__catalogue_follow(f->catalogue, l->policy, &err), 0);
}

/* One of 400 numbers, the low ones more often. */
static uint32_t some_number(uint64_t *seed) {
  uint32_t a = (uint32_t)(next_random(seed) >> 33) % 400, b = (uint32_t)(next_random(seed) >> 33) % 400;
  return NEAP_MIN(a, b);
}

static void arc_in_a_catalogue_names_the_victims_that_it_names_alone(void **state) {
  (void)state;
  fixture f;
  listener l;
  uint64_t seed = 5, evicted = 0, bytes = 0;
  follow(&f, &l, NUMBERS);
  assert_true(neap__catalogue_teach(f.catalogue, 1));
  for (uint32_t step = 0; step < 20000; step++) {
    uint32_t number = some_number(&seed);
    neap__key id = id_of(number, number % 3), victim;
    neap__item *item = neap__catalogue_find(f.catalogue, &id);
    bool was = item != NULL, lost = step % 97 == 0 && was;
    if (lost) {
      neap__catalogue_forget(f.catalogue, &id, UINT64_MAX);
      says(&l, number, NEAP_EV_REMOVE, NEAP_REMOVE_DELETE);
      bytes -= 1000;
      continue;
    }
    assert_non_null(neap__catalogue_put(f.catalogue, &id, 1000, NULL, step));
    says(&l, number, was ? NEAP_EV_HIT : NEAP_EV_INSERT, 0);
    bytes += was ? 0 : 1000;
    while (bytes > 100 * 1000) {
      uint32_t expected;
      assert_int_equal(l.policy->victims(l.self, NEAP_SCOPE_ALL, &expected, 1, NULL), 1);
      assert_int_equal(neap__catalogue_victims(f.catalogue, 1, 10, false, &victim), 1);
      assert_int_equal(number_of(&victim), expected);
      bool stays = ++evicted % 13 == 0; /* its removal failed */
      if (stays) {
        neap__catalogue_leave(f.catalogue, neap__catalogue_find(f.catalogue, &victim), false);
        says(&l, expected, NEAP_EV_KEEP, 0);
        continue;
      }
      neap__catalogue_forget(f.catalogue, &victim, UINT64_MAX);
      says(&l, expected, NEAP_EV_REMOVE, NEAP_REMOVE_EVICT);
      bytes -= 1000;
    }
    assert_int_equal(neap__catalogue_bytes(f.catalogue), bytes);
  }
  uint64_t sum = 0;
  for (uint32_t tenant = 0; tenant < 3; tenant++) sum += neap__catalogue_tenant_bytes(f.catalogue, tenant);
  assert_int_equal(sum, bytes);
  assert_true(evicted > 1000);
  l.policy->destroy(l.self);
  close_it(&f);
}

static void arc_passes_over_what_is_locked_and_learns_a_listing_oldest_first(void **state) {
  (void)state;
  fixture f;
  listener l;
  neap__key ids[20];
  follow(&f, &l, 100);
  neap__found found[10];
  for (uint32_t n = 0; n < 10; n++) found[n] = (neap__found){.id = id_of(n, 0), .bytes = 10, .used_unix_s = 100 + n};
  neap__found_sort(found, 10);
  assert_int_equal(neap__catalogue_adopt(f.catalogue, found, 10), 10);
  neap__key id = id_of(50, 0);
  assert_false(neap__catalogue_teach(f.catalogue, 3));
  assert_non_null(neap__catalogue_put(f.catalogue, &id, 10, NULL, 1)); /* while it is being taught */
  id = id_of(3, 0);
  neap__catalogue_forget(f.catalogue, &id, 1); /* the one it would have heard of next */
  id = id_of(1, 0);
  neap__catalogue_find(f.catalogue, &id)->locks = 1;
  assert_false(neap__catalogue_teach(f.catalogue, 6));
  assert_true(neap__catalogue_teach(f.catalogue, 6));
  const uint32_t order[] = {0, 2, 4, 5, 6, 7, 8, 9, 50};
  assert_int_equal(neap__catalogue_victims(f.catalogue, 1000, 20, false, ids), NEAP_ARRAY_LEN(order));
  for (size_t i = 0; i < NEAP_ARRAY_LEN(order); i++) assert_int_equal(number_of(&ids[i]), order[i]);
  assert_int_equal(neap__catalogue_leaving(f.catalogue), 90);
  assert_int_equal(neap__catalogue_victims(f.catalogue, 1000, 20, false, ids), 0);
  l.policy->destroy(l.self);
  close_it(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(arc_in_a_catalogue_names_the_victims_that_it_names_alone),
      cmocka_unit_test(arc_passes_over_what_is_locked_and_learns_a_listing_oldest_first),
      cmocka_unit_test(it_agrees_with_a_naive_list_over_random_operations),
      cmocka_unit_test(a_full_catalogue_forgets_its_oldest_unlocked_entry),
      cmocka_unit_test(of_a_listing_that_does_not_fit_the_last_used_stay),
      cmocka_unit_test(names_from_outside_come_back_as_they_went_in),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
