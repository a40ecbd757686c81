/* SPDX-License-Identifier: MIT
 *
 * console/bind.c - life of a bind, and its changes of the engine: adapters, shadows, the policy, clear. */
#include "console/bind.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "console/bind_defs.h"
#include "script/coro.h"

#define GRACE_MAX_S 600.0
#define CONFIG_BYTES_MAX 65536u

/* --- life --------------------------------------------------------------------------------------------------------- */

int neap__bind_open(neap__engine *engine, bool guarded, const char *scratch, neap__bind **out) {
  neap__bind *b = calloc(1, sizeof(*b));
  if (!b) return NEAP_ENOMEM;
  b->engine = engine;
  b->guarded = guarded;
  b->scratch = scratch;
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&b->left, &attr);
  pthread_condattr_destroy(&attr);
  pthread_mutex_init(&b->lock, NULL);
  *out = b;
  return 0;
}

bool neap__bind_shut(neap__bind *b, uint64_t timeout_ms) {
  uint64_t at = neap__now_ns() + timeout_ms * 1000000u;
  struct timespec until = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
  int rc = 0;
  pthread_mutex_lock(&b->lock);
  b->closed = true;
  while (b->inside > 0 && rc == 0) rc = pthread_cond_timedwait(&b->left, &b->lock, &until);
  bool empty = b->inside == 0;
  pthread_mutex_unlock(&b->lock);
  return empty;
}

void neap__bind_free(neap__bind *b) {
  if (!b) return;
  pthread_cond_destroy(&b->left);
  pthread_mutex_destroy(&b->lock);
  free(b);
}

void neap__bind_enter(lua_State *L, neap__bind *b) {
  pthread_mutex_lock(&b->lock);
  bool closed = b->closed;
  if (!closed) b->inside++;
  pthread_mutex_unlock(&b->lock);
  if (closed) luaL_error(L, "the engine is closing");
}

void neap__bind_leave(neap__bind *b) {
  pthread_mutex_lock(&b->lock);
  if (--b->inside == 0) pthread_cond_broadcast(&b->left);
  pthread_mutex_unlock(&b->lock);
}

neap__bind *neap__bind_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(2)); }

void neap__bind_register(lua_State *L, neap__vm *vm, neap__bind *b, const luaL_Reg *functions) {
  for (; functions->name; functions++) {
    lua_pushlightuserdata(L, vm); /* first, where neap__vm_of looks */
    lua_pushlightuserdata(L, b);
    lua_pushcclosure(L, functions->func, 2);
    lua_setfield(L, -2, functions->name);
  }
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

typedef enum change_kind { ATTACH, DETACH, RELOAD, SHADOW, UNSHADOW, SWITCH } change_kind;

/* One change, on a thread of engine->changes. */
typedef struct change {
  neap__await await;
  neap__job job;
  neap__vm *vm;
  neap__bind *bind;
  change_kind kind;
  uint64_t grace_ms;
  char name[NEAP_TIER_NAME_BYTES];
  char *text; /* a configuration, parameters, or a policy; NULL: none */
  neap__lab_trial trial;
  int rc;
  neap_error err;
} change;

static change *change_of(neap__await *await) { return (change *)((char *)await - offsetof(change, await)); }

static void change_release(neap__await *await) {
  change *c = change_of(await);
  neap__bind_leave(c->bind);
  free(c->text);
  free(c);
}

static int change_push(lua_State *L, neap__await *await) {
  const change *c = change_of(await);
  if (c->rc == 0) {
    lua_pushstring(L, c->kind < SHADOW ? c->name : c->text);
    return 1;
  }
  lua_pushnil(L);
  lua_pushstring(L, neap_err_name(c->rc) + strlen("NEAP_"));
  lua_pushstring(L, c->err.text[0] ? c->err.text : neap_strerror(c->rc));
  return 3;
}

static void changed(neap__job *job) { neap__coro_wake(&((change *)((char *)job - offsetof(change, job)))->await); }

static void work(void *arg) {
  change *c = arg;
  neap__engine *engine = c->bind->engine;
  neap__tier_entry at = {0};
  uint32_t left = 0;
  switch (c->kind) {
    case ATTACH:
      c->rc = neap__tier_set_attach(engine->tiers, c->text, 0, &at, &c->err);
      if (c->rc == 0) memcpy(c->name, at.name, sizeof(c->name));
      break;
    case DETACH: c->rc = neap__engine_detach(engine, c->name, c->grace_ms, &c->err); break;
    case RELOAD: c->rc = neap__tier_set_reload(engine->tiers, c->name, c->text, c->grace_ms, &left, &c->err); break;
    case SHADOW: c->rc = neap__lab_shadow_add(engine->lab, c->text, c->trial.warm, &c->err); break;
    case UNSHADOW: c->rc = neap__lab_shadow_remove(engine->lab, c->text, &c->err); break;
    case SWITCH: c->rc = neap__lab_switch(engine->lab, c->text, &c->trial, &c->err); break;
  }
  neap__loop_post(c->vm->loop, &c->job);
}

static int submit(lua_State *L, const char *function, const change *order, const char *text) {
  neap__bind *b = neap__bind_of(L);
  neap__coro *coro;
  luaL_argcheck(L, !text || strlen(text) <= CONFIG_BYTES_MAX, 1, "a configuration has at most 65536 bytes");
  int refused = neap__coro_enter(L, function, false, &coro);
  if (refused) return refused;
  neap__bind_enter(L, b);
  change *c = calloc(1, sizeof(*c));
  char *copy = text ? strdup(text) : NULL;
  if (!c || (text && !copy)) {
    free(c);
    free(copy);
    neap__bind_leave(b);
    return luaL_error(L, "out of memory");
  }
  *c = *order;
  c->await = (neap__await){.push = change_push, .release = change_release, .counts = true};
  c->job.run = changed;
  c->vm = neap__vm_of(L);
  c->bind = b;
  c->text = copy;
  if (neap__pool_submit(b->engine->changes, work, c) != 0) {
    change_release(&c->await);
    return luaL_error(L, "too many changes are waiting already");
  }
  return neap__coro_wait(L, coro, &c->await);
}

/* text, name: NULL if there is none. */
static int start_change(lua_State *L, const char *function, change_kind kind, const char *name, const char *text,
                        double grace_s) {
  luaL_argcheck(L, grace_s >= 0 && grace_s <= GRACE_MAX_S, 3, "expected 0 to 600 seconds");
  luaL_argcheck(L, !name || strlen(name) < NEAP_TIER_NAME_BYTES, 1, "no adapter has a name of that length");
  change order = {.kind = kind, .grace_ms = (uint64_t)(grace_s * 1e3)};
  if (name) memcpy(order.name, name, strlen(name) + 1);
  return submit(L, function, &order, text);
}

/* attach(json) -> name | nil, code, message. Awaits. */
static int l_attach(lua_State *L) {
  const char *text = luaL_checkstring(L, 1);
  if (neap__bind_of(L)->guarded)
    return luaL_error(L,
                      "engine:attach: a configuration names files and modules, which a guarded session cannot reach; "
                      "use neap ctl adapters attach");
  return start_change(L, "engine:attach", ATTACH, NULL, text, 0);
}

/* detach(name, grace_s) -> name | nil, code, message. Awaits. */
static int l_detach(lua_State *L) {
  return start_change(L, "engine:detach", DETACH, luaL_checkstring(L, 1), NULL, luaL_checknumber(L, 2));
}

/* reload(name, json|nil, grace_s) -> name | nil, code, message. Awaits. */
static int l_reload(lua_State *L) {
  const char *text = luaL_optstring(L, 2, NULL);
  if (text && neap__bind_of(L)->guarded)
    return luaL_error(L, "engine:reload: a guarded session reloads with the parameters that the adapter has");
  return start_change(L, "engine:reload", RELOAD, luaL_checkstring(L, 1), text, luaL_checknumber(L, 3));
}

static const char *check_policy(lua_State *L, const char *function) {
  const char *spec = luaL_checkstring(L, 1);
  if (neap__bind_of(L)->guarded && (strstr(spec, ".lua") || strstr(spec, ".so")))
    luaL_error(L, "%s: '%s' names a file, which a guarded session cannot reach; use neap ctl policy", function, spec);
  return spec;
}

/* shadow(policy, warm) -> policy | nil, code, message. Awaits. */
static int l_shadow(lua_State *L) {
  const change order = {.kind = SHADOW, .trial.warm = lua_toboolean(L, 2)};
  return submit(L, "engine:shadow", &order, check_policy(L, "engine:shadow"));
}

/* unshadow(policy) -> policy | nil, code, message. Awaits. */
static int l_unshadow(lua_State *L) {
  const change order = {.kind = UNSHADOW};
  return submit(L, "engine:unshadow", &order, luaL_checkstring(L, 1));
}

/* switch(policy, trial_s, bound, warm) -> policy | nil, code, message; what is nil is as in NEAP_TRIAL_DEFAULT. Awaits.
 */
static int l_switch(lua_State *L) {
  change order = {.kind = SWITCH, .trial = NEAP_TRIAL_DEFAULT};
  order.trial.seconds = luaL_optnumber(L, 2, order.trial.seconds);
  order.trial.bound = luaL_optnumber(L, 3, order.trial.bound);
  if (!lua_isnoneornil(L, 4)) order.trial.warm = lua_toboolean(L, 4);
  return submit(L, "engine:switch", &order, check_policy(L, "engine:switch"));
}

/* clear() -> objects removed from L1 */
static int l_clear(lua_State *L) {
  neap__bind *b = neap__bind_of(L);
  neap__bind_enter(L, b);
  uint32_t count = neap__l1_clear(b->engine->l1, false);
  neap__bind_leave(b);
  lua_pushnumber(L, count);
  return 1;
}

/* write_module(name, text) -> path. Files are written here, not in Lua: a script can call engine.lua's functions with a
 * `self` of its own making, and what guards must not believe it. */
static int l_write_module(lua_State *L) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  const neap__bind *b = neap__bind_of(L);
  size_t name_bytes, bytes;
  const char *name = luaL_checklstring(L, 1, &name_bytes), *text = luaL_checklstring(L, 2, &bytes);
  if (b->guarded || !b->scratch) return luaL_error(L, "engine:define: a guarded session cannot write files");
  if (name_bytes == 0 || strspn(name, letters) != name_bytes)
    return luaL_error(L, "engine:define: a name consists of letters, digits, _ and -");
  const char *path = lua_pushfstring(L, "%s/%s.lua", b->scratch, name);
  FILE *file = fopen(path, "we");
  bool written = file && fwrite(text, 1, bytes, file) == bytes;
  if (file && fclose(file) != 0) written = false;
  if (!written) return luaL_error(L, "engine:define: cannot write %s: %s", path, strerror(errno));
  return 1;
}

void neap__bind_push(lua_State *L, neap__vm *vm, void *ctx) {
  static const luaL_Reg functions[] = {{"attach", l_attach},
                                       {"detach", l_detach},
                                       {"reload", l_reload},
                                       {"shadow", l_shadow},
                                       {"unshadow", l_unshadow},
                                       {"switch", l_switch},
                                       {"clear", l_clear},
                                       {"write_module", l_write_module},
                                       {NULL, NULL}};
  lua_newtable(L);
  neap__bind_register(L, vm, ctx, functions);
  neap__bind_register(L, vm, ctx, neap__bind_look);
  neap__bind_register(L, vm, ctx, neap__bind_drive);
}
