/* SPDX-License-Identifier: MIT
 *
 * serve/http_adapters.c - the adapters of a running server: which there are, and their changes.
 *
 *   GET    /adapters           {"adapters": [ADAPTER, ...]}
 *   POST   /adapters           body: what --l2-adapter takes; 201 and the ADAPTER
 *   GET    /adapters/NAME      ADAPTER; its index will do for a NAME
 *   POST   /adapters/NAME/reload   a new instance takes over; body: parameters to change, if any; ADAPTER
 *   PATCH  /adapters/NAME      body: {PARAMETER: VALUE, ...}, live ones only; ADAPTER
 *   DELETE /adapters/NAME      drains and closes it; ?grace=SECONDS is the patience with what it has under way
 *
 * A change blocks: the HTTP thread reads and answers, a thread of engine->changes does it. An error is
 * {"error": what is wrong with which value, "code": NEAP_...}. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "serve/http_call.h"

#define GRACE_S 30.0
#define GRACE_MAX_S 600.0

/* --- showing -------------------------------------------------------------------------------------------------- */

static cJSON *show(neap__tier_set *tiers, const neap__tier_entry *e) {
  const neap__tier_config *config = neap__tier_config_of(e->tier);
  neap__tier_stats stats;
  neap__tier_stats_get(e->tier, &stats);
  cJSON *json = cJSON_CreateObject(), *status = neap__http_tier_status(e->tier, &stats);
  cJSON_AddNumberToObject(json, "index", e->index);
  cJSON_AddStringToObject(json, "name", e->name);
  cJSON_AddStringToObject(json, "type", config->type);
  cJSON_AddStringToObject(json, "adapter", config->name);
  cJSON_AddStringToObject(json, "state", e->draining ? "draining" : "attached");
  cJSON_AddBoolToObject(json, "is_healthy", cJSON_IsTrue(cJSON_GetObjectItem(status, "is_healthy")));
  cJSON_Delete(status);
  neap__http_json_u64(json, "used_bytes", stats.used_bytes);
  neap__http_json_u64(json, "capacity_bytes", stats.capacity_bytes);
  cJSON_AddNumberToObject(json, "queued", stats.queued);
  cJSON_AddNumberToObject(json, "in_flight_stores", stats.in_flight_stores);
  cJSON_AddNumberToObject(json, "in_flight_loads", stats.in_flight_loads);
  neap__http_json_u64(json, "stored_objects", stats.stored_objects);
  neap__http_json_u64(json, "loaded_objects", stats.loaded_objects);
  char *text = neap__tier_set_shown(tiers, e->index);
  cJSON *shown = text ? cJSON_Parse(text) : NULL;
  free(text);
  if (shown) cJSON_AddItemToObject(json, "config", shown);
  return json;
}

void neap__http_tiers_list(neap__http_call *call) {
  neap__tier_set *tiers = call->http->config.engine->tiers;
  neap__tier_view view;
  cJSON *json = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(json, "adapters");
  neap__tier_set_view(tiers, &view);
  for (uint32_t i = 0; i < view.count; i++) cJSON_AddItemToArray(list, show(tiers, &view.entries[i]));
  neap__tier_view_drop(tiers, &view);
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

static void reply_tier(neap__http_call *call, unsigned status, const char *name) {
  neap__tier_set *tiers = call->http->config.engine->tiers;
  neap__tier_entry e;
  neap_error err = {""};
  if (neap__tier_set_hold(tiers, name, &e, &err) != 0) {
    neap__http_reply_failure(call, MHD_HTTP_NOT_FOUND, NEAP_ENOENT, err.text);
    return;
  }
  cJSON *json = show(tiers, &e);
  neap__tier_set_drop(tiers, e.index);
  neap__http_reply_json(call, status, json);
}

void neap__http_tier_get(neap__http_call *call) { reply_tier(call, MHD_HTTP_OK, call->tail); }

/* --- changing ------------------------------------------------------------------------------------------------- */

typedef struct tier_change {
  neap__http_call *call;
  char name[NEAP_TIER_NAME_BYTES]; /* of the adapter; for attach: given by it */
  uint64_t grace_ms;
  void (*work)(struct tier_change *change);
  void (*answer)(struct tier_change *change); /* of a change that was made */
  uint32_t left;                              /* operations that a replaced instance has not given back */
  uint64_t ns;                                /* how long it took */
  bool is_new;                                /* there is no adapter of that name before */
  int rc;
  neap_error err;
} tier_change;

static void work(void *arg) {
  tier_change *change = arg;
  uint64_t start = neap__now_ns();
  neap__tier_set *tiers = change->call->http->config.engine->tiers;
  neap__tier_entry e;
  neap_error ignored;
  if (!change->is_new && neap__tier_set_hold(tiers, change->name, &e, &ignored) == 0) { /* it may be an index */
    memcpy(change->name, e.name, sizeof(change->name));
    neap__tier_set_drop(tiers, e.index);
  }
  change->work(change);
  change->ns = neap__now_ns() - start;
  neap__http_wake(change->call);
}

static void answer(neap__http_call *call) {
  tier_change *change = call->state;
  if (change->rc != 0)
    neap__http_reply_failure(
        call, change->rc == NEAP_ENOENT && change->is_new ? MHD_HTTP_BAD_REQUEST : neap__http_status_of(change->rc),
        change->rc, change->err.text);
  else
    change->answer(change);
  free(change);
}

static tier_change *new_change(neap__http_call *call, const char *name, size_t bytes) {
  tier_change *change = calloc(1, sizeof(*change));
  if (!change) return NULL; /* no memory, no answer: the connection ends */
  change->call = call;
  snprintf(change->name, sizeof(change->name), "%.*s", (int)NEAP_MIN(bytes, 1000), name);
  call->state = change;
  return change;
}

static void start(tier_change *change) {
  neap__http_call *call = change->call;
  neap__http_wait(call, answer);
  if (neap__pool_submit(call->http->config.engine->changes, work, change) == 0) return;
  change->rc = neap__fail(&change->err, NEAP_EBUSY, "too many changes of adapters are waiting already");
  neap__http_wake(call);
}

static void attach(tier_change *change) {
  neap__tier_entry at = {0};
  neap__tier_set *tiers = change->call->http->config.engine->tiers;
  change->rc = neap__tier_set_attach(tiers, change->call->body, 0, &at, &change->err);
  if (change->rc == 0) snprintf(change->name, sizeof(change->name), "%s", at.name);
}

static void attached(tier_change *change) {
  NEAP_LOG_INFO("adapter '%s' attached in %.1f ms", change->name, (double)change->ns / 1e6);
  reply_tier(change->call, MHD_HTTP_CREATED, change->name);
}

void neap__http_tier_attach(neap__http_call *call) {
  if (!neap__http_says_json(call)) return;
  if (call->body_bytes == 0) {
    neap__http_reply_failure(call, MHD_HTTP_BAD_REQUEST, NEAP_EINVAL,
                             "body: expected what --l2-adapter takes, got nothing");
    return;
  }
  tier_change *change = new_change(call, "", 0);
  if (!change) return;
  change->work = attach;
  change->answer = attached;
  change->is_new = true;
  start(change);
}

static bool read_grace(neap__http_call *call, uint64_t *grace_ms) {
  const char *text = neap__http_query(call, "grace");
  char *end = NULL, wrong[128];
  double seconds = text ? strtod(text, &end) : GRACE_S;
  *grace_ms = (uint64_t)(GRACE_S * 1000);
  if (!text) return true;
  if (end != text && !*end && isfinite(seconds) && seconds >= 0 && seconds <= GRACE_MAX_S) {
    *grace_ms = (uint64_t)(seconds * 1000);
    return true;
  }
  snprintf(wrong, sizeof(wrong), "grace: '%.32s' is not valid; expected seconds from 0 to %g", text, GRACE_MAX_S);
  neap__http_reply_failure(call, MHD_HTTP_BAD_REQUEST, NEAP_EINVAL, wrong);
  return false;
}

static void reload(tier_change *change) {
  neap__http_call *call = change->call;
  change->rc =
      neap__tier_set_reload(call->http->config.engine->tiers, change->name, call->body_bytes ? call->body : NULL,
                            change->grace_ms, &change->left, &change->err);
}

static void reloaded(tier_change *change) {
  NEAP_LOG_INFO("adapter '%s' reloaded in %.1f ms", change->name, (double)change->ns / 1e6);
  if (change->left)
    NEAP_LOG_WARN("the old instance of adapter '%s' has not given back %u operations; it is closed when it has",
                  change->name, change->left);
  reply_tier(change->call, MHD_HTTP_OK, change->name);
}

void neap__http_tier_reload(neap__http_call *call) {
  static const char verb[] = "/reload";
  size_t bytes = strlen(call->tail), name = bytes - (sizeof(verb) - 1);
  uint64_t grace_ms;
  if (bytes < sizeof(verb) || strcmp(call->tail + name, verb) != 0) {
    neap__http_reply_detail(call, MHD_HTTP_NOT_FOUND, "Not Found");
    return;
  }
  if (!neap__http_says_json(call) || !read_grace(call, &grace_ms)) return;
  tier_change *change = new_change(call, call->tail, name);
  if (!change) return;
  change->grace_ms = grace_ms;
  change->work = reload;
  change->answer = reloaded;
  start(change);
}

static void configure(tier_change *change) {
  neap__http_call *call = change->call;
  change->rc = neap__tier_set_configure(call->http->config.engine->tiers, change->name,
                                        call->body_bytes ? call->body : "{}", &change->err);
}

static void configured(tier_change *change) {
  NEAP_LOG_INFO("adapter '%s' reconfigured in %.1f ms", change->name, (double)change->ns / 1e6);
  reply_tier(change->call, MHD_HTTP_OK, change->name);
}

void neap__http_tier_configure(neap__http_call *call) {
  if (!neap__http_says_json(call)) return;
  tier_change *change = new_change(call, call->tail, strlen(call->tail));
  if (!change) return;
  change->work = configure;
  change->answer = configured;
  start(change);
}

static void detach(tier_change *change) {
  change->rc = neap__engine_detach(change->call->http->config.engine, change->name, change->grace_ms, &change->err);
}

static void detached(tier_change *change) {
  NEAP_LOG_INFO("adapter '%s' detached in %.1f ms", change->name, (double)change->ns / 1e6);
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "name", change->name);
  cJSON_AddStringToObject(json, "state", "detached");
  cJSON_AddNumberToObject(json, "seconds", (double)change->ns / 1e9);
  neap__http_reply_json(change->call, MHD_HTTP_OK, json);
}

void neap__http_tier_detach(neap__http_call *call) {
  uint64_t grace_ms;
  if (!read_grace(call, &grace_ms)) return;
  tier_change *change = new_change(call, call->tail, strlen(call->tail));
  if (!change) return;
  change->grace_ms = grace_ms;
  change->work = detach;
  change->answer = detached;
  start(change);
}
