/* SPDX-License-Identifier: MIT
 *
 * script/net.h - how connections come to be: names to addresses, connecting, listening. Awaited by the coroutine that
 * asks; nothing here blocks the loop (names are looked up on libuv's worker threads). */
#pragma once
#include "script/conn.h"

/* Adds net_connect, net_resolve, net_listen, ... to the core table on top, and what conn.h adds. The Lua side is
 * neap/net.lua. Raises. */
void neap__net_open(lua_State *L, neap__vm *vm);
