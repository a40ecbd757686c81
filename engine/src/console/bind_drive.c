/* SPDX-License-Identifier: MIT
 *
 * console/bind_drive.c - stores, lookups and loads by hand: the flows of a worker, driven from a session.
 *
 * Objects have one row per worker of a world, as LMCache's workers of a model have. A store writes what it is given to
 * every row and offers it to the second level; a lookup is a fetch, L2 included, whose leases end at once; a load
 * copies what the fetch leased into buffers of the session; explain tells what became of the chunks, of whomever:
 * names only. */
#include <stdlib.h>
#include <string.h>

#include "chunk/tokens.h"
#include "console/bind_defs.h"
#include "explain.h"
#include "script/buffer.h"
#include "script/coro.h"
#include "script/values.h"

#define CHUNKS_MAX 4096u
#define WORLD_MAX 64u

/* The objects that the arguments (prompt, model, tenant, world) at 1 to 4 mean. Memory is the stack's. */
typedef struct prompt {
  uint32_t chunks, rows;
  const char *model, *tenant;
  size_t model_bytes, tenant_bytes;
  uint8_t (*hashes)[NEAP_HASH_BYTES];
} prompt;

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static void read_hash(lua_State *L, uint8_t *out) {
  size_t bytes;
  const char *text = luaL_checklstring(L, -1, &bytes);
  bool good = bytes == 2 * NEAP_HASH_BYTES;
  for (size_t i = 0; i < bytes && good; i++) good = hex_digit(text[i]) >= 0;
  if (!good) luaL_error(L, "a chunk's hash is 64 hexadecimal digits (lower case), got '%s'", text);
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++)
    out[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
}

static uint32_t read_token(lua_State *L, int at) {
  lua_Number x = lua_tonumber(L, -1);
  if (lua_type(L, -1) != LUA_TNUMBER)
    luaL_error(L, "token %d is a %s, expected a whole number", at, luaL_typename(L, -1));
  if (!(x >= 0 && x <= UINT32_MAX) || x != (lua_Number)(uint32_t)x)
    luaL_error(L, "token %d is %f, expected a whole number from 0 to 4294967295", at, x);
  return (uint32_t)x;
}

/* An array of tokens, or of hashes. Leaves what it allocates on the stack. */
static void read_prompt(lua_State *L, const neap__bind *b, prompt *out) {
  luaL_checktype(L, 1, LUA_TTABLE);
  uint32_t chunk_tokens = b->engine->config.l1.chunk_tokens;
  size_t length = lua_objlen(L, 1);
  lua_rawgeti(L, 1, 1);
  bool hashed = lua_type(L, -1) == LUA_TSTRING;
  lua_pop(L, 1);
  size_t chunks = hashed ? length : length / chunk_tokens;
  if (chunks == 0)
    luaL_error(L, "%d token%s are no complete chunk: one has %d", (int)length, length == 1 ? "" : "s",
               (int)chunk_tokens);
  if (chunks > CHUNKS_MAX) luaL_error(L, "%f chunks, expected at most %d", (double)chunks, (int)CHUNKS_MAX);
  out->chunks = (uint32_t)chunks;
  out->hashes = lua_newuserdata(L, chunks * sizeof(*out->hashes));
  uint32_t *tokens = hashed ? NULL : lua_newuserdata(L, chunks * chunk_tokens * sizeof(*tokens));
  for (size_t i = 0; i < (hashed ? chunks : chunks * chunk_tokens); i++) {
    lua_rawgeti(L, 1, (int)i + 1);
    if (hashed)
      read_hash(L, out->hashes[i]);
    else
      tokens[i] = read_token(L, (int)i + 1);
    lua_pop(L, 1);
  }
  if (!hashed) neap__chain(neap__chain_seed(), tokens, chunk_tokens, out->chunks, out->hashes);
}

/* own: bytes are written or read, so a guarded session may name nobody's but its own. */
static void read_arguments(lua_State *L, const neap__bind *b, bool own, prompt *out) {
  neap_error err;
  out->model = luaL_checklstring(L, 2, &out->model_bytes);
  out->tenant = luaL_checklstring(L, 3, &out->tenant_bytes);
  lua_Number world = luaL_checknumber(L, 4);
  luaL_argcheck(L, world >= 1 && world <= WORLD_MAX, 4, "expected a world of 1 to 64 workers");
  out->rows = (uint32_t)world;
  if (neap__model_check(out->model, out->model_bytes, &err) != 0) luaL_error(L, "model: %s", err.text);
  if (neap__salt_check(out->tenant, out->tenant_bytes, &err) != 0) luaL_error(L, "tenant: %s", err.text);
  if (own && b->guarded &&
      (strcmp(out->model, NEAP_CONSOLE_TENANT) != 0 || strcmp(out->tenant, NEAP_CONSOLE_TENANT) != 0))
    luaL_error(L, "a guarded session stores and loads for model and tenant '%s' only, got model '%s', tenant '%s'",
               NEAP_CONSOLE_TENANT, out->model, out->tenant);
  read_prompt(L, b, out);
}

/* keys: [chunks][rows] */
static void fill_keys(const prompt *p, uint32_t space, uint32_t tenant, neap__key *keys) {
  for (uint32_t i = 0; i < p->chunks; i++) {
    for (uint32_t r = 0; r < p->rows; r++) {
      neap__key *key = &keys[(size_t)i * p->rows + r];
      *key = (neap__key){.space = space, .rank = neap__rank(p->rows, r), .tenant = tenant};
      memcpy(key->hash, p->hashes[i], sizeof(key->hash));
    }
  }
}

/* --- store -------------------------------------------------------------------------------------------------------- */

/* The first space of that model, or UINT32_MAX. */
static uint32_t find_space(neap__names *names, const char *model) {
  for (uint32_t i = 0; i < neap__names_spaces(names); i++)
    if (strcmp(neap__names_model(names, i), model) == 0) return i;
  return UINT32_MAX;
}

/* Numbers are given once and never taken back, so a guarded session may use up no more than one of them. */
static int name_objects(const neap__bind *b, const prompt *p, uint64_t bytes, uint32_t *space, uint32_t *tenant,
                        neap_error *err) {
  neap__names *names = b->engine->names;
  neap__layout layout;
  uint32_t known = find_space(names, p->model);
  if (b->guarded && known != UINT32_MAX && neap__names_layout(names, known)->bytes != bytes)
    return neap__fail(err, NEAP_EINVAL, "chunks of '%s' have %llu bytes on this server, got %llu", p->model,
                      (unsigned long long)neap__names_layout(names, known)->bytes, (unsigned long long)bytes);
  int rc = neap__layout_init(&layout, &bytes, 1, "uint8", b->engine->config.l1.chunk_tokens, err);
  if (rc != 0) return rc;
  rc = neap__names_space(names, p->model, p->model_bytes, &layout, space);
  if (rc == 0) rc = neap__names_tenant(names, p->tenant, p->tenant_bytes, tenant);
  return rc ? neap__fail(err, rc, "no number is left for another model or tenant") : 0;
}

typedef struct stored {
  uint32_t objects, present;
  neap_error err;
} stored;

/* What a worker does between prepare_store and commit_store, and the offer to the tiers. contents: bytes for each
 * chunk, NULL: zeros. rank: room for [chunks] keys. */
static int store_all(neap__engine *e, const prompt *p, const neap__key *keys, const uint8_t *contents, uint64_t bytes,
                     uint64_t *sizes, neap__key *rank, neap__lease *leases, int *results, stored *out) {
  const neap__owner owner = {.kind = NEAP_OWNER_LOCAL};
  uint32_t count = p->chunks * p->rows;
  for (uint32_t i = 0; i < count; i++) sizes[i] = bytes;
  int rc = neap__evictor_reserve(e->evictor, count, keys, sizes, 0, &owner, leases, results);
  if (rc != 0)
    return neap__fail(&out->err, rc, "no room in L1 for %u objects of %llu bytes: %s", count, (unsigned long long)bytes,
                      neap_strerror(rc));
  for (uint32_t i = 0; i < count; i++) {
    neap__view view;
    if (results[i] == NEAP_EEXIST) out->present++;
    if (results[i] != 0) continue;
    NEAP_ASSERT(neap__l1_view(e->l1, leases[i], &view) == 0);
    if (contents)
      memcpy(view.data, contents + i / p->rows * bytes, (size_t)bytes);
    else
      memset(view.data, 0, (size_t)bytes);
    if (neap__l1_commit(e->l1, leases[i], NULL, NULL, 0, NULL) == 0) out->objects++;
  }
  for (uint32_t r = 0; r < p->rows; r++) { /* one rank at a time, as its worker would */
    for (uint32_t i = 0; i < p->chunks; i++) rank[i] = keys[(size_t)i * p->rows + r];
    neap__storer_offer(e->storer, 0, p->chunks, rank, NULL);
  }
  neap__evictor_check(e->evictor);
  return 0;
}

/* store(prompt, model, tenant, world, contents) -> objects stored, objects that were there, chunks
 * contents: a number of bytes per chunk (zeros), or a string or buffer that is cut evenly among the chunks. */
static int l_store(lua_State *L) {
  neap__bind *b = neap__bind_of(L);
  prompt p;
  read_arguments(L, b, true, &p);
  uint64_t bytes;
  size_t length = 0;
  const uint8_t *contents = NULL;
  if (lua_type(L, 5) == LUA_TNUMBER) {
    lua_Number each = lua_tonumber(L, 5);
    luaL_argcheck(L, each >= 1 && each <= 4294967296.0, 5, "expected 1 to 4294967296 bytes for each chunk");
    bytes = (uint64_t)each;
  } else {
    if (lua_type(L, 5) == LUA_TSTRING) {
      contents = (const uint8_t *)lua_tolstring(L, 5, &length);
    } else {
      const neap__buffer *buffer = neap__buffer_check(L, 5, false);
      contents = buffer->data;
      length = (size_t)buffer->bytes;
    }
    if (length == 0 || length % p.chunks != 0)
      return luaL_error(L, "%f bytes cannot be cut evenly among %d chunks", (double)length, (int)p.chunks);
    bytes = length / p.chunks;
  }
  size_t count = (size_t)p.chunks * p.rows;
  neap__key *keys = lua_newuserdata(L, count * sizeof(*keys));
  neap__key *rank = lua_newuserdata(L, p.chunks * sizeof(*rank));
  uint64_t *sizes = lua_newuserdata(L, count * sizeof(*sizes));
  neap__lease *leases = lua_newuserdata(L, count * sizeof(*leases));
  int *results = lua_newuserdata(L, count * sizeof(*results));
  stored done = {0};
  uint32_t space, tenant;
  neap__bind_enter(L, b);
  int rc = name_objects(b, &p, bytes, &space, &tenant, &done.err);
  if (rc == 0) {
    fill_keys(&p, space, tenant, keys);
    rc = store_all(b->engine, &p, keys, contents, bytes, sizes, rank, leases, results, &done);
  }
  neap__bind_leave(b);
  if (rc != 0) return luaL_error(L, "engine:store: %s", done.err.text);
  lua_pushnumber(L, done.objects);
  lua_pushnumber(L, done.present);
  lua_pushnumber(L, p.chunks);
  return 3;
}

/* --- lookup and load ------------------------------------------------------------------------------------------------
 */

typedef struct request {
  neap__await await;
  neap__job job;
  neap__vm *vm;
  neap__bind *bind;
  neap__fetch *fetch;
  uint32_t chunks;
  bool load;
  uint64_t row_bytes[WORLD_MAX];
} request;

static request *request_of(neap__await *await) { return (request *)((char *)await - offsetof(request, await)); }

static void request_release(neap__await *await) {
  request *r = request_of(await);
  if (r->fetch) neap__fetch_end(r->fetch);
  neap__bind_leave(r->bind);
  free(r);
}

/* A buffer with a copy of what a lease holds, on top. */
static void push_copy(lua_State *L, const request *r, neap__lease lease) {
  neap__view view;
  if (neap__l1_view(r->bind->engine->l1, lease, &view) != 0) luaL_error(L, "engine:load: a lease is gone");
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  lua_getfield(L, -1, "neap.core");
  lua_getfield(L, -1, "buffer");
  lua_pushnumber(L, (lua_Number)view.bytes);
  neap__vm_invoke(L, 1, 3);
  if (lua_isnil(L, -3)) luaL_error(L, "engine:load: %s", lua_tostring(L, -1));
  memcpy(neap__buffer_check(L, -3, true)->data, view.data, (size_t)view.bytes);
  lua_pop(L, 2);
  lua_replace(L, -3);
  lua_pop(L, 1);
}

/* hit chunks, chunks [, array of buffers: those of the first worker] */
static int request_push(lua_State *L, neap__await *await) {
  const request *r = request_of(await);
  uint32_t hit = 0;
  neap__fetch_poll(r->fetch, &hit);
  lua_pushnumber(L, hit);
  lua_pushnumber(L, r->chunks);
  if (!r->load) return 2;
  lua_createtable(L, (int)hit, 0);
  for (uint32_t i = 0; i < hit; i++) {
    push_copy(L, r, neap__fetch_lease(r->fetch, i, 0, false));
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 3;
}

static void fetched(neap__job *job) { neap__coro_wake(&((request *)((char *)job - offsetof(request, job)))->await); }

/* On the engine's loop, or inside neap__fetch_start. */
static void fetch_done(void *ctx) {
  request *r = ctx;
  neap__loop_post(r->vm->loop, &r->job);
}

static void unknown_model(lua_State *L, neap__names *names, const char *model) {
  const char *known[NEAP_SPACES_MAX];
  uint32_t count = neap__names_spaces(names);
  for (uint32_t i = 0; i < count; i++) known[i] = neap__names_model(names, i);
  const char *near = neap__nearest(model, known, count);
  luaL_error(L, "nothing of a model '%s' was ever stored%s%s%s; engine:models() tells which there are", model,
             near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* Arguments of what only looks: the keys of a model and a tenant that are known. */
static void read_known(lua_State *L, const neap__bind *b, bool own, prompt *p, uint32_t *space, uint32_t *tenant) {
  neap__names *names = b->engine->names;
  read_arguments(L, b, own, p);
  *space = find_space(names, p->model);
  *tenant = 0;
  if (*space == UINT32_MAX) unknown_model(L, names, p->model);
  if (neap__names_tenant_find(names, p->tenant, p->tenant_bytes, tenant) != 0)
    luaL_error(L, "tenant '%s' is not known; engine:tenants() tells which there are", p->tenant);
}

static int start_fetch(lua_State *L, const char *function, bool load) {
  neap__bind *b = neap__bind_of(L);
  neap__names *names = b->engine->names;
  neap__coro *coro;
  prompt p;
  uint32_t space, tenant;
  read_known(L, b, load, &p, &space, &tenant);
  neap__key *keys = lua_newuserdata(L, (size_t)p.chunks * p.rows * sizeof(*keys));
  fill_keys(&p, space, tenant, keys);
  int refused = neap__coro_enter(L, function, false, &coro);
  if (refused) return refused;
  neap__bind_enter(L, b);
  request *r = calloc(1, sizeof(*r));
  if (!r) {
    neap__bind_leave(b);
    return luaL_error(L, "out of memory");
  }
  *r = (request){.await = {.push = request_push, .release = request_release},
                 .job.run = fetched,
                 .vm = neap__vm_of(L),
                 .bind = b,
                 .chunks = p.chunks,
                 .load = load};
  for (uint32_t i = 0; i < p.rows; i++) r->row_bytes[i] = neap__names_layout(names, space)->bytes;
  neap__fetch_request fetch = {.chunks = p.chunks,
                               .rows = p.rows,
                               .keys = keys,
                               .row_bytes = r->row_bytes,
                               .owner.kind = NEAP_OWNER_LOCAL,
                               .readers = 1,
                               .name = "console",
                               .done = fetch_done,
                               .ctx = r};
  int rc = neap__fetch_start(b->engine->fetcher, &fetch, &r->fetch);
  if (rc != 0) {
    request_release(&r->await);
    return luaL_error(L, "%s: %s", function, neap_strerror(rc));
  }
  return neap__coro_wait(L, coro, &r->await);
}

/* lookup(prompt, model, tenant, world) -> chunks that are there (a prefix), chunks. Awaits. */
static int l_lookup(lua_State *L) { return start_fetch(L, "engine:lookup", false); }

/* load(...) -> the same, and buffers. Awaits. */
static int l_load(lua_State *L) { return start_fetch(L, "engine:load", true); }

/* --- explain ------------------------------------------------------------------------------------------------------ */

typedef struct why {
  neap__await await;
  neap__job job;
  neap__vm *vm;
  neap__bind *bind;
  neap__explain *explain;
} why;

static why *why_of(neap__await *await) { return (why *)((char *)await - offsetof(why, await)); }

static void why_release(neap__await *await) {
  why *w = why_of(await);
  neap__explain_free(w->explain);
  neap__bind_leave(w->bind);
  free(w);
}

static int why_push(lua_State *L, neap__await *await) {
  cJSON **held = neap__json_box(L);
  *held = neap__explain_json(why_of(await)->explain);
  neap__value_push(L, *held);
  lua_remove(L, -2);
  return 1;
}

static void told(neap__job *job) { neap__coro_wake(&((why *)((char *)job - offsetof(why, job)))->await); }

/* On the engine's loop. */
static void explained(void *ctx) {
  why *w = ctx;
  neap__loop_post(w->vm->loop, &w->job);
}

/* explain(prompt, model, tenant, world) -> array of chunks, as in the answer of /policy/explain. Awaits. */
static int l_explain(lua_State *L) {
  neap__bind *b = neap__bind_of(L);
  neap__coro *coro;
  neap_error err = {""};
  prompt p;
  uint32_t space, tenant;
  read_known(L, b, false, &p, &space, &tenant);
  int refused = neap__coro_enter(L, "engine:explain", false, &coro);
  if (refused) return refused;
  neap__bind_enter(L, b);
  why *w = calloc(1, sizeof(*w));
  const neap__explain_request asked = {.space = space,
                                         .tenant = tenant,
                                         .world = p.rows,
                                         .chunks = p.chunks,
                                         .hashes = (const uint8_t(*)[NEAP_HASH_BYTES])p.hashes,
                                         .done = explained,
                                         .ctx = w};
  int rc = w ? neap__explain_open(b->engine, &asked, &w->explain, &err) : neap__fail(&err, NEAP_ENOMEM, "no memory");
  if (rc != 0) {
    free(w);
    neap__bind_leave(b);
    return luaL_error(L, "engine:explain: %s", err.text);
  }
  w->await = (neap__await){.push = why_push, .release = why_release};
  w->job.run = told;
  w->vm = neap__vm_of(L);
  w->bind = b;
  neap__explain_start(w->explain);
  return neap__coro_wait(L, coro, &w->await);
}

const luaL_Reg neap__bind_drive[] = {
    {"store", l_store}, {"lookup", l_lookup}, {"load", l_load}, {"explain", l_explain}, {NULL, NULL}};
