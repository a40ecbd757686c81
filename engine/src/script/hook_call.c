/* SPDX-License-Identifier: MIT
 *
 * script/hook_call.c - the hooks that are no operations: open, close, reconfigure. The caller is any thread but the
 * loop's and waits; the hook runs as a coroutine on the loop, beside the operations. */
#include <stdio.h>
#include <string.h>

#include "script/adapter_call.h"
#include "script/result.h"
#include "script/values.h"

typedef struct hook_call {
  neap__job job;
  neap__lua_adapter *adapter;
  int hook, rc;
  bool called;
  const cJSON *params;
  uint64_t deadline_ns;
  neap_error *err;
  neap__signal ended;
} hook_call;

static int hook_next(lua_State *L, neap__coro *coro, const char **what) {
  hook_call *h = neap__coro_owner(coro);
  if (h->called) return -1;
  h->called = true;
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->adapter->hook_refs[h->hook]);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return -1;
  }
  *what = h->adapter->hook_places[h->hook];
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->adapter->self_ref);
  if (!h->params) return 1;
  neap__value_push(L, h->params);
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
  h->rc = neap__fail(h->err, neap__result_code(name), "%s: %s failed: %s: %s", h->adapter->name,
                     neap__hook_names[h->hook], name, text);
}

/* The caller gets the message, the log the traceback as well. */
static void hook_failed(neap__coro *coro, int code, const char *text) {
  hook_call *h = neap__coro_owner(coro);
  const char *reason = code == NEAP_ESCRIPT || code == NEAP_ENOMEM ? text : neap_strerror(code);
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

int neap__hook_call(neap__lua_adapter *a, int hook, const cJSON *params, uint64_t deadline_ns, neap_error *err) {
  hook_call h = {
      .job = {.run = start_hook}, .adapter = a, .hook = hook, .params = params, .deadline_ns = deadline_ns, .err = err};
  neap__signal_init(&h.ended);
  neap__loop_post(a->loop, &h.job);
  neap__signal_wait(&h.ended);
  neap__signal_free(&h.ended);
  return h.rc;
}
