/* SPDX-License-Identifier: MIT
 *
 * serve/http_explain.c - where chunks are, and why they are there or not.
 *
 *   GET  /policy/explain?hash=HEX | ?key=NATIVE KEY      &model_name= &world_size= &cache_salt=
 *   POST /policy/explain   {"token_ids": [...], "model_name": ..., "world_size": ..., "cache_salt": ...}
 *
 * A model needs no name while only one is registered. What the answer tells of each object is said in explain.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "chunk/tokens.h"
#include "explain.h"
#include "serve/http_call.h"

typedef struct explaining {
  neap__http_call *call;
  char model[1024], salt[256];
  uint32_t world, space, tenant, chunks;
  uint8_t (*hashes)[NEAP_HASH_BYTES];
  neap__explain *explain;
} explaining;

static void explaining_free(explaining *e) {
  neap__explain_free(e->explain);
  free(e->hashes);
  free(e);
}

/* --- answering ------------------------------------------------------------------------------------------------- */

static void show(neap__http_call *call) {
  explaining *e = call->state;
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "model_name", e->model);
  cJSON_AddNumberToObject(json, "world_size", e->world);
  cJSON_AddStringToObject(json, "cache_salt", e->salt);
  cJSON_AddItemToObject(json, "chunks", neap__explain_json(e->explain));
  explaining_free(e);
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

/* --- which ones ------------------------------------------------------------------------------------------------ */

typedef struct only_model {
  explaining *e;
  uint32_t found; /* different ones */
} only_model;

static void note_model(void *ctx, const neap__instance_info *info) {
  only_model *only = ctx;
  if (only->found && strcmp(only->e->model, info->model) == 0 && only->e->world == info->world_size) return;
  only->found++;
  snprintf(only->e->model, sizeof(only->e->model), "%s", info->model);
  only->e->world = info->world_size;
}

/* Model, world size and tenant to space and number. */
static int resolve(explaining *e, neap_error *err) {
  const neap__http *http = e->call->http;
  only_model only = {.e = e};
  if (!e->model[0] && !e->world) {
    neap__server_each_instance(http->config.server, note_model, &only);
    if (only.found != 1)
      return neap__fail(err, NEAP_EINVAL, "model_name, world_size: are missing; %" PRIu32 " models are registered",
                        only.found);
  }
  if (!neap__server_find_space(http->config.server, e->model, e->world, &e->space))
    return neap__fail(err, NEAP_ENOENT, "model_name, world_size: '%.200s', %" PRIu32 " is not registered", e->model,
                      e->world);
  if (neap__names_tenant_find(http->config.engine->names, e->salt, strlen(e->salt), &e->tenant) != 0)
    return neap__fail(err, NEAP_ENOENT, "cache_salt: '%.200s' is unknown", e->salt);
  return 0;
}

static explaining *new_explaining(neap__http_call *call) {
  explaining *e = calloc(1, sizeof(*e));
  if (e) e->call = call;
  return e;
}

static void explained(void *call) { neap__http_wake(call); }

static void explain(explaining *e, int rc, neap_error *err) {
  neap__http_call *call = e->call;
  const neap__explain_request request = {.space = e->space,
                                         .tenant = e->tenant,
                                         .world = e->world,
                                         .chunks = e->chunks,
                                         .hashes = (const uint8_t(*)[NEAP_HASH_BYTES])e->hashes,
                                         .done = explained,
                                         .ctx = call};
  if (rc == 0) rc = neap__explain_open(call->http->config.engine, &request, &e->explain, err);
  if (rc) {
    neap__http_reply_failure(call, neap__http_status_of(rc), rc, err->text);
    explaining_free(e);
    return;
  }
  call->state = e;
  neap__http_wait(call, show);
  neap__explain_start(e->explain);
}

/* --- reading --------------------------------------------------------------------------------------------------- */

static int read_world(const char *text, uint32_t *world, neap_error *err) {
  char *end = NULL;
  unsigned long value = strtoul(text, &end, 10);
  if (end == text || *end || value < 1 || value > 255)
    return neap__fail(err, NEAP_EINVAL, "world_size: '%.32s' is not valid; expected 1 to 255", text);
  *world = (uint32_t)value;
  return 0;
}

static int read_hash(const char *text, uint8_t hash[NEAP_HASH_BYTES], neap_error *err) {
  size_t bytes = strlen(text);
  if (strncmp(text, "0x", 2) == 0) text += 2, bytes -= 2;
  bool good = bytes == 2 * NEAP_HASH_BYTES && strspn(text, "0123456789abcdefABCDEF") == bytes;
  for (size_t i = 0; good && i < NEAP_HASH_BYTES; i++) {
    const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
    hash[i] = (uint8_t)strtoul(digits, NULL, 16);
  }
  return good ? 0
              : neap__fail(err, NEAP_EINVAL, "hash: '%.80s' is not valid; expected %u hexadecimal digits", text,
                           2 * NEAP_HASH_BYTES);
}

/* A key in its native form names model, rank, hash and salt; the rank tells the world size. */
static int read_key(explaining *e, const char *text, neap_error *err) {
  neap_object_key key;
  char strings[NEAP_KEY_TEXT_MAX];
  if (neap__key_parse(text, NEAP_KEY_NATIVE, &key, strings, sizeof(strings)) != 0)
    return neap__fail(err, NEAP_EINVAL, "key: '%.200s' is not valid; expected a key as objects are listed under", text);
  snprintf(e->model, sizeof(e->model), "%s", key.model);
  snprintf(e->salt, sizeof(e->salt), "%s", key.salt);
  memcpy(e->hashes[0], key.hash, NEAP_HASH_BYTES);
  for (uint32_t world = 1; world <= 255 && !e->world; world++)
    for (uint32_t worker = 0; worker < world && !e->world; worker++)
      if (neap__rank(world, worker) == key.rank) e->world = world;
  return e->world ? 0 : neap__fail(err, NEAP_EINVAL, "key: rank %" PRIu32 " is no worker's", key.rank);
}

void neap__http_explain_get(neap__http_call *call) {
  const char *hash = neap__http_query(call, "hash"), *key = neap__http_query(call, "key");
  const char *model = neap__http_query(call, "model_name"), *world = neap__http_query(call, "world_size");
  const char *salt = neap__http_query(call, "cache_salt");
  neap_error err = {""};
  explaining *e = new_explaining(call);
  if (e) e->hashes = calloc(1, sizeof(*e->hashes));
  if (!e || !e->hashes) {
    free(e);
    return; /* no memory, no answer: the connection ends */
  }
  e->chunks = 1;
  snprintf(e->model, sizeof(e->model), "%s", model ? model : "");
  snprintf(e->salt, sizeof(e->salt), "%s", salt ? salt : "");
  int rc = !hash == !key ? neap__fail(&err, NEAP_EINVAL, "hash, key: expected one of them") : 0;
  if (rc == 0 && world) rc = read_world(world, &e->world, &err);
  if (rc == 0) rc = hash ? read_hash(hash, e->hashes[0], &err) : read_key(e, key, &err);
  if (rc == 0) rc = resolve(e, &err);
  explain(e, rc, &err);
}

static int read_text(const cJSON *item, char *to, size_t room, neap_error *err) {
  if (!cJSON_IsString(item) || strlen(item->valuestring) >= room)
    return neap__fail(err, NEAP_EINVAL, "%s: expected a text of less than %zu bytes", item->string, room);
  snprintf(to, room, "%s", item->valuestring);
  return 0;
}

static int read_tokens(explaining *e, const cJSON *ids, neap_error *err) {
  uint32_t chunk_tokens = e->call->http->config.engine->config.l1.chunk_tokens, count = 0;
  uint32_t *tokens = cJSON_IsArray(ids) ? calloc((size_t)cJSON_GetArraySize(ids) + 1, sizeof(*tokens)) : NULL;
  int rc = tokens ? 0 : neap__fail(err, NEAP_EINVAL, "token_ids: expected a list of integers from 0 to 4294967295");
  const cJSON *id = NULL;
  for (id = tokens ? ids->child : NULL; id && rc == 0; id = id->next, count++) {
    bool fits = cJSON_IsNumber(id) && id->valuedouble >= 0 && id->valuedouble <= UINT32_MAX;
    if (fits) tokens[count] = (uint32_t)id->valuedouble;
    if (!fits || (double)tokens[count] != id->valuedouble)
      rc = neap__fail(err, NEAP_EINVAL, "token_ids[%" PRIu32 "]: expected an integer from 0 to 4294967295", count);
  }
  e->chunks = count / chunk_tokens;
  if (rc == 0 && e->chunks == 0)
    rc = neap__fail(err, NEAP_EINVAL, "token_ids: are %" PRIu32 "; expected at least one chunk of %" PRIu32, count,
                    chunk_tokens);
  if (rc == 0 && !(e->hashes = calloc(e->chunks, sizeof(*e->hashes))))
    rc = neap__fail(err, NEAP_ENOMEM, "no memory for %" PRIu32 " chunks", e->chunks);
  if (rc == 0) neap__chain(neap__chain_seed(), tokens, chunk_tokens, e->chunks, e->hashes);
  free(tokens);
  return rc;
}

static int read_body(explaining *e, const cJSON *body, neap_error *err) {
  static const char *const names[] = {"token_ids", "model_name", "world_size", "cache_salt"};
  const cJSON *ids = NULL;
  int rc = 0;
  for (const cJSON *item = body ? body->child : NULL; item && rc == 0; item = item->next) {
    if (strcmp(item->string, names[0]) == 0) {
      ids = item;
    } else if (strcmp(item->string, names[1]) == 0) {
      rc = read_text(item, e->model, sizeof(e->model), err);
    } else if (strcmp(item->string, names[2]) == 0) {
      if (!cJSON_IsNumber(item) || !(item->valuedouble >= 1 && item->valuedouble <= 255))
        rc = neap__fail(err, NEAP_EINVAL, "world_size: expected an integer from 1 to 255");
      else
        e->world = (uint32_t)item->valuedouble;
    } else if (strcmp(item->string, names[3]) == 0) {
      rc = read_text(item, e->salt, sizeof(e->salt), err);
    } else {
      const char *near = neap__nearest(item->string, names, NEAP_ARRAY_LEN(names));
      rc = neap__fail(err, NEAP_EINVAL, "'%.64s' is unknown%s%s%s", item->string, near ? "; did you mean '" : "",
                      near ? near : "", near ? "'?" : "");
    }
  }
  if (rc == 0 && !ids) rc = neap__fail(err, NEAP_EINVAL, "token_ids: is missing; expected a list of tokens");
  return rc ? rc : read_tokens(e, ids, err);
}

void neap__http_explain_post(neap__http_call *call) {
  cJSON *body = NULL;
  neap_error err = {""};
  if (!neap__http_says_json(call) || !neap__http_body(call, &body)) return;
  explaining *e = new_explaining(call);
  if (e) {
    int rc = read_body(e, body, &err);
    if (rc == 0) rc = resolve(e, &err);
    explain(e, rc, &err);
  }
  cJSON_Delete(body);
}
