/* SPDX-License-Identifier: MIT
 *
 * script/inner.c - see inner.h. Arguments are checked in full before anything is begun, so that nothing is held across
 * a raise. An operation that was canceled is canceled below, too, and waited for: its buffers are in use until then.
 *
 * A store lives as long as one of these: the script's handle, a request, the list of what is open. */
#include "script/inner.h"

#include <cjson/cJSON.h>
#include <lauxlib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/buffer.h"
#include "script/inner_list.h"
#include "script/key.h"
#include "script/values.h"

#define TYPE "neap.store"
#define TREE_TYPE "neap.json"
#define STRINGS "neap.strings"
#define STRINGS_MAX (1u << 16) /* different models and tenants that one script names */
#define BATCH_MAX 65536u
#define STATUS_BYTES 65536u

struct neap__store {
  neap__vm *vm;
  neap_inner *inner;
  neap__store *next; /* in vm->stores */
  uint32_t refs, in_flight;
  bool closed;              /* for the script; inner goes when in_flight is 0 */
  struct blocking *closing; /* waits for that */
  char type[64];
};

/* One operation. */
typedef struct request {
  neap__await await;
  neap__job job;
  neap__store *store;
  neap__listing *listing;
  bool batch;
  neap_op op;
  neap__mem **mems;
  neap_object objects[];
} request;

/* Opening or closing, on a thread of its own. */
typedef struct blocking {
  neap__await await;
  neap__job job;
  pthread_t thread;
  neap__store *store;
  char *config; /* NULL: it closes */
  int rc;
  neap_error err;
} blocking;

/* --- life of a store ---------------------------------------------------------------------------------------------- */

static void store_unref(neap__store *store) {
  if (--store->refs == 0) free(store);
}

static void list_remove(neap__store *store) {
  neap__store **at = &store->vm->stores;
  while (*at != store) at = &(*at)->next;
  *at = store->next;
  store_unref(store);
}

static neap__store *check_store(lua_State *L) {
  neap__store *store = *(neap__store **)luaL_checkudata(L, 1, TYPE);
  if (!store) luaL_error(L, "the store was given back");
  return store;
}

static int push_code(lua_State *L, const char *type, const char *what, int code) {
  lua_pushnil(L);
  lua_pushstring(L, neap_err_name(code) + strlen("NEAP_"));
  lua_pushfstring(L, "%s: %s: %s", type, what, neap_strerror(code));
  return 3;
}

/* For awaiting functions: the first result tells that nothing is to be raised. */
static int refuse(lua_State *L, const char *type, const char *what, int code) {
  lua_pushnil(L);
  return 1 + push_code(L, type, what, code);
}

static int l_gc(lua_State *L) {
  neap__store **handle = luaL_checkudata(L, 1, TYPE);
  if (*handle) store_unref(*handle);
  *handle = NULL;
  return 0;
}

static int l_tostring(lua_State *L) {
  const neap__store *store = check_store(L);
  lua_pushfstring(L, "neap.store (%s%s)", store->type, store->closed ? ", closed" : "");
  return 1;
}

/* --- trees that survive a raise ----------------------------------------------------------------------------------- */

static int l_tree_gc(lua_State *L) {
  cJSON **tree = lua_touserdata(L, 1);
  cJSON_Delete(*tree);
  *tree = NULL;
  return 0;
}

static cJSON **push_tree(lua_State *L) {
  cJSON **tree = lua_newuserdata(L, sizeof(*tree));
  *tree = NULL;
  luaL_getmetatable(L, TREE_TYPE);
  lua_setmetatable(L, -2);
  return tree;
}

/* --- open and close ----------------------------------------------------------------------------------------------- */

static blocking *blocking_of(neap__await *await) { return (blocking *)((char *)await - offsetof(blocking, await)); }

static void blocking_release(neap__await *await) {
  blocking *b = blocking_of(await);
  store_unref(b->store);
  free(b->config);
  free(b);
}

static void op_done(void *ctx, neap_op *op) {
  request *r = (request *)((char *)op - offsetof(request, op));
  (void)ctx;
  neap__loop_post(r->store->vm->loop, &r->job);
}

static void *block(void *arg) {
  blocking *b = arg;
  const neap_host *host = b->store->vm->host;
  if (b->config) {
    b->rc = host->inner_open(host->engine, b->config, op_done, NULL, &b->store->inner, &b->err);
  } else {
    host->inner_close(b->store->inner);
  }
  neap__loop_post(b->store->vm->loop, &b->job);
  return NULL;
}

static void blocked(neap__job *job) {
  blocking *b = (blocking *)((char *)job - offsetof(blocking, job));
  neap__store *store = b->store;
  pthread_join(b->thread, NULL);
  if (b->config && b->rc == 0) {
    store->closed = false;
    store->refs++;
    store->next = store->vm->stores;
    store->vm->stores = store;
  } else if (!b->config) {
    store->inner = NULL;
    list_remove(store);
  }
  neap__coro_wake(&b->await);
}

static int blocking_start(blocking *b) { return pthread_create(&b->thread, NULL, block, b) == 0 ? 0 : NEAP_ELIMIT; }

static int push_opened(lua_State *L, neap__await *await) {
  blocking *b = blocking_of(await);
  if (b->rc) {
    lua_pushnil(L);
    lua_pushstring(L, neap_err_name(b->rc) + strlen("NEAP_"));
    lua_pushstring(L, b->err.text);
    return 3;
  }
  neap__store **handle = lua_newuserdata(L, sizeof(*handle));
  *handle = NULL;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  *handle = b->store;
  b->store->refs++;
  return 1;
}

static int push_closed(lua_State *L, neap__await *await) {
  const blocking *b = blocking_of(await);
  if (b->rc) return push_code(L, b->store->type, "close", b->rc);
  lua_pushboolean(L, 1);
  return 1;
}

static blocking *blocking_new(neap__store *store, char *config, int (*push)(lua_State *, neap__await *)) {
  blocking *b = calloc(1, sizeof(*b));
  if (!b) return NULL;
  b->await = (neap__await){.push = push, .release = blocking_release, .cleanup = config == NULL};
  b->job.run = blocked;
  b->store = store;
  b->config = config;
  store->refs++;
  return b;
}

/* The JSON text of the table at index 1, by malloc. */
static char *config_text(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  cJSON **tree = push_tree(L);
  *tree = cJSON_CreateObject();
  if (!*tree) luaL_error(L, "out of memory");
  neap__value_take(L, 1, *tree, "config");
  char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(*tree, "config"));
  if (!text) luaL_error(L, "out of memory");
  return text;
}

/* core.open_store(config) -> store | nil, code, message */
static int l_open(lua_State *L) {
  neap__vm *vm = neap__vm_of(L);
  neap__coro *coro;
  int refused = neap__coro_enter(L, "neap.open", false, &coro);
  if (refused) return refused;
  lua_settop(L, 1);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "type");
  const char *type = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "neap.open";
  if (!NEAP_HAS(vm->host, neap_host, inner_open)) return refuse(L, type, "open", NEAP_ENOTSUP);
  char *config = config_text(L);
  neap__store *store = calloc(1, sizeof(*store));
  blocking *b = store ? blocking_new(store, config, push_opened) : NULL;
  if (!b) {
    free(store);
    free(config);
    return refuse(L, type, "open", NEAP_ENOMEM);
  }
  store->vm = vm;
  store->closed = true;
  snprintf(store->type, sizeof(store->type), "%s", type);
  int rc = blocking_start(b);
  if (rc == 0) return neap__coro_wait(L, coro, &b->await);
  blocking_release(&b->await);
  return refuse(L, type, "open", rc);
}

/* core.store_close(store) -> true; waits for operations in flight. */
static int l_close(lua_State *L) {
  neap__store *store = check_store(L);
  neap__coro *coro;
  int refused = neap__coro_enter(L, "store:close", true, &coro);
  if (refused) return refused;
  if (store->closed) {
    lua_pushnil(L);
    lua_pushboolean(L, 1);
    return 2;
  }
  blocking *b = blocking_new(store, NULL, push_closed);
  if (!b) return refuse(L, store->type, "close", NEAP_ENOMEM);
  int rc = 0;
  store->closed = true;
  if (store->in_flight) {
    store->closing = b;
  } else {
    rc = blocking_start(b);
  }
  if (rc == 0) return neap__coro_wait(L, coro, &b->await);
  store->closed = false;
  blocking_release(&b->await);
  return refuse(L, store->type, "close", rc);
}

/* --- operations --------------------------------------------------------------------------------------------------- */

static const char *const kinds[] = {"store", "lookup", "load", "delete", "list"};

static request *request_of(neap__await *await) { return (request *)((char *)await - offsetof(request, await)); }

static void request_release(neap__await *await) {
  request *r = request_of(await);
  for (uint32_t i = 0; r->mems && i < r->op.count; i++) neap__mem_drop(r->mems[i]);
  neap__listing_free(r->listing);
  store_unref(r->store);
  free(r->mems);
  free(r);
}

static void request_cancel(neap__await *await) {
  request *r = request_of(await);
  const neap_host *host = r->store->vm->host;
  host->inner_cancel(r->store->inner, &r->op);
}

static void request_ended(neap__job *job) {
  request *r = (request *)((char *)job - offsetof(request, job));
  neap__store *store = r->store;
  blocking *closing = store->closing;
  if (--store->in_flight == 0 && closing) {
    store->closing = NULL;
    closing->rc = blocking_start(closing);
    if (closing->rc) neap__coro_wake(&closing->await); /* stays open until the adapter closes */
  }
  neap__coro_wake(&r->await);
}

/* What a hook would return first for this object; for a batch, failures are the names of their codes. */
static int push_object(lua_State *L, const request *r, const neap_object *object) {
  uint32_t kind = r->op.kind;
  int why = neap__coro_canceled(r->await.coro); /* a deadline reaches what is below as a cancel */
  int code = object->result == NEAP_ECANCELED && why ? why : object->result;
  if (object->result == 0 && (kind == NEAP_OP_STORE || (kind == NEAP_OP_LOOKUP && object->stored_bytes))) {
    lua_pushnumber(L, (double)object->stored_bytes);
  } else if (object->result == 0 || (object->result == NEAP_ENOENT && kind != NEAP_OP_STORE)) {
    lua_pushboolean(L, object->result == 0);
  } else if (r->batch) {
    lua_pushstring(L, neap_err_name(code) + strlen("NEAP_"));
  } else {
    return push_code(L, r->store->type, kinds[kind], code);
  }
  return 1;
}

static int push_results(lua_State *L, neap__await *await) {
  const request *r = request_of(await);
  if (!r->batch) return push_object(L, r, &r->objects[0]);
  lua_createtable(L, (int)r->op.count, 0);
  for (uint32_t i = 0; i < r->op.count; i++) {
    push_object(L, r, &r->objects[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

static int push_listing(lua_State *L, neap__await *await) {
  request *r = request_of(await);
  if (r->op.list_result) return push_code(L, r->store->type, "list", r->op.list_result);
  if (neap__listing_full(r->listing)) {
    neap__vm_log(r->store->vm, NEAP_WARNING, "an inner store holds more objects than one listing can tell");
  }
  return neap__listing_push(L, r->store->vm, &r->listing);
}

static int sink(neap_op *op, const neap_list_entry *entry) {
  request *r = (request *)((char *)op - offsetof(request, op));
  return neap__listing_add(r->listing, entry);
}

static request *request_new(neap__store *store, uint32_t kind, uint32_t count, neap__coro *coro) {
  request *r = calloc(1, sizeof(*r) + count * sizeof(r->objects[0]));
  if (!r) return NULL;
  bool removes = kind == NEAP_OP_REMOVE;
  r->await = (neap__await){
      .push = push_results, .cancel = request_cancel, .release = request_release, .cleanup = removes, .counts = true};
  r->job.run = request_ended;
  r->store = store;
  r->op = (neap_op){.size = sizeof(neap_op), .kind = kind, .count = count};
  r->op.deadline_ns = removes ? 0 : neap__coro_deadline(coro);
  r->op.objects = count ? r->objects : NULL;
  store->refs++;
  return r;
}

static int submit(lua_State *L, neap__coro *coro, request *r) {
  const neap_host *host = r->store->vm->host;
  r->store->in_flight++;
  host->inner_submit(r->store->inner, &r->op);
  return neap__coro_wait(L, coro, &r->await);
}

/* The same string for as long as the VM lives. Raises when there are too many. */
static const char *keep_string(lua_State *L, const char *text) {
  lua_getfield(L, LUA_REGISTRYINDEX, STRINGS);
  lua_pushstring(L, text);
  const char *kept = lua_tostring(L, -1); /* LuaJIT has one copy of a string and does not move it */
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  if (lua_isnil(L, -1)) {
    lua_rawgeti(L, -3, 1);
    lua_Number count = lua_tonumber(L, -1) + 1;
    if (count > STRINGS_MAX) luaL_error(L, "more than %d models and tenants in one script", STRINGS_MAX);
    lua_pushnumber(L, count);
    lua_rawseti(L, -5, 1);
    lua_pushvalue(L, -3);
    lua_pushboolean(L, 1);
    lua_rawset(L, -6);
    lua_pop(L, 1);
  }
  lua_pop(L, 3);
  return kept;
}

/* Pushes the i-th key or buffer: arg itself, or an element of the array arg. */
static void push_item(lua_State *L, int arg, bool batch, uint32_t i) {
  if (batch) {
    lua_rawgeti(L, arg, (int)i + 1);
  } else {
    lua_pushvalue(L, arg);
  }
}

/* Fills in an object from the arguments; raises if they are wrong. */
static void read_object(lua_State *L, uint32_t kind, bool batch, uint32_t i, neap__coro *coro, neap_object *object,
                        neap__mem **mem) {
  push_item(L, 3, batch, i);
  object->key = *neap__key_check(L, -1);
  object->key.model = keep_string(L, object->key.model);
  object->key.salt = keep_string(L, object->key.salt);
  lua_pop(L, 1);
  if (kind != NEAP_OP_STORE && kind != NEAP_OP_LOAD) return;
  push_item(L, 4, batch, i);
  neap__buffer *buffer = neap__buffer_check(L, lua_gettop(L), kind == NEAP_OP_LOAD);
  *mem = neap__buffer_hold(L, buffer, coro);
  object->data = buffer->data;
  object->bytes = buffer->bytes;
  lua_pop(L, 1);
}

/* core.store_run(store, kind, key | keys, buffer | buffers) -> what a hook returns | an array of that */
static int l_run(lua_State *L) {
  neap__store *store = check_store(L);
  uint32_t kind = (uint32_t)luaL_checkinteger(L, 2);
  luaL_argcheck(L, kind < NEAP_OP_LIST, 2, "expected 0 to 3");
  bool batch = lua_istable(L, 3);
  size_t count = batch ? lua_objlen(L, 3) : 1;
  luaL_argcheck(L, count <= BATCH_MAX, 3, "more than 65536 keys");
  bool buffers = kind == NEAP_OP_STORE || kind == NEAP_OP_LOAD;
  if (batch && buffers && (!lua_istable(L, 4) || lua_objlen(L, 4) != count)) {
    return luaL_error(L, "store:%s_batch: expected as many buffers as keys", kinds[kind]);
  }
  neap__coro *coro;
  int refused = neap__coro_enter(L, kinds[kind], kind == NEAP_OP_REMOVE, &coro);
  if (refused) return refused;
  for (uint32_t i = 0; i < count; i++) { /* what raises, raises here */
    neap_object object;
    neap__mem *mem = NULL;
    read_object(L, kind, batch, i, coro, &object, &mem);
    neap__mem_drop(mem);
  }
  if (store->closed) return refuse(L, store->type, kinds[kind], NEAP_ECLOSED);
  if (count == 0) {
    lua_pushnil(L);
    lua_newtable(L);
    return 2;
  }
  request *r = request_new(store, kind, (uint32_t)count, coro);
  if (!r) return refuse(L, store->type, kinds[kind], NEAP_ENOMEM);
  r->batch = batch;
  r->mems = calloc(count, sizeof(neap__mem *));
  if (!r->mems) {
    request_release(&r->await);
    return refuse(L, store->type, kinds[kind], NEAP_ENOMEM);
  }
  for (uint32_t i = 0; i < count; i++) read_object(L, kind, batch, i, coro, &r->objects[i], &r->mems[i]);
  return submit(L, coro, r);
}

/* core.store_list(store) -> iterator over key, bytes, used | nil, code, message */
static int l_list(lua_State *L) {
  neap__store *store = check_store(L);
  neap__coro *coro;
  int refused = neap__coro_enter(L, "store:list", false, &coro);
  if (refused) return refused;
  if (store->closed) return refuse(L, store->type, "list", NEAP_ECLOSED);
  request *r = request_new(store, NEAP_OP_LIST, 0, coro);
  if (!r) return refuse(L, store->type, "list", NEAP_ENOMEM);
  r->await.push = push_listing;
  r->op.sink = sink;
  r->listing = neap__listing_new();
  if (r->listing) return submit(L, coro, r);
  request_release(&r->await);
  return refuse(L, store->type, "list", NEAP_ENOMEM);
}

/* --- facts; these do not await ------------------------------------------------------------------------------------ */

/* store:can(kind) -> boolean */
static int l_can(lua_State *L) {
  const neap__store *store = check_store(L);
  static const char *const names[] = {"store", "lookup", "load", "delete", "list", NULL};
  int kind = luaL_checkoption(L, 2, NULL, names);
  const neap_host *host = store->vm->host;
  lua_pushboolean(L, !store->closed && host->inner_can(store->inner, (neap_op_kind)kind));
  return 1;
}

/* store:status() -> table | nil, code, message */
static int l_status(lua_State *L) {
  const neap__store *store = check_store(L);
  const neap_host *host = store->vm->host;
  if (store->closed) return push_code(L, store->type, "status", NEAP_ECLOSED);
  cJSON **tree = push_tree(L);
  char *text = calloc(1, STATUS_BYTES);
  int n = text ? host->inner_status(store->inner, text, STATUS_BYTES) : NEAP_ENOMEM;
  if (n >= 0) *tree = cJSON_Parse(text);
  free(text);
  if (n < 0 && n != NEAP_ENOTSUP) return push_code(L, store->type, "status", n);
  if (cJSON_IsObject(*tree)) {
    neap__value_push(L, *tree);
  } else {
    lua_newtable(L);
  }
  return 1;
}

void neap__inner_lua_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg methods[] = {
      {"can", l_can}, {"status", l_status}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
  static const luaL_Reg tree_methods[] = {{"__gc", l_tree_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"open_store", l_open}, {"store_run", l_run}, {"store_list", l_list}, {"store_close", l_close}, {NULL, NULL}};
  luaL_newmetatable(L, TREE_TYPE);
  neap__vm_register(L, vm, tree_methods);
  lua_pop(L, 1);
  neap__listing_open(L, vm);
  lua_newtable(L);
  lua_setfield(L, LUA_REGISTRYINDEX, STRINGS);
  luaL_newmetatable(L, TYPE);
  neap__vm_register(L, vm, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_setfield(L, -2, "store_methods");
  neap__vm_register(L, vm, functions);
}

/* --- what a script forgot to close -------------------------------------------------------------------------------- */

static void mark_closed(void *arg) {
  neap__vm *vm = arg;
  for (neap__store *store = vm->stores; store; store = store->next) store->closed = true;
}

static void forget_all(void *arg) {
  neap__vm *vm = arg;
  while (vm->stores) list_remove(vm->stores);
}

void neap__inner_lua_close(neap__vm *vm) {
  if (!vm->loop) return;
  neap__loop_call(vm->loop, mark_closed, vm);
  for (neap__store *store = vm->stores; store; store = store->next) vm->host->inner_close(store->inner);
  neap__loop_call(vm->loop, forget_all, vm);
}
