/* SPDX-License-Identifier: MIT
 *
 * explain.c - see explain.h. Tiers are asked on the loop thread; the rest runs where it is called. */
#include "explain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIER_DEADLINE_MS 5000u

struct neap__explain {
  neap__job job;
  neap__engine *engine;
  void (*done)(void *ctx);
  void *ctx;
  uint32_t space, chunks, rows, pending;
  uint8_t (*hashes)[NEAP_HASH_BYTES];
  neap__key *keys; /* [chunks][rows] */
  uint32_t *tiers; /* [chunks][rows] bit t: the tier of that index has it */
};

void neap__explain_free(neap__explain *e) {
  if (!e) return;
  free(e->hashes);
  free(e->keys);
  free(e->tiers);
  free(e);
}

/* --- tiers; loop thread ---------------------------------------------------------------------------------------- */

typedef struct question {
  neap__explain *e;
  uint32_t tier;
} question;

static void answered(neap__task *task) {
  question *q = task->ctx;
  neap__explain *e = q->e;
  for (uint32_t i = 0; i < task->op.count; i++)
    if (task->op.objects[i].result == 0) e->tiers[i] |= 1u << q->tier;
  if (--e->pending == 0) e->done(e->ctx);
}

static void let_go(neap__task *task) {
  free(task->ctx);
  neap__task_free(task);
}

static void ask_tier(neap__explain *e, uint32_t index) {
  neap__engine *engine = e->engine;
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
  neap__explain *e = (neap__explain *)job;
  e->pending = 1; /* this function */
  if (neap__names_primary(e->engine->names, e->space))
    for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++) ask_tier(e, i);
  if (--e->pending == 0) e->done(e->ctx);
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

static void add_fate(cJSON *json, const neap__explain *e, const neap__key *key, bool resident, const char *kept) {
  neap__engine *engine = e->engine;
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
  cJSON_AddNumberToObject(to, "bytes", (double)fate.bytes);
  cJSON_AddNumberToObject(to, "inserted_bytes_since", (double)fate.inserted_bytes);
  cJSON_AddNumberToObject(to, "needed_l1_bytes", (double)(usable + fate.inserted_bytes));
  why_gone(&fate, ago_s, usable + fate.inserted_bytes, why, sizeof(why));
  cJSON_AddStringToObject(json, "why", resident ? kept : why);
}

static void add_tiers(cJSON *json, const neap__explain *e, uint32_t bits) {
  neap__tier_set *tiers = e->engine->tiers;
  cJSON *list = cJSON_AddArrayToObject(json, "tiers");
  neap__tier_view view;
  neap__tier_set_view(tiers, &view);
  for (uint32_t i = 0; i < view.count; i++)
    if (bits >> view.entries[i].index & 1) cJSON_AddItemToArray(list, cJSON_CreateString(view.entries[i].name));
  neap__tier_view_drop(tiers, &view);
}

static cJSON *show_object(const neap__explain *e, uint32_t i) {
  neap__engine *engine = e->engine;
  neap__l1_found l1;
  char kept[128] = "kept";
  neap__l1_look(engine->l1, &e->keys[i], &l1);
  cJSON *json = cJSON_CreateObject();
  cJSON_AddNumberToObject(json, "worker", i % e->rows);
  cJSON_AddStringToObject(json, "l1", l1.resident ? "resident" : l1.staged ? "staged" : "absent");
  cJSON_AddNumberToObject(json, "leases", l1.leases);
  if (l1.resident) {
    neap_chunk row = neap__stream_row(engine->stream, l1.slot);
    cJSON_AddNumberToObject(json, "bytes", (double)l1.bytes);
    cJSON_AddBoolToObject(json, "temporary", l1.temporary);
    cJSON_AddNumberToObject(json, "hits", row.hits);
    snprintf(kept, sizeof(kept), "%s%s; used %u times since it came", l1.leases ? "leased" : "kept",
             l1.temporary ? ", until its last lease ends" : "", row.hits);
  }
  add_tiers(json, e, e->tiers[i]);
  add_fate(json, e, &e->keys[i], l1.resident, kept);
  return json;
}

cJSON *neap__explain_json(const neap__explain *e) {
  cJSON *list = cJSON_CreateArray();
  for (uint32_t c = 0; c < e->chunks; c++) {
    cJSON *chunk = cJSON_CreateObject(), *objects;
    cJSON_AddNumberToObject(chunk, "index", c);
    add_hex(chunk, "hash", e->hashes[c]);
    objects = cJSON_AddArrayToObject(chunk, "objects");
    for (uint32_t r = 0; r < e->rows; r++) cJSON_AddItemToArray(objects, show_object(e, c * e->rows + r));
    cJSON_AddItemToArray(list, chunk);
  }
  return list;
}

/* --- beginning -------------------------------------------------------------------------------------------------- */

int neap__explain_open(neap__engine *engine, const neap__explain_request *q, neap__explain **out, neap_error *err) {
  uint64_t count = (uint64_t)q->chunks * q->world;
  if (count > NEAP_EXPLAIN_OBJECTS_MAX)
    return neap__fail(err, NEAP_ELIMIT, "the chunks are %" PRIu64 " objects; expected at most %u", count,
                      NEAP_EXPLAIN_OBJECTS_MAX);
  neap__explain *e = calloc(1, sizeof(*e));
  if (!e) return neap__fail(err, NEAP_ENOMEM, "no memory for %" PRIu64 " objects", count);
  *e = (neap__explain){.job.run = ask_tiers,
                       .engine = engine,
                       .done = q->done,
                       .ctx = q->ctx,
                       .space = q->space,
                       .chunks = q->chunks,
                       .rows = q->world,
                       .hashes = calloc(q->chunks + 1, sizeof(*e->hashes)),
                       .keys = calloc(count + 1, sizeof(*e->keys)),
                       .tiers = calloc(count + 1, sizeof(*e->tiers))};
  if (!e->hashes || !e->keys || !e->tiers) {
    neap__explain_free(e);
    return neap__fail(err, NEAP_ENOMEM, "no memory for %" PRIu64 " objects", count);
  }
  memcpy(e->hashes, q->hashes, q->chunks * sizeof(*e->hashes));
  for (uint32_t i = 0; i < count; i++) {
    neap__key *key = &e->keys[i];
    *key = (neap__key){.space = q->space, .rank = neap__rank(q->world, i % e->rows), .tenant = q->tenant};
    memcpy(key->hash, e->hashes[i / e->rows], NEAP_HASH_BYTES);
  }
  *out = e;
  return 0;
}

void neap__explain_start(neap__explain *e) { neap__loop_post(e->engine->loop, &e->job); }
