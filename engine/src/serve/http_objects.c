/* SPDX-License-Identifier: MIT
 *
 * serve/http_objects.c - GET /cache/objects: a page of what an L2 store holds.
 *
 * Stores list in an order of their own, so a page is made by listing everything and keeping the least names above the
 * last one of the page before: bounded memory, and no object is missed or shown twice however much changes between
 * two pages. The sink runs on any thread, one call at a time and none after the answer (l2/tier.h); the rest on the
 * HTTP and the loop thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "serve/http_call.h"

#define PAGE_DEFAULT 500
#define PAGE_MAX 5000
#define LIST_DEADLINE_MS 20000u

typedef struct entry {
  char *name; /* the key in its native form */
  uint64_t bytes;
} entry;

typedef struct listing {
  neap__job job;
  neap__http_call *call;
  neap__tier_entry tier; /* held */
  char *model;           /* NULL: any */
  char *after;           /* NULL: from the start */
  uint32_t page, count, cap;
  bool no_memory;
  int result;
  entry *entries; /* cap = 2 * (page + 1): cut to the least page + 1 whenever full */
} listing;

/* --- collecting ----------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->name, ((const entry *)b)->name); }

static void keep_least(listing *list) {
  qsort(list->entries, list->count, sizeof(*list->entries), by_name);
  while (list->count > list->page + 1) free(list->entries[--list->count].name);
}

static int list_sink(neap_op *op, const neap_list_entry *found) {
  listing *list = ((neap__task *)op)->ctx;
  char name[NEAP_KEY_TEXT_MAX];
  if (list->model && strcmp(found->key.model, list->model) != 0) return 0;
  if (neap__key_format(&found->key, NEAP_KEY_NATIVE, name, sizeof(name)) < 0) return 0;
  if (list->after && strcmp(name, list->after) <= 0) return 0;
  if (list->count == list->cap) keep_least(list);
  entry *e = &list->entries[list->count];
  *e = (entry){.name = strdup(name), .bytes = found->bytes};
  list->no_memory = e->name == NULL;
  if (list->no_memory) return 1;
  list->count++;
  return 0;
}

static void list_done(neap__task *task) {
  listing *list = task->ctx;
  list->result = list->no_memory ? NEAP_ENOMEM : task->op.list_result;
  neap__http_wake(list->call);
}

static void list_submit(neap__job *job) {
  listing *list = (listing *)job;
  neap__task *task = neap__task_new(NEAP_OP_LIST, 0);
  int rc = task ? 0 : NEAP_ENOMEM;
  if (task) {
    task->op.sink = list_sink;
    task->ctx = list;
    task->done = list_done;
    task->release = neap__task_free;
    rc = neap__tier_submit(list->tier.tier, task, LIST_DEADLINE_MS);
  }
  if (rc == 0) return;
  if (task) neap__task_free(task);
  list->result = rc;
  neap__http_wake(list->call);
}

/* --- answering ------------------------------------------------------------------------------------------------ */

static void free_listing(listing *list) {
  neap__tier_set_drop(list->call->http->config.engine->tiers, list->tier.index);
  for (uint32_t i = 0; i < list->count; i++) free(list->entries[i].name);
  free(list->entries);
  free(list->model);
  free(list->after);
  free(list);
}

static void add_entry(cJSON *entries, const entry *e) {
  neap_object_key key;
  char strings[NEAP_KEY_TEXT_MAX], hex[2 * NEAP_HASH_BYTES + 1];
  NEAP_ASSERT(neap__key_parse(e->name, NEAP_KEY_NATIVE, &key, strings, sizeof(strings)) == 0);
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", key.hash[i]);
  cJSON *item = cJSON_CreateObject(), *shown = cJSON_AddObjectToObject(item, "key");
  cJSON_AddStringToObject(shown, "chunk_hash_hex", hex);
  cJSON_AddStringToObject(shown, "model_name", key.model);
  cJSON_AddNumberToObject(shown, "kv_rank", key.rank);
  cJSON_AddNumberToObject(shown, "object_group_id", key.group);
  cJSON_AddStringToObject(shown, "cache_salt", key.salt);
  neap__http_json_u64(item, "size_bytes", e->bytes);
  cJSON_AddItemToArray(entries, item);
}

static void list_answer(neap__http_call *call) {
  listing *list = call->state;
  const neap__tier_config *config = neap__tier_config_of(list->tier.tier);
  if (list->result != 0) {
    neap__http_reply_detail(call, MHD_HTTP_SERVICE_UNAVAILABLE, "L2 adapter '%s' could not be listed: %s", config->type,
                            neap_strerror(list->result));
    free_listing(list);
    return;
  }
  keep_least(list);
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "adapter", config->type);
  cJSON_AddBoolToObject(json, "shared", config->shared);
  cJSON *entries = cJSON_AddArrayToObject(json, "entries");
  for (uint32_t i = 0; i < list->count && i < list->page; i++) add_entry(entries, &list->entries[i]);
  if (list->count > list->page)
    cJSON_AddStringToObject(json, "next_page_token", list->entries[list->page - 1].name);
  else
    cJSON_AddNullToObject(json, "next_page_token");
  neap__http_reply_json(call, MHD_HTTP_OK, json);
  free_listing(list);
}

/* --- the request ---------------------------------------------------------------------------------------------- */

/* False: a complaint has been answered. */
static bool read_page_size(neap__http_call *call, uint32_t *page) {
  const char *text = neap__http_query(call, "page_size");
  *page = PAGE_DEFAULT;
  if (!text) return true;
  neap__http_complaints complaints = {0};
  char *end;
  errno = 0;
  long size = strtol(text, &end, 10);
  cJSON *input = cJSON_CreateString(text), *loc = neap__http_loc("query", "page_size");
  if (end == text || *end || errno) {
    neap__http_complain(&complaints, "int_parsing", "Input should be a valid integer", input, loc);
  } else if (size < 1 || size > PAGE_MAX) {
    bool low = size < 1;
    const char *msg = low ? "Input should be greater than or equal to 1" : "Input should be less than or equal to 5000";
    neap__http_complain(&complaints, low ? "greater_than_equal" : "less_than_equal", msg, input, loc);
    cJSON *context = cJSON_AddObjectToObject(cJSON_GetArrayItem(complaints.list, 0), "ctx");
    cJSON_AddNumberToObject(context, low ? "ge" : "le", low ? 1 : PAGE_MAX);
  } else {
    *page = (uint32_t)size;
    cJSON_Delete(loc);
  }
  cJSON_Delete(input);
  return !neap__http_reply_complaints(call, &complaints);
}

bool neap__http_hold_tier(neap__http_call *call, const char *type, neap__tier_entry *out) {
  neap__tier_set *tiers = call->http->config.engine->tiers;
  neap__tier_view view;
  bool found = false;
  neap__tier_set_view(tiers, &view);
  for (uint32_t i = 0; i < view.count; i++) {
    const neap__tier_entry *e = &view.entries[i];
    bool fits = !type || strcmp(neap__tier_config_of(e->tier)->type, type) == 0 || strcmp(e->name, type) == 0;
    if (found || e->draining || !fits) {
      neap__tier_set_drop(tiers, e->index);
      continue;
    }
    *out = *e;
    found = true;
  }
  if (!found && view.count == 0)
    neap__http_reply_detail(call, MHD_HTTP_SERVICE_UNAVAILABLE, "no L2 adapters configured");
  else if (!found)
    neap__http_reply_detail(call, MHD_HTTP_NOT_FOUND, "no L2 adapter with type_name='%s'", type ? type : "");
  return found;
}

/* Takes the hold over. */
static listing *new_listing(neap__http_call *call, const neap__tier_entry *tier, uint32_t page, const char *model,
                            const char *after) {
  listing *list = calloc(1, sizeof(*list));
  if (!list) {
    neap__tier_set_drop(call->http->config.engine->tiers, tier->index);
    return NULL;
  }
  list->job.run = list_submit;
  list->call = call;
  list->tier = *tier;
  list->page = page;
  list->cap = 2 * (page + 1);
  list->entries = calloc(list->cap, sizeof(*list->entries));
  if (model) list->model = strdup(model);
  if (after) list->after = strdup(after);
  if (list->entries && (!model || list->model) && (!after || list->after)) return list;
  free_listing(list);
  return NULL;
}

void neap__http_objects_list(neap__http_call *call) {
  const char *tier_name = neap__http_query(call, "tier"), *after = neap__http_query(call, "page_token");
  uint32_t page;
  if (!read_page_size(call, &page)) return;
  if (tier_name && strcmp(tier_name, "l2") != 0) {
    neap__http_reply_detail(call, MHD_HTTP_BAD_REQUEST, "tier '%s' not supported; only 'l2'", tier_name);
    return;
  }
  neap_object_key key;
  char strings[NEAP_KEY_TEXT_MAX];
  neap__tier_entry tier;
  if (!neap__http_hold_tier(call, neap__http_query(call, "adapter"), &tier)) return;
  listing *list = new_listing(call, &tier, page, neap__http_query(call, "model_name"), after);
  if (!list) return; /* no memory, no answer: the connection ends */
  const neap__tier_config *config = neap__tier_config_of(tier.tier);
  if (after && neap__key_parse(after, NEAP_KEY_NATIVE, &key, strings, sizeof(strings)) != 0) {
    neap__http_reply_detail(call, MHD_HTTP_BAD_REQUEST,
                            "page_token '%s' is not valid; expected the next_page_token of an earlier answer", after);
    free_listing(list);
    return;
  }
  if (!neap__tier_can(tier.tier, NEAP_OP_LIST)) {
    neap__http_reply_detail(call, MHD_HTTP_SERVICE_UNAVAILABLE,
                            "L2 adapter '%s' does not support listing: %s does not implement list", config->type,
                            config->name);
    free_listing(list);
    return;
  }
  call->state = list;
  neap__http_wait(call, list_answer);
  neap__loop_post(call->http->config.engine->loop, &list->job);
}
