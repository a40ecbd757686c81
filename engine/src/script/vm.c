/* SPDX-License-Identifier: MIT
 *
 * script/vm.c - life of a VM and the protected call. A panic (an error outside every protected call) is a bug of the
 * engine: it is logged and ends the process, for nothing is known about the VM afterwards. */
#include "script/vm.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "script/api.h"
#include "script/script.h"

#define LOG_BYTES 2048

static char lua_dir[4096];

void neap__lua_setup(const char *dir) {
  NEAP_ASSERT(strlen(dir) < sizeof(lua_dir));
  snprintf(lua_dir, sizeof(lua_dir), "%s", dir);
}

static int panic(lua_State *L) {
  const char *message = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no message)";
  NEAP_LOG_ERROR("Lua error outside a protected call: %s", message);
  abort();
}

/* Replaces everything the environment or the distribution says about where modules are found. */
static void restrict_modules(lua_State *L, const char *script_path) {
  lua_getglobal(L, "package");
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", lua_dir, lua_dir);
  if (script_path) {
    const char *slash = strrchr(script_path, '/');
    if (slash) {
      lua_pushlstring(L, script_path, (size_t)(slash - script_path));
    } else {
      lua_pushliteral(L, ".");
    }
    const char *dir = lua_tostring(L, -1);
    lua_pushfstring(L, "%s;%s/?.lua;%s/?/init.lua", lua_tostring(L, -2), dir, dir);
  }
  lua_setfield(L, 1, "path");
  lua_settop(L, 1);
  lua_pushliteral(L, "");
  lua_setfield(L, 1, "cpath");
  lua_pushnil(L);
  lua_setfield(L, 1, "loadlib");
}

typedef struct boot {
  neap__vm *vm;
  const char *script_path;
} boot;

static int boot_body(lua_State *L) {
  boot *b = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_pushboolean(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV"); /* LUA_PATH and LUA_CPATH are not read */
  luaL_openlibs(L);
  restrict_modules(L, b->script_path);
  lua_getfield(L, 1, "loaded");
  neap__api_open(L, b->vm);
  lua_setfield(L, -2, "neap.core");
  lua_getglobal(L, "require");
  lua_pushliteral(L, "neap.boot");
  lua_call(L, 1, 0);
  return 0;
}

int neap__vm_open(neap__vm *vm, neap__loop *loop, const neap_host *host, const char *name, const char *script_path,
                  neap_error *err) {
  char path[sizeof(lua_dir) + 32];
  snprintf(path, sizeof(path), "%s/neap/init.lua", lua_dir);
  if (access(path, R_OK) != 0) {
    return neap__fail(err, NEAP_ENOENT, "%s: the Lua side of the runtime is missing: cannot read %s", name, path);
  }
  *vm = (neap__vm){.loop = loop, .host = host, .pulse = {.name = name, .host = host}};
  vm->native_bytes_max = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  vm->L = neap__guard_open(vm);
  if (!vm->L) return neap__fail(err, NEAP_ENOMEM, "no memory for the Lua VM of '%s'", name);
  lua_atpanic(vm->L, panic);
  neap__watchdog_add(&vm->pulse);
  boot b = {.vm = vm, .script_path = script_path};
  int rc = neap__vm_call(vm, "start", boot_body, &b, err);
  if (rc != 0) {
    neap__vm_close(vm);
    return rc;
  }
  neap__guard_on(vm, NEAP__GUARD_MEMORY, NEAP__GUARD_LOAD_NS);
  return 0;
}

void neap__vm_close(neap__vm *vm) {
  NEAP_ASSERT(!vm->current && vm->coros == 0);
  neap__pulse_enter(&vm->pulse, "finalizers");
  lua_close(vm->L);
  neap__pulse_leave(&vm->pulse);
  neap__watchdog_remove(&vm->pulse);
  vm->L = NULL;
  NEAP_ASSERT(vm->native_bytes == 0);
}

/* What a failed call left on the stack, as an error. */
static int failure(neap__vm *vm, int status, neap_error *err) {
  lua_State *L = vm->L;
  int code = status == LUA_ERRMEM ? NEAP_ENOMEM : NEAP_ESCRIPT;
  int rc = lua_type(L, -1) == LUA_TSTRING ? neap__fail(err, code, "%s", lua_tostring(L, -1))
                                          : neap__fail(err, code, "(error object is a %s value)", luaL_typename(L, -1));
  lua_settop(L, 0);
  return rc;
}

int neap__vm_call(neap__vm *vm, const char *what, lua_CFunction body, void *arg, neap_error *err) {
  NEAP_ASSERT(!vm->loop || neap__loop_here(vm->loop));
  neap__pulse_enter(&vm->pulse, what);
  neap__guard_rearm(vm);
  int status = lua_cpcall(vm->L, body, arg);
  neap__pulse_leave(&vm->pulse);
  if (status != 0) return failure(vm, status, err);
  lua_settop(vm->L, 0);
  return 0;
}

static int collect_body(lua_State *L) {
  neap__guard_collect(lua_touserdata(L, 1));
  return 0;
}

int neap__vm_enter(neap__vm *vm, const char *what, int args, int results, neap_error *err) {
  neap__pulse_enter_often(&vm->pulse, what);
  if (vm->guard.on) neap__guard_rearm(vm);
  int status = lua_pcall(vm->L, args, results, 0);
  neap__pulse_leave(&vm->pulse);
  if (vm->guard.heap > vm->guard.collect_at) {
    int collected = lua_cpcall(vm->L, collect_body, vm);
    if (collected != 0) lua_pop(vm->L, 1); /* a finalizer failed; boot.lua has told of it */
  }
  return status == 0 ? 0 : failure(vm, status, err);
}

void neap__vm_invoke(lua_State *L, int args, int results) { lua_call(L, args, results); }

neap__vm *neap__vm_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

void neap__vm_register(lua_State *L, neap__vm *vm, const luaL_Reg *functions) {
  for (; functions->name; functions++) {
    lua_pushlightuserdata(L, vm);
    lua_pushcclosure(L, functions->func, 1);
    lua_setfield(L, -2, functions->name);
  }
}

void neap__vm_log(const neap__vm *vm, neap_log_level level, const char *text) {
  char line[LOG_BYTES];
  size_t n = 0;
  for (const char *p = text; *p && n + 4 < sizeof(line); p++) {
    if (*p == '\n') {
      memcpy(line + n, " < ", 3);
      n += 3;
      while (p[1] == '\t' || p[1] == '\n') p++;
    } else {
      line[n++] = *p;
    }
  }
  line[n] = '\0';
  if (vm->host) {
    vm->host->log(vm->host->engine, level, line);
  } else {
    NEAP_LOG(level, "%s: %s", vm->pulse.name, line);
  }
}
