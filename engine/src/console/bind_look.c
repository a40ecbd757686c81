/* SPDX-License-Identifier: MIT
 *
 * console/bind_look.c - what a session sees of the engine: figures, chunks, tenants, tiers. Each function collects in C
 * first, without raising, and pushes afterwards. Payload is not touched here. */
#include <stdlib.h>
#include <string.h>

#include "console/bind_defs.h"
#include "lab/show.h"
#include "script/values.h"

#define CHUNKS_MAX 10000u
#define TENANTS_SHOWN_MAX 1000u

typedef struct figure {
  const char *name;
  double value;
} figure;

/* A new table of numbers, on top. */
static void push_figures(lua_State *L, const figure *figures, size_t count) {
  lua_createtable(L, 0, (int)count);
  for (size_t i = 0; i < count; i++) {
    lua_pushnumber(L, figures[i].value);
    lua_setfield(L, -2, figures[i].name);
  }
}

#define FIGURE(struct, member) \
  { #member, (double)struct.member }

static void push_l1(lua_State *L, const neap__l1_stats *of) {
  const neap__l1_stats s = *of;
  const figure figures[] = {FIGURE(s, pool_bytes),         FIGURE(s, used_bytes),      FIGURE(s, staged_bytes),
                            FIGURE(s, largest_free_bytes), FIGURE(s, objects),         FIGURE(s, staged),
                            FIGURE(s, temporary),          FIGURE(s, leased),          FIGURE(s, slots_max),
                            FIGURE(s, leases_used),        FIGURE(s, evicted_objects), FIGURE(s, evicted_bytes),
                            FIGURE(s, inserted_objects),   FIGURE(s, alloc_failures)};
  push_figures(L, figures, NEAP_ARRAY_LEN(figures));
}

static void push_fetcher(lua_State *L, const neap__fetcher_stats *of) {
  const neap__fetcher_stats s = *of;
  const figure figures[] = {FIGURE(s, lookups),         FIGURE(s, chunks_requested), FIGURE(s, chunks_hit),
                            FIGURE(s, l1_objects_hit),  FIGURE(s, l2_objects_hit),   FIGURE(s, loads),
                            FIGURE(s, loaded_objects),  FIGURE(s, failed_l1_oom),    FIGURE(s, failed_not_found),
                            FIGURE(s, failed_deadline), FIGURE(s, in_flight),        FIGURE(s, waiting)};
  push_figures(L, figures, NEAP_ARRAY_LEN(figures));
}

static void push_storer(lua_State *L, const neap__storer_stats *of) {
  const neap__storer_stats s = *of;
  const figure figures[] = {FIGURE(s, submitted_objects), FIGURE(s, completed_objects), FIGURE(s, failed_objects),
                            FIGURE(s, refused_objects),   FIGURE(s, pending_objects),   FIGURE(s, pending_bytes),
                            FIGURE(s, in_flight)};
  push_figures(L, figures, NEAP_ARRAY_LEN(figures));
}

static void push_evictor(lua_State *L, const neap__evictor_stats *of) {
  const neap__evictor_stats s = *of;
  const figure figures[] = {FIGURE(s, passes), FIGURE(s, triggered), FIGURE(s, demand_evictions),
                            FIGURE(s, kept_proposals), FIGURE(s, failures)};
  push_figures(L, figures, NEAP_ARRAY_LEN(figures));
}

static void set_number(lua_State *L, const char *name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const char *value) {
  lua_pushstring(L, value);
  lua_setfield(L, -2, name);
}

/* status() -> table */
static int l_status(lua_State *L) {
  neap__bind *b = neap__bind_of(L);
  neap__engine *e = b->engine;
  neap__l1_stats l1;
  neap__fetcher_stats fetcher;
  neap__storer_stats storer;
  neap__evictor_stats evictor;
  neap__bind_enter(L, b);
  neap__l1_stats_get(e->l1, &l1);
  neap__fetcher_stats_get(e->fetcher, &fetcher);
  neap__storer_stats_get(e->storer, &storer);
  neap__evictor_stats_get(e->evictor, &evictor);
  uint32_t tiers = neap__tier_set_count(e->tiers);
  double usage = neap__l1_usage(e->l1);
  uint32_t models = neap__names_spaces(e->names), tenants = neap__names_tenants(e->names);
  neap__bind_leave(b);
  lua_newtable(L);
  push_l1(L, &l1);
  set_number(L, "usage", usage);
  lua_setfield(L, -2, "l1");
  push_fetcher(L, &fetcher);
  lua_setfield(L, -2, "fetch");
  push_storer(L, &storer);
  lua_setfield(L, -2, "store");
  push_evictor(L, &evictor);
  lua_setfield(L, -2, "evict");
  set_number(L, "chunk_tokens", e->config.l1.chunk_tokens);
  set_number(L, "tiers", tiers);
  set_number(L, "models", models);
  set_number(L, "tenants", tenants);
  set_number(L, "uptime_s", (double)(neap__now_ns() - e->opened_ns) / 1e9);
  return 1;
}

/* --- chunks ------------------------------------------------------------------------------------------------------- */

typedef struct found_chunk {
  neap__key key;
  uint32_t slot;
  uint64_t bytes;
} found_chunk;

typedef struct chunk_search {
  const neap__names *names;
  const char *model, *tenant; /* NULL: any */
  uint32_t limit, count;
  found_chunk *found; /* a userdata: [limit] */
} chunk_search;

static bool visit_chunk(void *ctx, uint32_t slot, const neap__key *key, uint64_t bytes) {
  chunk_search *s = ctx;
  const neap_object_key shown = neap__names_object_key((neap__names *)(uintptr_t)s->names, key);
  if (s->model && strcmp(shown.model, s->model) != 0) return true;
  if (s->tenant && strcmp(shown.salt, s->tenant) != 0) return true;
  s->found[s->count++] = (found_chunk){.key = *key, .slot = slot, .bytes = bytes};
  return s->count < s->limit;
}

static void push_chunk(lua_State *L, neap__names *names, const found_chunk *chunk) {
  static const char digits[] = "0123456789abcdef";
  const neap_object_key key = neap__names_object_key(names, &chunk->key);
  char hash[2 * NEAP_HASH_BYTES];
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) {
    hash[2 * i] = digits[key.hash[i] >> 4];
    hash[2 * i + 1] = digits[key.hash[i] & 15];
  }
  lua_createtable(L, 0, 6);
  lua_pushlstring(L, hash, sizeof(hash));
  lua_setfield(L, -2, "hash");
  set_string(L, "model", key.model);
  set_string(L, "tenant", key.salt);
  set_number(L, "rank", key.rank);
  set_number(L, "slot", chunk->slot);
  set_number(L, "bytes", (double)chunk->bytes);
}

/* chunks(limit, model|nil, tenant|nil) -> array of what is resident in L1, in the order of slots */
static int l_chunks(lua_State *L) {
  neap__bind *b = neap__bind_of(L);
  lua_Number limit = luaL_checknumber(L, 1);
  luaL_argcheck(L, limit >= 1 && limit <= CHUNKS_MAX, 1, "expected a limit of 1 to 10000");
  chunk_search search = {.names = b->engine->names,
                         .model = luaL_optstring(L, 2, NULL),
                         .tenant = luaL_optstring(L, 3, NULL),
                         .limit = (uint32_t)limit};
  search.found = lua_newuserdata(L, search.limit * sizeof(*search.found));
  neap__bind_enter(L, b);
  neap__l1_each_object(b->engine->l1, visit_chunk, &search);
  neap__bind_leave(b);
  lua_createtable(L, (int)search.count, 0);
  for (uint32_t i = 0; i < search.count; i++) {
    push_chunk(L, b->engine->names, &search.found[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* --- models, tenants, tiers -----------------------------------------------------------------------------------------
 */

/* models() -> array of { model, chunk_bytes, chunk_tokens, dtype } */
static int l_models(lua_State *L) {
  neap__bind *b = neap__bind_of(L);
  neap__names *names = b->engine->names;
  neap__bind_enter(L, b);
  uint32_t count = neap__names_spaces(names);
  neap__bind_leave(b);
  lua_newtable(L);
  for (uint32_t i = 0; i < count; i++) {
    const neap__layout *layout = neap__names_layout(names, i);
    lua_createtable(L, 0, 4);
    set_string(L, "model", neap__names_model(names, i));
    set_number(L, "chunk_bytes", (double)layout->bytes);
    set_number(L, "chunk_tokens", layout->chunk_tokens);
    set_string(L, "dtype", layout->dtype);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

typedef struct found_tenant {
  uint64_t bytes;
  double quota_gb;
  bool limited;
} found_tenant;

/* tenants() -> array of { tenant, bytes, quota_gb }, the first 1000 */
static int l_tenants(lua_State *L) {
  neap__bind *b = neap__bind_of(L);
  neap__engine *e = b->engine;
  found_tenant *found = lua_newuserdata(L, TENANTS_SHOWN_MAX * sizeof(*found));
  neap__bind_enter(L, b);
  uint32_t count = NEAP_MIN(neap__names_tenants(e->names), TENANTS_SHOWN_MAX);
  for (uint32_t i = 0; i < count; i++) {
    found[i].bytes = neap__l1_tenant_bytes(e->l1, i);
    found[i].limited = neap__quota_get(e->evictor, i, &found[i].quota_gb);
  }
  neap__bind_leave(b);
  lua_newtable(L);
  for (uint32_t i = 0; i < count; i++) {
    lua_createtable(L, 0, 3);
    set_string(L, "tenant", neap__names_salt(e->names, i));
    set_number(L, "bytes", (double)found[i].bytes);
    if (found[i].limited) set_number(L, "quota_gb", found[i].quota_gb);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

typedef struct found_tier {
  char name[NEAP_TIER_NAME_BYTES], type[64];
  uint32_t index;
  bool draining;
  neap__tier_stats stats;
  cJSON *status;
} found_tier;

typedef struct found_tiers {
  uint32_t count;
  found_tier tier[NEAP_TIERS_MAX];
} found_tiers;

static void free_tiers(found_tiers *tiers) {
  for (uint32_t i = 0; i < tiers->count; i++) cJSON_Delete(tiers->tier[i].status);
  tiers->count = 0;
}

static int l_tiers_gc(lua_State *L) {
  free_tiers(lua_touserdata(L, 1));
  return 0;
}

/* Asking an adapter for its status may wait for its thread, so tiers are held and no lock is. */
static void collect_tiers(neap__tier_set *set, found_tiers *out) {
  neap__tier_view view;
  char *text = malloc(NEAP_TIER_STATUS_BYTES);
  neap__tier_set_view(set, &view);
  for (uint32_t i = 0; i < view.count; i++) {
    const neap__tier_entry *e = &view.entries[i];
    found_tier *t = &out->tier[out->count++];
    memset(t, 0, sizeof(*t));
    memcpy(t->name, e->name, sizeof(t->name));
    memcpy(t->type, neap__tier_config_of(e->tier)->type,
           NEAP_MIN(sizeof(t->type) - 1, strlen(neap__tier_config_of(e->tier)->type)));
    t->index = e->index;
    t->draining = e->draining;
    neap__tier_stats_get(e->tier, &t->stats);
    if (text && neap__tier_status(e->tier, text, NEAP_TIER_STATUS_BYTES) > 0) t->status = cJSON_Parse(text);
  }
  neap__tier_view_drop(set, &view);
  free(text);
}

/* tiers() -> array */
static int l_tiers(lua_State *L) {
  neap__bind *b = neap__bind_of(L);
  found_tiers *found = lua_newuserdata(L, sizeof(*found));
  found->count = 0;
  if (luaL_newmetatable(L, "neap.console.tiers")) {
    lua_pushcfunction(L, l_tiers_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  neap__bind_enter(L, b);
  collect_tiers(b->engine->tiers, found);
  neap__bind_leave(b);
  lua_newtable(L);
  for (uint32_t i = 0; i < found->count; i++) {
    const found_tier *t = &found->tier[i];
    lua_newtable(L);
    set_string(L, "name", t->name);
    set_string(L, "type", t->type);
    set_string(L, "state", t->draining ? "draining" : "attached");
    set_string(L, "breaker", neap__breaker_name((neap__breaker)t->stats.breaker));
    set_number(L, "index", t->index);
    set_number(L, "used_bytes", (double)t->stats.used_bytes);
    set_number(L, "capacity_bytes", (double)t->stats.capacity_bytes);
    set_number(L, "queued", t->stats.queued);
    lua_pushboolean(L, t->stats.healthy);
    lua_setfield(L, -2, "healthy");
    neap__value_push(L, t->status);
    lua_setfield(L, -2, "status");
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* Pushes what get finds, as Lua values. A thread that raises half way leaves it to the collector. */
static int push_json(lua_State *L, cJSON *(*get)(neap__engine *engine)) {
  neap__bind *b = neap__bind_of(L);
  cJSON **held = neap__json_box(L);
  neap__bind_enter(L, b);
  *held = get(b->engine);
  neap__bind_leave(b);
  neap__value_push(L, *held);
  return 1;
}

static cJSON *get_policy(neap__engine *e) { return neap__lab_policy_json(e->lab, e->fate); }
static cJSON *get_shadows(neap__engine *e) { return neap__lab_shadows_json(e->lab); }

/* policy() -> what GET /policy answers */
static int l_policy(lua_State *L) { return push_json(L, get_policy); }

/* shadows() -> array */
static int l_shadows(lua_State *L) { return push_json(L, get_shadows); }

const luaL_Reg neap__bind_look[] = {{"status", l_status},   {"chunks", l_chunks}, {"models", l_models},
                                    {"tenants", l_tenants}, {"tiers", l_tiers},   {"policy", l_policy},
                                    {"shadows", l_shadows}, {NULL, NULL}};
