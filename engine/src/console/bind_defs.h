/* SPDX-License-Identifier: MIT
 *
 * console/bind_defs.h - what the files of bind.h share. */
#pragma once
#include <lauxlib.h>

#include "console/bind.h"

struct neap__bind {
  neap__engine *engine;
  bool guarded;
  const char *scratch; /* for modules that are defined at the prompt, or NULL */
  pthread_mutex_t lock;
  pthread_cond_t left;
  uint32_t inside; /* calls and requests that use the engine */
  bool closed;
};

/* Of a function registered by neap__bind_register. */
neap__bind *neap__bind_of(lua_State *L);
void neap__bind_register(lua_State *L, neap__vm *vm, neap__bind *bind, const luaL_Reg *functions);

/* Counts one that uses the engine; raises if it is closed. Each enter has its leave, on any thread. Between them
 * nothing may raise, unless it belongs to a request. */
void neap__bind_enter(lua_State *L, neap__bind *bind);
void neap__bind_leave(neap__bind *bind);

/* The functions of console/bind_look.c and console/bind_drive.c. */
extern const luaL_Reg neap__bind_look[], neap__bind_drive[];
