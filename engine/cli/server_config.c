/* SPDX-License-Identifier: MIT
 *
 * cli/server_config.c - see cli/server_config.h. Single-threaded. */
#include "server_config.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#define POOL_PREFIX "lmcache_l1_pool_"
#define GIB (1024.0 * 1024.0 * 1024.0)

int neap__pool_name(const char *given, char *name, size_t cap, neap_error *err) {
  const char *bare = given + (*given == '/');
  bool prefixed = strncmp(bare, POOL_PREFIX, strlen(POOL_PREFIX)) == 0;
  name[0] = '\0';
  if (!*bare) return 0;
  int n = snprintf(name, cap, "%s%s", prefixed ? "" : POOL_PREFIX, bare);
  if (n > 0 && (size_t)n < cap && n < 200 && !strchr(bare, '/')) return 0;
  return neap__fail(err, NEAP_EINVAL, "--shm-name: '%s' is not valid; expected a name without '/', at most 180 bytes",
                    given);
}

void neap__engine_config_fill(const neap__flags *flags, const char *pool_name, const char *lua_dir,
                              const char *plugin_dirs, neap__engine_config *out) {
  memset(out, 0, sizeof(*out));
  out->l1.pool_bytes = (uint64_t)(neap__flags_number(flags, "l1-size-gb") * GIB);
  out->l1.align_bytes = (uint32_t)neap__flags_int(flags, "l1-align-bytes");
  out->l1.chunk_tokens = (uint32_t)neap__flags_int(flags, "chunk-size");
  out->l1.shm_name = pool_name;
  out->l1.hugepages = neap__flags_on(flags, "l1-use-hugepages");
  out->l1.prefault = !neap__flags_on(flags, "l1-use-lazy");
  out->l1.slots_max = (uint32_t)neap__flags_int(flags, "l1-slots-max");
  out->eviction_policy = neap__flags_text(flags, "eviction-policy");
  out->watermark = neap__flags_number(flags, "eviction-trigger-watermark");
  out->ratio = neap__flags_number(flags, "eviction-ratio");
  out->recompute = (neap_cost){.base_us = neap__flags_number(flags, "recompute-us"),
                               .slope_us = neap__flags_number(flags, "recompute-slope-us")};
  out->l2_adapters = neap__flags_list(flags, "l2-adapter", &out->l2_adapter_count);
  out->plugin_dirs = plugin_dirs;
  out->lua_dir = lua_dir;
  if (neap__flags_on(flags, "record")) out->record_bytes = (uint64_t)neap__flags_int(flags, "record-mib") << 20;
  out->policy_window = (uint32_t)neap__flags_int(flags, "policy-window");
  out->skip_l1 = strcmp(neap__flags_text(flags, "l2-store-policy"), "skip_l1") == 0;
  out->retain = strcmp(neap__flags_text(flags, "l2-prefetch-policy"), "retain") == 0;
  out->prefetch_in_flight = (uint32_t)neap__flags_int(flags, "l2-prefetch-max-in-flight");
}

/* --- /config -------------------------------------------------------------------------------------------------- */

/* One member that shows one flag; key NULL: the flag's name with '_' for '-'. */
typedef struct shown_flag {
  const char *flag, *key;
} shown_flag;

static void add_flag(cJSON *object, const neap__flags *flags, const shown_flag *shown) {
  char key[96];
  size_t count;
  const neap__flag *table = neap__flag_table(&count), *flag = table;
  while (strcmp(flag->name, shown->flag) != 0) NEAP_ASSERT(++flag < table + count);
  snprintf(key, sizeof(key), "%s", shown->key ? shown->key : flag->name);
  for (char *c = key; *c; c++)
    if (*c == '-') *c = '_';
  uint32_t words = 0;
  const char *text, *const *list;
  switch (flag->kind) {
    case NEAP_FLAG_SWITCH:
    case NEAP_FLAG_BOOL: cJSON_AddBoolToObject(object, key, neap__flags_on(flags, flag->name)); break;
    case NEAP_FLAG_INT: cJSON_AddNumberToObject(object, key, (double)neap__flags_int(flags, flag->name)); break;
    case NEAP_FLAG_NUMBER: cJSON_AddNumberToObject(object, key, neap__flags_number(flags, flag->name)); break;
    case NEAP_FLAG_TEXT:
    case NEAP_FLAG_CHOICE:
      text = neap__flags_text(flags, flag->name);
      cJSON_AddItemToObject(object, key, text ? cJSON_CreateString(text) : cJSON_CreateNull());
      break;
    case NEAP_FLAG_LIST:
    case NEAP_FLAG_WORDS:
      list = neap__flags_list(flags, flag->name, &words);
      cJSON *array = cJSON_AddArrayToObject(object, key);
      for (uint32_t i = 0; i < words; i++) cJSON_AddItemToArray(array, cJSON_CreateString(list[i]));
      break;
  }
}

static void add_flags(cJSON *object, const neap__flags *flags, const shown_flag *shown, size_t count) {
  for (size_t i = 0; i < count; i++) add_flag(object, flags, &shown[i]);
}

/* A text that should be a JSON object; {} if it is none, for it configures a part that is not here. */
static void add_object(cJSON *json, const char *key, const char *text) {
  cJSON *object = cJSON_Parse(text);
  if (!cJSON_IsObject(object)) {
    cJSON_Delete(object);
    object = cJSON_CreateObject();
  }
  cJSON_AddItemToObject(json, key, object);
}

static cJSON *show_mp(const neap__flags *flags, const neap__running *running) {
  static const shown_flag plain[] = {
      {"transport", NULL},
      {"host", NULL},
      {"chunk-size", NULL},
      {"max-workers", NULL},
      {"grpc-server-workers", NULL},
      {"hash-algorithm", NULL},
      {"engine-type", NULL},
      {"separate-object-groups", NULL},
      {"enable-segmented-prefix", NULL},
      {"enable-dedup-content", NULL},
      {"enable-blend-reorder", NULL},
      {"supported-transfer-mode", NULL},
      {"isolated-ipc", NULL},
      {"shm-name", NULL},
      {"script-allowed-imports", NULL},
      {"run-script-api-enabled", NULL},
      {"worker-reap-timeout-seconds", NULL},
      {"session-ttl-seconds", NULL},
      {"worker-registration-grace-seconds", NULL},
      {"enable", NULL},
      {"kv-event-log-size", NULL},
      {"null-block-id", NULL},
      {"server-module", "server_modules"},
  };
  static const shown_flag p2p[] = {
      {"p2p-advertise-url", "advertise_url"},     {"p2p-listen-url", "listen_url"},
      {"p2p-lookup-timeout", "lookup_timeout"},   {"p2p-load-timeout", "load_timeout"},
      {"p2p-transfer-engine", "transfer_engine"},
  };
  static const char *const pools[] = {"max-gpu-workers", "max-cpu-workers"};
  cJSON *json = cJSON_CreateObject();
  add_flags(json, flags, plain, NEAP_ARRAY_LEN(plain));
  for (size_t i = 0; i < NEAP_ARRAY_LEN(pools); i++) {
    const char *source = neap__flags_given(flags, pools[i]) ? pools[i] : "max-workers";
    add_flag(json, flags, &(shown_flag){source, pools[i]});
  }
  cJSON_AddNumberToObject(json, "port", running->port);
  cJSON_AddStringToObject(json, "instance_id", running->instance_id);
  cJSON *plugin = cJSON_AddObjectToObject(json, "runtime_plugin_config");
  add_flag(plugin, flags, &(shown_flag){"runtime-plugin-locations", "locations"});
  add_object(plugin, "extra_config", neap__flags_text(flags, "runtime-plugin-config"));
  add_flags(cJSON_AddObjectToObject(json, "p2p_config"), flags, p2p, NEAP_ARRAY_LEN(p2p));
  return json;
}

static void add_eviction(cJSON *json, const char *key, const neap__flags *flags) {
  static const shown_flag plain[] = {
      {"eviction-policy", NULL},        {"eviction-trigger-watermark", "trigger_watermark"},
      {"eviction-ratio", NULL},         {"enable-extra-logging", "extra_logging_enabled"},
      {"extra-logging-interval", NULL},
  };
  add_flags(cJSON_AddObjectToObject(json, key), flags, plain, NEAP_ARRAY_LEN(plain));
}

static cJSON *show_l1(const neap__flags *flags, const neap__running *running) {
  static const shown_flag memory[] = {
      {"l1-use-lazy", "use_lazy"},           {"l1-align-bytes", "align_bytes"}, {"shm-name", NULL},
      {"l1-use-hugepages", "use_hugepages"}, {"l1-devdax-path", "devdax_path"},
  };
  static const shown_flag ttl[] = {
      {"l1-write-ttl-seconds", "write_ttl_seconds"},
      {"l1-read-ttl-seconds", "read_ttl_seconds"},
  };
  double bytes = (double)running->engine->config.l1.pool_bytes;
  cJSON *json = cJSON_CreateObject(), *sizes = cJSON_AddObjectToObject(json, "memory_config");
  add_flags(sizes, flags, memory, NEAP_ARRAY_LEN(memory));
  cJSON_AddNumberToObject(sizes, "size_in_bytes", bytes);
  cJSON_AddNumberToObject(sizes, "init_size_in_bytes", bytes); /* the pool never grows */
  cJSON_AddNumberToObject(sizes, "devdax_size_in_bytes", 0);
  cJSON_AddNullToObject(json, "gds_l1_config");
  add_flags(json, flags, ttl, NEAP_ARRAY_LEN(ttl));
  cJSON_AddStringToObject(json, "tag", "_default");
  add_eviction(json, "eviction", flags);
  return json;
}

/* The configuration as given, secrets masked, the adapter's defaults added; then the framework's own, as LMCache
 * names them. Defaults of a plugin's adapter_params are not shown: they may be what the masking does not know. */
static cJSON *show_adapter(neap__tier_set *tiers, const neap__tier_entry *tier) {
  const neap__tier_config *config = neap__tier_config_of(tier->tier);
  char *shown = neap__tier_set_shown(tiers, tier->index), *checked = neap__tier_set_params(tiers, tier->index);
  cJSON *json = cJSON_Parse(shown), *params = cJSON_Parse(checked), *param;
  free(shown);
  free(checked);
  if (!json) json = cJSON_CreateObject();
  if (!cJSON_HasObjectItem(json, "adapter_params")) {
    cJSON_ArrayForEach(param, params) {
      if (cJSON_HasObjectItem(json, param->string)) continue;
      cJSON_AddItemToObject(json, param->string, cJSON_Duplicate(param, true));
    }
  }
  cJSON_Delete(params);
  cJSON_DeleteItemFromObject(json, "eviction");
  cJSON_DeleteItemFromObject(json, "persist_enabled");
  cJSON_DeleteItemFromObject(json, "shared");
  if (!cJSON_HasObjectItem(json, "affinity_tag")) cJSON_AddStringToObject(json, "affinity_tag", "_default");
  cJSON_AddBoolToObject(json, "shared", config->shared);
  if (config->eviction_policy[0]) {
    cJSON *eviction = cJSON_AddObjectToObject(json, "eviction_config");
    cJSON_AddStringToObject(eviction, "eviction_policy", config->eviction_policy);
    cJSON_AddNumberToObject(eviction, "trigger_watermark", config->trigger_watermark);
    cJSON_AddNumberToObject(eviction, "eviction_ratio", config->eviction_ratio);
  } else {
    cJSON_AddNullToObject(json, "eviction_config");
  }
  cJSON_AddStringToObject(
      json, "persist_config",
      config->persist_enabled ? "PersistConfig(persist_enabled=True)" : "PersistConfig(persist_enabled=False)");
  cJSON_AddNullToObject(json, "serde_config");
  return json;
}

static cJSON *show_storage(const neap__flags *flags, const neap__running *running) {
  static const shown_flag plain[] = {
      {"l2-store-policy", "store_policy"},
      {"l2-prefetch-policy", "prefetch_policy"},
      {"l2-prefetch-max-in-flight", "prefetch_max_in_flight"},
      {"periodic-notifier-interval-ms", NULL},
  };
  cJSON *json = cJSON_CreateObject();
  cJSON_AddItemToObject(json, "l1_manager_config", show_l1(flags, running));
  add_eviction(json, "eviction_config", flags);
  cJSON *adapters = cJSON_AddArrayToObject(cJSON_AddObjectToObject(json, "l2_adapter_config"), "adapters");
  neap__tier_view tiers;
  neap__tier_set_view(running->engine->tiers, &tiers);
  for (uint32_t i = 0; i < tiers.count; i++)
    cJSON_AddItemToArray(adapters, show_adapter(running->engine->tiers, &tiers.entries[i]));
  neap__tier_view_drop(running->engine->tiers, &tiers);
  add_flags(json, flags, plain, NEAP_ARRAY_LEN(plain));
  cJSON_AddItemToArray(cJSON_AddArrayToObject(json, "l1_manager_configs"), show_l1(flags, running));
  return json;
}

static cJSON *show_observability(const neap__flags *flags, const neap__running *running) {
  static const shown_flag plain[] = {
      {"event-bus-queue-size", "max_queue_size"},
      {"enable-tracing", "tracing_enabled"},
      {"otlp-endpoint", NULL},
      {"prometheus-port", NULL},
      {"metrics-sample-rate", NULL},
      {"enable-extra-logging", "extra_logging_enabled"},
      {"extra-logging-interval", NULL},
      {"trace-level", NULL},
      {"trace-output", NULL},
  };
  static const shown_flag lookups[] = {
      {"lookup-hash-log-dir", "output_dir"},
      {"lookup-hash-log-rotation-interval", "rotation_interval_sec"},
      {"lookup-hash-log-rotation-max-size", "rotation_max_size"},
      {"lookup-hash-log-max-files", "max_files"},
  };
  static const shown_flag gc[] = {
      {"enable-gc-monitor", "enabled"},
      {"gc-monitor-min-pause-ms", "min_pause_ms"},
      {"gc-monitor-top-objects", "top_objects"},
  };
  cJSON *json = cJSON_CreateObject();
  cJSON_AddBoolToObject(json, "enabled", !neap__flags_on(flags, "disable-observability"));
  cJSON_AddBoolToObject(json, "metrics_enabled", !neap__flags_on(flags, "disable-metrics"));
  cJSON_AddBoolToObject(json, "grpc_metrics_enabled", false);
  cJSON_AddBoolToObject(json, "logging_enabled", !neap__flags_on(flags, "disable-logging"));
  add_flags(json, flags, plain, NEAP_ARRAY_LEN(plain));
  add_flags(cJSON_AddObjectToObject(json, "lookup_hash_log"), flags, lookups, NEAP_ARRAY_LEN(lookups));
  add_flags(cJSON_AddObjectToObject(json, "gc_monitor"), flags, gc, NEAP_ARRAY_LEN(gc));
  cJSON_AddStringToObject(json, "service_instance_id", running->instance_id);
  return json;
}

static cJSON *show_coordinator(const neap__flags *flags) {
  static const shown_flag plain[] = {
      {"coordinator-url", "url"},
      {"coordinator-advertise-ip", "advertise_ip"},
      {"coordinator-heartbeat-interval", "heartbeat_interval"},
      {"coordinator-event-reporting", "event_reporting"},
      {"coordinator-event-flush-interval", "event_flush_interval"},
      {"coordinator-blend-timeout", "blend_timeout"},
      {"coordinator-blend-match-concurrency", "blend_match_concurrency"},
  };
  cJSON *json = cJSON_CreateObject();
  add_flags(json, flags, plain, NEAP_ARRAY_LEN(plain));
  cJSON_AddObjectToObject(json, "event_sink_config");
  return json;
}

/* What neap has beyond LMCache. */
static cJSON *show_neap(const neap__flags *flags, const neap__running *running) {
  static const shown_flag plain[] = {{"l1-keep", NULL},      {"l1-slots-max", NULL},       {"log-level", NULL},
                                     {"recompute-us", NULL}, {"recompute-slope-us", NULL}, {"record", NULL},
                                     {"record-mib", NULL},   {"policy-window", NULL}};
  cJSON *json = cJSON_CreateObject();
  add_flags(json, flags, plain, NEAP_ARRAY_LEN(plain));
  cJSON_AddStringToObject(json, "plugin_path", running->engine->config.plugin_dirs);
  cJSON_AddStringToObject(json, "pool_name", running->engine->config.l1.shm_name);
  return json;
}

char *neap__config_json(const neap__flags *flags, const neap__running *running, uint32_t http_port) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddItemToObject(json, "mp", show_mp(flags, running));
  cJSON_AddItemToObject(json, "storage_manager", show_storage(flags, running));
  cJSON_AddItemToObject(json, "observability", show_observability(flags, running));
  cJSON *http = cJSON_AddObjectToObject(json, "http");
  add_flag(http, flags, &(shown_flag){"http-host", NULL});
  cJSON_AddNumberToObject(http, "http_port", http_port);
  cJSON_AddItemToObject(json, "coordinator", show_coordinator(flags));
  cJSON_AddItemToObject(json, "neap", show_neap(flags, running));
  char *text = cJSON_Print(json);
  cJSON_Delete(json);
  return text;
}
