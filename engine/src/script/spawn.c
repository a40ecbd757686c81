/* SPDX-License-Identifier: MIT
 *
 * script/spawn.c - see spawn.h. A permit that was granted to a coroutine which never comes to know it, for it was
 * canceled meanwhile, goes back. */
#include "script/spawn.h"

#include <lauxlib.h>
#include <stdlib.h>

#define SEMAPHORE_TYPE "neap.semaphore"
#define FUNCTIONS_MAX 64
#define PERMITS_MAX 1e6
#define TIMEOUT_S_MAX 86400.0

/* --- all -------------------------------------------------------------------------------------------------------- */

typedef struct all all;

typedef struct child {
  all *all;
  neap__coro *coro; /* NULL: ended */
  int index;        /* of its function */
  bool called;
} child;

struct all {
  neap__await await;
  neap__vm *vm;
  int functions_ref;
  int left, result;
  int count;
  child children[FUNCTIONS_MAX];
};

static all *all_of(neap__await *await) { return (all *)((char *)await - offsetof(all, await)); }

static int child_next(lua_State *L, neap__coro *coro, const char **what) {
  child *ch = neap__coro_owner(coro);
  (void)what;
  if (ch->called) return -1;
  ch->called = true;
  lua_rawgeti(L, LUA_REGISTRYINDEX, ch->all->functions_ref);
  lua_rawgeti(L, -1, ch->index);
  lua_remove(L, -2);
  return 0;
}

/* The functions keep their results and errors themselves (neap/concurrent.lua). */
static void child_returned(lua_State *R, neap__coro *coro) {
  (void)R;
  (void)coro;
}

static void child_failed(neap__coro *coro, int code, const char *text) {
  (void)coro;
  (void)code;
  (void)text;
}

static void child_finished(void *owner) {
  child *ch = owner;
  ch->coro = NULL;
  if (--ch->all->left == 0) neap__coro_wake(&ch->all->await);
}

static const neap__coro_calls child_calls = {
    .next = child_next, .returned = child_returned, .failed = child_failed, .finished = child_finished};

static void cancel_all(neap__await *await) {
  all *a = all_of(await);
  for (int i = 0; i < a->count; i++) {
    if (a->children[i].coro) neap__coro_cancel(a->children[i].coro, neap__coro_canceled(await->coro));
  }
}

static int push_all(lua_State *L, neap__await *await) {
  all *a = all_of(await);
  if (a->result == 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushnil(L);
  lua_pushstring(L, a->result == NEAP_ELIMIT ? "ELIMIT" : "ENOMEM");
  lua_pushfstring(L, "all: %s", neap_strerror(a->result));
  return 3;
}

static void release_all(neap__await *await) {
  all *a = all_of(await);
  luaL_unref(a->vm->L, LUA_REGISTRYINDEX, a->functions_ref);
  free(a);
}

/* core.all(functions): runs each as a coro below the one that calls, and waits for all. Those that cannot be begun make
 * it nil, code, message, when the others have ended. */
static int l_all(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  int count = (int)lua_objlen(L, 1);
  luaL_argcheck(L, count <= FUNCTIONS_MAX, 1, "expected at most 64 functions");
  lua_settop(L, 1);
  neap__coro *coro;
  int refused = neap__coro_enter(L, "neap.all", false, &coro);
  if (refused) return refused;
  int functions_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  all *a = calloc(1, sizeof(*a));
  if (!a) {
    luaL_unref(L, LUA_REGISTRYINDEX, functions_ref);
    return luaL_error(L, "neap.all: out of memory");
  }
  a->await = (neap__await){.push = push_all, .cancel = cancel_all, .release = release_all, .coro = coro};
  a->vm = neap__vm_of(L);
  a->functions_ref = functions_ref;
  a->left = 1; /* until all have begun */
  for (; a->count < count && a->result == 0; a->count++) {
    child *ch = &a->children[a->count];
    *ch = (child){.all = a, .index = a->count + 1};
    a->result = neap__coro_start_child(coro, &child_calls, ch, &ch->coro);
    if (a->result == 0) a->left++;
  }
  if (--a->left == 0) neap__coro_wake(&a->await);
  return neap__coro_wait(L, coro, &a->await);
}

/* --- semaphore -------------------------------------------------------------------------------------------------- */

typedef struct semaphore semaphore;

typedef struct waiter {
  neap__await await;
  semaphore *semaphore;
  struct waiter *next; /* in the queue */
  bool queued, granted, delivered;
} waiter;

/* refs: the userdata and every waiter. */
struct semaphore {
  uint32_t permits, refs;
  waiter *first, **last;
};

static void semaphore_drop(semaphore *s) {
  if (s && --s->refs == 0) free(s);
}

static void release_permit(semaphore *s) {
  waiter *w = s->first;
  if (!w) {
    s->permits++;
    return;
  }
  s->first = w->next;
  if (!s->first) s->last = &s->first;
  w->queued = false;
  w->granted = true;
  neap__coro_wake(&w->await);
}

static waiter *waiter_of(neap__await *await) { return (waiter *)((char *)await - offsetof(waiter, await)); }

static void leave_queue(neap__await *await) {
  waiter *w = waiter_of(await);
  semaphore *s = w->semaphore;
  if (!w->queued) return;
  waiter **at = &s->first;
  while (*at != w) at = &(*at)->next;
  *at = w->next;
  if (!*at) s->last = at;
  w->queued = false;
  neap__coro_wake(await);
}

static int push_permit(lua_State *L, neap__await *await) {
  waiter *w = waiter_of(await);
  w->delivered = true;
  if (!w->granted) {
    lua_pushnil(L);
    lua_pushliteral(L, "ETIMEDOUT");
    lua_pushliteral(L, "acquire: nothing was released in time");
    return 3;
  }
  lua_pushboolean(L, 1);
  return 1;
}

static void release_waiter(neap__await *await) {
  waiter *w = waiter_of(await);
  if (w->granted && !w->delivered) release_permit(w->semaphore);
  semaphore_drop(w->semaphore);
  free(w);
}

static semaphore *check_semaphore(lua_State *L) {
  semaphore *s = *(semaphore **)luaL_checkudata(L, 1, SEMAPHORE_TYPE);
  if (!s) luaL_error(L, "not a semaphore");
  return s;
}

/* core.semaphore_acquire(semaphore [, timeout]) -> true | nil, 'ETIMEDOUT', message */
static int l_acquire(lua_State *L) {
  semaphore *s = check_semaphore(L);
  double timeout = luaL_optnumber(L, 2, 0);
  luaL_argcheck(L, timeout >= 0 && timeout <= TIMEOUT_S_MAX, 2, "expected a timeout of 0 to 86400 seconds");
  neap__coro *coro;
  int refused = neap__coro_enter(L, "acquire", false, &coro);
  if (refused) return refused;
  if (s->permits > 0) {
    s->permits--;
    lua_pushnil(L);
    lua_pushboolean(L, 1);
    return 2;
  }
  waiter *w = calloc(1, sizeof(*w));
  if (!w) {
    lua_pushnil(L);
    return 1 + neap__push_failure(L, "acquire", NULL, UV_ENOMEM);
  }
  w->await = (neap__await){
      .push = push_permit, .cancel = leave_queue, .expire = leave_queue, .release = release_waiter, .coro = coro};
  if (timeout > 0) w->await.timeout_ns = neap__now_ns() + (uint64_t)(timeout * 1e9);
  w->semaphore = s;
  w->queued = true;
  s->refs++;
  *s->last = w;
  s->last = &w->next;
  return neap__coro_wait(L, coro, &w->await);
}

/* core.semaphore_release(semaphore): does not await */
static int l_release(lua_State *L) {
  semaphore *s = check_semaphore(L);
  luaL_argcheck(L, s->permits < PERMITS_MAX, 1, "released more often than acquired");
  release_permit(s);
  return 0;
}

/* core.semaphore(permits) */
static int l_semaphore(lua_State *L) {
  double permits = luaL_checknumber(L, 1);
  luaL_argcheck(L, permits >= 0 && permits <= PERMITS_MAX, 1, "expected 0 to 1000000 permits");
  semaphore **u = lua_newuserdata(L, sizeof(*u));
  *u = NULL;
  luaL_getmetatable(L, SEMAPHORE_TYPE);
  lua_setmetatable(L, -2);
  semaphore *s = calloc(1, sizeof(*s));
  if (!s) return luaL_error(L, "neap.semaphore: out of memory");
  *s = (semaphore){.permits = (uint32_t)permits, .refs = 1, .last = &s->first};
  *u = s;
  return 1;
}

static int l_collect(lua_State *L) {
  semaphore **u = luaL_checkudata(L, 1, SEMAPHORE_TYPE);
  semaphore_drop(*u);
  *u = NULL;
  return 0;
}

void neap__spawn_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg functions[] = {{"all", l_all},
                                       {"semaphore", l_semaphore},
                                       {"semaphore_acquire", l_acquire},
                                       {"semaphore_release", l_release},
                                       {NULL, NULL}};
  static const luaL_Reg methods[] = {{"__gc", l_collect}, {NULL, NULL}};
  luaL_newmetatable(L, SEMAPHORE_TYPE);
  neap__vm_register(L, vm, methods);
  lua_newtable(L); /* neap/concurrent.lua puts the methods there */
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__index");
  lua_setfield(L, -3, "semaphore_methods");
  lua_pop(L, 1);
  neap__vm_register(L, vm, functions);
}
