/* SPDX-License-Identifier: MIT
 *
 * script/key.h - keys as Lua sees them: a userdata that holds a copy, so that a script may keep it, and that makes a
 * field only when it is read. Fields: text (the NATIVE form: what stores use as a table key), file (the FILE form),
 * model, salt, hash (64 hex digits), rank, group. Two keys are equal if they are the same object's. */
#pragma once
#include "script/vm.h"

void neap__key_push(lua_State *L, const neap_object_key *key); /* raises */
/* The key at index arg; its strings live as long as the userdata. Raises. */
const neap_object_key *neap__key_check(lua_State *L, int arg);
/* Adds `key` to the core table on top. Raises. */
void neap__key_open(lua_State *L, neap__vm *vm);
