/* SPDX-License-Identifier: MIT
 *
 * script/api.c - clock, log and the parts of neap.core that the other files make. */
#include "script/api.h"

#include <lauxlib.h>

#include "script/buffer.h"
#include "script/file.h"
#include "script/http.h"
#include "script/inner.h"
#include "script/key.h"
#include "script/lua_policy.h"
#include "script/net.h"
#include "script/spawn.h"

#define NEAREST_MAX 64 /* names to choose from */

/* core.now() -> seconds of the clock that deadlines use */
static int l_now(lua_State *L) {
  lua_pushnumber(L, (double)neap__now_ns() / 1e9);
  return 1;
}

/* core.log(level, text): level 0 debug to 3 error */
static int l_log(lua_State *L) {
  int level = (int)luaL_checkinteger(L, 1);
  luaL_argcheck(L, level >= NEAP_DEBUG && level <= NEAP_ERROR, 1, "expected 0 to 3");
  neap__vm_log(neap__vm_of(L), (neap_log_level)level, luaL_checkstring(L, 2));
  return 0;
}

/* core.memory() -> bytes that the buffers of this script hold */
static int l_memory(lua_State *L) {
  lua_pushnumber(L, (double)neap__vm_of(L)->native_bytes);
  return 1;
}

/* core.stopped() -> whether the last error was the guard's */
static int l_stopped(lua_State *L) {
  lua_pushboolean(L, neap__vm_of(L)->guard.raised);
  return 1;
}

/* core.nearest(word, names) -> the name that was most likely meant, or nil */
static int l_nearest(lua_State *L) {
  const char *names[NEAREST_MAX], *word = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t count = NEAP_MIN(lua_objlen(L, 2), NEAREST_MAX);
  luaL_checkstack(L, NEAREST_MAX, "names");
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (int)i + 1);
    names[i] = luaL_checkstring(L, -1);
  }
  lua_pushstring(L, neap__nearest(word, names, count));
  return 1;
}

void neap__api_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg functions[] = {
      {"now", l_now},           {"log", l_log},         {"memory", l_memory}, {"nearest", l_nearest},
      {"sleep", neap__l_sleep}, {"stopped", l_stopped}, {NULL, NULL}};
  lua_newtable(L);
  neap__vm_register(L, vm, functions);
  neap__key_open(L, vm);
  neap__buffer_open(L, vm);
  neap__file_open(L, vm);
  neap__http_client_open(L, vm);
  neap__inner_lua_open(L, vm);
  neap__net_open(L, vm);
  neap__spawn_open(L, vm);
  lua_pushlightuserdata(L, neap__lua_policy_natives());
  lua_setfield(L, -2, "policy_natives");
}
