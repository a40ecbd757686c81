/* SPDX-License-Identifier: MIT
 *
 * serve/http_prefetch.c - routes that load a prompt's chunks from L2 into L1 ahead of its request (flow/fetch.h).
 *
 * Jobs are kept until their result is asked for; past the bound the oldest finished one is forgotten. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "chunk/tokens.h"
#include "serve/http_call.h"

#define WORLD_MAX 255

typedef struct prefetch_order {
  const char *model, *salt;
  uint32_t world;
  uint32_t *tokens;
  uint32_t token_count;
} prefetch_order;

/* --- reading the body ----------------------------------------------------------------------------------------- */

static const cJSON *require(neap__http_complaints *complaints, const cJSON *body, const char *name,
                            cJSON_bool (*is)(const cJSON *), const char *type, const char *msg) {
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(body, name);
  if (!value)
    neap__http_complain(complaints, NEAP_HTTP_MISSING, body, neap__http_loc("body", name));
  else if (!is(value))
    neap__http_complain(complaints, type, msg, value, neap__http_loc("body", name));
  return value && is(value) ? value : NULL;
}

/* "" or the value; a present value must be a string. */
static const char *optional_text(neap__http_complaints *complaints, const cJSON *body, const char *name,
                                 const char *fallback) {
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(body, name);
  if (cJSON_IsString(value)) return value->valuestring;
  if (value) neap__http_complain(complaints, NEAP_HTTP_NO_STRING, value, neap__http_loc("body", name));
  return fallback;
}

/* False: a complaint has been answered. */
static bool read_order(neap__http_call *call, const cJSON *body, prefetch_order *order) {
  neap__http_complaints complaints = {0};
  neap_error err = {0};
  const cJSON *model = require(&complaints, body, "model_name", cJSON_IsString, NEAP_HTTP_NO_STRING);
  const cJSON *world = require(&complaints, body, "world_size", cJSON_IsNumber, NEAP_HTTP_NO_INT);
  const cJSON *ids = require(&complaints, body, "token_ids", cJSON_IsArray, NEAP_HTTP_NO_LIST);
  order->salt = optional_text(&complaints, body, "cache_salt", "");
  const char *source = optional_text(&complaints, body, "source_tier", "l2");
  const char *target = optional_text(&complaints, body, "target_tier", "l1");
  if (world && !neap__http_integer(world, 1, WORLD_MAX, &order->world))
    neap__http_complain(&complaints, "int_type", "Input should be an integer from 1 to 255", world,
                        neap__http_loc("body", "world_size"));
  if (ids)
    order->tokens = neap__http_tokens(&complaints, ids, neap__http_loc("body", "token_ids"), &order->token_count);
  if (neap__http_reply_complaints(call, &complaints)) return false;
  order->model = model->valuestring;
  if (neap__salt_check(order->salt, strlen(order->salt), &err) != 0) {
    neap__http_reply_detail(call, MHD_HTTP_BAD_REQUEST, "%s", err.text);
    return false;
  }
  if (strcmp(source, "l2") != 0 || strcmp(target, "l1") != 0) {
    neap__http_reply_detail(call, MHD_HTTP_BAD_REQUEST, "prefetch from '%s' to '%s' not supported; only 'l2' to 'l1'",
                            source, target);
    return false;
  }
  return true;
}

/* --- starting ------------------------------------------------------------------------------------------------- */

static void forget(neap__http *http, uint32_t i) {
  neap__fetch_end(http->prefetches[i].fetch);
  http->prefetch_count--;
  memmove(&http->prefetches[i], &http->prefetches[i + 1], (http->prefetch_count - i) * sizeof(http->prefetches[0]));
}

static bool make_room(neap__http *http) {
  if (http->prefetch_count < NEAP_HTTP_PREFETCHES_MAX) return true;
  for (uint32_t i = 0; i < http->prefetch_count; i++) {
    uint32_t hit;
    if (!neap__fetch_poll(http->prefetches[i].fetch, &hit)) continue;
    forget(http, i);
    return true;
  }
  return false;
}

static int start_fetch(neap__http *http, const prefetch_order *order, uint32_t space, uint32_t tenant,
                       neap__http_prefetch *job) {
  neap__engine *engine = http->config.engine;
  uint32_t chunk_tokens = engine->config.l1.chunk_tokens, chunks = job->chunks, rows = job->rows;
  uint8_t(*hashes)[NEAP_HASH_BYTES] = calloc(chunks, sizeof(*hashes));
  neap__key *keys = calloc((size_t)chunks * rows, sizeof(*keys));
  uint64_t row_bytes[WORLD_MAX];
  int rc = NEAP_ENOMEM;
  if (!hashes || !keys) goto out;
  neap__chain(neap__chain_seed(), order->tokens, chunk_tokens, chunks, hashes);
  for (uint32_t c = 0; c < chunks; c++) {
    for (uint32_t row = 0; row < rows; row++) {
      neap__key *key = &keys[(size_t)c * rows + row];
      *key = (neap__key){.space = space, .rank = neap__rank(rows, row), .tenant = tenant};
      memcpy(key->hash, hashes[c], sizeof(key->hash));
    }
  }
  for (uint32_t row = 0; row < rows; row++) row_bytes[row] = neap__names_layout(engine->names, space)->bytes;
  neap__fetch_request request = {.chunks = chunks,
                                 .rows = rows,
                                 .keys = keys,
                                 .row_bytes = row_bytes,
                                 .readers = 1,
                                 .owner = {.kind = NEAP_OWNER_LOCAL},
                                 .warm = true};
  memcpy(request.name, job->id, sizeof(job->id));
  rc = neap__fetch_start(engine->fetcher, &request, &job->fetch);
out:
  free(hashes);
  free(keys);
  return rc;
}

static void new_id(char id[33]) {
  uint8_t random[16];
  NEAP_ASSERT(getrandom(random, sizeof(random), 0) == (ssize_t)sizeof(random));
  for (size_t i = 0; i < sizeof(random); i++) snprintf(id + 2 * i, 3, "%02x", random[i]);
}

static void reply_started(neap__http_call *call, const neap__http_prefetch *job) {
  cJSON *json = cJSON_CreateObject();
  if (job) cJSON_AddStringToObject(json, "request_id", job->id);
  cJSON_AddNumberToObject(json, "chunks", job ? job->chunks : 0);
  cJSON_AddStringToObject(json, "status", job ? "submitted" : "noop");
  neap__http_reply_json(call, MHD_HTTP_ACCEPTED, json);
}

static void start_prefetch(neap__http_call *call, const prefetch_order *order) {
  neap__http *http = call->http;
  neap__engine *engine = http->config.engine;
  uint32_t space = 0, tenant = 0;
  neap__http_prefetch job = {.chunks = order->token_count / engine->config.l1.chunk_tokens, .rows = order->world};
  if (!neap__server_find_space(http->config.server, order->model, order->world, &space)) {
    neap__http_reply_detail(call, MHD_HTTP_SERVICE_UNAVAILABLE,
                            "no layout registered for model_name='%s' world_size=%u; the model has not allocated KV "
                            "cache on this node yet",
                            order->model, order->world);
    return;
  }
  if (job.chunks == 0) {
    reply_started(call, NULL);
    return;
  }
  int rc = make_room(http) ? 0 : NEAP_ELIMIT;
  if (rc == 0) rc = neap__names_tenant(engine->names, order->salt, strlen(order->salt), &tenant);
  new_id(job.id);
  if (rc == 0) rc = start_fetch(http, order, space, tenant, &job);
  if (rc != 0) {
    neap__http_reply_detail(call, MHD_HTTP_SERVICE_UNAVAILABLE, "prefetch not started: %s", neap_strerror(rc));
    return;
  }
  http->prefetches[http->prefetch_count++] = job;
  reply_started(call, &job);
}

void neap__http_prefetch_start(neap__http_call *call) {
  prefetch_order order = {0};
  cJSON *body;
  if (!neap__http_body(call, &body)) return;
  if (read_order(call, body, &order)) start_prefetch(call, &order);
  free(order.tokens);
  cJSON_Delete(body);
}

/* --- asking for the result ------------------------------------------------------------------------------------ */

void neap__http_prefetch_poll(neap__http_call *call) {
  neap__http *http = call->http;
  uint32_t i = 0, hit = 0;
  while (i < http->prefetch_count && strcmp(http->prefetches[i].id, call->tail) != 0) i++;
  if (i == http->prefetch_count) {
    neap__http_reply_detail(call, MHD_HTTP_NOT_FOUND,
                            "unknown prefetch request_id='%s' (already completed or never submitted)", call->tail);
    return;
  }
  neap__http_prefetch job = http->prefetches[i];
  bool final = neap__fetch_poll(job.fetch, &hit);
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "request_id", job.id);
  cJSON_AddStringToObject(json, "status", final ? "completed" : "pending");
  if (final) {
    neap__http_json_u64(json, "found_keys", (uint64_t)hit * job.rows);
    neap__http_json_u64(json, "total_keys", (uint64_t)job.chunks * job.rows);
    forget(http, i);
  }
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}
