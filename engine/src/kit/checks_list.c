/* SPDX-License-Identifier: MIT
 *
 * kit/checks_list.c - what an adapter tells about itself: its parameters, its status, its listing. The store may hold
 * what others put there: only keys of this run are looked at. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "kit/checks.h"
#include "l2/schema.h"

#define LISTED 40u
#define STATUS_BYTES 65536u

/* --- parameters --------------------------------------------------------------------------------------------------- */

/* A value that no parameter of this type takes. */
static cJSON *wrong_value(const char *type) {
  return strcmp(type, "object") == 0 ? cJSON_CreateArray() : cJSON_CreateObject();
}

/* Fails unless the schema refuses params (which is deleted) with a sentence that names the parameter. */
static void must_refuse(neap__kit *kit, const cJSON *schema, cJSON *params, const char *name, const char *what) {
  neap_error err = {0};
  int rc = neap__schema_apply(schema, params, "", false, &err);
  NEAP_KIT_NEED(kit, rc != 0, "the parameter '%s' %s and was not refused", name, what);
  NEAP_KIT_NEED(kit, strstr(err.text, name), "the parameter '%s' %s, but the message does not name it: %s", name, what,
                err.text);
  cJSON_Delete(params);
}

void neap__check_schema(neap__kit *kit) {
  cJSON *schema = NULL, *given = NULL;
  neap_error err = {0};
  char names[256] = "";
  size_t used = 0;
  neap__kit_load(kit);
  if (!kit->table->schema_json) neap__kit_skip(kit, "it has no schema, so any parameters are let through");
  NEAP_KIT_NEED(kit, neap__schema_parse(kit->table->schema_json, &schema, &err) == 0, "%s", err.text);
  NEAP_KIT_NEED(kit, neap__json_parse(kit->config.params_json, &given, &err) == 0, "%s", err.text);
  for (const cJSON *rule = schema->child; rule; rule = rule->next) {
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(rule, "type"));
    bool required = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(rule, "required"));
    cJSON *wrong = cJSON_Duplicate(given, 1);
    cJSON_DeleteItemFromObjectCaseSensitive(wrong, rule->string);
    if (required) must_refuse(kit, schema, cJSON_Duplicate(wrong, 1), rule->string, "is required, was not given");
    cJSON_AddItemToObject(wrong, rule->string, wrong_value(type));
    must_refuse(kit, schema, wrong, rule->string, "was given a value of another type");
    int n = snprintf(names + used, sizeof(names) - used, "%s%s%s", used ? ", " : "", rule->string, required ? "*" : "");
    used = NEAP_MIN(used + (size_t)NEAP_MAX(n, 0), sizeof(names) - 1);
  }
  cJSON_AddBoolToObject(given, "neap_check_unknown", 1);
  must_refuse(kit, schema, given, "neap_check_unknown", "does not exist");
  cJSON_Delete(schema);
  neap__kit_note(kit, "parameters: %s", used ? names : "none");
}

/* --- status ------------------------------------------------------------------------------------------------------- */

static void ask_status(neap__kit *kit, uint32_t cap) {
  neap__fence *fence = neap__fence_new(cap, true);
  cJSON *tree = NULL;
  neap_error err = {0};
  NEAP_KIT_NEED(kit, fence, "the check itself is out of memory");
  char *json = (char *)fence->data;
  memset(json, 'x', cap);
  neap__kit_step(kit, "status ran with room for %u bytes", cap);
  int length = kit->table->status(kit->self, json, cap);
  NEAP_KIT_NEED(kit, length <= 0 || (uint32_t)length < cap, "status says a length of %d, with room for %u", length,
                cap);
  if (length > 0) {
    NEAP_KIT_NEED(kit, json[length] == '\0' && strlen(json) == (size_t)length,
                  "status says a length of %d, but its text does not end there", length);
    NEAP_KIT_NEED(kit, neap__json_parse(json, &tree, &err) == 0, "status is not JSON: %s", err.text);
    NEAP_KIT_NEED(kit, cJSON_IsObject(tree), "status is %s; expected an object", neap__json_type(tree));
    cJSON_Delete(tree);
  } else {
    NEAP_KIT_NEED(kit, cap < STATUS_BYTES, "status ended with %s, with room for %u bytes", neap_err_name(length), cap);
  }
  neap__fence_free(fence);
}

void neap__check_status(neap__kit *kit) {
  static const uint32_t caps[] = {STATUS_BYTES, 2, 8, 32, STATUS_BYTES};
  neap__kit_load(kit);
  if (!kit->table->status) neap__kit_skip(kit, "the adapter has no status");
  neap__kit_open(kit);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(caps); i++) {
    neap__kit_call *store = neap__kit_call_new(kit, NEAP_OP_STORE, 1);
    neap__kit_put(kit, store, 0, neap__kit_key(kit), 100000, i);
    neap__kit_submit(kit, store);
    ask_status(kit, caps[i]); /* while the operation runs */
    neap__kit_wait(kit, store);
  }
}

/* --- listing ------------------------------------------------------------------------------------------------------ */

static neap__kit_call *run_list(neap__kit *kit, uint32_t stop) {
  neap__kit_call *list = neap__kit_call_new(kit, NEAP_OP_LIST, 0);
  list->op->entries_stop = stop;
  neap__kit_run(kit, list);
  neap__kit_expect(kit, list->op->op.list_result, 0, "a list");
  return list;
}

static uint32_t times_listed(neap__kit *kit, const neap__kit_call *list, const neap_object_key *key, uint64_t bytes) {
  uint32_t times = 0;
  for (uint32_t i = 0; i < list->op->entries_count; i++) {
    const neap_list_entry *entry = &list->op->entries[i].entry;
    const neap_object_key *other = &entry->key;
    if (memcmp(other->hash, key->hash, sizeof(key->hash)) != 0 || strcmp(other->salt, key->salt) != 0) continue;
    times += other->rank == key->rank && other->group == key->group;
    NEAP_KIT_NEED(kit, entry->bytes == bytes, "an object whose store said stored_bytes %llu is listed with %llu bytes",
                  (unsigned long long)bytes, (unsigned long long)entry->bytes);
    NEAP_KIT_NEED(kit, entry->used_unix_s >= 0 && entry->used_unix_s <= neap__unix_s() + 3600,
                  "an object is listed with used_unix_s %lld; expected seconds since 1970, or 0 for unknown",
                  (long long)entry->used_unix_s);
  }
  return times;
}

/* added: what each store said that it added, which is what a listing must say for the accounts to agree. */
static void store_listed(neap__kit *kit, neap_object_key *keys, uint64_t *added, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    keys[i] = neap__kit_key(kit);
    keys[i].salt = i % 4 == 3 ? "tenant" : "";
    keys[i].group = i % 2;
    neap__kit_call *store = neap__kit_call_new(kit, NEAP_OP_STORE, 1);
    neap__kit_put(kit, store, 0, keys[i], 100 + i, i);
    neap__kit_run(kit, store);
    neap__kit_expect(kit, store->op->objects[0].result, 0, "a store");
    added[i] = store->op->objects[0].stored_bytes;
  }
}

void neap__check_list(neap__kit *kit) {
  neap_object_key keys[LISTED];
  uint64_t added[LISTED];
  neap__kit_require(kit, NEAP_OP_LIST);
  neap__kit_open(kit);
  store_listed(kit, keys, added, LISTED);
  const neap__kit_call *list = run_list(kit, 0);
  for (uint32_t i = 0; i < LISTED; i++) {
    uint32_t times = times_listed(kit, list, &keys[i], added[i]);
    NEAP_KIT_NEED(kit, times == 1, "of %u objects stored, number %u is listed %u times; expected once", LISTED, i + 1,
                  times);
  }
  if (!neap__kit_offers(kit, NEAP_OP_REMOVE)) return;
  for (uint32_t i = 0; i < LISTED; i += 2) neap__kit_expect(kit, neap__kit_remove(kit, keys[i]), 0, "a delete");
  list = run_list(kit, 0);
  for (uint32_t i = 0; i < LISTED; i++) {
    uint32_t times = times_listed(kit, list, &keys[i], added[i]);
    NEAP_KIT_NEED(kit, times == i % 2,
                  "after every second object was deleted, number %u is listed %u times; expected %u", i + 1, times,
                  i % 2);
  }
}

void neap__check_list_stop(neap__kit *kit) {
  neap_object_key keys[LISTED];
  uint64_t added[LISTED];
  static const uint32_t stops[] = {1, 2, 17};
  neap__kit_require(kit, NEAP_OP_LIST);
  neap__kit_open(kit);
  store_listed(kit, keys, added, LISTED);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(stops); i++) {
    const neap__kit_call *list = run_list(kit, stops[i]);
    NEAP_KIT_NEED(kit, list->op->entries_count == stops[i],
                  "a list whose sink asked to stop at entry %u reported %u entries", stops[i], list->op->entries_count);
  }
}
