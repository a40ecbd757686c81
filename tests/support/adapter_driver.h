/* SPDX-License-Identifier: MIT
 *
 * support/adapter_driver.h - drives any adapter (Lua, native, built-in) from a spec through LuaJIT's FFI, or from a C
 * test: a thin layer over test_host that opens adapters and takes keys as text. Built as libneap_adapter_driver.so.
 * One thread at a time per driver; each wait is bounded as in test_host. */
#pragma once
#include "support/test_host.h"

#define TEST_DRIVER_EXPORT __attribute__((visibility("default")))

typedef struct test_driver test_driver;

/* Opens class_name of a Lua file, with params_json checked against its schema. config_class_name may be NULL. On
 * failure NULL, with the error's name and text in err. */
TEST_DRIVER_EXPORT test_driver *test_driver_open_lua(const char *lua_dir, const char *path, const char *class_name,
                                                     const char *config_class_name, const char *params_json, char *err,
                                                     size_t cap);
/* Opens what one `--l2-adapter JSON` says, Lua modules included. */
TEST_DRIVER_EXPORT test_driver *test_driver_open_config(const char *lua_dir, const char *json, const char *plugin_dirs,
                                                        char *err, size_t cap);
TEST_DRIVER_EXPORT test_driver *test_driver_open_table(const neap_adapter *table, const char *params_json, char *err,
                                                       size_t cap);
/* Closes the adapter, which must have ended all operations. Returns how many did not end exactly once. */
TEST_DRIVER_EXPORT uint32_t test_driver_close(test_driver *driver);

/* True if the adapter has this neap_op_kind. */
TEST_DRIVER_EXPORT bool test_driver_can(test_driver *driver, uint32_t kind);
/* An operation to be filled in and submitted; freed by close. deadline_ms from now, 0 = none. */
TEST_DRIVER_EXPORT test_op *test_driver_op(test_driver *driver, uint32_t kind, uint32_t count, uint64_t deadline_ms);
/* key: NATIVE text; data stays the caller's. False if the text is not a key's. */
TEST_DRIVER_EXPORT bool test_driver_object(test_driver *driver, test_op *op, uint32_t i, const char *key, void *data,
                                           uint64_t bytes);
TEST_DRIVER_EXPORT void test_driver_submit(test_driver *driver, test_op *op);
TEST_DRIVER_EXPORT void test_driver_cancel(test_driver *driver, test_op *op);
TEST_DRIVER_EXPORT void test_driver_wait(test_op *op);
TEST_DRIVER_EXPORT bool test_driver_ended(test_op *op);
TEST_DRIVER_EXPORT const char *test_driver_result(test_op *op, uint32_t i); /* "NEAP_OK", "NEAP_ENOENT", ... */
TEST_DRIVER_EXPORT uint64_t test_driver_stored(test_op *op, uint32_t i);
TEST_DRIVER_EXPORT const char *test_driver_list_result(test_op *op);
/* The i-th entry of a listing: its NATIVE text; false past the last. */
TEST_DRIVER_EXPORT bool test_driver_entry(test_op *op, uint32_t i, char *text, size_t cap, uint64_t *bytes,
                                          int64_t *used_unix_s);
/* Ask the listing to stop after n entries. */
TEST_DRIVER_EXPORT void test_driver_stop_after(test_op *op, uint32_t n);
TEST_DRIVER_EXPORT int test_driver_status(test_driver *driver, char *json, size_t cap);
TEST_DRIVER_EXPORT bool test_driver_logged(test_driver *driver, const char *text);
TEST_DRIVER_EXPORT void test_driver_watchdog(uint64_t limit_ms);
/* The schema of the adapter, or NULL. */
TEST_DRIVER_EXPORT const char *test_driver_schema(test_driver *driver);
/* What the adapter declares: concurrency, batch, deadline_ms, retries, backoff_ms. */
TEST_DRIVER_EXPORT void test_driver_traits(test_driver *driver, uint32_t values[5]);
/* Gives it changed parameters. "NEAP_OK", or the error's name with the text in err. */
TEST_DRIVER_EXPORT const char *test_driver_reconfigure(test_driver *driver, const char *params_json, char *err,
                                                       size_t cap);
