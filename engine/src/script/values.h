/* SPDX-License-Identifier: MIT
 *
 * script/values.h - plain Lua values from and to JSON: parameters, schemas, status. Not for payload. */
#pragma once
#include <cjson/cJSON.h>
#include <lua.h>

/* Pushes what node says; null is nil, so a null member is absent. Raises. */
void neap__value_push(lua_State *L, const cJSON *node);

/* Adds the value at index to the object parent under name; an error half way leaves a part of it there. Tables with a
 * first element are arrays, all others objects with string keys. Raises for functions, NaN, other keys, deep or
 * cyclic tables, and what would take more than 32 MiB. */
void neap__value_take(lua_State *L, int index, cJSON *parent, const char *name);

/* Pushes an owner of a tree, NULL at first, which the collector frees. Raises. */
cJSON **neap__json_box(lua_State *L);
