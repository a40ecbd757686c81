/* SPDX-License-Identifier: MIT
 *
 * script/buffer.h - the userdata through which Lua handles payload without seeing it.
 *
 * Two kinds. A lease points into engine memory and is revoked when the hook it was made for ends: every later access
 * raises "buffer no longer valid". An owned buffer is C memory made by neap.buffer(bytes); it is counted, freed by
 * buf:free() or the collector, and kept by a request that uses it until that request ends. VM thread only. */
#pragma once
#include <sys/uio.h>

#include "script/coro.h"

/* C memory with a count; not atomic, for it stays on one VM's thread. */
typedef struct neap__mem {
  neap__vm *vm;
  uint32_t refs;
  uint64_t bytes;
  unsigned char *data; /* behind this header; on a page's boundary (as O_DIRECT wants it) from a page on */
} neap__mem;

typedef struct neap__buffer {
  unsigned char *data; /* NULL: no longer valid */
  uint64_t bytes;
  bool writable;
  neap__mem *mem;             /* owned buffers */
  const neap__coro *coro;     /* leases: only it, and those below it, may await with it */
  struct neap__buffer **slot; /* leases: where the lender remembers this userdata; cleared if it is collected */
} neap__buffer;

/* Pushes a lease and stores it in *slot, which stays where it is until neap__buffer_revoke(slot). Raises. */
void neap__buffer_lend(lua_State *L, void *data, uint64_t bytes, bool writable, const neap__coro *coro,
                       neap__buffer **slot);
void neap__buffer_revoke(neap__buffer **slot);

/* The valid buffer at index arg, or raises. writable: raises for a read-only one. */
neap__buffer *neap__buffer_check(lua_State *L, int arg, bool writable);
/* Offset and length at arg and arg + 1, both optional, checked to lie inside bytes. Raises. */
void neap__buffer_range(lua_State *L, int arg, uint64_t bytes, uint64_t *offset, uint64_t *length);
/* A buffer, or a table { buffer [, offset [, length]] } (which must go on to keep it), at index arg > 0, and where its
 * bytes are. Raises. */
neap__buffer *neap__buffer_part(lua_State *L, int arg, bool writable, struct iovec *out);
/* Keeps or drops the memory behind a buffer for a request of coro; raises if it is another operation's lease.
 * NULL for leases, which outlive the requests of their own coroutine and of those below it. */
neap__mem *neap__buffer_hold(lua_State *L, neap__buffer *buffer, const neap__coro *coro);
void neap__mem_drop(neap__mem *mem);

/* Adds `buffer` to the core table on top. Raises. */
void neap__buffer_open(lua_State *L, neap__vm *vm);
