/* SPDX-License-Identifier: MIT
 *
 * script/key.c - see key.h. The strings of a key lie behind the struct, in the same userdata. */
#include "script/key.h"

#include <lauxlib.h>
#include <string.h>

#include "chunk/key.h"

#define TYPE "neap.key"

void neap__key_push(lua_State *L, const neap_object_key *key) {
  size_t model = strlen(key->model) + 1, salt = strlen(key->salt) + 1;
  neap_object_key *copy = lua_newuserdata(L, sizeof(*copy) + model + salt);
  char *strings = (char *)(copy + 1);
  *copy = *key;
  copy->model = memcpy(strings, key->model, model);
  copy->salt = memcpy(strings + model, key->salt, salt);
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
}

const neap_object_key *neap__key_check(lua_State *L, int arg) { return luaL_checkudata(L, arg, TYPE); }

static int push_text(lua_State *L, const neap_object_key *key, neap_key_form form) {
  char text[NEAP_KEY_TEXT_MAX];
  int length = neap__key_format(key, form, text, sizeof(text));
  if (length < 0) return luaL_error(L, "key of model '%s' has no such text: %s", key->model, neap_strerror(length));
  lua_pushlstring(L, text, (size_t)length);
  return 1;
}

static void push_hash(lua_State *L, const neap_object_key *key) {
  static const char digits[] = "0123456789abcdef";
  char text[2 * NEAP_HASH_BYTES];
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) {
    text[2 * i] = digits[key->hash[i] >> 4];
    text[2 * i + 1] = digits[key->hash[i] & 15];
  }
  lua_pushlstring(L, text, sizeof(text));
}

static int l_index(lua_State *L) {
  const neap_object_key *key = neap__key_check(L, 1);
  const char *field = luaL_checkstring(L, 2);
  if (strcmp(field, "text") == 0) return push_text(L, key, NEAP_KEY_NATIVE);
  if (strcmp(field, "file") == 0) return push_text(L, key, NEAP_KEY_FILE);
  if (strcmp(field, "model") == 0) {
    lua_pushstring(L, key->model);
  } else if (strcmp(field, "salt") == 0) {
    lua_pushstring(L, key->salt);
  } else if (strcmp(field, "hash") == 0) {
    push_hash(L, key);
  } else if (strcmp(field, "rank") == 0) {
    lua_pushnumber(L, key->rank);
  } else if (strcmp(field, "group") == 0) {
    lua_pushnumber(L, key->group);
  } else {
    return luaL_error(L, "a key has no field '%s'; it has text, file, model, salt, hash, rank and group", field);
  }
  return 1;
}

static int l_equal(lua_State *L) {
  const neap_object_key *a = neap__key_check(L, 1), *b = neap__key_check(L, 2);
  lua_pushboolean(L, memcmp(a->hash, b->hash, sizeof(a->hash)) == 0 && a->rank == b->rank && a->group == b->group &&
                         strcmp(a->model, b->model) == 0 && strcmp(a->salt, b->salt) == 0);
  return 1;
}

static int l_tostring(lua_State *L) { return push_text(L, neap__key_check(L, 1), NEAP_KEY_NATIVE); }

/* core.key(text [, 'file']) -> key, or nil for a text that is no key's. */
static int l_key(lua_State *L) {
  static const char *const forms[] = {"native", "file", NULL};
  const char *text = luaL_checkstring(L, 1);
  neap_key_form form = luaL_checkoption(L, 2, "native", forms) == 0 ? NEAP_KEY_NATIVE : NEAP_KEY_FILE;
  neap_object_key key;
  char strings[NEAP_KEY_TEXT_MAX];
  if (neap__key_parse(text, form, &key, strings, sizeof(strings)) != 0) {
    lua_pushnil(L);
  } else {
    neap__key_push(L, &key);
  }
  return 1;
}

void neap__key_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg methods[] = {{"__index", l_index}, {"__eq", l_equal}, {"__tostring", l_tostring}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"key", l_key}, {NULL, NULL}};
  luaL_newmetatable(L, TYPE);
  neap__vm_register(L, vm, methods);
  lua_pop(L, 1);
  neap__vm_register(L, vm, functions);
}
