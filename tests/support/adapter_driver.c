/* SPDX-License-Identifier: MIT
 *
 * support/adapter_driver.c - see adapter_driver.h. */
#include "support/adapter_driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "chunk/key.h"
#include "l2/registry.h"
#include "script/script.h"
#include "script/watchdog.h"

typedef struct key_text {
  struct key_text *next;
  char strings[NEAP_KEY_TEXT_MAX];
} key_text;

struct test_driver {
  test_host *host;
  const neap_adapter *table;
  void *self;
  char *plugin_dirs;
  key_text *keys; /* the strings of the objects' keys */
};

static test_driver *open_checked(const neap_adapter *table, const char *params_json, const char *plugin_dirs,
                                 neap_error *err, int *rc) {
  test_driver *driver = calloc(1, sizeof *driver);
  NEAP_ASSERT(driver != NULL);
  driver->host = test_host_open(2);
  driver->table = table;
  driver->plugin_dirs = strdup(plugin_dirs);
  NEAP_ASSERT(driver->plugin_dirs != NULL);
  test_host_set_plugin_dirs(driver->host, driver->plugin_dirs);
  *rc = table->open(table, test_host_table(driver->host), params_json, &driver->self, err);
  if (*rc == 0) return driver;
  test_host_close(driver->host);
  free(driver->plugin_dirs);
  free(driver);
  return NULL;
}

static test_driver *open_table(const neap_adapter *table, const char *params_json, neap_error *err, int *rc) {
  char *checked = NULL;
  *rc = neap__schema_check(table->schema_json, params_json, "adapter_params", &checked, err);
  if (*rc != 0) return NULL;
  test_driver *driver = open_checked(table, checked, "", err, rc);
  free(checked);
  return driver;
}

static void tell(char *err, size_t cap, int rc, const neap_error *error) {
  if (rc != 0) snprintf(err, cap, "%s: %s", neap_err_name(rc), error->text);
}

test_driver *test_driver_open_table(const neap_adapter *table, const char *params_json, char *err, size_t cap) {
  neap_error error = {0};
  int rc;
  test_driver *driver = open_table(table, params_json, &error, &rc);
  tell(err, cap, rc, &error);
  return driver;
}

test_driver *test_driver_open_lua(const char *lua_dir, const char *path, const char *class_name,
                                  const char *config_class_name, const char *params_json, char *err, size_t cap) {
  neap_error error = {0};
  const neap_adapter *table = NULL;
  test_driver *driver = NULL;
  neap__lua_setup(lua_dir);
  int rc = neap__lua_loader.load(path, class_name, config_class_name, &table, &error);
  if (rc == 0) driver = open_table(table, params_json, &error, &rc);
  tell(err, cap, rc, &error);
  return driver;
}

test_driver *test_driver_open_config(const char *lua_dir, const char *json, const char *plugin_dirs, char *err,
                                     size_t cap) {
  static bool added;
  neap_error error = {0};
  neap__tier_config config = {0};
  test_driver *driver = NULL;
  neap__lua_setup(lua_dir);
  if (!added) neap__registry_add_loader(&neap__lua_loader);
  added = true;
  int rc = neap__tier_config_parse(json, 0, plugin_dirs, &config, &error);
  if (rc == 0) {
    driver = open_checked(config.adapter, config.params_json, plugin_dirs, &error, &rc);
    neap__tier_config_free(&config);
  }
  tell(err, cap, rc, &error);
  return driver;
}

uint32_t test_driver_close(test_driver *driver) {
  driver->table->close(driver->self);
  uint32_t wrong = test_host_close(driver->host);
  free(driver->plugin_dirs);
  for (key_text *key = driver->keys, *next; key; key = next) {
    next = key->next;
    free(key);
  }
  free(driver);
  return wrong;
}

bool test_driver_can(test_driver *driver, uint32_t kind) { return neap__kit_can(driver->table, (neap_op_kind)kind); }

test_op *test_driver_op(test_driver *driver, uint32_t kind, uint32_t count, uint64_t deadline_ms) {
  test_op *op = test_op_new(driver->host, (neap_op_kind)kind, count);
  if (deadline_ms) op->op.deadline_ns = neap__now_ns() + deadline_ms * 1000000u;
  return op;
}

bool test_driver_object(test_driver *driver, test_op *op, uint32_t i, const char *key, void *data, uint64_t bytes) {
  neap_object *object = &op->objects[i];
  key_text *text = malloc(sizeof *text);
  NEAP_ASSERT(text != NULL && i < op->op.count);
  text->next = driver->keys;
  driver->keys = text;
  object->data = data;
  object->bytes = bytes;
  const neap_host *host = test_host_table(driver->host);
  return host->key_parse(key, NEAP_KEY_NATIVE, &object->key, text->strings, sizeof text->strings) == 0;
}

void test_driver_submit(test_driver *driver, test_op *op) { test_op_submit(driver->table, driver->self, op); }

void test_driver_cancel(test_driver *driver, test_op *op) {
  if (driver->table->cancel) driver->table->cancel(driver->self, &op->op);
}

void test_driver_wait(test_op *op) { test_op_wait(op); }
bool test_driver_ended(test_op *op) { return atomic_load(&op->done_count) > 0; }
const char *test_driver_result(test_op *op, uint32_t i) { return neap_err_name(op->objects[i].result); }
uint64_t test_driver_stored(test_op *op, uint32_t i) { return op->objects[i].stored_bytes; }
const char *test_driver_list_result(test_op *op) { return neap_err_name(op->op.list_result); }
void test_driver_stop_after(test_op *op, uint32_t n) { op->entries_stop = n; }

bool test_driver_entry(test_op *op, uint32_t i, char *text, size_t cap, uint64_t *bytes, int64_t *used_unix_s) {
  if (i >= op->entries_count) return false;
  const neap_list_entry *entry = &op->entries[i].entry;
  *bytes = entry->bytes;
  *used_unix_s = entry->used_unix_s;
  return neap__key_format(&entry->key, NEAP_KEY_NATIVE, text, cap) > 0;
}

int test_driver_status(test_driver *driver, char *json, size_t cap) {
  return driver->table->status ? driver->table->status(driver->self, json, cap) : NEAP_ENOTSUP;
}

bool test_driver_logged(test_driver *driver, const char *text) { return test_host_logged(driver->host, text); }
void test_driver_watchdog(uint64_t limit_ms) { neap__watchdog_set_limit(limit_ms); }
const char *test_driver_schema(test_driver *driver) { return driver->table->schema_json; }

void test_driver_traits(test_driver *driver, uint32_t values[5]) {
  static const neap_traits none;
  const neap_traits *traits = NEAP_HAS(driver->table, neap_adapter, traits) ? driver->table->traits : NULL;
  if (!traits) traits = &none;
  uint32_t declared[] = {traits->concurrency, traits->batch, traits->deadline_ms, traits->retries, traits->backoff_ms};
  memcpy(values, declared, sizeof(declared));
}

const char *test_driver_reconfigure(test_driver *driver, const char *params_json, char *err, size_t cap) {
  neap_error error = {0};
  if (!NEAP_HAS(driver->table, neap_adapter, reconfigure)) return neap_err_name(NEAP_ENOTSUP);
  int rc = driver->table->reconfigure(driver->self, params_json, &error);
  snprintf(err, cap, "%s", error.text);
  return neap_err_name(rc);
}
