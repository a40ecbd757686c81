/* SPDX-License-Identifier: MIT
 *
 * test_codec.c - checksum, compress and seal around an inner store whose bytes the test can see and damage. Each test
 * that takes a codec runs for all of them. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "l2/registry.h"
#include "support/random.h"
#include "support/test_host.h"

#define HEADER 24u
#define SEAL_OVERHEAD 52u
#define PLACES 512u

/* --- the vault: an inner store in the open -------------------------------------------------------------------- */

typedef struct kept {
  neap_object_key key;
  uint8_t *data;
  uint64_t bytes;
} kept;

static struct {
  const neap_host *host;
  pthread_mutex_t lock;
  kept places[PLACES];
  bool mute; /* lookups do not tell sizes */
  bool hold; /* operations wait for vault_let_go */
  neap_op *held[PLACES];
  uint32_t held_count, lookups;
  uint64_t held_bytes, most_held_bytes;
} vault = {.lock = PTHREAD_MUTEX_INITIALIZER};

static kept *vault_find(const neap_object_key *key, bool make) {
  kept *empty = NULL;
  for (uint32_t i = 0; i < PLACES; i++) {
    kept *k = &vault.places[i];
    if (k->data && memcmp(k->key.hash, key->hash, sizeof key->hash) == 0 && k->key.rank == key->rank) return k;
    if (!k->data && !empty) empty = k;
  }
  return make ? empty : NULL;
}

static void vault_put(kept *k, const neap_object_key *key, const void *data, uint64_t bytes) {
  free(k->data);
  *k = (kept){.key = *key, .data = malloc(bytes + 1), .bytes = bytes};
  assert_non_null(k->data);
  memcpy(k->data, data, bytes);
}

static void vault_one(uint32_t kind, neap_object *o) {
  kept *k = vault_find(&o->key, kind == NEAP_OP_STORE);
  o->result = k ? 0 : kind == NEAP_OP_STORE ? NEAP_ENOSPC : NEAP_ENOENT;
  if (!k) return;
  if (kind == NEAP_OP_STORE && !k->data) {
    vault_put(k, &o->key, o->data, o->bytes);
    o->stored_bytes = o->bytes;
  } else if (kind == NEAP_OP_LOOKUP) {
    o->stored_bytes = vault.mute ? 0 : k->bytes;
  } else if (kind == NEAP_OP_REMOVE) {
    free(k->data);
    *k = (kept){0};
  } else if (kind == NEAP_OP_LOAD) {
    o->result = k->bytes == o->bytes ? 0 : NEAP_ECORRUPT;
    if (o->result == 0) memcpy(o->data, k->data, k->bytes);
  }
}

static void vault_run(neap_op *op) {
  pthread_mutex_lock(&vault.lock);
  vault.lookups += op->kind == NEAP_OP_LOOKUP;
  for (uint32_t i = 0; i < op->count; i++) vault_one(op->kind, &op->objects[i]);
  for (uint32_t i = 0; op->kind == NEAP_OP_LIST && i < PLACES; i++) {
    neap_list_entry entry = {.key = vault.places[i].key, .bytes = vault.places[i].bytes};
    if (vault.places[i].data && op->sink(op, &entry)) break;
  }
  op->list_result = 0;
  pthread_mutex_unlock(&vault.lock);
  vault.host->done(vault.host->engine, op);
}

static void vault_op(void *self, neap_op *op) {
  (void)self;
  pthread_mutex_lock(&vault.lock);
  bool hold = vault.hold;
  if (hold) {
    assert_true(vault.held_count < PLACES);
    vault.held[vault.held_count++] = op;
    for (uint32_t i = 0; i < op->count; i++) vault.held_bytes += op->objects[i].bytes;
    vault.most_held_bytes = NEAP_MAX(vault.most_held_bytes, vault.held_bytes);
  }
  pthread_mutex_unlock(&vault.lock);
  if (!hold) vault_run(op);
}

/* Ends one operation that waits; false if there is none. */
static bool vault_let_go(void) {
  pthread_mutex_lock(&vault.lock);
  neap_op *op = vault.held_count ? vault.held[--vault.held_count] : NULL;
  for (uint32_t i = 0; op && i < op->count; i++) vault.held_bytes -= op->objects[i].bytes;
  pthread_mutex_unlock(&vault.lock);
  if (op) vault_run(op);
  return op != NULL;
}

static uint32_t vault_held(void) {
  pthread_mutex_lock(&vault.lock);
  uint32_t count = vault.held_count;
  pthread_mutex_unlock(&vault.lock);
  return count;
}

static int vault_open(const neap_adapter *table, const neap_host *host, const char *params_json, void **self,
                      neap_error *err) {
  (void)table, (void)params_json, (void)err;
  vault.host = host;
  *self = &vault;
  return 0;
}

static void vault_close(void *self) { (void)self; }

static const neap_adapter vault_adapter = {NEAP_ADAPTER_INIT("vault", "1"),
                                           .schema_json = "{}",
                                           .open = vault_open,
                                           .store = vault_op,
                                           .lookup = vault_op,
                                           .load = vault_op,
                                           .remove = vault_op,
                                           .list = vault_op,
                                           .close = vault_close};
NEAP_ADAPTER_BUILTIN(vault_adapter)

/* --- opened codecs -------------------------------------------------------------------------------------------- */

typedef struct rig {
  test_host *host;
  const neap_adapter *table;
  void *self;
} rig;

static const char *codec; /* "checksum", "compress" or "seal" */
static char key_path[64];

static void write_keys(const char *text, mode_t mode) {
  FILE *file = fopen(key_path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
  assert_int_equal(chmod(key_path, mode), 0);
}

#define KEY_A "7 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
#define KEY_B "8 ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n"
#define KEY_A_WRONG "7 ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"

static int try_open(rig *r, const char *type, const char *more, neap_error *err) {
  char json[512];
  neap__tier_config config;
  bool seals = strcmp(type, "seal") == 0;
  snprintf(json, sizeof json, "{\"type\":\"%s\"%s%s%s%s,\"inner\":{\"type\":\"vault\"}}", type,
           seals ? ",\"key_file\":\"" : "", seals ? key_path : "", seals ? "\"" : "", more);
  int rc = neap__tier_config_parse(json, 0, "", &config, err);
  if (rc) return rc;
  r->host = test_host_open(3);
  r->table = config.adapter;
  rc = r->table->open(r->table, test_host_table(r->host), config.params_json, &r->self, err);
  neap__tier_config_free(&config);
  if (rc) test_host_close(r->host);
  return rc;
}

static void rig_open(rig *r, const char *type, const char *more) {
  neap_error err = {""};
  int rc = try_open(r, type, more, &err);
  assert_string_equal(err.text, "");
  assert_int_equal(rc, 0);
}

static void rig_close(rig *r) {
  r->table->close(r->self);
  assert_int_equal(test_host_close(r->host), 0);
}

static int setup(void **state) {
  (void)state;
  for (uint32_t i = 0; i < PLACES; i++) {
    free(vault.places[i].data);
    vault.places[i] = (kept){0};
  }
  vault.mute = vault.hold = false;
  vault.most_held_bytes = vault.held_bytes = vault.lookups = 0;
  write_keys(KEY_A, 0600);
  return 0;
}

static int store(rig *r, uint64_t n, void *data, uint64_t bytes) {
  return test_store(r->host, r->table, r->self, test_key(n), data, bytes, NULL);
}

static int load(rig *r, uint64_t n, void *data, uint64_t bytes) {
  return test_load(r->host, r->table, r->self, test_key(n), data, bytes);
}

static kept *stored_as(uint64_t n) {
  neap_object_key key = test_key(n);
  kept *k = vault_find(&key, false);
  assert_non_null(k);
  return k;
}

/* --- what every codec promises -------------------------------------------------------------------------------- */

static void fill(uint64_t *rng, uint8_t *data, uint64_t bytes, bool noise) {
  for (uint64_t i = 0; i < bytes; i++) data[i] = noise ? (uint8_t)(random_next(rng) >> 32) : (uint8_t)(i >> 6);
}

static void test_what_was_stored_is_loaded_again_whatever_its_size(void **state) {
  rig r;
  uint64_t rng = 1;
  enum { COUNT = 48 };
  uint8_t *data[COUNT], *back[COUNT];
  (void)state;
  rig_open(&r, codec, "");
  test_op *in = test_op_new(r.host, NEAP_OP_STORE, COUNT), *out = test_op_new(r.host, NEAP_OP_LOAD, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) {
    uint64_t bytes = i < 4 ? i : random_next(&rng) % (i % 3 ? 20000 : (1u << 20) + 1);
    data[i] = malloc(bytes + 1);
    back[i] = malloc(bytes + 1);
    fill(&rng, data[i], bytes, i % 2);
    in->objects[i] = (neap_object){.key = test_key(i), .data = data[i], .bytes = bytes};
    out->objects[i] = (neap_object){.key = test_key(i), .data = back[i], .bytes = bytes};
  }
  test_op_run(r.table, r.self, in);
  test_op_run(r.table, r.self, out);
  for (uint64_t i = 0; i < COUNT; i++) {
    assert_int_equal(in->objects[i].result, 0);
    assert_int_equal(in->objects[i].stored_bytes, stored_as(i)->bytes);
    assert_int_equal(out->objects[i].result, 0);
    assert_memory_equal(data[i], back[i], in->objects[i].bytes);
    free(data[i]);
    free(back[i]);
  }
  rig_close(&r);
}

static void test_results_are_those_of_the_inner_store(void **state) {
  rig r;
  uint8_t data[1000], back[1000];
  uint64_t stored;
  (void)state;
  test_fill(data, sizeof data, 1);
  rig_open(&r, codec, "");
  assert_int_equal(load(&r, 1, back, sizeof back), NEAP_ENOENT);
  assert_int_equal(test_lookup(r.host, r.table, r.self, test_key(1), 0), NEAP_ENOENT);
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  assert_int_equal(test_store(r.host, r.table, r.self, test_key(1), data, sizeof data, &stored), 0);
  assert_int_equal(stored, 0);
  assert_int_equal(load(&r, 1, back, sizeof back - 1), NEAP_ECORRUPT);
  test_op *op = test_op_new(r.host, NEAP_OP_LOOKUP, 1);
  op->objects[0] = (neap_object){.key = test_key(1), .bytes = sizeof data};
  test_op_run(r.table, r.self, op);
  assert_int_equal(op->objects[0].result, 0);
  assert_int_equal(op->objects[0].stored_bytes, sizeof data);
  op = test_op_new(r.host, NEAP_OP_LIST, 0);
  test_op_run(r.table, r.self, op);
  assert_int_equal(op->op.list_result, 0);
  assert_int_equal(op->entries_count, 1);
  assert_int_equal(op->entries[0].entry.bytes, stored_as(1)->bytes);
  assert_int_equal(test_remove(r.host, r.table, r.self, test_key(1)), 0);
  assert_int_equal(test_remove(r.host, r.table, r.self, test_key(1)), NEAP_ENOENT);
  assert_int_equal(load(&r, 1, back, sizeof back), NEAP_ENOENT);
  rig_close(&r);
}

static void test_every_flipped_bit_is_noticed(void **state) {
  rig r;
  uint8_t data[40], back[40];
  (void)state;
  test_fill(data, sizeof data, 1);
  rig_open(&r, codec, "");
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  kept *k = stored_as(1);
  for (uint64_t bit = 0; bit < 8 * k->bytes; bit++) {
    bool names_key = strcmp(codec, "seal") == 0 && bit / 8 >= 16 && bit / 8 < HEADER;
    k->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    assert_int_equal(load(&r, 1, back, sizeof back), names_key ? NEAP_EPERM : NEAP_ECORRUPT);
    k->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  assert_int_equal(load(&r, 1, back, sizeof back), 0);
  rig_close(&r);
}

static void test_every_other_length_is_noticed(void **state) {
  rig r;
  uint8_t data[40], back[40], whole[256] = {0};
  (void)state;
  test_fill(data, sizeof data, 1);
  rig_open(&r, codec, "");
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  kept *k = stored_as(1);
  uint64_t bytes = k->bytes;
  memcpy(whole, k->data, bytes);
  for (uint64_t n = 0; n < bytes + 80; n++) {
    if (n == bytes) continue;
    vault_put(k, &k->key, whole, n);
    int rc = load(&r, 1, back, sizeof back);
    if (n == 0 && strcmp(codec, "compress") == 0) {
      assert_true(rc < 0); /* no size told: as if the store could not */
    } else {
      assert_int_equal(rc, NEAP_ECORRUPT);
    }
  }
  vault_put(k, &k->key, whole, bytes);
  assert_int_equal(load(&r, 1, back, sizeof back), 0);
  rig_close(&r);
}

static void test_an_object_is_not_taken_for_another(void **state) {
  rig r;
  uint8_t data[100], back[100];
  (void)state;
  rig_open(&r, codec, "");
  for (uint64_t i = 1; i <= 2; i++) {
    test_fill(data, sizeof data, i);
    assert_int_equal(store(&r, i, data, sizeof data), 0);
  }
  kept *a = stored_as(1), *b = stored_as(2), c = *a;
  a->data = b->data, a->bytes = b->bytes;
  b->data = c.data, b->bytes = c.bytes;
  assert_int_equal(load(&r, 1, back, sizeof back), NEAP_ECORRUPT);
  assert_int_equal(load(&r, 2, back, sizeof back), NEAP_ECORRUPT);
  rig_close(&r);
}

static void test_another_process_can_load_it(void **state) {
  rig r;
  uint8_t data[3000], back[3000];
  (void)state;
  test_fill(data, sizeof data, 1);
  rig_open(&r, codec, "");
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  rig_close(&r);
  rig_open(&r, codec, "");
  assert_int_equal(load(&r, 1, back, sizeof back), 0);
  assert_true(test_filled(back, sizeof back, 1));
  rig_close(&r);
}

static void wait_held(uint32_t count) {
  uint64_t until = neap__now_ns() + UINT64_C(30000000000);
  while (vault_held() < count) {
    assert_true(neap__now_ns() < until);
    sched_yield();
  }
}

static void test_bytes_on_their_way_are_bounded_and_wait_in_order(void **state) {
  rig r;
  enum { COUNT = 12, BYTES = 400000 };
  static uint8_t data[BYTES];
  test_op *ops[COUNT];
  uint64_t rng = 3;
  (void)state;
  fill(&rng, data, BYTES, true);
  rig_open(&r, codec, ",\"buffer_mb\":1");
  vault.hold = true;
  for (uint32_t i = 0; i < COUNT; i++) {
    ops[i] = test_op_new(r.host, NEAP_OP_STORE, 1);
    ops[i]->objects[0] = (neap_object){.key = test_key(i), .data = data, .bytes = BYTES};
    test_op_submit(r.table, r.self, ops[i]);
  }
  for (uint32_t i = 0; i < COUNT; i++) {
    wait_held(1);
    assert_true(vault_let_go());
  }
  for (uint32_t i = 0; i < COUNT; i++) {
    test_op_wait(ops[i]);
    assert_int_equal(ops[i]->objects[0].result, 0);
  }
  assert_true(vault.most_held_bytes <= 1u << 20);
  vault.hold = false;
  uint8_t *large = calloc(1, 3u << 20);
  assert_int_equal(store(&r, 100, large, 3u << 20), 0); /* larger than the bound: alone */
  assert_int_equal(load(&r, 100, large, 3u << 20), 0);
  free(large);
  rig_close(&r);
}

static void test_a_cancel_ends_what_waits(void **state) {
  rig r;
  enum { BYTES = 900000 };
  static uint8_t data[BYTES];
  (void)state;
  rig_open(&r, codec, ",\"buffer_mb\":1");
  vault.hold = true;
  test_op *ops[2];
  for (uint64_t i = 0; i < 2; i++) {
    ops[i] = test_op_new(r.host, NEAP_OP_STORE, 1);
    ops[i]->objects[0] = (neap_object){.key = test_key(i), .data = data, .bytes = BYTES};
    test_op_submit(r.table, r.self, ops[i]);
  }
  wait_held(1);
  r.table->cancel(r.self, &ops[0]->op);
  r.table->cancel(r.self, &ops[1]->op);
  assert_true(vault_let_go());
  test_op_wait(ops[0]);
  test_op_wait(ops[1]);
  assert_int_equal(ops[0]->objects[0].result, 0); /* it was there already: what was done, was done */
  assert_int_equal(ops[1]->objects[0].result, NEAP_ECANCELED);
  rig_close(&r);
}

static void test_without_workers_operations_fail_and_end(void **state) {
  rig r;
  uint8_t data[10] = {0};
  (void)state;
  rig_open(&r, codec, "");
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  test_host_refuse_work(r.host, true);
  assert_int_equal(store(&r, 2, data, sizeof data), NEAP_ELIMIT);
  assert_int_equal(load(&r, 1, data, sizeof data), NEAP_ELIMIT);
  assert_int_equal(test_lookup(r.host, r.table, r.self, test_key(1), 0), 0);
  rig_close(&r);
}

static void *use(void *arg) {
  rig *r = arg;
  static atomic_uint next;
  uint32_t thread = atomic_fetch_add(&next, 1);
  uint64_t rng = thread + 1;
  uint8_t data[5000], back[5000];
  for (uint64_t i = 0; i < 60; i++) {
    uint64_t n = 1 + random_next(&rng) % 40, bytes = 100 + n * 100;
    test_fill(data, bytes, n);
    int rc = i % 3 ? load(r, n, back, bytes) : store(r, n, data, bytes);
    if (rc != 0 && rc != NEAP_ENOENT) return (void *)1;
    if (rc == 0 && i % 3 && !test_filled(back, bytes, n)) return (void *)1;
    if (i % 10 == 9 && test_remove(r->host, r->table, r->self, test_key(n)) == NEAP_EIO) return (void *)1;
    char json[4096];
    if (r->table->status(r->self, json, sizeof json) < 0) return (void *)1;
  }
  return NULL;
}

static void test_many_threads_use_one_codec(void **state) {
  rig r;
  pthread_t threads[4];
  (void)state;
  rig_open(&r, codec, ",\"buffer_mb\":1");
  for (size_t i = 0; i < NEAP_ARRAY_LEN(threads); i++) assert_int_equal(pthread_create(&threads[i], NULL, use, &r), 0);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(threads); i++) {
    void *wrong;
    pthread_join(threads[i], &wrong);
    assert_null(wrong);
  }
  rig_close(&r);
}

/* --- compress ------------------------------------------------------------------------------------------------- */

static void test_compress_keeps_what_does_not_shrink_as_it_is(void **state) {
  rig r;
  uint64_t rng = 5;
  static uint8_t even[100000], noise[100000];
  char json[4096];
  (void)state;
  fill(&rng, even, sizeof even, false);
  fill(&rng, noise, sizeof noise, true);
  rig_open(&r, "compress", ",\"level\":1");
  assert_int_equal(store(&r, 1, even, sizeof even), 0);
  assert_true(r.table->status(r.self, json, sizeof json) > 0);
  assert_non_null(strstr(json, "\"ratio\":"));
  assert_true(strtod(strstr(json, "\"ratio\":") + 8, NULL) > 10);
  assert_int_equal(store(&r, 2, noise, sizeof noise), 0);
  assert_true(stored_as(1)->bytes < sizeof even / 10);
  assert_int_equal(stored_as(2)->bytes, sizeof noise + HEADER);
  rig_close(&r);
}

static void test_compress_refuses_a_store_that_tells_no_sizes(void **state) {
  rig r;
  neap_error err = {""};
  (void)state;
  vault.mute = true;
  assert_int_equal(try_open(&r, "compress", "", &err), NEAP_ENOTSUP);
  assert_non_null(strstr(err.text, "does not tell the size"));
  for (uint32_t i = 0; i < PLACES; i++) assert_null(vault.places[i].data); /* the probe's object is gone */
  rig_open(&r, "checksum", "");
  uint8_t data[10] = {1}, back[10];
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  assert_int_equal(load(&r, 1, back, sizeof back), 0);
  rig_close(&r);
}

static void test_compress_asks_for_a_length_only_when_it_does_not_know_it(void **state) {
  rig r;
  uint8_t data[5000], back[5000], other[6000];
  (void)state;
  test_fill(data, sizeof data, 1);
  rig_open(&r, "compress", ",\"level\":-50");
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  uint64_t other_bytes = stored_as(1)->bytes;
  memcpy(other, stored_as(1)->data, other_bytes);
  assert_int_equal(test_remove(r.host, r.table, r.self, test_key(1)), 0);
  rig_close(&r);
  rig_open(&r, "compress", "");
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  vault.lookups = 0;
  assert_int_equal(load(&r, 1, back, sizeof back), 0);
  assert_int_equal(vault.lookups, 0);
  kept *k = stored_as(1);
  assert_int_not_equal(k->bytes, other_bytes);
  vault_put(k, &k->key, other, other_bytes); /* somebody else replaced it */
  assert_int_equal(load(&r, 1, back, sizeof back), 0);
  assert_int_equal(vault.lookups, 1);
  assert_true(test_filled(back, sizeof back, 1));
  rig_close(&r);
}

/* --- seal ----------------------------------------------------------------------------------------------------- */

static void test_seal_hides_the_bytes_and_never_repeats_itself(void **state) {
  rig r;
  uint8_t data[64] = "a text that is easily found again, were it written down as it is";
  (void)state;
  rig_open(&r, "seal", "");
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  kept *k = stored_as(1);
  uint8_t first[64 + SEAL_OVERHEAD];
  assert_int_equal(k->bytes, sizeof first);
  assert_null(memmem(k->data, k->bytes, "easily", 6));
  memcpy(first, k->data, sizeof first);
  assert_int_equal(test_remove(r.host, r.table, r.self, test_key(1)), 0);
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  assert_memory_not_equal(first, stored_as(1)->data, sizeof first);
  rig_close(&r);
}

static void test_seal_opens_with_old_keys_and_seals_with_the_first(void **state) {
  rig r;
  uint8_t data[64] = {1}, back[64];
  (void)state;
  rig_open(&r, "seal", "");
  assert_int_equal(store(&r, 1, data, sizeof data), 0);
  rig_close(&r);
  write_keys("# new\n" KEY_B "\n" KEY_A, 0400);
  rig_open(&r, "seal", "");
  assert_int_equal(load(&r, 1, back, sizeof back), 0);
  assert_int_equal(store(&r, 2, data, sizeof data), 0);
  assert_int_equal(stored_as(2)->data[20], 8);
  rig_close(&r);
  write_keys(KEY_A, 0600);
  rig_open(&r, "seal", "");
  assert_int_equal(load(&r, 2, back, sizeof back), NEAP_EPERM);
  rig_close(&r);
  write_keys(KEY_A_WRONG, 0600);
  rig_open(&r, "seal", "");
  assert_int_equal(load(&r, 1, back, sizeof back), NEAP_EPERM);
  rig_close(&r);
}

static void refuses_keys(const char *text, mode_t mode, int code, const char *expected) {
  rig r;
  neap_error err = {""};
  write_keys(text, mode);
  int rc = try_open(&r, "seal", "", &err);
  assert_string_equal(strstr(err.text, expected) ? expected : err.text, expected);
  assert_int_equal(rc, code);
}

static void test_seal_refuses_key_files_that_are_open_to_others_or_wrong(void **state) {
  (void)state;
  refuses_keys(KEY_A, 0640, NEAP_EPERM, "others have access to it");
  refuses_keys(KEY_A, 0604, NEAP_EPERM, "others have access to it");
  refuses_keys("", 0600, NEAP_EINVAL, "holds no key");
  refuses_keys("# nothing\n\n", 0600, NEAP_EINVAL, "holds no key");
  refuses_keys(KEY_B "7 0011\n", 0600, NEAP_EINVAL, "line 2 is not a new key");
  refuses_keys(KEY_A KEY_A, 0600, NEAP_EINVAL, "line 2 is not a new key");
  refuses_keys("4294967296" KEY_A, 0600, NEAP_EINVAL, "line 1 is not a new key");
  refuses_keys("-" KEY_A, 0600, NEAP_EINVAL, "line 1 is not a new key");
  unlink(key_path);
  rig r;
  neap_error err = {""};
  assert_int_equal(try_open(&r, "seal", "", &err), NEAP_ENOENT);
  assert_non_null(strstr(err.text, key_path));
}

static void test_what_is_wrong_with_the_inner_store_is_said(void **state) {
  neap_error err = {""};
  neap__tier_config config;
  (void)state;
  assert_int_equal(neap__tier_config_parse("{\"type\":\"checksum\"}", 0, "", &config, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "inner must be a dict, but it is missing"));
  test_host *host = test_host_open(1);
  void *self;
  err.text[0] = '\0';
  assert_int_equal(
      neap__tier_config_parse("{\"type\":\"checksum\",\"inner\":{\"type\":\"valut\"}}", 0, "", &config, &err), 0);
  assert_int_equal(config.adapter->open(config.adapter, test_host_table(host), config.params_json, &self, &err),
                   NEAP_EINVAL);
  assert_non_null(strstr(err.text, "inner: "));
  assert_non_null(strstr(err.text, "'vault'"));
  neap__tier_config_free(&config);
  assert_int_equal(test_host_close(host), 0);
}

int main(void) {
  static const char *const codecs[] = {"checksum", "compress", "seal"};
  const struct CMUnitTest each[] = {
      cmocka_unit_test_setup(test_what_was_stored_is_loaded_again_whatever_its_size, setup),
      cmocka_unit_test_setup(test_results_are_those_of_the_inner_store, setup),
      cmocka_unit_test_setup(test_every_flipped_bit_is_noticed, setup),
      cmocka_unit_test_setup(test_every_other_length_is_noticed, setup),
      cmocka_unit_test_setup(test_an_object_is_not_taken_for_another, setup),
      cmocka_unit_test_setup(test_another_process_can_load_it, setup),
      cmocka_unit_test_setup(test_bytes_on_their_way_are_bounded_and_wait_in_order, setup),
      cmocka_unit_test_setup(test_a_cancel_ends_what_waits, setup),
      cmocka_unit_test_setup(test_without_workers_operations_fail_and_end, setup),
      cmocka_unit_test_setup(test_many_threads_use_one_codec, setup),
  };
  const struct CMUnitTest own[] = {
      cmocka_unit_test_setup(test_compress_keeps_what_does_not_shrink_as_it_is, setup),
      cmocka_unit_test_setup(test_compress_refuses_a_store_that_tells_no_sizes, setup),
      cmocka_unit_test_setup(test_compress_asks_for_a_length_only_when_it_does_not_know_it, setup),
      cmocka_unit_test_setup(test_seal_hides_the_bytes_and_never_repeats_itself, setup),
      cmocka_unit_test_setup(test_seal_opens_with_old_keys_and_seals_with_the_first, setup),
      cmocka_unit_test_setup(test_seal_refuses_key_files_that_are_open_to_others_or_wrong, setup),
      cmocka_unit_test_setup(test_what_is_wrong_with_the_inner_store_is_said, setup),
  };
  int failed = 0;
  snprintf(key_path, sizeof key_path, "/tmp/neap-keys-XXXXXX");
  int fd = mkstemp(key_path);
  if (fd < 0) return 1;
  close(fd);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(codecs); i++) {
    codec = codecs[i];
    failed += cmocka_run_group_tests_name(codec, each, NULL, NULL);
  }
  failed += cmocka_run_group_tests_name("own", own, NULL, NULL);
  setup(NULL);
  unlink(key_path);
  return failed;
}
