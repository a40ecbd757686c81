/* SPDX-License-Identifier: MIT
 *
 * script/coro.c - the state machine of coro.h.
 *
 * States: IDLE (in the VM's pool), QUEUED (its job is posted), RUNNING, WAITING (for a wake or the timer). A C function
 * that awaits yields a private token; whatever else is yielded came from the script and is an error. The results of a
 * wake begin with nil, or with a text that the Lua wrapper (neap/await.lua) raises. */
#include "script/coro.h"

#include <lauxlib.h>
#include <stdlib.h>

/* A hook that goes on in spite of its cancel is ended after this many refused awaits. */
#define REFUSALS_MAX 64
/* Calls that return without awaiting share the loop after this long. */
#define SLICE_NS 5000000u
#define SLEEP_S_MAX 86400.0
/* Coros that live below one root at a time. */
#define CHILDREN_MAX 256

enum { IDLE, QUEUED, RUNNING, WAITING };

struct neap__coro {
  neap__job job;
  neap__vm *vm;
  neap__coro *next; /* in the pool */
  lua_State *thread;
  int thread_ref;
  uv_timer_t timer; /* fires at the earlier of deadline_ns and wake_ns */
  int state;
  bool suspended; /* thread holds a call that awaits */
  bool beginning; /* a call is being made */
  bool finished;
  int cancel_code;
  uint32_t refusals;
  uint64_t deadline_ns, wake_ns, slice_end_ns;
  neap__coro *parent; /* NULL: a root */
  uint32_t children;  /* of a root: all that live below it */
  neap__await *await; /* NULL while sleeping */
  const char *what;
  const neap__coro_calls *calls;
  void *owner;
};

static const char await_token, kill_token;

static void run(neap__job *job);
static void on_timer(uv_timer_t *timer);

static void queue(neap__coro *coro) {
  NEAP_ASSERT(coro->state != QUEUED && coro->state != IDLE);
  coro->state = QUEUED;
  neap__loop_post(coro->vm->loop, &coro->job);
}

static void arm(neap__coro *coro) {
  uint64_t at = coro->wake_ns;
  if (coro->deadline_ns && !coro->cancel_code && (!at || coro->deadline_ns < at)) at = coro->deadline_ns;
  if (!at) {
    uv_timer_stop(&coro->timer);
    return;
  }
  uint64_t now = neap__now_ns();
  uv_update_time(coro->timer.loop); /* scripts may have kept the loop busy */
  uv_timer_start(&coro->timer, on_timer, at > now ? (at - now + 999999u) / 1000000u : 0, 0);
}

static void on_timer(uv_timer_t *timer) {
  neap__coro *coro = timer->data;
  uint64_t now = neap__now_ns();
  if (coro->deadline_ns && now >= coro->deadline_ns) neap__coro_cancel(coro, NEAP_ETIMEDOUT);
  if (coro->wake_ns && now >= coro->wake_ns && coro->state == WAITING) {
    coro->wake_ns = 0;
    if (coro->await) {
      coro->await->expire(coro->await);
    } else {
      queue(coro);
    }
  }
  arm(coro);
}

static neap__coro *coro_new(neap__vm *vm) {
  neap__coro *coro = calloc(1, sizeof(*coro));
  if (!coro) return NULL;
  coro->vm = vm;
  coro->job.run = run;
  uv_timer_init(neap__loop_uv(vm->loop), &coro->timer);
  coro->timer.data = coro;
  vm->coros++;
  return coro;
}

int neap__coro_start(neap__vm *vm, const neap__coro_calls *calls, void *owner, uint64_t deadline_ns, neap__coro **out) {
  neap__coro *coro = vm->idle;
  if (coro) {
    vm->idle = coro->next;
  } else {
    coro = coro_new(vm);
    if (!coro) return NEAP_ENOMEM;
  }
  coro->calls = calls;
  coro->owner = owner;
  coro->deadline_ns = deadline_ns;
  coro->cancel_code = 0;
  coro->refusals = 0;
  coro->finished = false;
  coro->parent = NULL;
  coro->children = 0;
  coro->what = "start";
  coro->state = RUNNING;
  *out = coro;
  arm(coro);
  queue(coro);
  return 0;
}

static neap__coro *root_of(neap__coro *coro) {
  while (coro->parent) coro = coro->parent;
  return coro;
}

int neap__coro_start_child(neap__coro *parent, const neap__coro_calls *calls, void *owner, neap__coro **out) {
  neap__coro *root = root_of(parent);
  if (root->children == CHILDREN_MAX) return NEAP_ELIMIT;
  int rc = neap__coro_start(parent->vm, calls, owner, 0, out);
  if (rc != 0) return rc;
  root->children++;
  (*out)->parent = parent;
  (*out)->what = parent->what;
  return 0;
}

bool neap__coro_below(const neap__coro *coro, const neap__coro *ancestor) {
  while (coro && coro != ancestor) coro = coro->parent;
  return coro != NULL;
}

int neap__coro_canceled(const neap__coro *coro) { return coro->cancel_code; }
uint64_t neap__coro_deadline(const neap__coro *coro) { return coro->deadline_ns; }
void *neap__coro_owner(const neap__coro *coro) { return coro->owner; }

void neap__coro_cancel(neap__coro *coro, int code) {
  if (coro->cancel_code) return;
  coro->cancel_code = code;
  if (coro->state != WAITING) return;
  if (!coro->await) {
    coro->wake_ns = 0;
    queue(coro);
  } else if (coro->await->cancel && !coro->await->cleanup) {
    coro->await->cancel(coro->await);
  }
}

bool neap__coro_overdue(neap__coro *coro, uint64_t now_ns) {
  if (!coro->deadline_ns || now_ns < coro->deadline_ns || coro->cancel_code) return false;
  neap__coro_cancel(coro, NEAP_ETIMEDOUT);
  return true;
}

/* --- below the protected call ----------------------------------------------------------------------------------- */

static void drop_thread(lua_State *L, neap__coro *coro) {
  luaL_unref(L, LUA_REGISTRYINDEX, coro->thread_ref);
  coro->thread = NULL;
}

static void push_cancel(lua_State *L, const neap__coro *coro) {
  lua_pushliteral(L, "neap: ");
  lua_pushstring(L, neap_strerror(coro->cancel_code));
  lua_concat(L, 2);
}

static void release_await(neap__coro *coro) {
  neap__await *await = coro->await;
  coro->await = NULL;
  if (await) await->release(await);
}

/* The results of what was awaited, on the thread. Returns how many. */
static int settle(lua_State *L, neap__coro *coro) {
  int results = 1;
  coro->suspended = false;
  coro->wake_ns = 0;
  if (coro->cancel_code && !(coro->await && (coro->await->cleanup || coro->await->counts))) {
    push_cancel(L, coro);
  } else {
    lua_pushnil(L);
    if (coro->await) results += coro->await->push(L, coro->await);
  }
  release_await(coro);
  lua_xmove(L, coro->thread, results);
  return results;
}

/* The next call, on the thread. Returns the number of arguments, or -1. */
static int begin(lua_State *L, neap__coro *coro) {
  neap__guard_collect(coro->vm);
  neap__guard_relax(coro->vm); /* a script that took all its memory is still called, and told so */
  coro->beginning = true;
  if (!coro->thread) {
    lua_State *thread = lua_newthread(L);
    coro->thread_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    coro->thread = thread;
  }
  int args = coro->calls->next(L, coro, &coro->what);
  coro->beginning = false;
  neap__guard_tighten(coro->vm, false);
  if (args < 0) {
    coro->finished = true;
    return -1;
  }
  lua_xmove(L, coro->thread, args + 1);
  neap__pulse_enter(&coro->vm->pulse, coro->what);
  neap__guard_rearm(coro->vm);
  return args;
}

/* Tells the owner of a thread that raised, or that yielded what it should not have. */
static void fail(lua_State *L, neap__coro *coro, int status, const char *why) {
  lua_State *thread = coro->thread;
  int code = status == LUA_ERRMEM ? NEAP_ENOMEM : NEAP_ESCRIPT;
  neap__guard_relax(coro->vm);
  if (why) {
    lua_pushstring(L, why);
  } else if (lua_type(thread, -1) == LUA_TSTRING) {
    lua_pushvalue(thread, -1);
    lua_xmove(thread, L, 1);
  } else {
    lua_pushfstring(L, "(error object is a %s value)", luaL_typename(thread, -1));
  }
  luaL_traceback(L, thread, lua_tostring(L, -1), 0);
  coro->calls->failed(coro, coro->cancel_code ? coro->cancel_code : code, lua_tostring(L, -1));
  lua_pop(L, 2);
  drop_thread(L, coro);
  neap__guard_tighten(coro->vm, status == LUA_ERRMEM);
}

/* Runs calls until one awaits, none is left, or the slice is over. */
static int step(lua_State *L) {
  neap__coro *coro = lua_touserdata(L, 1);
  coro->slice_end_ns = neap__now_ns() + SLICE_NS;
  /* coroutine.running gives scripts our thread; resumed by them, it may have ended while it waited for us. */
  bool taken = coro->suspended && lua_status(coro->thread) != LUA_YIELD;
  int args = coro->suspended ? settle(L, coro) : begin(L, coro);
  while (args >= 0) {
    int status = taken ? LUA_ERRRUN : lua_resume(coro->thread, args);
    if (status == LUA_YIELD && lua_touserdata(coro->thread, -1) == (const void *)&await_token) {
      lua_pop(coro->thread, 1);
      coro->suspended = true;
      return 0;
    }
    if (status == 0) {
      coro->calls->returned(coro->thread, coro);
      lua_settop(coro->thread, 0);
    } else if (taken) {
      fail(L, coro, status, "a coroutine that awaits was resumed by the script");
      taken = false;
    } else if (status != LUA_YIELD) {
      fail(L, coro, status, NULL);
    } else if (lua_touserdata(coro->thread, -1) == (const void *)&kill_token) {
      fail(L, coro, status, "ended: it kept awaiting after it had been told to stop");
    } else {
      fail(L, coro, status, "coroutine.yield outside a coroutine of the script's own");
    }
    if (neap__coro_slice_over(coro)) return 0;
    args = begin(L, coro);
  }
  return 0;
}

/* An error in `step` itself: a failed allocation or a finalizer that raised. The call in progress is lost; if it could
 * not even be made, there will be no further one. */
static void step_failed(neap__coro *coro, int code, const char *text) {
  if (coro->beginning) coro->finished = true;
  coro->beginning = false;
  release_await(coro);
  coro->suspended = false;
  coro->calls->failed(coro, coro->cancel_code ? coro->cancel_code : code, text);
}

static int drop_body(lua_State *L) {
  neap__coro *coro = lua_touserdata(L, 1);
  if (coro->thread) drop_thread(L, coro);
  neap__guard_tighten(coro->vm, true);
  return 0;
}

static void finish(neap__coro *coro) {
  const neap__coro_calls *calls = coro->calls;
  void *owner = coro->owner;
  if (coro->parent) root_of(coro)->children--;
  uv_timer_stop(&coro->timer);
  coro->state = IDLE;
  coro->wake_ns = 0;
  coro->next = coro->vm->idle;
  coro->vm->idle = coro;
  calls->finished(owner);
}

static void run(neap__job *job) {
  neap__coro *coro = (neap__coro *)job;
  neap__vm *vm = coro->vm;
  neap_error err = {0};
  coro->state = RUNNING;
  vm->current = coro;
  int rc = neap__vm_call(vm, coro->what, step, coro, &err);
  vm->current = NULL;
  if (rc != 0) {
    step_failed(coro, rc, err.text);
    neap__vm_call(vm, "drop", drop_body, coro, NULL);
  }
  if (coro->finished) {
    finish(coro);
  } else if (coro->suspended) {
    if (coro->state == RUNNING) coro->state = WAITING; /* otherwise it was woken already */
    arm(coro);
  } else {
    queue(coro);
  }
}

/* --- for C functions that await --------------------------------------------------------------------------------- */

int neap__coro_enter(lua_State *L, const char *function, bool cleanup, neap__coro **out) {
  neap__coro *coro = neap__vm_of(L)->current;
  *out = coro;
  if (!coro) {
    return luaL_error(L, "%s: can only be called from a hook, and not from status or while the module is loaded",
                      function);
  }
  if (L != coro->thread) {
    return luaL_error(L, "%s: cannot await inside a coroutine of the script's own; call it from the hook itself",
                      function);
  }
  /* Before any work is begun: a request whose coroutine could not be suspended would wake a call that is over. */
  if (!lua_isyieldable(L)) {
    return luaL_error(L, "%s: cannot await below a C function (a comparator, a gsub callback, require)", function);
  }
  if (!coro->cancel_code || cleanup) return 0;
  if (++coro->refusals > REFUSALS_MAX) {
    lua_pushlightuserdata(L, (void *)(uintptr_t)&kill_token);
    return lua_yield(L, 1);
  }
  push_cancel(L, coro);
  return 1;
}

int neap__coro_wait(lua_State *L, neap__coro *coro, neap__await *await) {
  coro->await = await;
  if (await) {
    await->coro = coro;
    coro->wake_ns = await->timeout_ns;
  }
  lua_pushlightuserdata(L, (void *)(uintptr_t)&await_token);
  return lua_yield(L, 1);
}

void neap__coro_wake(neap__await *await) { queue(await->coro); }

bool neap__coro_slice_over(const neap__coro *coro) { return neap__now_ns() > coro->slice_end_ns; }

int neap__push_failure(lua_State *L, const char *verb, const char *subject, ssize_t code) {
  lua_pushnil(L);
  lua_pushstring(L, uv_err_name((int)code));
  lua_pushfstring(L, "%s%s%s: %s", verb, subject ? " " : "", subject ? subject : "", uv_strerror((int)code));
  return 3;
}

int neap__l_sleep(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  luaL_argcheck(L, seconds >= 0 && seconds <= SLEEP_S_MAX, 1, "expected 0 to 86400 seconds");
  neap__coro *coro;
  int refused = neap__coro_enter(L, "neap.sleep", false, &coro);
  if (refused) return refused;
  coro->wake_ns = neap__now_ns() + (uint64_t)(seconds * 1e9);
  return neap__coro_wait(L, coro, NULL);
}

/* --- close ------------------------------------------------------------------------------------------------------ */

static void timer_closed(uv_handle_t *handle) {
  neap__coro *coro = handle->data;
  neap__vm *vm = coro->vm;
  free(coro);
  if (--vm->coros == 0) vm->coros_closed(vm->coros_closed_arg);
}

void neap__coros_close(neap__vm *vm, void (*closed)(void *arg), void *arg) {
  uint32_t idle = 0;
  for (neap__coro *coro = vm->idle; coro; coro = coro->next) idle++;
  NEAP_ASSERT(idle == vm->coros);
  vm->coros_closed = closed;
  vm->coros_closed_arg = arg;
  if (idle == 0) {
    closed(arg);
    return;
  }
  for (neap__coro *coro = vm->idle; coro; coro = coro->next) uv_close((uv_handle_t *)&coro->timer, timer_closed);
  vm->idle = NULL;
}
