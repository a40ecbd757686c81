/* SPDX-License-Identifier: MIT
 *
 * script/adapter_call.c - operations as coroutines.
 *
 *   op with a batch form      one lane, one call: hook(self, keys, buffers)
 *   any other op              lanes that take its objects in turn: hook(self, key, buffer); one lane, or as many as the
 *                             adapter's declared concurrency leaves
 *
 * A lane is a coroutine and the object that its hook is called for. A lane that finds no object left in its operation
 * ends; if another operation has some, a lane is started there. What a hook was lent is taken back when its call ends.
 * A hook that raises fails its objects with NEAP_ESCRIPT; the adapter goes on. */
#include "script/adapter_call.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunk/key.h"
#include "script/buffer.h"
#include "script/key.h"
#include "script/result.h"

#define SINK_TYPE "neap.emit"
#define TEXT_BYTES 2048

const char *const neap__hook_names[NEAP__HOOKS] = {
    "store",  "lookup",      "load",        "delete",       "list",       "open",        "close",
    "status", "reconfigure", "store_batch", "lookup_batch", "load_batch", "delete_batch"};

/* What `emit` points to while its listing runs. */
typedef struct sink {
  neap_op *op;
  struct sink **slot;
} sink;

typedef struct lane {
  neap__lua_op *lo;
  neap__coro *coro;
  struct lane *next;
  uint32_t index, calls; /* the objects of the call that runs: calls of them from index */
} lane;

/* One operation on its way; refs: the operation itself and a cancel that is queued. */
struct neap__lua_op {
  neap__job job, cancel_job;
  neap__lua_adapter *adapter;
  neap_op *op;
  neap__lua_op *next; /* in live */
  lane *lanes;
  uint32_t begun; /* objects that were given to a lane or ended without */
  int hook;
  bool started, cancel_posted, said;
  uint32_t refs;
  sink *sink;
  neap__buffer *leases[]; /* one for each object of a store or load */
};

/* --- results ---------------------------------------------------------------------------------------------------- */

/* One line per operation is enough: a store that is down fails every object of it alike. */
static void say(neap__lua_op *lo, uint32_t index, neap_log_level level, const char *text) {
  char line[TEXT_BYTES], key[NEAP_KEY_TEXT_MAX] = "";
  if (lo->said) return;
  lo->said = true;
  if (lo->op->objects && index < lo->op->count) {
    int n = lo->adapter->host->key_format(&lo->op->objects[index].key, NEAP_KEY_NATIVE, key, sizeof(key));
    if (n < 0) key[0] = '\0';
  }
  snprintf(line, sizeof(line), "%s%s%s failed: %s", neap__hook_names[lo->hook], key[0] ? " of " : "", key, text);
  neap__vm_log(&lo->adapter->vm, level, line);
}

static bool lends(const neap_op *op) { return op->kind == NEAP_OP_STORE || op->kind == NEAP_OP_LOAD; }

/* Takes back what the call of a lane was lent. */
static void take_back(lane *l) {
  neap__lua_op *lo = l->lo;
  if (lends(lo->op)) {
    for (uint32_t i = 0; i < l->calls; i++) neap__buffer_revoke(&lo->leases[l->index + i]);
  }
  if (!lo->sink) return;
  lo->sink->op = NULL;
  lo->sink->slot = NULL;
  lo->sink = NULL;
}

static uint32_t calls_of(const neap_op *op) { return op->kind == NEAP_OP_LIST ? 1 : op->count; }

static void settle(neap__lua_op *lo, uint32_t index, int code) {
  if (lo->op->kind == NEAP_OP_LIST) {
    lo->op->list_result = code;
  } else {
    lo->op->objects[index].result = code;
  }
}

static void settle_rest(neap__lua_op *lo, int code) {
  while (lo->begun < calls_of(lo->op)) settle(lo, lo->begun++, code);
}

/* --- emit ------------------------------------------------------------------------------------------------------- */

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

/* --- the calls of an operation ---------------------------------------------------------------------------------- */

static void push_object(lua_State *L, lane *l, uint32_t i, bool buffer) {
  neap_op *op = l->lo->op;
  neap_object *object = &op->objects[i];
  if (buffer) {
    neap__buffer_lend(L, object->data, object->bytes, op->kind == NEAP_OP_LOAD, l->coro, &l->lo->leases[i]);
  } else {
    neap__key_push(L, &object->key);
  }
}

/* Keys, or their buffers, of all the objects of the call. */
static void push_array(lua_State *L, lane *l, bool buffers) {
  lua_createtable(L, (int)l->calls, 0);
  for (uint32_t i = 0; i < l->calls; i++) {
    push_object(L, l, l->index + i, buffers);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static bool overdue(const neap_op *op) { return op->deadline_ns && neap__now_ns() >= op->deadline_ns; }

static int op_next(lua_State *L, neap__coro *coro, const char **what) {
  lane *l = neap__coro_owner(coro);
  neap__lua_op *lo = l->lo;
  bool batch = lo->hook >= NEAP__HOOK_BATCH;
  l->calls = 0;
  if (neap__coro_canceled(coro)) settle_rest(lo, neap__coro_canceled(coro));
  if (overdue(lo->op)) settle_rest(lo, NEAP_ETIMEDOUT);
  if (lo->begun >= calls_of(lo->op)) return -1;
  l->index = lo->begun;
  l->calls = batch ? lo->op->count : 1;
  lo->begun += l->calls;
  *what = lo->adapter->hook_places[lo->hook];
  lua_rawgeti(L, LUA_REGISTRYINDEX, lo->adapter->hook_refs[lo->hook]);
  lua_rawgeti(L, LUA_REGISTRYINDEX, lo->adapter->self_ref);
  if (lo->op->kind == NEAP_OP_LIST) {
    push_sink(L, lo);
    return 2;
  }
  for (int part = 0; part < (lends(lo->op) ? 2 : 1); part++) {
    if (batch) push_array(L, l, part == 1);
    if (!batch) push_object(L, l, l->index, part == 1);
  }
  return lends(lo->op) ? 3 : 2;
}

static void op_returned(lua_State *R, neap__coro *coro) {
  lane *l = neap__coro_owner(coro);
  neap__lua_op *lo = l->lo;
  char why[TEXT_BYTES] = "";
  neap__result result = {
      .adapter = lo->adapter, .R = R, .kind = lo->op->kind, .hook = lo->hook, .why = why, .why_bytes = sizeof(why)};
  uint32_t about = l->index;
  take_back(l);
  if (lo->hook >= NEAP__HOOK_BATCH) {
    about = neap__result_batch(&result, lo->op->objects, lo->op->count);
  } else {
    settle(lo, l->index, neap__result_single(&result, lo->op->objects ? &lo->op->objects[l->index] : NULL));
  }
  if (why[0]) say(lo, about, result.level, why);
  l->calls = 0;
}

static void op_failed(neap__coro *coro, int code, const char *text) {
  lane *l = neap__coro_owner(coro);
  take_back(l);
  if (code == NEAP_ESCRIPT || code == NEAP_ENOMEM) say(l->lo, l->index, NEAP_ERROR, text);
  if (l->calls == 0) settle_rest(l->lo, code); /* not even a call could be made */
  for (uint32_t i = 0; i < l->calls; i++) settle(l->lo, l->index + i, code);
  l->calls = 0;
}

static void unref(neap__lua_op *lo) {
  neap__lua_adapter *a = lo->adapter;
  pthread_mutex_lock(&a->lock);
  bool last = --lo->refs == 0;
  pthread_mutex_unlock(&a->lock);
  if (last) free(lo);
}

static void op_finish(neap__lua_op *lo) {
  neap__lua_adapter *a = lo->adapter;
  pthread_mutex_lock(&a->lock);
  neap__lua_op **at = &a->live;
  while (*at != lo) at = &(*at)->next;
  *at = lo->next;
  pthread_mutex_unlock(&a->lock);
  neap_op *op = lo->op;
  unref(lo);
  a->host->done(a->host->engine, op);
}

static void lane_finished(void *owner);

static const neap__coro_calls op_calls = {
    .next = op_next, .returned = op_returned, .failed = op_failed, .finished = lane_finished};

static int lane_start(neap__lua_op *lo) {
  lane *l = calloc(1, sizeof(*l));
  if (!l) return NEAP_ENOMEM;
  l->lo = lo;
  int rc = neap__coro_start(&lo->adapter->vm, &op_calls, l, lo->op->deadline_ns, &l->coro);
  if (rc != 0) {
    free(l);
    return rc;
  }
  l->next = lo->lanes;
  lo->lanes = l;
  lo->adapter->lanes++;
  return 0;
}

/* The oldest operation with an object that no lane was given. */
static neap__lua_op *hungry(neap__lua_adapter *a) {
  neap__lua_op *found = NULL;
  pthread_mutex_lock(&a->lock);
  for (neap__lua_op *lo = a->live; lo; lo = lo->next) {
    if (lo->started && lo->begun < calls_of(lo->op) && lo->hook < NEAP__HOOK_BATCH) found = lo;
  }
  pthread_mutex_unlock(&a->lock);
  return found;
}

static void lane_finished(void *owner) {
  lane *l = owner;
  neap__lua_op *lo = l->lo;
  neap__lua_adapter *a = lo->adapter;
  lane **at = &lo->lanes;
  while (*at != l) at = &(*at)->next;
  *at = l->next;
  free(l);
  a->lanes--;
  if (!lo->lanes) {
    settle_rest(lo, NEAP_ENOMEM); /* left over if a call could not be made */
    op_finish(lo);
  }
  if (a->lanes >= a->concurrency) return;
  neap__lua_op *other = hungry(a);
  if (other) lane_start(other); /* without memory for it, the lanes that it has must do */
}

static void start_op(neap__job *job) {
  neap__lua_op *lo = (neap__lua_op *)job;
  neap__lua_adapter *a = lo->adapter;
  lo->hook = (int)lo->op->kind;
  if (lo->op->kind != NEAP_OP_LIST && a->hook_refs[NEAP__HOOK_BATCH + lo->hook] != LUA_REFNIL) {
    lo->hook += NEAP__HOOK_BATCH;
  }
  lo->started = true;
  int rc = lane_start(lo);
  if (rc != 0) {
    settle_rest(lo, rc);
    op_finish(lo);
    return;
  }
  if (lo->hook >= NEAP__HOOK_BATCH) return;
  for (uint32_t i = 1; i < calls_of(lo->op) && a->lanes < a->concurrency; i++) {
    if (lane_start(lo) != 0) return;
  }
}

/* --- from the engine's thread ----------------------------------------------------------------------------------- */

static void cancel_op(neap__job *job) {
  neap__lua_op *lo = (neap__lua_op *)((char *)job - offsetof(neap__lua_op, cancel_job));
  for (lane *l = lo->lanes; l; l = l->next) neap__coro_cancel(l->coro, NEAP_ECANCELED);
  unref(lo);
}

void neap__lua_submit(void *self, neap_op *op) {
  neap__lua_adapter *a = self;
  size_t leases = lends(op) ? op->count : 0;
  neap__lua_op *lo = calloc(1, sizeof(*lo) + leases * sizeof(lo->leases[0]));
  if (!lo) {
    for (uint32_t i = 0; op->objects && i < op->count; i++) op->objects[i].result = NEAP_ENOMEM;
    op->list_result = NEAP_ENOMEM;
    a->host->done(a->host->engine, op);
    return;
  }
  lo->job.run = start_op;
  lo->cancel_job.run = cancel_op;
  lo->adapter = a;
  lo->op = op;
  lo->refs = 1;
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
