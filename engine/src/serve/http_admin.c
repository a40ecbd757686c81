/* SPDX-License-Identifier: MIT
 *
 * serve/http_admin.c - routes about the server itself: liveness, versions, configuration, log level, clearing L1. */
#include <ctype.h>
#include <string.h>

#include "serve/http_call.h"

#define LMCACHE_VERSION "0.5.6" /* whose protocol and API this server speaks */

#ifndef NEAP_COMMIT
#define NEAP_COMMIT "unknown"
#endif
#ifndef NEAP_VERSION
#error "NEAP_VERSION is set by the build"
#endif

void neap__http_root(neap__http_call *call) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "status", "ok");
  cJSON_AddStringToObject(json, "service", "LMCache HTTP API");
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

/* This thread runs only while the engine is open, so an answer is the proof. Stores that are down do not make the
 * server unhealthy: restarting it would not help them, and L1 still serves. /status tells. */
void neap__http_health(neap__http_call *call) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "status", "healthy");
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

void neap__http_version(neap__http_call *call) {
  neap__http_reply_json(call, MHD_HTTP_OK, cJSON_CreateString(NEAP_VERSION "-" NEAP_COMMIT));
}

void neap__http_lmc_version(neap__http_call *call) {
  neap__http_reply_json(call, MHD_HTTP_OK, cJSON_CreateString(LMCACHE_VERSION));
}

void neap__http_commit(neap__http_call *call) {
  neap__http_reply_json(call, MHD_HTTP_OK, cJSON_CreateString(NEAP_COMMIT));
}

void neap__http_config_get(neap__http_call *call) {
  const neap__http_config *config = &call->http->config;
  char *text = config->show_config(config->show_config_ctx, call->http->port);
  neap__http_reply(call, MHD_HTTP_OK, "application/json", text);
}

void neap__http_adapters(neap__http_call *call) {
  const neap__engine *engine = call->http->config.engine;
  cJSON *json = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(json, "adapters");
  neap__tier_view tiers;
  neap__tier_set_view(engine->tiers, &tiers);
  for (uint32_t i = 0; i < tiers.count; i++) {
    cJSON *adapter = cJSON_CreateObject();
    cJSON_AddNumberToObject(adapter, "index", tiers.entries[i].index);
    cJSON_AddStringToObject(adapter, "type_name", neap__tier_config_of(tiers.entries[i].tier)->type);
    cJSON_AddStringToObject(adapter, "tier", "l2");
    cJSON_AddBoolToObject(adapter, "primary", i == 0);
    cJSON_AddBoolToObject(adapter, "reconfigurable", false);
    cJSON_AddItemToArray(list, adapter);
  }
  neap__tier_view_drop(engine->tiers, &tiers);
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

/* --- log level ------------------------------------------------------------------------------------------------ */

static const char *const level_names[] = {"DEBUG", "INFO", "WARNING", "ERROR"}; /* by neap_log_level */

static int find_level(const char *name) {
  for (size_t i = 0; i < NEAP_ARRAY_LEN(level_names); i++)
    if (strcasecmp(name, level_names[i]) == 0) return (int)i;
  return -1;
}

/* There is one logger, "neap". LMCache's logger names mean it too, for scripts that set the level of one. */
static bool known_logger(const char *name) {
  return strcmp(name, "neap") == 0 || strcmp(name, "lmcache") == 0 || strncmp(name, "lmcache.", 8) == 0;
}

void neap__http_loglevel(neap__http_call *call) {
  const char *logger = neap__http_query(call, "logger_name"), *level = neap__http_query(call, "level");
  if (!logger) {
    neap__http_reply_text(call, MHD_HTTP_OK, "=== Loggers and Levels ===\nneap: %s", level_names[neap__log_level()]);
    return;
  }
  if (!known_logger(logger)) {
    neap__http_reply_text(call, MHD_HTTP_NOT_FOUND, "no logger '%s'; expected neap, lmcache or lmcache.*", logger);
    return;
  }
  if (!level) {
    neap__http_reply_text(call, MHD_HTTP_OK, "%s: %s", logger, level_names[neap__log_level()]);
    return;
  }
  int found = find_level(level);
  if (found < 0) {
    neap__http_reply_text(call, MHD_HTTP_BAD_REQUEST, "level '%s' is not valid; expected DEBUG, INFO, WARNING or ERROR",
                          level);
    return;
  }
  neap__log_set_level((neap_log_level)found);
  neap__http_reply_text(call, MHD_HTTP_OK, "Set %s level to %s (including all handlers)", logger, level_names[found]);
}

/* --- what LMCache has and neap does not offer ------------------------------------------------------------------ */

void neap__http_run_script(neap__http_call *call) {
  neap__http_reply_text(call, MHD_HTTP_NOT_FOUND,
                        "/run_script is not offered: it would execute whatever it is sent. To script the cache, write "
                        "an adapter or a policy in Lua and start the server with it.");
}

void neap__http_checksums(neap__http_call *call) {
  neap__http_reply_detail(call, MHD_HTTP_NOT_IMPLEMENTED, "checksum not supported for this engine type");
}

/* --- clearing L1 ---------------------------------------------------------------------------------------------- */

static void clear_l1(neap__http_call *call, const cJSON *body) {
  neap__http_complaints complaints = {0};
  const cJSON *tier = cJSON_GetObjectItemCaseSensitive(body, "tier");
  const cJSON *force = cJSON_GetObjectItemCaseSensitive(body, "force");
  if (tier && !cJSON_IsString(tier))
    neap__http_complain(&complaints, NEAP_HTTP_NO_STRING, tier, neap__http_loc("body", "tier"));
  if (force && !cJSON_IsBool(force))
    neap__http_complain(&complaints, NEAP_HTTP_NO_BOOL, force, neap__http_loc("body", "force"));
  if (neap__http_reply_complaints(call, &complaints)) return;
  if (tier && strcmp(tier->valuestring, "l1") != 0) {
    neap__http_reply_detail(call, MHD_HTTP_BAD_REQUEST, "tier '%s' not supported; only 'l1'", tier->valuestring);
    return;
  }
  uint32_t cleared = neap__l1_clear(call->http->config.engine->l1, cJSON_IsTrue(force));
  NEAP_LOG_INFO("Cache cleared via HTTP API: %u objects%s", cleared, cJSON_IsTrue(force) ? ", leased ones too" : "");
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "status", "ok");
  cJSON_AddStringToObject(cJSON_AddObjectToObject(json, "cleared"), "tier", "l1");
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

void neap__http_clear(neap__http_call *call) {
  cJSON *body;
  if (!neap__http_body(call, &body)) return;
  clear_l1(call, body);
  cJSON_Delete(body);
}
