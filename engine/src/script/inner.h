/* SPDX-License-Identifier: MIT
 *
 * script/inner.h - stores that a script opens for its own use: neap.open(config) and the methods of what it returns.
 *
 * Buffers are handed on as they are, the operation's own leases included: no byte is copied. Strings of keys are kept
 * until the VM closes, for an inner adapter may hold on to them. All on the VM's thread, but for open and close of an
 * inner adapter, which block and get a thread for that long. */
#pragma once
#include "script/coro.h"

typedef struct neap__store neap__store;

/* Adds open_store, store_run, store_list, store_close and store_methods to the core table on top. Raises. */
void neap__inner_lua_open(lua_State *L, neap__vm *vm);

/* Closes what the script left open. No coroutine is alive. Blocks; not on the loop's thread. */
void neap__inner_lua_close(neap__vm *vm);
