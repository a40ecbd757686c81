/* SPDX-License-Identifier: MIT
 *
 * script/guard.c - see guard.h. LuaJIT does not collect when an allocation fails, so garbage is collected before the
 * bound is near: between hooks, above three quarters of it, and further up only after half of what was left is used. */
#include "script/guard.h"

#include <lauxlib.h>
#include <luajit.h>
#include <stdlib.h>
#include <time.h>

#include "script/coro.h"
#include "script/vm.h"

#define PERIOD 1000             /* instructions between two looks at the clock */
#define RELAXED_MORE (1u << 20) /* bytes beyond the bound for message and traceback */
#define PATIENCE 10             /* slices by the clock that a script may take which did not run for one */

static void *allocate(void *ud, void *old, size_t old_bytes, size_t bytes) {
  neap__guard *g = &((neap__vm *)ud)->guard;
  if (bytes == 0) {
    free(old);
    g->heap -= old_bytes;
    return NULL;
  }
  uint64_t max = g->heap_max + (g->relaxed ? RELAXED_MORE : 0);
  if (bytes > old_bytes && g->heap_max && g->heap + (bytes - old_bytes) > max) {
    atomic_store(&g->starved, true);
    return NULL;
  }
  void *memory = realloc(old, bytes);
  if (memory) g->heap = g->heap - old_bytes + bytes;
  return memory;
}

lua_State *neap__guard_open(neap__vm *vm) { return lua_newstate(allocate, vm); }

static uint64_t processor_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
  return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/* passed: by the clock. Others may have had the processor in that time; asking for it costs a system call. */
static bool slice_over(const neap__guard *g, uint64_t passed) {
  if (passed <= g->slice_ns) return false;
  return passed / PATIENCE > g->slice_ns || processor_ns() - g->began_ns > g->slice_ns;
}

/* Raises when the slice or the operation's time is over, or when asked to. The slice began when the pulse says so. */
static void on_count(lua_State *L, lua_Debug *where) {
  void *ud;
  (void)where;
  lua_getallocf(L, &ud);
  neap__vm *vm = ud;
  neap__guard *g = &vm->guard;
  g->raised = false;
  uint64_t now = neap__now_ns(), entered = atomic_load_explicit(&vm->pulse.entered_ns, memory_order_relaxed);
  bool interrupted = atomic_load_explicit(&g->interrupted, memory_order_relaxed);
  if (g->tripped || interrupted || (entered && now > entered && slice_over(g, now - entered))) {
    if (!g->tripped) lua_sethook(L, on_count, LUA_MASKCOUNT | LUA_MASKLINE, 1);
    g->tripped = true;
    luaL_where(L, 0);
    if (interrupted) {
      lua_pushliteral(L, "interrupted");
    } else {
      lua_pushfstring(L, "stopped: a guarded script may run for %d ms without awaiting", (int)(g->slice_ns / 1000000u));
    }
    lua_concat(L, 2);
    g->raised = true;
    lua_error(L);
  }
  if (vm->current && neap__coro_overdue(vm->current, now)) {
    luaL_where(L, 0);
    lua_pushfstring(L, "neap: %s", neap_strerror(NEAP_ETIMEDOUT));
    lua_concat(L, 2);
    g->raised = true;
    lua_error(L);
  }
}

static void watch(neap__vm *vm, bool on) {
  vm->guard.on = on;
  vm->guard.tripped = vm->guard.raised = false;
  luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | (on ? LUAJIT_MODE_OFF : LUAJIT_MODE_ON));
  lua_sethook(vm->L, on ? on_count : NULL, on ? LUA_MASKCOUNT : 0, on ? PERIOD : 0);
}

static void bound(neap__guard *g, uint64_t memory, uint64_t slice_ns) {
  g->heap_max = memory;
  g->collect_at = memory / 4 * 3;
  g->slice_ns = slice_ns;
}

void neap__guard_on(neap__vm *vm, uint64_t memory, uint64_t slice_ns) {
  bound(&vm->guard, memory, slice_ns);
  watch(vm, true);
}

/* A guarded script cannot end its guard by mistake. */
static void hide(lua_State *L, const char *library, const char *function) {
  lua_getglobal(L, library);
  if (lua_istable(L, -1)) {
    lua_pushnil(L);
    lua_setfield(L, -2, function);
  }
  lua_pop(L, 1);
}

void neap__guard_set(neap__vm *vm, const neap__guard_limits *limits) {
  bound(&vm->guard, limits->memory ? limits->memory : NEAP__GUARD_MEMORY,
        limits->slice_ns ? limits->slice_ns : NEAP__GUARD_SLICE_NS);
  if (limits->memory) vm->native_bytes_max = limits->memory;
  if (limits->guarded) {
    hide(vm->L, "jit", "on");
    hide(vm->L, "debug", "sethook");
  }
  watch(vm, limits->guarded);
}

void neap__guard_rearm(neap__vm *vm) {
  if (vm->guard.on) vm->guard.began_ns = processor_ns();
  if (vm->guard.tripped) watch(vm, true);
}

void neap__guard_interrupt(neap__guard *guard) { atomic_store(&guard->interrupted, true); }
void neap__guard_resume(neap__guard *guard) { atomic_store(&guard->interrupted, false); }

void neap__guard_collect(neap__vm *vm) {
  neap__guard *g = &vm->guard;
  if (!g->heap_max || g->heap <= g->collect_at) return;
  lua_gc(vm->L, LUA_GCCOLLECT, 0);
  uint64_t most = g->heap_max / 4 * 3;
  g->collect_at = g->heap > most ? g->heap + (g->heap_max - NEAP_MIN(g->heap, g->heap_max)) / 2 : most;
  atomic_store(&g->starved, g->heap > most);
}

void neap__guard_relax(neap__vm *vm) { vm->guard.relaxed = true; }

void neap__guard_tighten(neap__vm *vm, bool memory) {
  vm->guard.relaxed = false;
  if (memory) vm->guard.collect_at = 0;
  neap__guard_collect(vm);
}
