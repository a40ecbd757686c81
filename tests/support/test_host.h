/* SPDX-License-Identifier: MIT
 *
 * support/test_host.h - the engine's side of neap/adapter.h, small enough to test one store alone.
 *
 * The host lends a real worker pool, counts the ends of every operation and keeps what was logged. Operations belong
 * to the host and live until it closes, so that a late second done() is counted instead of touching freed memory.
 * Waiting is bounded: an operation that is not ended in 30 s ends the program with its kind. Any thread. */
#pragma once
#include <neap/adapter.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct test_host test_host;

/* One line of a listing; strings belong to the operation. */
typedef struct test_entry {
  neap_list_entry entry;
  char *model, *salt;
} test_entry;

typedef struct test_op {
  neap_op op; /* first: the host gets from the op to this struct */
  neap_object *objects;
  test_entry *entries;                  /* what a listing yielded */
  uint32_t entries_count, entries_stop; /* the sink asks to stop after entries_stop entries (0 = never) */
  sem_t ended;
  atomic_uint done_count;
  struct test_op *next;
} test_op;

/* threads: of the worker pool behind queue_work. */
test_host *test_host_open(uint32_t threads);
/* Joins the workers, then returns how many operations were not ended exactly once (0 is right) and frees all. */
uint32_t test_host_close(test_host *host);
const neap_host *test_host_table(test_host *host);
/* From now on queue_work answers NEAP_ELIMIT (true) or works (false). */
void test_host_refuse_work(test_host *host, bool refuse);
/* What memory() offers; bytes = 0: NEAP_ENOTSUP, as after open. */
void test_host_set_memory(test_host *host, neap_memory memory);
/* Where inner adapters are looked for; "" after open. Borrowed until close. */
void test_host_set_plugin_dirs(test_host *host, const char *dirs);
/* True if one of the logged lines contains text. */
bool test_host_logged(test_host *host, const char *text);

/* A new operation with `count` zeroed objects whose results are preset to NEAP_EIO. */
test_op *test_op_new(test_host *host, neap_op_kind kind, uint32_t count);
/* Calls the adapter's function for op; the function must exist. */
void test_op_submit(const neap_adapter *adapter, void *self, test_op *op);
void test_op_wait(test_op *op);
void test_op_run(const neap_adapter *adapter, void *self, test_op *op); /* submit and wait */

/* One-object operations; the results are those of the object. */
int test_store(test_host *host, const neap_adapter *adapter, void *self, neap_object_key key, void *data,
               uint64_t bytes, uint64_t *stored_bytes);
int test_lookup(test_host *host, const neap_adapter *adapter, void *self, neap_object_key key, uint64_t bytes);
int test_load(test_host *host, const neap_adapter *adapter, void *self, neap_object_key key, void *data,
              uint64_t bytes);
int test_remove(test_host *host, const neap_adapter *adapter, void *self, neap_object_key key);

/* The n-th key of a fixed sequence: model "demo/tiny", tenant "", distinct hashes. */
neap_object_key test_key(uint64_t n);
/* Fills data with bytes that differ for each n. */
void test_fill(void *data, uint64_t bytes, uint64_t n);
/* True if data is what test_fill(n) wrote. */
bool test_filled(const void *data, uint64_t bytes, uint64_t n);
