/* SPDX-License-Identifier: MIT
 *
 * serve/http_status.c - GET /status and GET /metrics: everything is read when asked for. HTTP thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/http_call.h"

#define L1_TAG "_default"
#define ADAPTER_JSON_MAX NEAP_TIER_STATUS_BYTES

static void add_capacity(cJSON *object, const char *name, uint64_t bytes) {
  neap__http_json_u64(cJSON_AddObjectToObject(object, name), "dram", bytes);
}

static cJSON *l1_manager(const neap__http *http, const neap__l1_stats *l1) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddBoolToObject(json, "is_healthy", true);
  cJSON_AddNumberToObject(json, "total_object_count", l1->objects);
  cJSON_AddNumberToObject(json, "write_locked_count", l1->staged);
  cJSON_AddNumberToObject(json, "read_locked_count", l1->leased);
  cJSON_AddNumberToObject(json, "temporary_count", l1->temporary);
  cJSON_AddNumberToObject(json, "staging_object_count", l1->staged);
  neap__http_json_u64(json, "staging_bytes", l1->staged_bytes);
  neap__http_json_u64(json, "memory_used_bytes", l1->used_bytes);
  neap__http_json_u64(json, "memory_total_bytes", l1->pool_bytes);
  neap__http_json_u64(json, "memory_configured_bytes", http->config.engine->config.l1.pool_bytes);
  add_capacity(json, "capacity_bytes_by_backend", l1->pool_bytes);
  cJSON_AddNumberToObject(json, "memory_usage_ratio", (double)l1->used_bytes / (double)NEAP_MAX(l1->pool_bytes, 1));
  cJSON_AddNumberToObject(json, "write_ttl_seconds", (double)http->config.write_ttl_s);
  cJSON_AddNumberToObject(json, "read_ttl_seconds", (double)http->config.read_ttl_s);
  return json;
}

/* What LMCache calls a controller is a flow here; all run on the engine's loop thread, whose end would be the
 * process' end. */
static cJSON *controller(void) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddBoolToObject(json, "is_healthy", true);
  cJSON_AddBoolToObject(json, "thread_alive", true);
  return json;
}

static void add_adapter_counts(cJSON *json, const neap__snapshot *now) {
  cJSON_AddNumberToObject(json, "num_l2_adapters", now->tier_count);
  cJSON_AddNumberToObject(json, "num_active_adapters", now->tier_count - now->draining);
  cJSON_AddNumberToObject(json, "num_draining_adapters", now->draining);
}

static cJSON *store_controller(const neap__snapshot *now) {
  cJSON *json = controller();
  cJSON_AddNumberToObject(json, "pending_keys_count", now->storer.pending_objects);
  cJSON_AddNumberToObject(json, "in_flight_task_count", now->storer.in_flight);
  add_adapter_counts(json, now);
  return json;
}

static cJSON *l1_eviction(const neap__engine *engine) {
  cJSON *json = controller();
  neap__stream_stats stats;
  neap__stream_stats_get(engine->stream, &stats);
  cJSON_AddStringToObject(json, "eviction_policy", stats.policy);
  cJSON_AddNumberToObject(json, "trigger_watermark", engine->config.watermark);
  cJSON_AddNumberToObject(json, "eviction_ratio", engine->config.ratio);
  return json;
}

static cJSON *prefetch_controller(const neap__http *http, const neap__snapshot *now) {
  cJSON *json = controller();
  cJSON_AddNumberToObject(json, "max_in_flight", http->config.engine->config.prefetch_in_flight);
  cJSON_AddNumberToObject(json, "submission_queue_size", 0); /* fetches are queued in one place, the next line's */
  cJSON_AddNumberToObject(json, "pending_queue_size", now->fetcher.waiting);
  cJSON_AddNumberToObject(json, "in_flight_request_count", now->fetcher.in_flight);
  cJSON_AddNumberToObject(json, "lookup_phase_count", now->fetcher.lookup_phase);
  cJSON_AddNumberToObject(json, "load_phase_count", now->fetcher.load_phase);
  cJSON_AddNumberToObject(json, "completed_results_count", http->prefetch_count);
  add_adapter_counts(json, now);
  return json;
}

static cJSON *l2_eviction(const neap__tier_view *tiers) {
  cJSON *json = controller(), *list = cJSON_AddArrayToObject(json, "adapters");
  for (uint32_t i = 0; i < tiers->count; i++) {
    const neap__tier_config *config = neap__tier_config_of(tiers->entries[i].tier);
    if (!config->eviction_policy[0]) continue;
    cJSON *adapter = cJSON_CreateObject();
    cJSON_AddNumberToObject(adapter, "adapter_index", tiers->entries[i].index);
    cJSON_AddStringToObject(adapter, "eviction_policy", config->eviction_policy);
    cJSON_AddNumberToObject(adapter, "trigger_watermark", config->trigger_watermark);
    cJSON_AddNumberToObject(adapter, "eviction_ratio", config->eviction_ratio);
    cJSON_AddItemToArray(list, adapter);
  }
  return json;
}

/* What the framework did about the adapter's failures; LMCache does nothing, and has no names for it. */
static void add_guard(cJSON *json, const neap__tier_stats *stats) {
  cJSON *guard = cJSON_AddObjectToObject(json, "neap");
  cJSON_AddStringToObject(guard, "breaker", neap__breaker_name((neap__breaker)stats->breaker));
  cJSON_AddBoolToObject(guard, "store_paused", stats->store_paused);
  cJSON_AddNumberToObject(guard, "queued", stats->queued);
  const struct {
    const char *name;
    uint64_t value;
  } counts[] = {{"breaker_opened", stats->breaker_opened},
                {"breaker_refused", stats->breaker_refused},
                {"retried_objects", stats->retried_objects},
                {"joined_stores", stats->joined_stores},
                {"negative_hits", stats->negative_hits},
                {"no_space_pauses", stats->no_space_pauses},
                {"no_space_refused", stats->no_space_refused},
                {"quarantined", stats->quarantined},
                {"deadlines", stats->deadlines}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(counts); i++) neap__http_json_u64(guard, counts[i].name, counts[i].value);
  cJSON *failures = cJSON_AddObjectToObject(guard, "store_failures");
  for (int code = 1; code < (int)NEAP_ARRAY_LEN(stats->store_failures); code++)
    if (stats->store_failures[code]) neap__http_json_u64(failures, neap_err_name(-code), stats->store_failures[code]);
}

cJSON *neap__http_tier_status(neap__tier *tier, const neap__tier_stats *stats) {
  char text[ADAPTER_JSON_MAX];
  int n = neap__tier_status(tier, text, sizeof(text));
  cJSON *json = n > 0 ? cJSON_Parse(text) : NULL;
  if (!cJSON_IsObject(json)) {
    cJSON_Delete(json);
    json = cJSON_CreateObject();
  }
  if (!cJSON_HasObjectItem(json, "is_healthy")) cJSON_AddBoolToObject(json, "is_healthy", stats->healthy);
  if (!cJSON_HasObjectItem(json, "type")) cJSON_AddStringToObject(json, "type", neap__tier_config_of(tier)->name);
  return json;
}

static bool is_healthy(const cJSON *status) { return cJSON_IsTrue(cJSON_GetObjectItem(status, "is_healthy")); }

/* The adapter's own facts, and what the framework knows if those leave it out. */
static cJSON *l2_adapter(neap__tier *tier, const neap__tier_stats *stats) {
  cJSON *json = neap__http_tier_status(tier, stats);
  if (!cJSON_HasObjectItem(json, "current_size_bytes"))
    neap__http_json_u64(json, "current_size_bytes", stats->used_bytes);
  if (stats->capacity_bytes && !cJSON_HasObjectItem(json, "max_capacity_bytes"))
    neap__http_json_u64(json, "max_capacity_bytes", stats->capacity_bytes);
  if (!cJSON_HasObjectItem(json, "neap")) add_guard(json, stats);
  return json;
}

static cJSON *tagged(cJSON *item) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddItemToObject(json, L1_TAG, item);
  return json;
}

static cJSON *storage_manager(const neap__http *http, const neap__snapshot *now) {
  const neap__engine *engine = http->config.engine;
  cJSON *json = cJSON_CreateObject(), *adapters = cJSON_CreateArray(), *usage = cJSON_CreateArray();
  neap__tier_view tiers;
  bool healthy = true;
  neap__tier_set_view(engine->tiers, &tiers);
  for (uint32_t i = 0; i < tiers.count; i++) {
    neap__tier_stats stats;
    neap__tier_stats_get(tiers.entries[i].tier, &stats);
    cJSON *adapter = l2_adapter(tiers.entries[i].tier, &stats);
    healthy = healthy && is_healthy(adapter);
    cJSON_AddItemToArray(adapters, adapter);
  }
  cJSON_AddItemToArray(usage, cJSON_CreateNumber((double)now->l1.used_bytes));
  cJSON_AddItemToArray(usage, cJSON_CreateNumber((double)now->l1.pool_bytes));
  cJSON_AddBoolToObject(json, "is_healthy", healthy);
  cJSON_AddItemToObject(json, "l1_managers", tagged(l1_manager(http, &now->l1)));
  cJSON_AddItemToObject(json, "store_controllers", tagged(store_controller(now)));
  cJSON_AddItemToObject(json, "l1_eviction_controllers", tagged(l1_eviction(engine)));
  cJSON_AddItemToObject(json, "prefetch_controller", prefetch_controller(http, now));
  cJSON_AddItemToObject(json, "l2_eviction_controller", l2_eviction(&tiers));
  cJSON_AddItemToObject(json, "l2_adapters", adapters);
  cJSON_AddNumberToObject(json, "num_l2_adapters", tiers.count);
  neap__tier_view_drop(engine->tiers, &tiers);
  cJSON_AddItemToObject(json, "l1_usage", usage);
  add_capacity(json, "l1_capacity_bytes_by_backend", now->l1.pool_bytes);
  cJSON_AddItemToObject(json, "l1_manager", l1_manager(http, &now->l1));
  cJSON_AddItemToObject(json, "store_controller", store_controller(now));
  cJSON_AddItemToObject(json, "l1_eviction_controller", l1_eviction(engine));
  return json;
}

typedef struct instance_list {
  cJSON *ids, *meta;
} instance_list;

static void add_instance(void *ctx, const neap__instance_info *info) {
  instance_list *list = ctx;
  char id[24];
  snprintf(id, sizeof(id), "%llu", (unsigned long long)info->instance_id);
  cJSON_AddItemToArray(list->ids, cJSON_CreateRaw(id));
  cJSON *meta = cJSON_AddObjectToObject(list->meta, id);
  cJSON_AddStringToObject(meta, "model_name", info->model);
  cJSON_AddNumberToObject(meta, "world_size", info->world_size);
  cJSON_AddNumberToObject(meta, "block_size", info->block_size);
  cJSON_AddBoolToObject(meta, "use_mla", info->one_plane);
}

static void add_liveness(cJSON *json, const neap__http_config *config, uint32_t instances) {
  cJSON *liveness = cJSON_AddObjectToObject(json, "worker_liveness");
  cJSON_AddBoolToObject(liveness, "enabled", config->reap_timeout_s > 0);
  cJSON_AddNumberToObject(liveness, "reap_timeout_seconds", config->reap_timeout_s);
  cJSON_AddNumberToObject(liveness, "registration_grace_seconds", config->registration_grace_s);
  cJSON_AddNumberToObject(liveness, "tracked_instances", instances);
}

/* Facts about parts of LMCache that are not here: transfers between servers, and the stream of KV events. */
static void add_absent_parts(cJSON *json, const neap__http_config *config) {
  cJSON_AddNumberToObject(json, "active_p2p_lookup_jobs", 0);
  cJSON_AddBoolToObject(json, "p2p_enabled", false);
  cJSON_AddStringToObject(json, "p2p_state", "unregistered");
  cJSON_AddNumberToObject(json, "p2p_peer_count", 0);
  cJSON_AddArrayToObject(json, "p2p_peers");
  static const char *const zero[] = {"incarnation",  "log_depth",      "next_seq",
                                     "lost_markers", "unbound_stores", "subscribers"};
  cJSON *events = cJSON_AddObjectToObject(json, "kv_events");
  cJSON_AddBoolToObject(events, "enabled", false);
  neap__http_json_u64(events, "log_capacity", config->kv_event_log_size);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(zero); i++) cJSON_AddNumberToObject(events, zero[i], 0);
}

void neap__http_status(neap__http_call *call) {
  const neap__http *http = call->http;
  neap__snapshot now;
  neap__snapshot_take(http->config.engine, http->config.server, &now);
  cJSON *json = cJSON_CreateObject(), *storage = storage_manager(http, &now);
  cJSON_AddBoolToObject(json, "is_healthy", is_healthy(storage));
  cJSON_AddStringToObject(json, "engine_type", "MPCacheServer");
  cJSON_AddNumberToObject(json, "chunk_size", http->config.engine->config.l1.chunk_tokens);
  cJSON_AddStringToObject(json, "hash_algorithm", "blake3");
  cJSON_AddItemToObject(cJSON_AddObjectToObject(json, "neap"), "policy", neap__http_policy_json(http));
  cJSON_AddNumberToObject(json, "active_sessions", now.server.sessions);
  cJSON_AddItemToObject(json, "storage_manager", storage);
  cJSON_AddNumberToObject(json, "active_prefetch_jobs", now.server.active_fetches);
  add_absent_parts(json, &http->config);
  add_liveness(json, &http->config, now.server.instances);
  instance_list list = {.ids = cJSON_AddArrayToObject(json, "registered_non_cuda_instance_ids"),
                        .meta = cJSON_AddObjectToObject(json, "non_cuda_context_meta")};
  neap__server_each_instance(http->config.server, add_instance, &list);
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

/* The status of the tier of that index, malloc'd, or NULL. */
static char *status_of(neap__tier_set *tiers, uint32_t index) {
  char number[16], *text = malloc(ADAPTER_JSON_MAX);
  neap__tier_entry entry;
  snprintf(number, sizeof(number), "%u", index);
  bool told = false;
  if (text && neap__tier_set_hold(tiers, number, &entry, NULL) == 0) {
    told = neap__tier_status(entry.tier, text, ADAPTER_JSON_MAX) > 0;
    neap__tier_set_drop(tiers, entry.index);
  }
  if (told) return text;
  free(text);
  return NULL;
}

void neap__http_metrics(neap__http_call *call) {
  const neap__http *http = call->http;
  if (!http->config.metrics) {
    neap__http_reply_detail(call, MHD_HTTP_NOT_FOUND, "Not Found");
    return;
  }
  char *text = NULL;
  size_t bytes = 0;
  FILE *out = open_memstream(&text, &bytes);
  if (!out) return; /* no memory, no answer: the connection ends */
  neap__snapshot now;
  char *statuses[NEAP_TIERS_MAX] = {NULL};
  neap__snapshot_take(http->config.engine, http->config.server, &now);
  for (uint32_t i = 0; i < now.tier_count; i++)
    now.tiers[i].status_json = statuses[i] = status_of(http->config.engine->tiers, now.tiers[i].index);
  neap__metrics_print(out, &now, http->config.instance_id);
  for (uint32_t i = 0; i < now.tier_count; i++) free(statuses[i]);
  if (fclose(out) != 0) {
    free(text);
    return;
  }
  neap__http_reply(call, MHD_HTTP_OK, "text/plain; charset=utf-8", text);
}
