/* SPDX-License-Identifier: MIT
 *
 * support/test_host.c - see test_host.h. One mutex guards the list of operations and the log; done() takes none. */
#include "support/test_host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "chunk/key.h"
#include "l2/inner.h"

#define WAIT_S 30
#define LOG_BYTES 65536
#define QUEUE_MAX 4096

struct test_host {
  neap_host table;
  neap__pool *pool;
  atomic_bool refuse;
  neap_memory memory;
  const char *plugin_dirs;
  pthread_mutex_t mutex;
  test_op *ops;
  size_t log_bytes;
  char log[LOG_BYTES];
};

static void host_done(void *engine, neap_op *op) {
  test_op *wrapper = (test_op *)op;
  (void)engine;
  atomic_fetch_add(&wrapper->done_count, 1);
  sem_post(&wrapper->ended);
}

static void host_log(void *engine, neap_log_level level, const char *text) {
  test_host *host = engine;
  (void)level;
  pthread_mutex_lock(&host->mutex);
  int wrote = snprintf(host->log + host->log_bytes, LOG_BYTES - host->log_bytes, "%s\n", text);
  host->log_bytes = NEAP_MIN(host->log_bytes + (size_t)NEAP_MAX(wrote, 0), (size_t)LOG_BYTES - 1);
  pthread_mutex_unlock(&host->mutex);
}

static int host_queue_work(void *engine, void (*work)(void *arg), void *arg) {
  test_host *host = engine;
  return atomic_load(&host->refuse) ? NEAP_ELIMIT : neap__pool_submit(host->pool, work, arg);
}

static int host_memory(void *engine, neap_memory *out) {
  test_host *host = engine;
  if (host->memory.bytes == 0) return NEAP_ENOTSUP;
  *out = host->memory;
  return 0;
}

static uint64_t host_now_ns(void *engine) {
  (void)engine;
  return neap__now_ns();
}

static int host_inner_open(void *engine, const char *config_json, void (*done)(void *ctx, neap_op *op), void *ctx,
                           neap_inner **out, neap_error *err) {
  test_host *host = engine;
  neap__inner_parent parent = {.host = &host->table, .plugin_dirs = host->plugin_dirs};
  return neap__inner_open(&parent, config_json, done, ctx, out, err);
}

test_host *test_host_open(uint32_t threads) {
  test_host *host = calloc(1, sizeof *host);
  NEAP_ASSERT(host != NULL);
  NEAP_ASSERT(neap__pool_open(threads, QUEUE_MAX, &host->pool) == 0);
  pthread_mutex_init(&host->mutex, NULL);
  host->table = (neap_host){
      .size = sizeof(neap_host),
      .abi = NEAP_ADAPTER_ABI,
      .engine = host,
      .done = host_done,
      .log = host_log,
      .queue_work = host_queue_work,
      .memory = host_memory,
      .key_format = neap__key_format,
      .key_parse = neap__key_parse,
      .crc32c = neap__crc32c,
      .now_ns = host_now_ns,
      .inner_open = host_inner_open,
  };
  neap__inner_install(&host->table);
  return host;
}

static void op_free(test_op *op) {
  for (uint32_t i = 0; i < op->entries_count; i++) {
    free(op->entries[i].model);
    free(op->entries[i].salt);
  }
  free(op->entries);
  free(op->objects);
  sem_destroy(&op->ended);
  free(op);
}

uint32_t test_host_close(test_host *host) {
  uint32_t wrong = 0;
  neap__pool_close(host->pool);
  for (test_op *op = host->ops, *next; op; op = next) {
    next = op->next;
    wrong += atomic_load(&op->done_count) != 1;
    op_free(op);
  }
  pthread_mutex_destroy(&host->mutex);
  free(host);
  return wrong;
}

const neap_host *test_host_table(test_host *host) { return &host->table; }

void test_host_refuse_work(test_host *host, bool refuse) { atomic_store(&host->refuse, refuse); }

void test_host_set_memory(test_host *host, neap_memory memory) { host->memory = memory; }

void test_host_set_plugin_dirs(test_host *host, const char *dirs) { host->plugin_dirs = dirs; }

bool test_host_logged(test_host *host, const char *text) {
  pthread_mutex_lock(&host->mutex);
  bool found = strstr(host->log, text) != NULL;
  pthread_mutex_unlock(&host->mutex);
  return found;
}

static int op_sink(neap_op *neap, const neap_list_entry *entry) {
  test_op *op = (test_op *)neap;
  op->entries = reallocarray(op->entries, op->entries_count + 1u, sizeof *op->entries);
  NEAP_ASSERT(op->entries != NULL);
  test_entry *kept = &op->entries[op->entries_count++];
  *kept = (test_entry){*entry, strdup(entry->key.model), strdup(entry->key.salt)};
  kept->entry.key.model = kept->model;
  kept->entry.key.salt = kept->salt;
  return op->entries_stop && op->entries_count >= op->entries_stop;
}

test_op *test_op_new(test_host *host, neap_op_kind kind, uint32_t count) {
  test_op *op = calloc(1, sizeof *op);
  NEAP_ASSERT(op != NULL);
  op->objects = count ? calloc(count, sizeof *op->objects) : NULL;
  NEAP_ASSERT(count == 0 || op->objects != NULL);
  for (uint32_t i = 0; i < count; i++) op->objects[i].result = NEAP_EIO;
  op->op = (neap_op){.size = sizeof(neap_op), .kind = kind, .count = count, .objects = op->objects};
  op->op.sink = op_sink;
  op->op.list_result = NEAP_EIO;
  sem_init(&op->ended, 0, 0);
  pthread_mutex_lock(&host->mutex);
  op->next = host->ops;
  host->ops = op;
  pthread_mutex_unlock(&host->mutex);
  return op;
}

void test_op_submit(const neap_adapter *adapter, void *self, test_op *op) {
  void (*const functions[])(void *, neap_op *) = {adapter->store, adapter->lookup, adapter->load, adapter->remove,
                                                  adapter->list};
  NEAP_ASSERT(functions[op->op.kind] != NULL);
  functions[op->op.kind](self, &op->op);
}

void test_op_wait(test_op *op) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += WAIT_S;
  if (sem_timedwait(&op->ended, &until) == 0) return;
  fprintf(stderr, "operation of kind %u was not ended in %d s\n", op->op.kind, WAIT_S);
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
