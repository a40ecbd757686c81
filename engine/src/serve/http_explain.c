/* SPDX-License-Identifier: MIT
 *
 * serve/http_explain.c - where chunks are, and why they are there or not.
 *
 *   GET  /policy/explain?hash=HEX | ?key=NATIVE KEY      &model_name= &world_size= &cache_salt=
 *   POST /policy/explain   {"token_ids": [...], "model_name": ..., "world_size": ..., "cache_salt": ...}
 *
 * A model needs no name while only one is registered. The answer tells of each object (one per rank of a chunk) its
 * place in L1, the tiers that say they have it, and, if it left L1, when, by whom, and how much larger L1 would have
 * had to be for an order of recency to keep it. The HTTP thread reads and answers; tiers are asked on the loop thread.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "chunk/tokens.h"
#include "serve/http_call.h"

#define OBJECTS_MAX 16384u
#define TIER_DEADLINE_MS 5000u

typedef struct explaining {
  neap__job job;
  neap__http_call *call;
  char model[1024], salt[256];
  uint32_t world, space, tenant, chunks, rows, pending;
  uint8_t (*hashes)[NEAP_HASH_BYTES];
  neap__key *keys; /* [chunks][rows] */
  uint32_t *tiers; /* [chunks][rows] bit t: the tier of that index has it */
} explaining;

static void explaining_free(explaining *e) {
  free(e->hashes);
  free(e->keys);
  free(e->tiers);
  free(e);
}

/* --- tiers; loop thread ---------------------------------------------------------------------------------------- */

typedef struct question {
  explaining *e;
  uint32_t tier;
} question;

static void answered(neap__task *task) {
  question *q = task->ctx;
  explaining *e = q->e;
  for (uint32_t i = 0; i < task->op.count; i++)
    if (task->op.objects[i].result == 0) e->tiers[i] |= 1u << q->tier;
  if (--e->pending == 0) neap__http_wake(e->call);
}

static void let_go(neap__task *task) {
  free(task->ctx);
  neap__task_free(task);
}

static void ask_tier(explaining *e, uint32_t index) {
  neap__engine *engine = e->call->http->config.engine;
  neap__tier *tier = neap__tier_set_route(engine->tiers, index);
  uint32_t count = e->chunks * e->rows;
  if (!tier) return;
  question *q = malloc(sizeof(*q));
  neap__task *task = neap__task_new(NEAP_OP_LOOKUP, count);
  if (!q || !task) {
    free(q);
    if (task) neap__task_free(task);
    return;
  }
  *q = (question){e, index};
  uint64_t bytes = neap__names_layout(engine->names, e->space)->bytes;
  for (uint32_t i = 0; i < count; i++) {
    task->keys[i] = e->keys[i];
    task->op.objects[i].key = neap__names_object_key(engine->names, &e->keys[i]);
    task->op.objects[i].bytes = bytes;
  }
  task->ctx = q;
  task->done = answered;
  task->release = let_go;
  e->pending++;
  if (neap__tier_submit(tier, task, TIER_DEADLINE_MS) == 0) return;
  e->pending--;
  let_go(task);
}

static void ask_tiers(neap__job *job) {
  explaining *e = (explaining *)job;
  e->pending = 1; /* this function */
  if (neap__names_primary(e->call->http->config.engine->names, e->space))
    for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++) ask_tier(e, i);
  if (--e->pending == 0) neap__http_wake(e->call);
}

/* --- showing --------------------------------------------------------------------------------------------------- */

static void add_hex(cJSON *json, const char *name, const uint8_t *bytes) {
  char hex[2 * NEAP_HASH_BYTES + 1];
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
  cJSON_AddStringToObject(json, name, hex);
}

static void why_gone(const neap__fate_entry *fate, double ago_s, uint64_t needed, char *text, size_t room) {
  int n = snprintf(text, room, "%s %.1f s ago", neap__fate_name(fate->reason), ago_s);
  if (n > 0 && fate->policy[0])
    n += snprintf(text + n, room - (size_t)n, " by %s%s%s%s", fate->policy, fate->place[0] ? " (" : "", fate->place,
                  fate->place[0] ? ")" : "");
  if (n > 0 && (size_t)n < room && fate->reason == NEAP_FATE_EVICTED)
    snprintf(text + n, room - (size_t)n,
             "; %.1f MiB came into L1 since, so an order of recency keeps it in an L1 of %.1f MiB",
             (double)fate->inserted_bytes / 1048576.0, (double)needed / 1048576.0);
}

static void add_fate(cJSON *json, const explaining *e, const neap__key *key, bool resident, const char *kept) {
  neap__engine *engine = e->call->http->config.engine;
  neap__fate_entry fate;
  char why[1024];
  if (!neap__fate_find(engine->fate, key, &fate)) {
    cJSON_AddNullToObject(json, "fate");
    cJSON_AddStringToObject(json, "why", resident ? kept : neap__fate_name(NEAP_FATE_NEVER_SEEN));
    return;
  }
  neap__l1_stats l1;
  neap__l1_stats_get(engine->l1, &l1);
  uint64_t usable = (uint64_t)((double)l1.pool_bytes * NEAP_MIN(engine->config.watermark, 1.0));
  double ago_s = (double)(neap__now_ns() - fate.time_ns) / 1e9;
  cJSON *to = cJSON_AddObjectToObject(json, "fate");
  cJSON_AddStringToObject(to, "what", neap__fate_name(fate.reason));
  cJSON_AddNumberToObject(to, "seconds_ago", ago_s);
  cJSON_AddStringToObject(to, "policy", fate.policy);
  cJSON_AddStringToObject(to, "place", fate.place);
  neap__http_json_u64(to, "bytes", fate.bytes);
  neap__http_json_u64(to, "inserted_bytes_since", fate.inserted_bytes);
  neap__http_json_u64(to, "needed_l1_bytes", usable + fate.inserted_bytes);
  why_gone(&fate, ago_s, usable + fate.inserted_bytes, why, sizeof(why));
  cJSON_AddStringToObject(json, "why", resident ? kept : why);
}

static void add_tiers(cJSON *json, const explaining *e, uint32_t bits) {
  neap__tier_set *tiers = e->call->http->config.engine->tiers;
  cJSON *list = cJSON_AddArrayToObject(json, "tiers");
  neap__tier_view view;
  neap__tier_set_view(tiers, &view);
  for (uint32_t i = 0; i < view.count; i++)
    if (bits >> view.entries[i].index & 1) cJSON_AddItemToArray(list, cJSON_CreateString(view.entries[i].name));
  neap__tier_view_drop(tiers, &view);
}

static cJSON *show_object(const explaining *e, uint32_t i) {
  neap__engine *engine = e->call->http->config.engine;
  neap__l1_found l1;
  char kept[128] = "kept";
  neap__l1_look(engine->l1, &e->keys[i], &l1);
  cJSON *json = cJSON_CreateObject();
  cJSON_AddNumberToObject(json, "worker", i % e->rows);
  cJSON_AddStringToObject(json, "l1", l1.resident ? "resident" : l1.staged ? "staged" : "absent");
  cJSON_AddNumberToObject(json, "leases", l1.leases);
  if (l1.resident) {
    neap_chunk row = neap__stream_row(engine->stream, l1.slot);
    neap__http_json_u64(json, "bytes", l1.bytes);
    cJSON_AddBoolToObject(json, "temporary", l1.temporary);
    cJSON_AddNumberToObject(json, "hits", row.hits);
    snprintf(kept, sizeof(kept), "%s%s; used %u times since it came", l1.leases ? "leased" : "kept",
             l1.temporary ? ", until its last lease ends" : "", row.hits);
  }
  add_tiers(json, e, e->tiers[i]);
  add_fate(json, e, &e->keys[i], l1.resident, kept);
  return json;
}

static void show(neap__http_call *call) {
  explaining *e = call->state;
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "model_name", e->model);
  cJSON_AddNumberToObject(json, "world_size", e->world);
  cJSON_AddStringToObject(json, "cache_salt", e->salt);
  cJSON *list = cJSON_AddArrayToObject(json, "chunks");
  for (uint32_t c = 0; c < e->chunks; c++) {
    cJSON *chunk = cJSON_CreateObject(), *objects;
    cJSON_AddNumberToObject(chunk, "index", c);
    add_hex(chunk, "hash", e->hashes[c]);
    objects = cJSON_AddArrayToObject(chunk, "objects");
    for (uint32_t r = 0; r < e->rows; r++) cJSON_AddItemToArray(objects, show_object(e, c * e->rows + r));
    cJSON_AddItemToArray(list, chunk);
  }
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

/* Keys of all hashes, for every worker. */
static int make_keys(explaining *e, neap_error *err) {
  e->rows = e->world;
  uint64_t count = (uint64_t)e->chunks * e->rows;
  if (count > OBJECTS_MAX)
    return neap__fail(err, NEAP_ELIMIT, "token_ids: are %" PRIu64 " objects; expected at most %u", count, OBJECTS_MAX);
  e->keys = calloc(count + 1, sizeof(*e->keys));
  e->tiers = calloc(count + 1, sizeof(*e->tiers));
  if (!e->keys || !e->tiers) return neap__fail(err, NEAP_ENOMEM, "no memory for %" PRIu64 " objects", count);
  for (uint32_t i = 0; i < count; i++) {
    neap__key *key = &e->keys[i];
    *key = (neap__key){.space = e->space, .rank = neap__rank(e->world, i % e->rows), .tenant = e->tenant};
    memcpy(key->hash, e->hashes[i / e->rows], NEAP_HASH_BYTES);
  }
  return 0;
}

static explaining *new_explaining(neap__http_call *call) {
  explaining *e = calloc(1, sizeof(*e));
  if (!e) return NULL;
  e->job.run = ask_tiers;
  e->call = call;
  return e;
}

static void explain(explaining *e, int rc, neap_error *err) {
  neap__http_call *call = e->call;
  if (rc == 0) rc = make_keys(e, err);
  if (rc) {
    neap__http_reply_failure(call, neap__http_status_of(rc), rc, err->text);
    explaining_free(e);
    return;
  }
  call->state = e;
  neap__http_wait(call, show);
  neap__loop_post(call->http->config.engine->loop, &e->job);
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
