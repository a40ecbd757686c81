/* SPDX-License-Identifier: MIT
 *
 * script/result.c - from the results of hooks to those of objects.
 *
 *   store   -> true (all bytes stored) | bytes stored, 0 if the key was there | nil, code, message
 *   lookup  -> size | true (there, size unknown) | false or nil (a miss)      | nil, code, message
 *   load    -> true | false or nil (a miss)                                   | nil, code, message
 *   delete  -> true | false or nil (was not there)                            | nil, code, message
 *   list    -> nothing or true, after emit(key, bytes, used_unix_s) per entry | nil, code, message
 *   batches -> an array with one of the first values per object, or a code in its place
 *                                                                             | nil, code, message for all of them
 *
 * A hook that returns something else fails its objects with NEAP_ESCRIPT; an entry that is missing is NEAP_EIO. An
 * array that is too long fails all objects: nobody knows which entry was meant for which. */
#include "script/result.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

int neap__result_code(const char *name) {
  static const struct {
    const char *name;
    int code;
  } codes[] = {
#define XX(name, code, text) {#name, code},
      NEAP_ERR_MAP(XX)
#undef XX
          {"EACCES", NEAP_EPERM},
      {"EROFS", NEAP_EPERM},
      {"EDQUOT", NEAP_ENOSPC},
      {"ENOTDIR", NEAP_ENOENT}};
  if (strncmp(name, "NEAP_", 5) == 0) name += 5;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(codes); i++) {
    if (strcmp(codes[i].name, name) == 0) return codes[i].code;
  }
  return NEAP_EIO;
}

static void say(neap__result *r, neap_log_level level, const char *text) {
  if (r->why[0]) return;
  r->level = level;
  snprintf(r->why, r->why_bytes, "%s", text);
}

/* "file:line: " of the hook's first line, for what it returned has no line of its own. */
static void hook_place(const neap__result *r, char *out, size_t cap) {
  lua_Debug where;
  out[0] = '\0';
  lua_rawgeti(r->R, LUA_REGISTRYINDEX, r->adapter->hook_refs[r->hook]);
  if (lua_isfunction(r->R, -1) && lua_getinfo(r->R, ">S", &where) != 0) {
    if (where.source[0] == '@') snprintf(out, cap, "%s:%d: ", where.source + 1, where.linedefined);
    return;
  }
  lua_settop(r->R, -2);
}

static int nonsense(neap__result *r, const char *format, const char *a, const char *b) {
  char place[1024], said[256], text[1280];
  hook_place(r, place, sizeof(place));
  snprintf(said, sizeof(said), format, a, b);
  snprintf(text, sizeof(text), "%sthe hook returned %s", place, said);
  say(r, NEAP_ERROR, text);
  return NEAP_ESCRIPT;
}

static int unexpected(neap__result *r, const char *expected) {
  char what[64];
  snprintf(what, sizeof(what), "%s%s", luaL_typename(r->R, 1), lua_toboolean(r->R, 1) ? "" : " without a code");
  return nonsense(r, "%s, expected %s", what, expected);
}

/* nil, code [, message] */
static int failure(neap__result *r) {
  lua_State *R = r->R;
  if (lua_type(R, 2) != LUA_TSTRING) return unexpected(r, "a code such as 'ENOSPC' as the second result");
  const char *name = lua_tostring(R, 2);
  char text[1280];
  snprintf(text, sizeof(text), "%s: %s", name, lua_type(R, 3) == LUA_TSTRING ? lua_tostring(R, 3) : "no message");
  int code = neap__result_code(name);
  if (code != NEAP_ENOENT) say(r, NEAP_WARNING, text);
  return code;
}

static bool is_size(lua_State *R, int index) {
  if (lua_type(R, index) != LUA_TNUMBER) return false;
  double n = lua_tonumber(R, index);
  return n >= 0 && n <= 9007199254740992.0 && floor(n) == n;
}

static const char *const expectations[] = {
    [NEAP_OP_STORE] = "true, the bytes stored, or nil, code, message",
    [NEAP_OP_LOOKUP] = "a size, true or false",
    [NEAP_OP_LOAD] = "true, false, or nil, code, message",
    [NEAP_OP_REMOVE] = "true, false, or nil, code, message",
    [NEAP_OP_LIST] = "true or nothing",
};

/* A first result that is not a failure. False: it says nothing. */
static bool value_of(uint32_t kind, lua_State *R, int index, neap_object *object, int *code) {
  bool sized = kind == NEAP_OP_STORE || kind == NEAP_OP_LOOKUP;
  *code = 0;
  if (sized && is_size(R, index)) {
    object->stored_bytes = (uint64_t)lua_tonumber(R, index);
    return true;
  }
  if (lua_isboolean(R, index) && lua_toboolean(R, index)) {
    if (sized) object->stored_bytes = kind == NEAP_OP_STORE ? object->bytes : 0;
    return true;
  }
  *code = NEAP_ENOENT;
  return kind != NEAP_OP_STORE && !lua_toboolean(R, index);
}

int neap__result_single(neap__result *r, neap_object *object) {
  int code;
  lua_settop(r->R, 3);
  if (!lua_toboolean(r->R, 1) && !lua_isnil(r->R, 2)) return failure(r);
  if (!value_of(r->kind, r->R, 1, object, &code)) return unexpected(r, expectations[r->kind]);
  return r->kind == NEAP_OP_LIST && lua_isnil(r->R, 1) ? 0 : code;
}

/* --- batches ---------------------------------------------------------------------------------------------------- */

/* One entry of the array, at index 2. */
static int entry_of(neap__result *r, neap_object *object) {
  lua_State *R = r->R;
  int code;
  if (lua_type(R, 2) == LUA_TSTRING) {
    code = neap__result_code(lua_tostring(R, 2));
    if (code != NEAP_ENOENT) say(r, NEAP_WARNING, lua_tostring(R, 2));
    return code;
  }
  if (lua_isnil(R, 2)) {
    nonsense(r, "no result for this object%s%s", "", "");
    return NEAP_EIO;
  }
  if (value_of(r->kind, R, 2, object, &code)) return code;
  return nonsense(r, "%s for this object, expected %s", luaL_typename(R, 2),
                  r->kind == NEAP_OP_STORE    ? "true, the bytes stored, or a code such as 'ENOSPC'"
                  : r->kind == NEAP_OP_LOOKUP ? "a size, true, false, or a code such as 'EIO'"
                                              : "true, false, or a code such as 'EIO'");
}

static void set_all(neap_object *objects, uint32_t count, int code) {
  for (uint32_t i = 0; i < count; i++) objects[i].result = code;
}

uint32_t neap__result_batch(neap__result *r, neap_object *objects, uint32_t count) {
  lua_State *R = r->R;
  lua_settop(R, 3);
  if (!lua_toboolean(R, 1) && !lua_isnil(R, 2)) {
    set_all(objects, count, failure(r));
    return 0;
  }
  if (!lua_istable(R, 1)) {
    set_all(objects, count, unexpected(r, "an array of results, or nil, code, message"));
    return 0;
  }
  lua_rawgeti(R, 1, (int)count + 1);
  bool longer = !lua_isnil(R, -1);
  lua_settop(R, 1);
  if (longer) {
    char given[32], wanted[32];
    snprintf(given, sizeof(given), "%zu", lua_objlen(R, 1));
    snprintf(wanted, sizeof(wanted), "%u", count);
    set_all(objects, count, nonsense(r, "%s results for %s objects", given, wanted));
    return 0;
  }
  uint32_t told = 0;
  for (uint32_t i = 0; i < count; i++) {
    bool silent = !r->why[0];
    lua_rawgeti(R, 1, (int)i + 1);
    objects[i].result = entry_of(r, &objects[i]);
    lua_settop(R, 1);
    if (silent && r->why[0]) told = i;
  }
  return told;
}
