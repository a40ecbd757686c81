/* SPDX-License-Identifier: MIT
 *
 * serve/http_delete.c - DELETE /cache/objects: takes named objects out of L1, of L2 stores, or of both.
 *
 * Without "adapter" every store is asked: an object left in one would come back with the next lookup. The HTTP thread
 * reads, deletes from L1 and answers; the loop thread asks the stores. */
#include <stdlib.h>
#include <string.h>

#include "serve/http_call.h"

#define KEYS_MAX 10000
#define DELETE_DEADLINE_MS 20000u

typedef struct deletion {
  neap__job job;
  neap__http_call *call;
  neap__tier_entry tier; /* the one that was named, or the first; held */
  bool held, only;       /* only: no other tier is asked */
  bool l1, l2, force;
  uint32_t count;
  neap_object_key *keys; /* strings point into body */
  uint32_t deleted, skipped;
  /* the L2 part: keys by the number of their space, on the loop thread until woken */
  neap__key *l2_keys;
  uint32_t l2_count, pending;
  char error[256];
  cJSON *body;
} deletion;

static void free_deletion(deletion *d) {
  if (d->held) neap__tier_set_drop(d->call->http->config.engine->tiers, d->tier.index);
  free(d->keys);
  free(d->l2_keys);
  cJSON_Delete(d->body);
  free(d);
}

/* --- reading the body ----------------------------------------------------------------------------------------- */

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_hash(const char *hex, uint8_t hash[NEAP_HASH_BYTES]) {
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) {
    int high = hex_digit(hex[2 * i]), low = high < 0 ? -1 : hex_digit(hex[2 * i + 1]);
    if (low < 0) return false;
    hash[i] = (uint8_t)(high << 4 | low);
  }
  return hex[2 * NEAP_HASH_BYTES] == '\0';
}

/* A member of key `i` of the list, complained about if it is missing (and must not be) or of another type. */
static const cJSON *key_member(neap__http_complaints *complaints, const cJSON *object, uint32_t i, const char *name,
                               bool text, bool required) {
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
  bool ok = value ? (text ? cJSON_IsString(value)
                          : cJSON_IsNumber(value) && value->valuedouble >= 0 && value->valuedouble <= UINT32_MAX &&
                                value->valuedouble == (double)(uint32_t)value->valuedouble)
                  : !required;
  if (ok) return value;
  cJSON *loc = neap__http_loc("body", "keys");
  cJSON_AddItemToArray(loc, cJSON_CreateNumber(i));
  cJSON_AddItemToArray(loc, cJSON_CreateString(name));
  if (!value)
    neap__http_complain(complaints, NEAP_HTTP_MISSING, object, loc);
  else if (text)
    neap__http_complain(complaints, NEAP_HTTP_NO_STRING, value, loc);
  else
    neap__http_complain(complaints, NEAP_HTTP_NO_UINT, value, loc);
  return NULL;
}

/* False: a 400 has been answered. A complaint leaves the key as it is. */
static bool read_key(neap__http_call *call, neap__http_complaints *complaints, const cJSON *object, uint32_t i,
                     neap_object_key *key) {
  neap_error err = {0};
  const cJSON *hash = key_member(complaints, object, i, "chunk_hash_hex", true, true);
  const cJSON *model = key_member(complaints, object, i, "model_name", true, true);
  const cJSON *rank = key_member(complaints, object, i, "kv_rank", false, true);
  const cJSON *group = key_member(complaints, object, i, "object_group_id", false, false);
  const cJSON *salt = key_member(complaints, object, i, "cache_salt", true, false);
  if (complaints->list) return true;
  key->model = model->valuestring;
  key->salt = salt ? salt->valuestring : "";
  key->rank = (uint32_t)rank->valuedouble;
  key->group = group ? (uint32_t)group->valuedouble : 0;
  if (!read_hash(hash->valuestring, key->hash)) {
    neap__http_reply_detail(call, MHD_HTTP_BAD_REQUEST,
                            "keys[%u]: chunk_hash_hex '%.80s' is not valid; expected 64 "
                            "hexadecimal digits",
                            i, hash->valuestring);
    return false;
  }
  if (neap__model_check(key->model, strlen(key->model), &err) == 0 &&
      neap__salt_check(key->salt, strlen(key->salt), &err) == 0)
    return true;
  neap__http_reply_detail(call, MHD_HTTP_BAD_REQUEST, "keys[%u]: %s", i, err.text);
  return false;
}

/* False: answered. */
static bool read_keys(neap__http_call *call, neap__http_complaints *complaints, deletion *d) {
  const cJSON *keys = cJSON_GetObjectItemCaseSensitive(d->body, "keys"), *object;
  if (!cJSON_IsArray(keys)) {
    cJSON *loc = neap__http_loc("body", "keys");
    if (keys)
      neap__http_complain(complaints, NEAP_HTTP_NO_LIST, keys, loc);
    else
      neap__http_complain(complaints, NEAP_HTTP_MISSING, d->body, loc);
    return true;
  }
  int count = cJSON_GetArraySize(keys);
  if (count > KEYS_MAX) {
    neap__http_reply_detail(call, MHD_HTTP_BAD_REQUEST, "too many keys: %d; expected at most %d", count, KEYS_MAX);
    return false;
  }
  d->keys = calloc((size_t)count + 1, sizeof(*d->keys));
  if (!d->keys) return false; /* no memory, no answer: the connection ends */
  cJSON_ArrayForEach(object, keys) {
    if (!read_key(call, complaints, object, d->count, &d->keys[d->count])) return false;
    d->count++;
  }
  return true;
}

/* False: answered. */
static bool read_deletion(neap__http_call *call, deletion *d, const char **adapter) {
  neap__http_complaints complaints = {0};
  bool going = read_keys(call, &complaints, d);
  const cJSON *tier = cJSON_GetObjectItemCaseSensitive(d->body, "tier");
  const cJSON *force = cJSON_GetObjectItemCaseSensitive(d->body, "force");
  const cJSON *name = cJSON_GetObjectItemCaseSensitive(d->body, "adapter");
  const char *tier_name = !tier ? "l2" : cJSON_IsString(tier) ? tier->valuestring : "";
  d->l1 = strcmp(tier_name, "l1") == 0 || strcmp(tier_name, "all") == 0;
  d->l2 = strcmp(tier_name, "l2") == 0 || strcmp(tier_name, "all") == 0;
  d->force = cJSON_IsTrue(force);
  *adapter = cJSON_IsString(name) ? name->valuestring : NULL;
  if (!going) {
    cJSON_Delete(complaints.list);
    return false;
  }
  if (!d->l1 && !d->l2)
    neap__http_complain(&complaints, "literal_error", "Input should be 'l2', 'l1' or 'all'", tier,
                        neap__http_loc("body", "tier"));
  if (force && !cJSON_IsBool(force))
    neap__http_complain(&complaints, NEAP_HTTP_NO_BOOL, force, neap__http_loc("body", "force"));
  if (name && !*adapter && !cJSON_IsNull(name))
    neap__http_complain(&complaints, NEAP_HTTP_NO_STRING, name, neap__http_loc("body", "adapter"));
  return !neap__http_reply_complaints(call, &complaints);
}

/* --- L1 ------------------------------------------------------------------------------------------------------- */

/* The binary key in a space of that model; false past the last space, or for a tenant nobody has named. */
static bool next_key(neap__names *names, const neap_object_key *key, uint32_t *space, neap__key *out) {
  uint32_t tenant;
  if (neap__names_tenant_find(names, key->salt, strlen(key->salt), &tenant) != 0) return false;
  for (; *space < neap__names_spaces(names); (*space)++) {
    if (strcmp(neap__names_model(names, *space), key->model) != 0) continue;
    *out = (neap__key){.space = (*space)++, .rank = key->rank, .group = key->group, .tenant = tenant};
    memcpy(out->hash, key->hash, sizeof(out->hash));
    return true;
  }
  return false;
}

static void delete_l1(deletion *d) {
  neap__engine *engine = d->call->http->config.engine;
  for (uint32_t i = 0; i < d->count; i++) {
    uint32_t space = 0;
    neap__key key;
    while (next_key(engine->names, &d->keys[i], &space, &key)) {
      int rc = neap__l1_remove(engine->l1, &key, d->force);
      d->deleted += rc == 0;
      d->skipped += rc == NEAP_EBUSY;
    }
  }
}

/* --- L2 ------------------------------------------------------------------------------------------------------- */

/* Stores know a model by the first layout it had here; a model that has not registered since the start is skipped. */
static bool collect_l2(deletion *d) {
  neap__names *names = d->call->http->config.engine->names;
  d->l2_keys = calloc((size_t)d->count + 1, sizeof(*d->l2_keys));
  for (uint32_t i = 0; d->l2_keys && i < d->count; i++) {
    uint32_t space = 0;
    neap__key *key = &d->l2_keys[d->l2_count];
    bool known = next_key(names, &d->keys[i], &space, key);
    while (known && !neap__names_primary(names, key->space)) known = next_key(names, &d->keys[i], &space, key);
    if (known)
      d->l2_count++;
    else
      d->skipped++;
  }
  d->deleted += d->l2_count;
  return d->l2_keys != NULL;
}

static void note_error(deletion *d, neap__tier *tier, int code) {
  if (!d->error[0])
    snprintf(d->error, sizeof(d->error), "L2 adapter '%s': %s", neap__tier_config_of(tier)->type, neap_strerror(code));
}

static void delete_ended(deletion *d) {
  if (--d->pending == 0) neap__http_wake(d->call);
}

static void delete_done(neap__task *task) {
  deletion *d = task->ctx;
  for (uint32_t i = 0; i < task->op.count; i++) {
    int rc = task->op.objects[i].result;
    if (rc != 0 && rc != NEAP_ENOENT) note_error(d, task->tier, rc);
  }
  delete_ended(d);
}

static void delete_submit_to(deletion *d, neap__tier *tier) {
  neap__task *task = neap__task_new(NEAP_OP_REMOVE, d->l2_count);
  int rc = task ? 0 : NEAP_ENOMEM;
  d->pending++;
  if (task) {
    memcpy(task->keys, d->l2_keys, d->l2_count * sizeof(*d->l2_keys));
    task->ctx = d;
    task->done = delete_done;
    task->release = neap__task_free;
    rc = neap__tier_submit(tier, task, DELETE_DEADLINE_MS);
  }
  if (rc == 0) return;
  if (task) neap__task_free(task);
  note_error(d, tier, rc);
  delete_ended(d);
}

static void delete_submit(neap__job *job) {
  deletion *d = (deletion *)job;
  const neap__engine *engine = d->call->http->config.engine;
  d->pending = 1; /* this function's own: the last one to end wakes */
  for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++) {
    neap__tier *tier = neap__tier_set_at(engine->tiers, i);
    if (tier && (!d->only || d->tier.index == i)) delete_submit_to(d, tier);
  }
  delete_ended(d);
}

/* --- the request ---------------------------------------------------------------------------------------------- */

static void delete_answer(neap__http_call *call) {
  deletion *d = call->state;
  cJSON *json = cJSON_CreateObject();
  cJSON_AddNumberToObject(json, "deleted", d->deleted);
  cJSON_AddNumberToObject(json, "skipped", d->skipped);
  cJSON_AddBoolToObject(json, "ok", !d->error[0]);
  if (d->error[0]) cJSON_AddStringToObject(json, "error", d->error);
  neap__http_reply_json(call, MHD_HTTP_OK, json);
  free_deletion(d);
}

void neap__http_objects_delete(neap__http_call *call) {
  const char *adapter = NULL;
  deletion *d = calloc(1, sizeof(*d));
  if (!d) return; /* no memory, no answer: the connection ends */
  d->call = call;
  d->job.run = delete_submit;
  bool ok = neap__http_body(call, &d->body) && read_deletion(call, d, &adapter);
  d->held = ok && d->l2 && neap__http_hold_tier(call, adapter, &d->tier);
  if (!ok || (d->l2 && !d->held)) {
    free_deletion(d);
    return;
  }
  d->only = adapter != NULL;
  call->state = d;
  if (d->l1) delete_l1(d);
  if (d->l2 && !collect_l2(d)) snprintf(d->error, sizeof(d->error), "out of memory");
  if (d->l2_count == 0) {
    delete_answer(call);
    return;
  }
  neap__http_wait(call, delete_answer);
  neap__loop_post(call->http->config.engine->loop, &d->job);
}
