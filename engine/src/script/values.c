/* SPDX-License-Identifier: MIT
 *
 * script/values.c - see values.h. */
#include "script/values.h"

#include <lauxlib.h>
#include <math.h>

#include "base/base.h"

#define DEPTH_MAX 32
#define TAKEN_BYTES_MAX (32u << 20) /* a table that is there twice is taken twice */
#define EMPTY_ARRAY "neap.empty_array"

/* An empty table remembers that it is an array, for the way back. */
static void mark_array(lua_State *L) {
  luaL_newmetatable(L, EMPTY_ARRAY);
  lua_setmetatable(L, -2);
}

static bool is_array(lua_State *L, int index) {
  lua_rawgeti(L, index, 1);
  bool filled = !lua_isnil(L, -1);
  lua_pop(L, 1);
  if (filled || !lua_getmetatable(L, index)) return filled;
  luaL_getmetatable(L, EMPTY_ARRAY);
  bool marked = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  lua_pushnil(L);
  if (lua_next(L, index)) { /* it was filled as an object since */
    lua_pop(L, 2);
    return false;
  }
  return marked;
}

static void push_at(lua_State *L, const cJSON *node, int depth) {
  if (depth > DEPTH_MAX) luaL_error(L, "JSON is nested deeper than %d", DEPTH_MAX);
  luaL_checkstack(L, 4, "JSON");
  if (cJSON_IsBool(node)) {
    lua_pushboolean(L, cJSON_IsTrue(node));
  } else if (cJSON_IsNumber(node)) {
    lua_pushnumber(L, node->valuedouble);
  } else if (cJSON_IsString(node)) {
    lua_pushstring(L, node->valuestring);
  } else if (cJSON_IsArray(node) || cJSON_IsObject(node)) {
    int i = 0;
    lua_newtable(L);
    if (cJSON_IsArray(node) && !node->child) mark_array(L);
    for (const cJSON *child = node->child; child; child = child->next) {
      push_at(L, child, depth + 1);
      if (cJSON_IsArray(node)) {
        lua_rawseti(L, -2, ++i);
      } else {
        lua_setfield(L, -2, child->string);
      }
    }
  } else {
    lua_pushnil(L);
  }
}

void neap__value_push(lua_State *L, const cJSON *node) { push_at(L, node, 0); }

/* Each value is attached to `parent` (under name, or as the next element) before its own members are taken. */
static void take_at(lua_State *L, int index, cJSON *parent, const char *name, int depth, size_t *left);

static void spend(lua_State *L, size_t *left, size_t bytes) {
  if (bytes > *left) luaL_error(L, "a value takes more than %d MiB as JSON", (int)(TAKEN_BYTES_MAX >> 20));
  *left -= bytes;
}

static void take_array(lua_State *L, int index, cJSON *array, int depth, size_t *left) {
  for (int i = 1; i <= (int)lua_objlen(L, index); i++) {
    lua_rawgeti(L, index, i);
    take_at(L, lua_gettop(L), array, NULL, depth + 1, left);
    lua_pop(L, 1);
  }
}

static void take_object(lua_State *L, int index, cJSON *object, int depth, size_t *left) {
  lua_pushnil(L);
  while (lua_next(L, index)) {
    if (lua_type(L, -2) != LUA_TSTRING) luaL_error(L, "a table with a %s key has no JSON form", luaL_typename(L, -2));
    spend(L, left, lua_objlen(L, -2));
    take_at(L, lua_gettop(L), object, lua_tostring(L, -2), depth + 1, left);
    lua_pop(L, 1);
  }
}

static cJSON *make(lua_State *L, int index, bool *array) {
  *array = false;
  switch (lua_type(L, index)) {
    case LUA_TNIL: return cJSON_CreateNull();
    case LUA_TBOOLEAN: return cJSON_CreateBool(lua_toboolean(L, index));
    case LUA_TSTRING: return cJSON_CreateString(lua_tostring(L, index));
    case LUA_TNUMBER:
      if (!isfinite(lua_tonumber(L, index))) luaL_error(L, "NaN and infinity have no JSON form");
      return cJSON_CreateNumber(lua_tonumber(L, index));
    case LUA_TTABLE: *array = is_array(L, index); return *array ? cJSON_CreateArray() : cJSON_CreateObject();
    default: luaL_error(L, "a %s has no JSON form", luaL_typename(L, index)); return NULL;
  }
}

static void take_at(lua_State *L, int index, cJSON *parent, const char *name, int depth, size_t *left) {
  if (depth > DEPTH_MAX) luaL_error(L, "a table is cyclic or nested deeper than %d", DEPTH_MAX);
  luaL_checkstack(L, 6, "JSON");
  spend(L, left, sizeof(cJSON) + (lua_type(L, index) == LUA_TSTRING ? lua_objlen(L, index) : 0));
  bool array;
  cJSON *node = make(L, index, &array);
  bool added = node && (name ? cJSON_AddItemToObject(parent, name, node) : cJSON_AddItemToArray(parent, node));
  if (!added) {
    cJSON_Delete(node);
    luaL_error(L, "out of memory");
  }
  if (array) {
    take_array(L, index, node, depth, left);
  } else if (lua_istable(L, index)) {
    take_object(L, index, node, depth, left);
  }
}

void neap__value_take(lua_State *L, int index, cJSON *parent, const char *name) {
  size_t left = TAKEN_BYTES_MAX;
  take_at(L, index, parent, name, 0, &left);
}

static int box_gc(lua_State *L) {
  cJSON **box = lua_touserdata(L, 1);
  cJSON_Delete(*box);
  *box = NULL;
  return 0;
}

cJSON **neap__json_box(lua_State *L) {
  cJSON **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  if (luaL_newmetatable(L, "neap.json_box")) {
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return box;
}
