/* SPDX-License-Identifier: MIT
 *
 * script/script.h - front door of the script layer: Lua modules as second-level stores.
 *
 * A module that returns tables made by neap.adapter{...} becomes a neap_adapter table like any native one. Each opened
 * Lua adapter has a thread, a libuv loop and a VM of its own; each operation runs as one coroutine there. Scripts
 * decide, C moves: hooks see keys, sizes and buffer handles, never payload bytes as Lua strings. */
#pragma once
#include "l2/registry.h"

/* The loader of ".lua" modules, for neap__registry_add_loader. Loading runs the module once in a VM that is thrown
 * away, to learn its classes and schemas; open runs it again in the adapter's own VM. */
extern const neap__loader neap__lua_loader;

/* lua_dir: the directory that holds neap/init.lua. Copied. Call before the first load; not while an adapter opens. */
void neap__lua_setup(const char *lua_dir);
