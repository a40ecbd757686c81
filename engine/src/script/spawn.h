/* SPDX-License-Identifier: MIT
 *
 * script/spawn.h - several awaiting functions in one hook, and what they wait for one another with.
 *
 * core.all runs functions as coros below the one that calls it: they may use its leases, end with its cancel, and it
 * goes on when all of them have ended. A semaphore is waited for by the coros of one VM, in the order of their asking.
 */
#pragma once
#include "script/coro.h"

/* Adds all and semaphore to the core table on top. Raises. */
void neap__spawn_open(lua_State *L, neap__vm *vm);
