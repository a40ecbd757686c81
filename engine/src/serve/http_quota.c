/* SPDX-License-Identifier: MIT
 *
 * serve/http_quota.c - routes about tenants' quotas (flow/evict.h). "_default" stands for the tenant without a name. */
#include <math.h>
#include <string.h>

#include "serve/http_call.h"

#define GIB (1024.0 * 1024.0 * 1024.0)
#define SALT_DEFAULT "_default"

static const char *salt_of(const neap__http_call *call) {
  return strcmp(call->tail, SALT_DEFAULT) == 0 ? "" : call->tail;
}

/* 0 and the tenant's number, NEAP_ENOENT if the server has not met it, or NEAP_EINVAL, which has been answered. */
static int find_tenant(neap__http_call *call, uint32_t *tenant) {
  const char *salt = salt_of(call);
  neap_error err = {0};
  if (neap__salt_check(salt, strlen(salt), &err) != 0) {
    neap__http_reply_error(call, MHD_HTTP_BAD_REQUEST, "%s", err.text);
    return NEAP_EINVAL;
  }
  return neap__names_tenant_find(call->http->config.engine->names, salt, strlen(salt), tenant);
}

static double usage_gb(neap__http_call *call, uint32_t tenant) {
  return (double)neap__l1_tenant_bytes(call->http->config.engine->l1, tenant) / GIB;
}

typedef struct quota_list {
  neap__http_call *call;
  cJSON *users;
} quota_list;

static void add_quota(void *ctx, uint32_t tenant, double limit_gb) {
  quota_list *list = ctx;
  const char *salt = neap__names_salt(list->call->http->config.engine->names, tenant);
  cJSON *user = cJSON_AddObjectToObject(list->users, *salt ? salt : SALT_DEFAULT);
  cJSON_AddNumberToObject(user, "limit_gb", limit_gb);
  cJSON_AddNumberToObject(user, "current_usage_gb", usage_gb(list->call, tenant));
}

void neap__http_quota_list(neap__http_call *call) {
  cJSON *json = cJSON_CreateObject();
  quota_list list = {.call = call, .users = cJSON_AddObjectToObject(json, "users")};
  neap__quota_each(call->http->config.engine->evictor, add_quota, &list);
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

void neap__http_quota_get(neap__http_call *call) {
  uint32_t tenant = 0;
  double limit_gb = 0;
  int rc = find_tenant(call, &tenant);
  if (rc == NEAP_EINVAL) return;
  bool exists = rc == 0 && neap__quota_get(call->http->config.engine->evictor, tenant, &limit_gb);
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "cache_salt", call->tail);
  cJSON_AddNumberToObject(json, "limit_gb", exists ? limit_gb : 0);
  cJSON_AddNumberToObject(json, "current_usage_gb", rc == 0 ? usage_gb(call, tenant) : 0);
  cJSON_AddBoolToObject(json, "exists", exists);
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

/* The limit in the body; false: a complaint has been answered. */
static bool read_limit(neap__http_call *call, double *limit_gb) {
  neap__http_complaints complaints = {0};
  cJSON *body;
  if (!neap__http_body(call, &body)) return false;
  const cJSON *limit = cJSON_GetObjectItemCaseSensitive(body, "limit_gb");
  if (!limit)
    neap__http_complain(&complaints, NEAP_HTTP_MISSING, body, neap__http_loc("body", "limit_gb"));
  else if (!cJSON_IsNumber(limit))
    neap__http_complain(&complaints, NEAP_HTTP_NO_NUMBER, limit, neap__http_loc("body", "limit_gb"));
  else
    *limit_gb = limit->valuedouble;
  cJSON_Delete(body);
  if (neap__http_reply_complaints(call, &complaints)) return false;
  if (!isfinite(*limit_gb)) {
    neap__http_reply_error(call, MHD_HTTP_BAD_REQUEST, "limit_gb must be finite");
    return false;
  }
  if (*limit_gb < 0) {
    neap__http_reply_error(call, MHD_HTTP_BAD_REQUEST, "limit_gb must be non-negative");
    return false;
  }
  return true;
}

void neap__http_quota_put(neap__http_call *call) {
  neap__engine *engine = call->http->config.engine;
  const char *salt = salt_of(call);
  uint32_t tenant = 0;
  double limit_gb = 0;
  if (find_tenant(call, &tenant) == NEAP_EINVAL || !read_limit(call, &limit_gb)) return;
  if (neap__names_tenant(engine->names, salt, strlen(salt), &tenant) != 0) {
    neap__http_reply_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "the server knows %u tenants and can know no more",
                           NEAP_TENANTS_MAX);
    return;
  }
  neap__quota_set(engine->evictor, tenant, limit_gb);
  neap__evictor_check(engine->evictor);
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "cache_salt", call->tail);
  cJSON_AddNumberToObject(json, "limit_gb", limit_gb);
  cJSON_AddStringToObject(json, "status", "ok");
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

void neap__http_quota_delete(neap__http_call *call) {
  uint32_t tenant = 0;
  int rc = find_tenant(call, &tenant);
  if (rc == NEAP_EINVAL) return;
  bool removed = rc == 0 && neap__quota_remove(call->http->config.engine->evictor, tenant);
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "cache_salt", call->tail);
  cJSON_AddStringToObject(json, "status", removed ? "removed" : "not_found");
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}
