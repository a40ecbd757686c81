/* SPDX-License-Identifier: MIT
 *
 * Spaces and tenants: dense numbers that survive a restart, plausibility at open, readers beside writers. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "chunk/names.h"

typedef struct fixture {
  void *memory;
  neap__names *names;
} fixture;

static neap__layout layout_of(uint64_t layers, uint32_t chunk_tokens) {
  neap__layout layout;
  uint64_t shape[4] = {2, layers, chunk_tokens, 1024};
  if (neap__layout_init(&layout, shape, 4, "bfloat16", chunk_tokens, NULL) != 0)
    fail_msg("layout of %llu layers refused", (unsigned long long)layers);
  return layout;
}

static int setup(void **state) {
  fixture *f = calloc(1, sizeof(*f));
  neap_error err = {""};
  if (!f) return -1;
  f->memory = mmap(NULL, neap__names_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *state = f;
  return f->memory == MAP_FAILED || neap__names_open(f->memory, &f->names, &err) != 0 ? -1 : 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  if (f->names) neap__names_close(f->names);
  munmap(f->memory, neap__names_bytes());
  free(f);
  return 0;
}

static int reopen(fixture *f, neap_error *err) {
  if (f->names) neap__names_close(f->names);
  f->names = NULL;
  return neap__names_open(f->memory, &f->names, err);
}

static void a_layout_counts_the_bytes_of_its_shape(void **state) {
  (void)state;
  neap__layout layout;
  neap_error err = {""};
  uint64_t shape[5] = {2, 28, 256, 1024, 1};
  assert_int_equal(neap__layout_init(&layout, shape, 4, "bfloat16", 256, &err), 0);
  assert_int_equal(layout.bytes, 2ull * 28 * 256 * 1024 * 2);
  assert_int_equal(layout.dims, 4);
  assert_string_equal(layout.dtype, "bfloat16");
  assert_int_equal(neap__layout_init(&layout, shape, 1, "float8_e4m3fn", 8192, &err), 0);
  assert_int_equal(layout.bytes, 2);
  assert_int_equal(layout.shape[1], 0);
  assert_string_equal(err.text, "");
}

static void an_impossible_layout_is_refused_with_its_reason(void **state) {
  (void)state;
  neap_error err;
  neap__layout layout;
  uint64_t good[5] = {2, 28, 256, 1024, 1}, zero[2] = {2, 0}, huge[4] = {1u << 30, 1u << 30, 1u << 30, 4};
  uint64_t absurd[1] = {UINT64_C(1) << 40};
  assert_int_equal(neap__layout_init(&layout, good, 4, "bflaot16", 256, &err), NEAP_EINVAL);
  assert_string_equal(err.text, "dtype is 'bflaot16'; expected a torch dtype such as 'bfloat16'");
  assert_int_equal(neap__layout_init(&layout, zero, 2, "int8", 256, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "shape[1] is 0;"));
  assert_int_equal(neap__layout_init(&layout, absurd, 1, "int8", 256, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "shape[0] is 1099511627776;"));
  assert_int_equal(neap__layout_init(&layout, huge, 4, "int8", 256, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "64 bits"));
  assert_int_equal(neap__layout_init(&layout, good, 0, "int8", 256, &err), NEAP_EINVAL);
  assert_int_equal(neap__layout_init(&layout, good, 5, "int8", 256, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "5 dimensions"));
  assert_int_equal(neap__layout_init(&layout, good, 4, "int8", 0, &err), NEAP_EINVAL);
  assert_int_equal(neap__layout_init(&layout, good, 4, "int8", 8193, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "chunk_size is 8193"));
}

static void one_model_with_two_layouts_is_two_spaces_and_the_first_is_primary(void **state) {
  fixture *f = *state;
  neap__layout small = layout_of(28, 256), large = layout_of(32, 256);
  uint32_t a, b, c, again;
  assert_int_equal(neap__names_space(f->names, "m/1", 3, &small, &a), 0);
  assert_int_equal(neap__names_space(f->names, "m/1", 3, &large, &b), 0);
  assert_int_equal(neap__names_space(f->names, "m/12", 4, &small, &c), 0);
  assert_int_equal(neap__names_space(f->names, "m/12", 3, &small, &again), 0); /* three bytes: "m/1" */
  assert_int_equal(a, 0);
  assert_int_equal(b, 1);
  assert_int_equal(c, 2);
  assert_int_equal(again, a);
  assert_int_equal(neap__names_spaces(f->names), 3);
  assert_true(neap__names_primary(f->names, a));
  assert_false(neap__names_primary(f->names, b));
  assert_true(neap__names_primary(f->names, c));
  assert_string_equal(neap__names_model(f->names, b), "m/1");
  assert_true(neap__layout_equal(neap__names_layout(f->names, b), &large));
}

static void tenants_are_numbered_from_the_default_tenant(void **state) {
  fixture *f = *state;
  uint32_t tenant = 99;
  assert_int_equal(neap__names_tenant(f->names, "", 0, &tenant), 0);
  assert_int_equal(tenant, 0);
  assert_int_equal(neap__names_tenant_find(f->names, "alice", 5, &tenant), NEAP_ENOENT);
  assert_int_equal(neap__names_tenant(f->names, "alice", 5, &tenant), 0);
  assert_int_equal(tenant, 1);
  assert_int_equal(neap__names_tenant(f->names, "alice2", 6, &tenant), 0);
  assert_int_equal(tenant, 2);
  assert_int_equal(neap__names_tenant_find(f->names, "alice2", 5, &tenant), 0);
  assert_int_equal(tenant, 1);
  assert_int_equal(neap__names_tenant_find(f->names, "alice\0", 6, &tenant), NEAP_ENOENT);
  char longest[NEAP_SALT_BYTES_MAX + 1];
  memset(longest, 'x', sizeof(longest));
  assert_int_equal(neap__names_tenant(f->names, longest, NEAP_SALT_BYTES_MAX, &tenant), 0);
  assert_int_equal(strlen(neap__names_salt(f->names, tenant)), NEAP_SALT_BYTES_MAX);
  assert_int_equal(neap__names_tenant_find(f->names, longest, sizeof(longest), &tenant), NEAP_ENOENT);
  assert_int_equal(neap__names_tenants(f->names), 4);
}

static void numbers_keep_their_meaning_over_a_restart(void **state) {
  fixture *f = *state;
  neap_error err = {""};
  char salt[32];
  uint32_t number;
  for (int i = 0; i < 1000; i++) {
    neap__layout layout = layout_of((uint64_t)i % 200 + 1, 16);
    int bytes = snprintf(salt, sizeof(salt), "tenant-%d", i);
    assert_int_equal(neap__names_tenant(f->names, salt, (size_t)bytes, &number), 0);
    assert_int_equal(neap__names_space(f->names, i % 2 ? "odd" : "even", i % 2 ? 3 : 4, &layout, &number), 0);
  }
  assert_int_equal(reopen(f, &err), 0);
  assert_int_equal(neap__names_tenants(f->names), 1001);
  assert_int_equal(neap__names_spaces(f->names), 200);
  for (uint32_t i = 0; i < 1000; i++) {
    int bytes = snprintf(salt, sizeof(salt), "tenant-%u", i);
    assert_int_equal(neap__names_tenant(f->names, salt, (size_t)bytes, &number), 0);
    assert_int_equal(number, i + 1);
  }
  for (uint32_t i = 0; i < 200; i++) assert_int_equal(neap__names_primary(f->names, i), i < 2);
}

static void a_full_table_refuses_and_still_finds_what_it_has(void **state) {
  fixture *f = *state;
  neap_error err = {""};
  char salt[32];
  uint32_t number;
  for (uint32_t i = 1; i < NEAP_TENANTS_MAX; i++) {
    int bytes = snprintf(salt, sizeof(salt), "%u", i);
    assert_int_equal(neap__names_tenant(f->names, salt, (size_t)bytes, &number), 0);
  }
  for (uint32_t i = 0; i < NEAP_SPACES_MAX; i++) {
    neap__layout layout = layout_of(i + 1, 256);
    assert_int_equal(neap__names_space(f->names, "m", 1, &layout, &number), 0);
  }
  for (int round = 0; round < 2; round++) {
    neap__layout known = layout_of(256, 256), new = layout_of(257, 256);
    assert_int_equal(neap__names_tenant(f->names, "one too many", 12, &number), NEAP_ELIMIT);
    assert_int_equal(neap__names_tenant(f->names, "65535", 5, &number), 0);
    assert_int_equal(number, 65535);
    assert_int_equal(neap__names_space(f->names, "m", 1, &new, &number), NEAP_ELIMIT);
    assert_int_equal(neap__names_space(f->names, "m", 1, &known, &number), 0);
    assert_int_equal(number, 255);
    assert_int_equal(reopen(f, &err), 0);
  }
}

/* Finds text in the tables, so that the damage below does not depend on where records lie. */
static uint8_t *find_text(const fixture *f, const char *text) {
  uint8_t *at = memmem(f->memory, neap__names_bytes(), text, strlen(text) + 1);
  assert_non_null(at);
  return at;
}

static void assert_corrupt(fixture *f, const char *reason) {
  neap_error err = {""};
  assert_int_equal(reopen(f, &err), NEAP_ECORRUPT);
  if (!strstr(err.text, reason)) fail_msg("'%s' does not say '%s'", err.text, reason);
}

static void damaged_tables_are_not_opened(void **state) {
  fixture *f = *state;
  neap_error err = {""};
  neap__layout layout = layout_of(28, 256), other = layout_of(32, 256);
  uint32_t number, *counts = (uint32_t *)f->memory + 2; /* spaces, tenants: after the magic number */
  assert_int_equal(neap__names_space(f->names, "the-model", 9, &layout, &number), 0);
  assert_int_equal(neap__names_space(f->names, "the-model", 9, &other, &number), 0);
  assert_int_equal(neap__names_tenant(f->names, "tenant-a", 8, &number), 0);
  assert_int_equal(neap__names_tenant(f->names, "tenant-b", 8, &number), 0);
  assert_int_equal(counts[0], 2);
  assert_int_equal(counts[1], 3);
  uint8_t *model = find_text(f, "the-model"), *salt = find_text(f, "tenant-b");

  const struct {
    uint8_t *at;
    const void *bytes;
    size_t count;
    const char *reason;
  } damages[] = {
      {f->memory, "\1", 1, "begins with"},
      {(uint8_t *)&counts[0], "\1\1", 2, "257 spaces"},
      {(uint8_t *)&counts[1], "\0", 1, "0 tenants"},
      {(uint8_t *)&counts[1], "\4", 1, "tenant 3 is ''"},
      {(uint8_t *)&counts[1] + 3, "\1", 1, "tenants; expected"},
      {(uint8_t *)&counts[0], "\3", 1, "space 2: model_name is empty"},
      {model + 3, "@", 1, "space 0: model_name 'the@model'"},
      {model - sizeof(layout) + offsetof(neap__layout, bytes), "\1", 1, "contradicts"},
      {model - sizeof(layout) + offsetof(neap__layout, dims), "\5", 1, "5 dimensions"},
      {model - sizeof(layout) + offsetof(neap__layout, dtype), "x", 1, "dtype is 'xfloat16'"},
      {model - sizeof(layout) + offsetof(neap__layout, dtype) + 9, "junk", 4, "contradicts"},
      {model - sizeof(layout), &other, sizeof(other), "space 1 is space 0 again"},
      {salt, "/", 1, "tenant 2: cache_salt"},
      {salt, "tenant-a", 8, "tenant 2 is tenant 1 again"},
      {salt, "", 1, "tenant 2 is ''"},
  };
  uint8_t saved[sizeof(layout)];
  for (size_t i = 0; i < NEAP_ARRAY_LEN(damages); i++) {
    memcpy(saved, damages[i].at, damages[i].count);
    memcpy(damages[i].at, damages[i].bytes, damages[i].count);
    assert_corrupt(f, damages[i].reason);
    memcpy(damages[i].at, saved, damages[i].count);
    assert_int_equal(reopen(f, &err), 0);
  }
  memset(model, 'm', NEAP_MODEL_BYTES_MAX + 1);
  assert_corrupt(f, "space 0: model_name has 512 bytes");
}

static void a_record_that_was_not_counted_yet_is_written_over(void **state) {
  fixture *f = *state;
  neap_error err = {""};
  uint32_t number, *tenants = (uint32_t *)f->memory + 3;
  assert_int_equal(neap__names_tenant(f->names, "a-name-that-was-being-written", 29, &number), 0);
  *tenants = 1; /* as a kill just before the count would leave it */
  assert_int_equal(reopen(f, &err), 0);
  assert_int_equal(neap__names_tenant_find(f->names, "a-name-that-was-being-written", 29, &number), NEAP_ENOENT);
  assert_int_equal(neap__names_tenant(f->names, "short", 5, &number), 0);
  assert_int_equal(number, 1);
  assert_string_equal(neap__names_salt(f->names, 1), "short");
  assert_int_equal(reopen(f, &err), 0);
}

static void the_outside_view_of_a_key_names_model_and_salt(void **state) {
  fixture *f = *state;
  neap__layout layout = layout_of(28, 256);
  neap__key key = {.hash = {1, 2, 3}, .rank = 0x01000100, .group = 2};
  assert_int_equal(neap__names_space(f->names, "org/m", 5, &layout, &key.space), 0);
  assert_int_equal(neap__names_tenant(f->names, "bob", 3, &key.tenant), 0);
  neap_object_key outside = neap__names_object_key(f->names, &key);
  assert_string_equal(outside.model, "org/m");
  assert_string_equal(outside.salt, "bob");
  assert_memory_equal(outside.hash, key.hash, NEAP_HASH_BYTES);
  assert_int_equal(outside.rank, 0x01000100);
  assert_int_equal(outside.group, 2);
}

enum { THREADS = 4, NAMES = 3000 };

typedef struct adder {
  neap__names *names;
  uint32_t numbers[NAMES];
  uint32_t spaces[NAMES / 100];
  int failures;
} adder;

/* All threads add the same names, each from another start; each also reads what the others published. */
static void *add_all(void *arg) {
  adder *a = arg;
  uint32_t start = (uint32_t)((uintptr_t)arg >> 4) % NAMES;
  for (uint32_t k = 0; k < NAMES; k++) {
    uint32_t i = (start + k) % NAMES, found;
    char salt[32];
    size_t bytes = (size_t)snprintf(salt, sizeof(salt), "salt-%u", i);
    a->failures += neap__names_tenant(a->names, salt, bytes, &a->numbers[i]) != 0;
    a->failures += neap__names_tenant_find(a->names, salt, bytes, &found) != 0 || found != a->numbers[i];
    a->failures += strcmp(neap__names_salt(a->names, a->numbers[i]), salt) != 0;
    const char *last = neap__names_salt(a->names, neap__names_tenants(a->names) - 1);
    a->failures += strncmp(last, "salt-", 5) != 0;
    if (i % 100 == 0) {
      neap__layout layout;
      uint64_t shape[1] = {i + 1};
      a->failures += neap__layout_init(&layout, shape, 1, "int8", 256, NULL) != 0;
      a->failures += neap__names_space(a->names, "shared", 6, &layout, &a->spaces[i / 100]) != 0;
      uint32_t newest = neap__names_spaces(a->names) - 1;
      a->failures += neap__names_layout(a->names, newest)->bytes % 100 != 1;
      a->failures += neap__names_primary(a->names, newest) != (newest == 0);
    }
  }
  return NULL;
}

static void threads_that_add_the_same_names_agree_on_the_numbers(void **state) {
  fixture *f = *state;
  pthread_t threads[THREADS];
  adder *adders = calloc(THREADS, sizeof(*adders));
  assert_non_null(adders);
  for (int i = 0; i < THREADS; i++) {
    adders[i].names = f->names;
    assert_int_equal(pthread_create(&threads[i], NULL, add_all, &adders[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(adders[i].failures, 0);
    assert_memory_equal(adders[i].numbers, adders[0].numbers, sizeof(adders[0].numbers));
    assert_memory_equal(adders[i].spaces, adders[0].spaces, sizeof(adders[0].spaces));
  }
  assert_int_equal(neap__names_tenants(f->names), NAMES + 1);
  assert_int_equal(neap__names_spaces(f->names), NAMES / 100);
  free(adders);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_layout_counts_the_bytes_of_its_shape),
      cmocka_unit_test(an_impossible_layout_is_refused_with_its_reason),
      TEST(one_model_with_two_layouts_is_two_spaces_and_the_first_is_primary),
      TEST(tenants_are_numbered_from_the_default_tenant),
      TEST(numbers_keep_their_meaning_over_a_restart),
      TEST(a_full_table_refuses_and_still_finds_what_it_has),
      TEST(damaged_tables_are_not_opened),
      TEST(a_record_that_was_not_counted_yet_is_written_over),
      TEST(the_outside_view_of_a_key_names_model_and_salt),
      TEST(threads_that_add_the_same_names_agree_on_the_numbers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
