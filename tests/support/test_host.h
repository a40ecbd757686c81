/* SPDX-License-Identifier: MIT
 *
 * support/test_host.h - the host of kit/host.h as tests want it: what cannot go wrong in a test is asserted, and an
 * operation that is not ended in 30 s ends the program with its kind. Any thread. */
#pragma once
#include "kit/host.h"

typedef neap__kit_host test_host;
typedef neap__kit_entry test_entry;
typedef neap__kit_op test_op;

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
