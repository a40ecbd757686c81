/* SPDX-License-Identifier: MIT
 *
 * script/lua_adapter.c - the adapter table over a Lua class: a loop thread and a VM per opened adapter, a coroutine
 * per operation, the objects of an operation in order.
 *
 *   engine's thread                          loop thread of the adapter
 *     store(op): post job ------------------> coro: hook(self, key, buffer) per object ---> host->done(op), once
 *     cancel(op): post job, if op is live --> neap__coro_cancel
 *     status(): last known facts, or asks the loop when the VM is idle
 *     close(): close hook, VM, timers, then the thread
 *
 * Only `live`, the cached status and the pulse are shared between threads. */
#include "script/lua_adapter.h"

#include <lauxlib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/adapter_call.h"
#include "script/inner.h"
#include "script/module.h"
#include "script/values.h"

#define OPEN_NS (60 * UINT64_C(1000000000))  /* deadline of the open and reconfigure hooks */
#define CLOSE_NS (10 * UINT64_C(1000000000)) /* deadline of the close hook */

/* --- open and close --------------------------------------------------------------------------------------------- */

typedef struct opening {
  neap__lua_adapter *adapter;
  const neap__lua_class *class;
  int rc;
  neap_error *err;
} opening;

/* What the watchdog calls the hook on top; out of memory is told by setup_body. */
static char *hook_place(lua_State *L, const char *name) {
  lua_Debug where;
  char *text = NULL;
  if (lua_isnil(L, -1)) return NULL;
  lua_pushvalue(L, -1);
  if (lua_getinfo(L, ">S", &where) == 0 || where.source[0] != '@') return strdup(name);
  return asprintf(&text, "%s of %s:%d", name, where.source + 1, where.linedefined) < 0 ? NULL : text;
}

/* self, hooks: everything that later calls push is put into the registry here. */
static int setup_body(lua_State *L) {
  opening *o = lua_touserdata(L, 1);
  neap__lua_adapter *a = o->adapter;
  lua_settop(L, 0);
  neap__module_push(L, o->class->path, o->class->class_name, o->class->config_class_name);
  lua_settop(L, 1);
  for (int i = 0; i < NEAP__HOOKS; i++) {
    lua_getfield(L, 1, neap__hook_names[i]);
    a->hook_places[i] = hook_place(L, neap__hook_names[i]);
    a->hook_refs[i] = luaL_ref(L, LUA_REGISTRYINDEX);
    if (a->hook_refs[i] != LUA_REFNIL && !a->hook_places[i]) return luaL_error(L, "out of memory");
  }
  lua_newtable(L);
  lua_newtable(L);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
  a->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  neap__guard_set(&a->vm, &o->class->limits);
  return 0;
}

static void open_vm(void *arg) {
  opening *o = arg;
  neap__lua_adapter *a = o->adapter;
  o->rc = neap__vm_open(&a->vm, a->loop, a->host, o->class->class_name, o->class->path, o->err);
  if (o->rc != 0) return;
  a->vm_open = true;
  o->rc = neap__vm_call(&a->vm, "load", setup_body, o, o->err);
}

static void coros_closed(void *arg) {
  neap__lua_adapter *a = arg;
  neap__vm_close(&a->vm);
  a->vm_open = false;
  neap__signal_set(&a->vm_closed);
}

static void close_vm(void *arg) {
  neap__lua_adapter *a = arg;
  if (a->vm_open) {
    neap__coros_close(&a->vm, coros_closed, a);
  } else {
    neap__signal_set(&a->vm_closed);
  }
}

static void adapter_free(neap__lua_adapter *a) {
  if (a->loop) {
    neap__inner_lua_close(&a->vm);
    neap__loop_call(a->loop, close_vm, a);
    neap__signal_wait(&a->vm_closed);
    neap__loop_close(a->loop);
  }
  cJSON_Delete(a->status);
  for (int i = 0; i < NEAP__HOOKS; i++) free(a->hook_places[i]);
  neap__signal_free(&a->vm_closed);
  pthread_mutex_destroy(&a->lock);
  free(a);
}

static cJSON *parse_params(const neap__lua_adapter *a, const char *params_json, neap_error *err) {
  cJSON *params = cJSON_Parse(params_json);
  if (cJSON_IsObject(params)) return params;
  cJSON_Delete(params);
  neap__fail(err, NEAP_EINVAL, "%s: the parameters are not a JSON object", a->name);
  return NULL;
}

static int open_adapter(const neap_adapter *table, const neap_host *host, const char *params_json, void **self,
                        neap_error *err) {
  const neap__lua_class *class = (const neap__lua_class *)table;
  neap__lua_adapter *a = calloc(1, sizeof(*a));
  if (!a) return neap__fail(err, NEAP_ENOMEM, "%s: out of memory", class->class_name);
  a->host = host;
  a->name = class->class_name;
  a->concurrency = NEAP_MAX(class->traits.concurrency, 1u);
  pthread_mutex_init(&a->lock, NULL);
  neap__signal_init(&a->vm_closed);
  opening o = {.adapter = a, .class = class, .err = err};
  cJSON *params = parse_params(a, params_json ? params_json : "{}", err);
  if (!params) {
    o.rc = NEAP_EINVAL;
    goto out;
  }
  o.rc = neap__loop_open(class->class_name, &a->loop);
  if (o.rc != 0) {
    neap__fail(err, o.rc, "%s: no thread: %s", a->name, neap_strerror(o.rc));
    goto out;
  }
  neap__loop_call(a->loop, open_vm, &o);
  if (o.rc == 0) o.rc = neap__hook_call(a, NEAP__HOOK_OPEN, params, neap__now_ns() + OPEN_NS, err);
out:
  cJSON_Delete(params);
  if (o.rc != 0) {
    adapter_free(a);
    return o.rc;
  }
  *self = a;
  return 0;
}

static void close_adapter(void *self) {
  neap__lua_adapter *a = self;
  NEAP_ASSERT(!a->live);
  neap_error err = {0};
  if (neap__hook_call(a, NEAP__HOOK_CLOSE, NULL, neap__now_ns() + CLOSE_NS, &err) != 0) {
    char text[NEAP_ERROR_BYTES + 32];
    snprintf(text, sizeof(text), "close failed: %s", err.text);
    a->host->log(a->host->engine, NEAP_WARNING, text);
  }
  adapter_free(a);
}

static int reconfigure_adapter(void *self, const char *params_json, neap_error *err) {
  neap__lua_adapter *a = self;
  cJSON *params = parse_params(a, params_json, err);
  if (!params) return NEAP_EINVAL;
  int rc = neap__hook_call(a, NEAP__HOOK_RECONFIGURE, params, neap__now_ns() + OPEN_NS, err);
  cJSON_Delete(params);
  return rc;
}

/* --- status ----------------------------------------------------------------------------------------------------- */

#define STATUS_WAIT_MS 100

/* A question to the loop; freed by whoever lets go last, for the asker may give up. */
typedef struct question {
  neap__job job;
  neap__lua_adapter *adapter;
  neap__signal answered;
  atomic_int refs;
} question;

static void question_drop(question *q) {
  if (atomic_fetch_sub(&q->refs, 1) != 1) return;
  neap__signal_free(&q->answered);
  free(q);
}

typedef struct answer {
  neap__lua_adapter *adapter;
  cJSON *holder;
} answer;

static int status_body(lua_State *L) {
  answer *an = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, an->adapter->hook_refs[NEAP__HOOK_STATUS]);
  lua_rawgeti(L, LUA_REGISTRYINDEX, an->adapter->self_ref);
  neap__vm_invoke(L, 1, 1);
  if (!lua_istable(L, 1)) return luaL_error(L, "status returned a %s, expected a table", luaL_typename(L, 1));
  neap__value_take(L, 1, an->holder, "status");
  return 0;
}

static void answer_question(neap__job *job) {
  question *q = (question *)job;
  neap__lua_adapter *a = q->adapter;
  answer an = {.adapter = a, .holder = cJSON_CreateObject()};
  neap_error err = {0};
  if (an.holder && neap__vm_call(&a->vm, a->hook_places[NEAP__HOOK_STATUS], status_body, &an, &err) == 0) {
    cJSON *status = cJSON_DetachItemFromObjectCaseSensitive(an.holder, "status");
    pthread_mutex_lock(&a->lock);
    cJSON_Delete(a->status);
    a->status = status;
    pthread_mutex_unlock(&a->lock);
  } else {
    neap__vm_log(&a->vm, NEAP_WARNING, err.text);
  }
  cJSON_Delete(an.holder);
  neap__signal_set(&q->answered);
  question_drop(q);
}

static void ask(neap__lua_adapter *a) {
  if (atomic_load(&a->vm.pulse.entered_ns) != 0) return; /* busy: what is known must do */
  question *q = calloc(1, sizeof(*q));
  if (!q) return;
  q->job.run = answer_question;
  q->adapter = a;
  neap__signal_init(&q->answered);
  atomic_store(&q->refs, 2);
  neap__loop_post(a->loop, &q->job);
  neap__signal_wait_ms(&q->answered, STATUS_WAIT_MS);
  question_drop(q);
}

static int status_adapter(void *self, char *json, size_t cap) {
  neap__lua_adapter *a = self;
  if (a->hook_refs[NEAP__HOOK_STATUS] != LUA_REFNIL && !neap__loop_here(a->loop)) ask(a);
  pthread_mutex_lock(&a->lock);
  cJSON *status = a->status ? cJSON_Duplicate(a->status, 1) : cJSON_CreateObject();
  pthread_mutex_unlock(&a->lock);
  bool healthy = !atomic_load(&a->vm.pulse.stuck) && !atomic_load(&a->vm.guard.starved) &&
                 !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(status, "is_healthy"));
  cJSON_DeleteItemFromObjectCaseSensitive(status, "is_healthy");
  cJSON_AddBoolToObject(status, "is_healthy", healthy);
  int rc = NEAP_ELIMIT;
  if (status && cJSON_PrintPreallocated(status, json, (int)NEAP_MIN(cap, (size_t)INT32_MAX), 0)) rc = (int)strlen(json);
  cJSON_Delete(status);
  return rc;
}

void neap__lua_adapter_table(neap_adapter *table, neap__lua_has has) {
  *table = (neap_adapter){
      NEAP_ADAPTER_INIT(NULL, NULL),
      .open = open_adapter,
      .store = neap__lua_submit,
      .lookup = neap__lua_submit,
      .load = neap__lua_submit,
      .remove = has.remove ? neap__lua_submit : NULL,
      .list = has.list ? neap__lua_submit : NULL,
      .cancel = neap__lua_cancel,
      .status = status_adapter,
      .close = close_adapter,
      .reconfigure = has.reconfigure ? reconfigure_adapter : NULL,
  };
}
