/* SPDX-License-Identifier: MIT
 *
 * kit/checks_basic.c - what one object, one key, one batch and one listing must do. Sizes are chosen so that a store
 * with room for 64 MiB keeps all of it. */
#include "kit/checks.h"

#include <string.h>

void neap__check_loads(neap__kit *kit) {
  neap__kit_load(kit);
  neap__kit_note(kit, "%s %s", kit->table->name, kit->report->version);
}

void neap__check_open(neap__kit *kit) {
  for (int i = 0; i < 3; i++) {
    neap__kit_open(kit);
    neap__kit_close(kit);
  }
}

void neap__check_store_load(neap__kit *kit) {
  neap__kit_open(kit);
  neap_object_key key = neap__kit_key(kit);
  neap__kit_expect(kit, neap__kit_lookup(kit, key, 0), NEAP_ENOENT, "a lookup of a key that was never stored");
  neap__kit_expect(kit, neap__kit_loaded(kit, key, 5000, 1), NEAP_ENOENT, "a load of a key that was never stored");
  neap__kit_expect(kit, neap__kit_store(kit, key, 5000, 1), 0, "a store of 5000 bytes");
  neap__kit_expect(kit, neap__kit_lookup(kit, key, 5000), 0, "the lookup of a key just stored");
  neap__kit_expect(kit, neap__kit_loaded(kit, key, 5000, 1), 0, "the load of a key just stored");
  neap__kit_expect(kit, neap__kit_loaded(kit, key, 5000, 1), 0, "the second load of a key");
}

/* --- batches ------------------------------------------------------------------------------------------------------ */

/* One operation on keys[0..count); object i has bytes(i) bytes and the content i. */
static neap__kit_call *batch(neap__kit *kit, neap_op_kind kind, const neap_object_key *keys, uint32_t count,
                             uint64_t bytes) {
  neap__kit_call *call = neap__kit_call_new(kit, kind, count);
  for (uint32_t i = 0; i < count; i++) neap__kit_put(kit, call, i, keys[i], bytes + i, i);
  neap__kit_run(kit, call);
  return call;
}

static void all_are(neap__kit *kit, const neap__kit_call *call, int want, const char *what) {
  for (uint32_t i = 0; i < call->op->op.count; i++) {
    int got = call->op->objects[i].result;
    NEAP_KIT_NEED(kit, got == want, "object %u of %u of %s ended with %s; expected %s", i + 1, call->op->op.count, what,
                  neap_err_name(got), neap_err_name(want));
  }
}

void neap__check_batches(neap__kit *kit) {
  static const uint32_t counts[] = {1, 2, 3, 7, 16, 33, 64};
  neap_object_key keys[64];
  neap__kit_open(kit);
  for (size_t c = 0; c < NEAP_ARRAY_LEN(counts) && counts[c] <= kit->batch_max; c++) {
    for (uint32_t i = 0; i < counts[c]; i++) keys[i] = neap__kit_key(kit);
    all_are(kit, batch(kit, NEAP_OP_STORE, keys, counts[c], 3000), 0, "a store");
    all_are(kit, batch(kit, NEAP_OP_LOOKUP, keys, counts[c], 3000), 0, "a lookup of what was stored");
    neap__kit_call *load = batch(kit, NEAP_OP_LOAD, keys, counts[c], 3000);
    all_are(kit, load, 0, "a load of what was stored");
    for (uint32_t i = 0; i < counts[c]; i++) neap__kit_same(kit, load, i, i);
  }
}

void neap__check_per_key(neap__kit *kit) {
  neap_object_key keys[32];
  neap__kit_open(kit);
  uint32_t count = NEAP_MIN(kit->batch_max, 32u);
  for (uint32_t i = 0; i < count; i++) {
    keys[i] = neap__kit_key(kit);
    if (i % 3 == 1) neap__kit_expect(kit, neap__kit_store(kit, keys[i], 700 + i, i), 0, "a store");
  }
  neap__kit_call *lookup = batch(kit, NEAP_OP_LOOKUP, keys, count, 700);
  neap__kit_call *load = batch(kit, NEAP_OP_LOAD, keys, count, 700);
  for (uint32_t i = 0; i < count; i++) {
    int want = i % 3 == 1 ? 0 : NEAP_ENOENT, looked = lookup->op->objects[i].result, got = load->op->objects[i].result;
    NEAP_KIT_NEED(kit, looked == want && got == want,
                  "in a batch of %u of which every third was stored, object %u: lookup %s, load %s; expected %s", count,
                  i + 1, neap_err_name(looked), neap_err_name(got), neap_err_name(want));
    if (want == 0) neap__kit_same(kit, load, i, i);
  }
  all_are(kit, batch(kit, NEAP_OP_STORE, keys, count, 700), 0, "a store of keys of which some are there");
  all_are(kit, batch(kit, NEAP_OP_LOAD, keys, count, 700), 0, "a load after that");
}

/* --- one key ------------------------------------------------------------------------------------------------------ */

void neap__check_first_wins(neap__kit *kit) {
  neap__kit_open(kit);
  neap_object_key key = neap__kit_key(kit);
  for (uint64_t fill = 1; fill <= 3; fill++) {
    neap__kit_call *call = neap__kit_call_new(kit, NEAP_OP_STORE, 1);
    neap__kit_put(kit, call, 0, key, 6000, fill);
    neap__kit_run(kit, call);
    const neap_object *object = &call->op->objects[0];
    neap__kit_expect(kit, object->result, 0, fill == 1 ? "the first store of a key" : "a further store of a key");
    NEAP_KIT_NEED(kit, (object->stored_bytes > 0) == (fill == 1),
                  "store number %llu of one key of 6000 bytes says stored_bytes %llu; expected %s",
                  (unsigned long long)fill, (unsigned long long)object->stored_bytes,
                  fill == 1 ? "what it took in the store" : "0, for the key was there");
    neap__kit_expect(kit, neap__kit_loaded(kit, key, 6000, 1), 0, "the load of what the first store brought");
  }
}

void neap__check_sizes(neap__kit *kit) {
  static const uint64_t sizes[] = {1,    2,     511,   512,     513,     4095,    4096,   4097,
                                   8191, 65536, 65537, 1048576, 1048577, 4194303, 4194304};
  neap__kit_open(kit);
  for (int tight = 0; tight < 2; tight++) {
    kit->tight = tight;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(sizes); i++) {
      neap_object_key key = neap__kit_key(kit);
      int stored = neap__kit_store(kit, key, sizes[i], i), loaded = neap__kit_loaded(kit, key, sizes[i], i);
      NEAP_KIT_NEED(kit, stored == 0 && loaded == 0,
                    "an object of %llu bytes%s: store %s, load %s; expected both to be NEAP_OK%s",
                    (unsigned long long)sizes[i], tight ? " in a buffer that is not aligned" : "",
                    neap_err_name(stored), neap_err_name(loaded),
                    stored == NEAP_ENOSPC ? " (the checks need room for 64 MiB)" : "");
      if (sizes[i] >= 1048576) neap__kit_forget(kit);
    }
  }
}

void neap__check_wrong_size(neap__kit *kit) {
  static const uint64_t wrong[] = {1, 4095, 4096, 9999, 10001, 12288, 20000, 1048576};
  neap__kit_open(kit);
  neap_object_key key = neap__kit_key(kit);
  neap__kit_expect(kit, neap__kit_store(kit, key, 10000, 5), 0, "a store of 10000 bytes");
  for (size_t i = 0; i < NEAP_ARRAY_LEN(wrong); i++) {
    neap__kit_call *load = neap__kit_call_new(kit, NEAP_OP_LOAD, 1);
    kit->tight = i % 2;
    neap__kit_put(kit, load, 0, key, wrong[i], 0);
    neap__kit_run(kit, load);
    int got = load->op->objects[0].result;
    NEAP_KIT_NEED(kit, got == NEAP_ECORRUPT,
                  "10000 bytes are stored; a load into a buffer of %llu ended with %s; expected NEAP_ECORRUPT",
                  (unsigned long long)wrong[i], neap_err_name(got));
  }
  neap__kit_expect(kit, neap__kit_loaded(kit, key, 10000, 5), 0, "a load of the right length after wrong ones");
}

/* --- keys --------------------------------------------------------------------------------------------------------- */

static char long_model[NEAP_MODEL_BYTES_MAX + 1], long_salt[NEAP_SALT_BYTES_MAX + 1];

/* Each differs from the others in one part only. */
static uint32_t odd_keys(neap__kit *kit, neap_object_key *keys) {
  neap_object_key base = neap__kit_key(kit);
  uint32_t n = 0;
  size_t prefix = strlen(kit->model);
  memset(long_model, 'm', sizeof(long_model) - 1);
  memcpy(long_model, kit->model, prefix);
  long_model[prefix] = '/';
  memset(long_salt, 's', sizeof(long_salt) - 1);
  for (uint32_t i = 0; i < 16; i++) keys[i] = base;
  n++;
  keys[n++].model = "neap-check-other";
  keys[n++].model = "neap-check//two/slashes/";
  keys[n++].model = "m";
  keys[n++].model = "neap check: spaces, 'quotes', \"more\", %41, \xc3\xa9 and ?x=1&y#z";
  keys[n++].model = "neap-check..";
  keys[n++].salt = "tenant";
  keys[n++].salt = "a";
  keys[n++].salt = ".. %2f ~*?$";
  keys[n++].salt = long_salt;
  keys[n++].rank = 0x02010201u;
  keys[n++].rank = 0xffffffffu;
  keys[n++].group = 1;
  keys[n++].group = 7;
  memset(keys[n++].hash, 0, 16);
  keys[n++].hash[NEAP_HASH_BYTES - 1] ^= 1;
  return n;
}

void neap__check_keys(neap__kit *kit) {
  neap_object_key keys[16];
  neap__kit_open(kit);
  uint32_t count = odd_keys(kit, keys);
  for (uint32_t i = 0; i < count; i++) {
    neap__kit_expect(kit, neap__kit_lookup(kit, keys[i], 0), NEAP_ENOENT,
                     "the lookup of a key that differs in one part from those stored");
    int rc = neap__kit_store(kit, keys[i], 100 + i, i);
    NEAP_KIT_NEED(kit, rc == 0, "a store with model '%.64s', tenant '%.32s', rank %08x, group %u ended with %s",
                  keys[i].model, keys[i].salt, keys[i].rank, keys[i].group, neap_err_name(rc));
  }
  for (uint32_t i = 0; i < count; i++) {
    int rc = neap__kit_loaded(kit, keys[i], 100 + i, i);
    NEAP_KIT_NEED(kit, rc == 0, "a load with model '%.64s', tenant '%.32s', rank %08x, group %u ended with %s",
                  keys[i].model, keys[i].salt, keys[i].rank, keys[i].group, neap_err_name(rc));
  }
}

/* The longest that the interface allows. A store may refuse such a key, for file systems and servers have limits of
 * their own, but then it has nothing under it. */
void neap__check_long_keys(neap__kit *kit) {
  neap_object_key keys[16];
  neap__kit_open(kit);
  (void)odd_keys(kit, keys);
  keys[0].model = long_model;
  keys[0].salt = long_salt;
  int stored = neap__kit_store(kit, keys[0], 1000, 3);
  if (stored == 0) {
    neap__kit_expect(kit, neap__kit_loaded(kit, keys[0], 1000, 3), 0, "the load of the longest key, which was stored,");
    return;
  }
  int looked = neap__kit_lookup(kit, keys[0], 1000), loaded = neap__kit_loaded(kit, keys[0], 1000, 3);
  NEAP_KIT_NEED(kit, looked != 0 && loaded != 0, "the store of the longest key ended with %s, but its lookup with %s",
                neap_err_name(stored), neap_err_name(looked));
  neap__kit_note(kit, "refused: %s", neap_err_name(stored));
}

void neap__check_tenants(neap__kit *kit) {
  static const char *const tenants[] = {"", "alice", "bob", "alic", "alicea"};
  neap__kit_open(kit);
  neap_object_key key = neap__kit_key(kit);
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(tenants); i++) {
    key.salt = tenants[i];
    neap__kit_expect(kit, neap__kit_lookup(kit, key, 0), NEAP_ENOENT, "the lookup of another tenant's object");
    neap__kit_expect(kit, neap__kit_store(kit, key, 300, i), 0, "a tenant's store");
  }
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(tenants); i++) {
    key.salt = tenants[i];
    neap__kit_expect(kit, neap__kit_loaded(kit, key, 300, i), 0, "a tenant's load of its own object");
  }
  if (!neap__kit_offers(kit, NEAP_OP_REMOVE)) return;
  key.salt = "alice";
  neap__kit_expect(kit, neap__kit_remove(kit, key), 0, "a tenant's delete");
  neap__kit_expect(kit, neap__kit_lookup(kit, key, 0), NEAP_ENOENT, "the lookup of what was deleted");
  key.salt = "alicea";
  neap__kit_expect(kit, neap__kit_loaded(kit, key, 300, 4), 0, "another tenant's load after that");
}

/* A store may keep more than the object, such as a checksum, or less, compressed; only where the engine says what it
 * expects must the size be the object's. */
void neap__check_lookup(neap__kit *kit) {
  neap__kit_open(kit);
  neap_object_key key = neap__kit_key(kit);
  neap__kit_call *store = neap__kit_call_new(kit, NEAP_OP_STORE, 1);
  neap__kit_put(kit, store, 0, key, 12345, 1);
  neap__kit_run(kit, store);
  neap__kit_expect(kit, store->op->objects[0].result, 0, "a store of 12345 bytes");
  uint64_t kept = store->op->objects[0].stored_bytes;
  for (uint64_t expected = 0; expected <= 12345; expected += 12345) {
    neap__kit_call *call = neap__kit_call_new(kit, NEAP_OP_LOOKUP, 1);
    neap__kit_put(kit, call, 0, key, expected, 0);
    neap__kit_run(kit, call);
    const neap_object *object = &call->op->objects[0];
    uint64_t told = object->stored_bytes;
    neap__kit_expect(kit, object->result, 0, expected ? "a lookup" : "a lookup that does not know the size");
    NEAP_KIT_NEED(kit, told == 12345 || told == 0 || (told == kept && !expected),
                  "a lookup of an object of 12345 bytes says stored_bytes %llu; expected 12345, or 0 for unknown",
                  (unsigned long long)told);
    neap__kit_note(kit, "size %s", told ? "told" : "not told");
  }
}

void neap__check_delete(neap__kit *kit) {
  neap__kit_require(kit, NEAP_OP_REMOVE);
  neap__kit_open(kit);
  neap_object_key key = neap__kit_key(kit);
  for (uint64_t round = 1; round <= 2; round++) {
    neap__kit_expect(kit, neap__kit_store(kit, key, 2000, round), 0, "a store");
    neap__kit_expect(kit, neap__kit_remove(kit, key), 0, "the delete of an object that is there");
    neap__kit_expect(kit, neap__kit_lookup(kit, key, 0), NEAP_ENOENT, "the lookup of what was deleted");
    neap__kit_expect(kit, neap__kit_loaded(kit, key, 2000, round), NEAP_ENOENT, "the load of what was deleted");
  }
}

void neap__check_delete_missing(neap__kit *kit) {
  neap__kit_require(kit, NEAP_OP_REMOVE);
  neap__kit_open(kit);
  neap_object_key keys[3];
  for (uint32_t i = 0; i < 3; i++) keys[i] = neap__kit_key(kit);
  neap__kit_expect(kit, neap__kit_remove(kit, keys[0]), NEAP_ENOENT, "the delete of a key that was never stored");
  if (kit->batch_max < 3) return;
  neap__kit_expect(kit, neap__kit_store(kit, keys[1], 2001, 1), 0, "a store");
  neap__kit_call *call = batch(kit, NEAP_OP_REMOVE, keys, 3, 0);
  for (uint32_t i = 0; i < 3; i++)
    neap__kit_expect(kit, call->op->objects[i].result, i == 1 ? 0 : NEAP_ENOENT,
                     i == 1 ? "in a batch, the delete of a key that is there"
                            : "in a batch, the delete of a key that was never stored");
}
