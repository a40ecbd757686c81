/* SPDX-License-Identifier: MIT
 *
 * script/file.h - files for scripts: libuv's file requests, each awaited by the coroutine that makes it.
 *
 * Reads and writes go between a file and a buffer, are repeated until all is done (or the file ends), and never touch
 * Lua memory. An open file is closed by file:close() or the collector, at the latest when its last request ended. */
#pragma once
#include "script/coro.h"

/* Adds file_open, file_rename, ... to the core table on top. The Lua side is neap/file.lua. Raises. */
void neap__file_open(lua_State *L, neap__vm *vm);
