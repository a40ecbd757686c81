/* SPDX-License-Identifier: MIT
 *
 * script/http.h - HTTP for scripts: libcurl's multi interface on the VM's loop, each request awaited by the coroutine
 * that makes it.
 *
 * Bodies go from and into buffers; libcurl's own socket buffer is the only copy between. A request that is canceled,
 * overdue or complete is taken out of libcurl before its coroutine is woken: nothing touches its buffers afterwards.
 * A client is a set of options, a bounded set of connections that are used again, and nothing that outlives its VM. */
#pragma once
#include "script/coro.h"

/* Adds http_client and http_request to the core table on top. The Lua side is neap/http.lua. Raises. */
void neap__http_client_open(lua_State *L, neap__vm *vm);
