/* SPDX-License-Identifier: MIT
 *
 * support/test_host.c - see test_host.h. */
#include "support/test_host.h"

#include <stdio.h>
#include <stdlib.h>

#define WAIT_MS 30000

test_host *test_host_open(uint32_t threads) {
  test_host *host = NULL;
  NEAP_ASSERT(neap__kit_host_open(threads, &host) == 0);
  return host;
}

uint32_t test_host_close(test_host *host) { return neap__kit_host_close(host); }
const neap_host *test_host_table(test_host *host) { return neap__kit_host_table(host); }
void test_host_refuse_work(test_host *host, bool refuse) { neap__kit_host_refuse_work(host, refuse); }
void test_host_set_memory(test_host *host, neap_memory memory) { neap__kit_host_set_memory(host, memory); }
void test_host_set_plugin_dirs(test_host *host, const char *dirs) { neap__kit_host_set_plugin_dirs(host, dirs); }
bool test_host_logged(test_host *host, const char *text) { return neap__kit_host_logged(host, text, NULL, 0); }

test_op *test_op_new(test_host *host, neap_op_kind kind, uint32_t count) {
  test_op *op = neap__kit_op_new(host, kind, count);
  NEAP_ASSERT(op != NULL);
  return op;
}

void test_op_submit(const neap_adapter *adapter, void *self, test_op *op) {
  NEAP_ASSERT(neap__kit_op_submit(adapter, self, op) == 0);
}

void test_op_wait(test_op *op) {
  if (neap__kit_op_wait(op, WAIT_MS)) return;
  fprintf(stderr, "a %s was not ended in %d ms\n", neap__kit_kind_name(op->op.kind), WAIT_MS);
  abort();
}

void test_op_run(const neap_adapter *adapter, void *self, test_op *op) {
  test_op_submit(adapter, self, op);
  test_op_wait(op);
}

static neap_object run_one(test_host *host, const neap_adapter *adapter, void *self, neap_op_kind kind,
                           neap_object object) {
  test_op *op = test_op_new(host, kind, 1);
  op->objects[0] = object;
  op->objects[0].result = NEAP_EIO;
  test_op_run(adapter, self, op);
  return op->objects[0];
}

int test_store(test_host *host, const neap_adapter *adapter, void *self, neap_object_key key, void *data,
               uint64_t bytes, uint64_t *stored_bytes) {
  neap_object object = {.key = key, .data = data, .bytes = bytes};
  object = run_one(host, adapter, self, NEAP_OP_STORE, object);
  if (stored_bytes) *stored_bytes = object.stored_bytes;
  return object.result;
}

int test_lookup(test_host *host, const neap_adapter *adapter, void *self, neap_object_key key, uint64_t bytes) {
  neap_object object = {.key = key, .bytes = bytes};
  return run_one(host, adapter, self, NEAP_OP_LOOKUP, object).result;
}

int test_load(test_host *host, const neap_adapter *adapter, void *self, neap_object_key key, void *data,
              uint64_t bytes) {
  neap_object object = {.key = key, .data = data, .bytes = bytes};
  return run_one(host, adapter, self, NEAP_OP_LOAD, object).result;
}

int test_remove(test_host *host, const neap_adapter *adapter, void *self, neap_object_key key) {
  neap_object object = {.key = key};
  return run_one(host, adapter, self, NEAP_OP_REMOVE, object).result;
}

neap_object_key test_key(uint64_t n) {
  neap_object_key key = {.model = "demo/tiny", .salt = "", .rank = 0x01000100u};
  for (size_t i = 0; i < sizeof n; i++) key.hash[i] = (uint8_t)(n >> (8 * i));
  return key;
}

static uint8_t fill_byte(uint64_t i, uint64_t n) { return (uint8_t)((i * 31u + n * 97u + (i >> 8)) & 0xff); }

void test_fill(void *data, uint64_t bytes, uint64_t n) {
  for (uint64_t i = 0; i < bytes; i++) ((uint8_t *)data)[i] = fill_byte(i, n);
}

bool test_filled(const void *data, uint64_t bytes, uint64_t n) {
  for (uint64_t i = 0; i < bytes; i++) {
    if (((const uint8_t *)data)[i] != fill_byte(i, n)) return false;
  }
  return true;
}
