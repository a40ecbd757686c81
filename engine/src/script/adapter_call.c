/* SPDX-License-Identifier: MIT
 *
 * script/adapter_call.c - operations as coroutines: what hooks are given, and what their results mean.
 *
 *   store   -> true (all bytes stored) | bytes stored, 0 if the key was there | nil, code, message
 *   lookup  -> size | true (there, size unknown) | false or nil (a miss)      | nil, code, message
 *   load    -> true | false or nil (a miss)                                   | nil, code, message
 *   delete  -> true | false or nil (was not there)                            | nil, code, message
 *   list    -> nothing or true, after emit(key, bytes, used_unix_s) per entry | nil, code, message
 *
 * A hook that raises, or returns something else, fails its object with NEAP_ESCRIPT; the adapter goes on. */
#include "script/adapter_call.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunk/key.h"
#include "script/buffer.h"
#include "script/key.h"

#define SINK_TYPE "neap.emit"
#define TEXT_BYTES 2048

const char *const neap__hook_names[NEAP__HOOKS] = {"store", "lookup", "load",  "delete",
                                                   "list",  "open",   "close", "status"};

/* What `emit` points to while its listing runs. */
typedef struct sink {
  neap_op *op;
  struct sink **slot;
} sink;

/* One operation on its way; refs: the operation itself and a cancel that is queued. */
struct neap__lua_op {
  neap__job job, cancel_job;
  neap__lua_adapter *adapter;
  neap_op *op;
  neap__lua_op *next; /* in live */
  neap__coro *coro;
  uint32_t index; /* of the object whose hook runs */
  bool cancel_posted, finished, said;
  uint32_t refs;
  neap__buffer *lease;
  sink *sink;
};

/* --- results ---------------------------------------------------------------------------------------------------- */

/* NEAP_E* for "ENOSPC", "NEAP_ENOSPC" and the errno names that have another name here; NEAP_EIO for all others. */
static int code_of(const char *name) {
  static const struct {
    const char *name;
    int code;
  } codes[] = {
#define XX(name, code, text) {#name, code},
      NEAP_ERR_MAP(XX)
#undef XX
          {"EACCES", NEAP_EPERM},
      {"EROFS", NEAP_EPERM},
      {"EDQUOT", NEAP_ENOSPC},
      {"ENOTDIR", NEAP_ENOENT}};
  if (strncmp(name, "NEAP_", 5) == 0) name += 5;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(codes); i++) {
    if (strcmp(codes[i].name, name) == 0) return codes[i].code;
  }
  return NEAP_EIO;
}

/* One line per operation is enough: a store that is down fails every object of it alike. */
static void say(neap__lua_op *lo, neap_log_level level, const char *text) {
  char line[TEXT_BYTES], key[NEAP_KEY_TEXT_MAX] = "";
  if (lo->said) return;
  lo->said = true;
  if (lo->op->objects && lo->index < lo->op->count) {
    int n = lo->adapter->host->key_format(&lo->op->objects[lo->index].key, NEAP_KEY_NATIVE, key, sizeof(key));
    if (n < 0) key[0] = '\0';
  }
  snprintf(line, sizeof(line), "%s%s%s failed: %s", neap__hook_names[lo->op->kind], key[0] ? " of " : "", key, text);
  neap__vm_log(&lo->adapter->vm, level, line);
}

static int nonsense(neap__lua_op *lo, lua_State *R, const char *expected) {
  char text[256];
  snprintf(text, sizeof(text), "the hook returned %s%s, expected %s", luaL_typename(R, 1),
           lua_toboolean(R, 1) ? "" : " without a code", expected);
  say(lo, NEAP_ERROR, text);
  return NEAP_ESCRIPT;
}

/* nil, code [, message] */
static int failure(neap__lua_op *lo, lua_State *R) {
  if (lua_type(R, 2) != LUA_TSTRING) return nonsense(lo, R, "a code such as 'ENOSPC' as the second result");
  const char *name = lua_tostring(R, 2);
  char text[TEXT_BYTES];
  snprintf(text, sizeof(text), "%s: %s", name, lua_type(R, 3) == LUA_TSTRING ? lua_tostring(R, 3) : "no message");
  int code = code_of(name);
  if (code != NEAP_ENOENT) say(lo, NEAP_WARNING, text);
  return code;
}

static bool is_size(lua_State *R) {
  if (lua_type(R, 1) != LUA_TNUMBER) return false;
  double n = lua_tonumber(R, 1);
  return n >= 0 && n <= 9007199254740992.0 && floor(n) == n;
}

/* The meaning of what a hook returned; object is NULL for a listing. */
static int result_of(neap__lua_op *lo, lua_State *R, neap_object *object) {
  uint32_t kind = lo->op->kind;
  lua_settop(R, 3);
  if (!lua_toboolean(R, 1) && !lua_isnil(R, 2)) return failure(lo, R);
  if (kind == NEAP_OP_LIST) return lua_toboolean(R, 1) || lua_isnil(R, 1) ? 0 : nonsense(lo, R, "true or nothing");
  if (kind == NEAP_OP_STORE || kind == NEAP_OP_LOOKUP) {
    if (is_size(R)) {
      object->stored_bytes = (uint64_t)lua_tonumber(R, 1);
      return 0;
    }
    if (lua_isboolean(R, 1) && lua_toboolean(R, 1)) {
      object->stored_bytes = kind == NEAP_OP_STORE ? object->bytes : 0;
      return 0;
    }
    if (kind == NEAP_OP_STORE) return nonsense(lo, R, "true, the bytes stored, or nil, code, message");
    return lua_toboolean(R, 1) ? nonsense(lo, R, "a size, true or false") : NEAP_ENOENT;
  }
  if (!lua_toboolean(R, 1)) return NEAP_ENOENT;
  return lua_isboolean(R, 1) ? 0 : nonsense(lo, R, "true, false, or nil, code, message");
}

/* Takes back what the hook was lent. */
static void take_back(neap__lua_op *lo) {
  neap__buffer_revoke(&lo->lease);
  if (lo->sink) lo->sink->op = NULL;
  if (lo->sink) lo->sink->slot = NULL;
  lo->sink = NULL;
}

static void settle_object(neap__lua_op *lo, int code) {
  take_back(lo);
  if (lo->op->kind == NEAP_OP_LIST) {
    lo->op->list_result = code;
  } else {
    lo->op->objects[lo->index].result = code;
  }
  lo->index++;
}

static uint32_t calls_of(const neap_op *op) { return op->kind == NEAP_OP_LIST ? 1 : op->count; }

static void settle_rest(neap__lua_op *lo, int code) {
  while (lo->index < calls_of(lo->op)) settle_object(lo, code);
}

/* --- the calls of an operation ---------------------------------------------------------------------------------- */

static sink *check_sink(lua_State *L) {
  sink *s = luaL_checkudata(L, 1, SINK_TYPE);
  if (!s->op) luaL_error(L, "emit is no longer valid: its listing is over");
  return s;
}

/* emit(key or its text, bytes [, used_unix_s]) -> true to go on, false to stop */
static int l_emit(lua_State *L) {
  sink *s = check_sink(L);
  char strings[NEAP_KEY_TEXT_MAX];
  neap_list_entry entry = {0};
  if (lua_type(L, 2) == LUA_TSTRING) {
    if (neap__key_parse(lua_tostring(L, 2), NEAP_KEY_NATIVE, &entry.key, strings, sizeof(strings)) != 0) {
      return luaL_error(L, "emit: '%s' is not the text of a key", lua_tostring(L, 2));
    }
  } else {
    entry.key = *neap__key_check(L, 2);
  }
  double bytes = luaL_checknumber(L, 3), used = luaL_optnumber(L, 4, 0);
  luaL_argcheck(L, bytes >= 0 && bytes <= 9007199254740992.0, 3, "expected a size in bytes");
  luaL_argcheck(L, used >= 0 && used <= 9007199254740992.0, 4, "expected seconds since 1970");
  entry.bytes = (uint64_t)bytes;
  entry.used_unix_s = (int64_t)used;
  lua_pushboolean(L, s->op->sink(s->op, &entry) == 0);
  return 1;
}

static int l_emit_gc(lua_State *L) {
  sink *s = luaL_checkudata(L, 1, SINK_TYPE);
  if (s->slot) *s->slot = NULL;
  return 0;
}

static void push_sink(lua_State *L, neap__lua_op *lo) {
  static const luaL_Reg methods[] = {{"__call", l_emit}, {"__gc", l_emit_gc}, {NULL, NULL}};
  sink *s = lua_newuserdata(L, sizeof(*s));
  *s = (sink){0};
  if (luaL_newmetatable(L, SINK_TYPE)) neap__vm_register(L, &lo->adapter->vm, methods);
  lua_setmetatable(L, -2);
  *s = (sink){.op = lo->op, .slot = &lo->sink};
  lo->sink = s;
}

static bool overdue(const neap_op *op) { return op->deadline_ns && neap__now_ns() >= op->deadline_ns; }

static int op_next(lua_State *L, neap__coro *coro, const char **what) {
  neap__lua_op *lo = neap__coro_owner(coro);
  neap__lua_adapter *a = lo->adapter;
  if (neap__coro_canceled(coro)) settle_rest(lo, neap__coro_canceled(coro));
  if (overdue(lo->op)) settle_rest(lo, NEAP_ETIMEDOUT);
  if (lo->index >= calls_of(lo->op)) return -1;
  *what = neap__hook_names[lo->op->kind];
  lua_rawgeti(L, LUA_REGISTRYINDEX, a->hook_refs[lo->op->kind]);
  lua_rawgeti(L, LUA_REGISTRYINDEX, a->self_ref);
  if (lo->op->kind == NEAP_OP_LIST) {
    push_sink(L, lo);
    return 2;
  }
  neap_object *object = &lo->op->objects[lo->index];
  neap__key_push(L, &object->key);
  if (lo->op->kind != NEAP_OP_STORE && lo->op->kind != NEAP_OP_LOAD) return 2;
  neap__buffer_lend(L, object->data, object->bytes, lo->op->kind == NEAP_OP_LOAD, coro, &lo->lease);
  return 3;
}

static void op_returned(lua_State *R, neap__coro *coro) {
  neap__lua_op *lo = neap__coro_owner(coro);
  neap_object *object = lo->op->kind == NEAP_OP_LIST ? NULL : &lo->op->objects[lo->index];
  settle_object(lo, result_of(lo, R, object));
}

static void op_failed(neap__coro *coro, int code, const char *text) {
  neap__lua_op *lo = neap__coro_owner(coro);
  if (code == NEAP_ESCRIPT) say(lo, NEAP_ERROR, text);
  settle_object(lo, code);
}

static void unref(neap__lua_op *lo) {
  neap__lua_adapter *a = lo->adapter;
  pthread_mutex_lock(&a->lock);
  bool last = --lo->refs == 0;
  pthread_mutex_unlock(&a->lock);
  if (last) free(lo);
}

static void op_finished(void *owner) {
  neap__lua_op *lo = owner;
  neap__lua_adapter *a = lo->adapter;
  pthread_mutex_lock(&a->lock);
  neap__lua_op **at = &a->live;
  while (*at != lo) at = &(*at)->next;
  *at = lo->next;
  lo->finished = true;
  pthread_mutex_unlock(&a->lock);
  neap_op *op = lo->op;
  unref(lo);
  a->host->done(a->host->engine, op);
}

static const neap__coro_calls op_calls = {
    .next = op_next, .returned = op_returned, .failed = op_failed, .finished = op_finished};

static void start_op(neap__job *job) {
  neap__lua_op *lo = (neap__lua_op *)job;
  int rc = neap__coro_start(&lo->adapter->vm, &op_calls, lo, lo->op->deadline_ns, &lo->coro);
  if (rc == 0) return;
  settle_rest(lo, rc);
  op_finished(lo);
}

/* --- from the engine's thread ----------------------------------------------------------------------------------- */

static void cancel_op(neap__job *job) {
  neap__lua_op *lo = (neap__lua_op *)((char *)job - offsetof(neap__lua_op, cancel_job));
  if (!lo->finished) neap__coro_cancel(lo->coro, NEAP_ECANCELED);
  unref(lo);
}

void neap__lua_submit(void *self, neap_op *op) {
  neap__lua_adapter *a = self;
  neap__lua_op *lo = calloc(1, sizeof(*lo));
  if (!lo) {
    for (uint32_t i = 0; op->objects && i < op->count; i++) op->objects[i].result = NEAP_ENOMEM;
    op->list_result = NEAP_ENOMEM;
    a->host->done(a->host->engine, op);
    return;
  }
  *lo = (neap__lua_op){.job = {.run = start_op}, .cancel_job = {.run = cancel_op}, .adapter = a, .op = op, .refs = 1};
  pthread_mutex_lock(&a->lock);
  lo->next = a->live;
  a->live = lo;
  neap__loop_post(a->loop, &lo->job); /* under the lock: before any cancel of it */
  pthread_mutex_unlock(&a->lock);
}

/* op may be done already, so it is only compared, and only with operations that are not. */
void neap__lua_cancel(void *self, neap_op *op) {
  neap__lua_adapter *a = self;
  pthread_mutex_lock(&a->lock);
  neap__lua_op *lo = a->live;
  while (lo && lo->op != op) lo = lo->next;
  bool post = lo && !lo->cancel_posted;
  if (post) {
    lo->cancel_posted = true;
    lo->refs++;
  }
  pthread_mutex_unlock(&a->lock);
  if (post) neap__loop_post(a->loop, &lo->cancel_job);
}

/* --- open and close hooks --------------------------------------------------------------------------------------- */

typedef struct hook_call {
  neap__job job;
  neap__lua_adapter *adapter;
  int hook, rc;
  bool called;
  uint64_t deadline_ns;
  neap_error *err;
  neap__signal ended;
} hook_call;

static int hook_next(lua_State *L, neap__coro *coro, const char **what) {
  hook_call *h = neap__coro_owner(coro);
  if (h->called) return -1;
  h->called = true;
  *what = neap__hook_names[h->hook];
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->adapter->hook_refs[h->hook]);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return -1;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->adapter->self_ref);
  if (h->hook != NEAP__HOOK_OPEN) return 1;
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->adapter->params_ref);
  return 2;
}

/* nil alone is success: most hooks of this kind end without a return. */
static void hook_returned(lua_State *R, neap__coro *coro) {
  hook_call *h = neap__coro_owner(coro);
  lua_settop(R, 3);
  bool failed = lua_isnil(R, 1) ? !lua_isnil(R, 2) : !lua_toboolean(R, 1);
  if (!failed) return;
  const char *name = lua_type(R, 2) == LUA_TSTRING ? lua_tostring(R, 2) : "EIO";
  const char *text = lua_type(R, 3) == LUA_TSTRING ? lua_tostring(R, 3) : "no message";
  h->rc = neap__fail(h->err, code_of(name), "%s: %s failed: %s: %s", h->adapter->name, neap__hook_names[h->hook], name,
                     text);
}

/* The caller gets the message, the log the traceback as well. */
static void hook_failed(neap__coro *coro, int code, const char *text) {
  hook_call *h = neap__coro_owner(coro);
  const char *reason = code == NEAP_ESCRIPT ? text : neap_strerror(code);
  h->called = true;
  neap__vm_log(&h->adapter->vm, NEAP_ERROR, text);
  h->rc = neap__fail(h->err, code, "%s: %s failed: %.*s", h->adapter->name, neap__hook_names[h->hook],
                     (int)strcspn(reason, "\n"), reason);
}

static void hook_finished(void *owner) { neap__signal_set(&((hook_call *)owner)->ended); }

static const neap__coro_calls hook_calls = {
    .next = hook_next, .returned = hook_returned, .failed = hook_failed, .finished = hook_finished};

static void start_hook(neap__job *job) {
  hook_call *h = (hook_call *)job;
  neap__coro *coro;
  h->rc = neap__coro_start(&h->adapter->vm, &hook_calls, h, h->deadline_ns, &coro);
  if (h->rc == 0) return;
  neap__fail(h->err, h->rc, "%s: out of memory", h->adapter->name);
  hook_finished(h);
}

int neap__hook_call(neap__lua_adapter *a, int hook, uint64_t deadline_ns, neap_error *err) {
  hook_call h = {.job = {.run = start_hook}, .adapter = a, .hook = hook, .deadline_ns = deadline_ns, .err = err};
  neap__signal_init(&h.ended);
  neap__loop_post(a->loop, &h.job);
  neap__signal_wait(&h.ended);
  neap__signal_free(&h.ended);
  return h.rc;
}
