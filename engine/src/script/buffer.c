/* SPDX-License-Identifier: MIT
 *
 * script/buffer.c - see buffer.h. All methods check first, then act without raising. */
#include "script/buffer.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define TYPE "neap.buffer"
/* peek is for headers and tests, not for payload. */
#define PEEK_MAX 4096u
#define PAGE 4096u
/* Native bytes below which the collector is left to itself. */
#define COLLECT_FLOOR (64u << 20)

static uint64_t check_count(lua_State *L, int arg, uint64_t max, const char *what) {
  double value = luaL_checknumber(L, arg);
  if (!(value >= 0 && value <= (double)max) || value != (double)(uint64_t)value) {
    luaL_error(L, "%s is %f, expected a whole number from 0 to %f", what, value, (double)max);
  }
  return (uint64_t)value;
}

void neap__buffer_range(lua_State *L, int arg, uint64_t bytes, uint64_t *offset, uint64_t *length) {
  *offset = lua_isnoneornil(L, arg) ? 0 : check_count(L, arg, bytes, "offset");
  *length = lua_isnoneornil(L, arg + 1) ? bytes - *offset : check_count(L, arg + 1, bytes - *offset, "length");
}

neap__buffer *neap__buffer_check(lua_State *L, int arg, bool writable) {
  neap__buffer *buffer = luaL_checkudata(L, arg, TYPE);
  if (!buffer->data) luaL_error(L, "buffer no longer valid");
  if (writable && !buffer->writable) luaL_error(L, "buffer is read-only: it holds what is to be stored");
  return buffer;
}

neap__buffer *neap__buffer_part(lua_State *L, int arg, bool writable, struct iovec *out) {
  uint64_t offset = 0, length;
  neap__buffer *buffer;
  if (lua_istable(L, arg)) {
    int top = lua_gettop(L);
    luaL_checkstack(L, 4, "parts");
    for (int i = 1; i <= 3; i++) lua_rawgeti(L, arg, i);
    buffer = neap__buffer_check(L, top + 1, writable);
    neap__buffer_range(L, top + 2, buffer->bytes, &offset, &length);
    lua_settop(L, top);
  } else {
    buffer = neap__buffer_check(L, arg, writable);
    length = buffer->bytes;
  }
  *out = (struct iovec){.iov_base = buffer->data + offset, .iov_len = (size_t)length};
  return buffer;
}

static neap__buffer *new_buffer(lua_State *L) {
  neap__buffer *buffer = lua_newuserdata(L, sizeof(*buffer));
  *buffer = (neap__buffer){0};
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  return buffer;
}

void neap__buffer_lend(lua_State *L, void *data, uint64_t bytes, bool writable, const neap__coro *coro,
                       neap__buffer **slot) {
  neap__buffer *buffer = new_buffer(L);
  *buffer = (neap__buffer){.data = data, .bytes = bytes, .writable = writable, .coro = coro, .slot = slot};
  *slot = buffer;
}

void neap__buffer_revoke(neap__buffer **slot) {
  if (!*slot) return;
  (*slot)->data = NULL;
  (*slot)->bytes = 0;
  (*slot)->slot = NULL;
  *slot = NULL;
}

neap__mem *neap__buffer_hold(lua_State *L, neap__buffer *buffer, const neap__coro *coro) {
  if (!buffer->mem) {
    if (!neap__coro_below(coro, buffer->coro))
      luaL_error(L, "buffer belongs to another operation; it cannot be awaited with here");
    return NULL;
  }
  buffer->mem->refs++;
  return buffer->mem;
}

void neap__mem_drop(neap__mem *mem) {
  if (!mem || --mem->refs > 0) return;
  mem->vm->native_bytes -= mem->bytes;
  free(mem);
}

/* The collector sees a few dozen bytes where megabytes hang on. So it runs when buffers hold half as much again as they
 * did after its last run, or all that there is: a store that frees what it drops never waits for it, and garbage is
 * never more than half of what is in use. */
static bool make_room(lua_State *L, neap__vm *vm, uint64_t bytes) {
  if (bytes > vm->native_bytes_max) return false;
  uint64_t collect_at = NEAP_MIN(NEAP_MAX(vm->native_collect_at, (uint64_t)COLLECT_FLOOR), vm->native_bytes_max);
  if (vm->native_bytes + bytes > collect_at) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    vm->native_collect_at = (vm->native_bytes + bytes) / 2 * 3;
  }
  return bytes <= vm->native_bytes_max - vm->native_bytes;
}

/* core.buffer(bytes) -> buffer | nil, 'ENOMEM', message. The content is zero. */
static int l_buffer(lua_State *L) {
  neap__vm *vm = neap__vm_of(L);
  uint64_t bytes = check_count(L, 1, UINT64_C(1) << 47, "buffer size");
  neap__buffer *buffer = new_buffer(L);
  neap__mem *mem = NULL;
  size_t spare = bytes >= PAGE ? PAGE - 1 : 0;
  if (make_room(L, vm, bytes)) mem = calloc(1, sizeof(*mem) + (size_t)bytes + spare);
  if (!mem) {
    lua_pushnil(L);
    lua_pushliteral(L, "ENOMEM");
    lua_pushfstring(L, "no memory for a buffer of %f bytes; buffers of this script hold %f", (double)bytes,
                    (double)vm->native_bytes);
    return 3;
  }
  uintptr_t data = (uintptr_t)(mem + 1);
  mem->data = (unsigned char *)(spare ? (data + spare) & ~(uintptr_t)spare : data);
  mem->vm = vm;
  mem->refs = 1;
  mem->bytes = bytes;
  vm->native_bytes += bytes;
  *buffer = (neap__buffer){.data = mem->data, .bytes = bytes, .writable = true, .mem = mem};
  return 1;
}

/* Idempotent; for leases it only forgets the lender. */
static int l_free(lua_State *L) {
  neap__buffer *buffer = luaL_checkudata(L, 1, TYPE);
  if (buffer->slot) *buffer->slot = NULL;
  neap__mem_drop(buffer->mem);
  *buffer = (neap__buffer){0};
  return 0;
}

static int l_size(lua_State *L) {
  lua_pushnumber(L, (double)neap__buffer_check(L, 1, false)->bytes);
  return 1;
}

/* to:copy(from [, to_offset [, from_offset [, length]]]) -> to */
static int l_copy(lua_State *L) {
  neap__buffer *to = neap__buffer_check(L, 1, true);
  neap__buffer *from = neap__buffer_check(L, 2, false);
  uint64_t at = lua_isnoneornil(L, 3) ? 0 : check_count(L, 3, to->bytes, "to_offset");
  uint64_t offset, length;
  neap__buffer_range(L, 4, from->bytes, &offset, &length);
  if (length > to->bytes - at) {
    return luaL_error(L, "copy of %f bytes to offset %f does not fit a buffer of %f bytes", (double)length, (double)at,
                      (double)to->bytes);
  }
  memmove(to->data + at, from->data + offset, (size_t)length);
  lua_settop(L, 1);
  return 1;
}

static int l_equals(lua_State *L) {
  neap__buffer *a = neap__buffer_check(L, 1, false);
  neap__buffer *b = neap__buffer_check(L, 2, false);
  lua_pushboolean(L, a->bytes == b->bytes && memcmp(a->data, b->data, (size_t)a->bytes) == 0);
  return 1;
}

/* buf:crc32c([offset [, length]]) */
static int l_crc32c(lua_State *L) {
  neap__buffer *buffer = neap__buffer_check(L, 1, false);
  uint64_t offset, length;
  neap__buffer_range(L, 2, buffer->bytes, &offset, &length);
  lua_pushnumber(L, (double)neap__crc32c(0, buffer->data + offset, (size_t)length));
  return 1;
}

/* buf:fill(byte [, offset [, length]]) -> buf */
static int l_fill(lua_State *L) {
  neap__buffer *buffer = neap__buffer_check(L, 1, true);
  int byte = (int)check_count(L, 2, 255, "byte");
  uint64_t offset, length;
  neap__buffer_range(L, 3, buffer->bytes, &offset, &length);
  memset(buffer->data + offset, byte, (size_t)length);
  lua_settop(L, 1);
  return 1;
}

/* buf:peek(offset, length) -> string of at most 4,096 bytes */
static int l_peek(lua_State *L) {
  neap__buffer *buffer = neap__buffer_check(L, 1, false);
  uint64_t offset, length;
  luaL_checknumber(L, 2);
  luaL_argcheck(L, luaL_checknumber(L, 3) <= PEEK_MAX, 3, "at most 4096 bytes: payload does not become a string");
  neap__buffer_range(L, 2, buffer->bytes, &offset, &length);
  lua_pushlstring(L, (const char *)buffer->data + offset, (size_t)length);
  return 1;
}

/* buf:poke(offset, string) -> buf */
static int l_poke(lua_State *L) {
  neap__buffer *buffer = neap__buffer_check(L, 1, true);
  uint64_t offset = check_count(L, 2, buffer->bytes, "offset");
  size_t length;
  const char *text = luaL_checklstring(L, 3, &length);
  luaL_argcheck(L, length <= buffer->bytes - offset, 3, "does not fit the buffer");
  memcpy(buffer->data + offset, text, length);
  lua_settop(L, 1);
  return 1;
}

static int l_tostring(lua_State *L) {
  neap__buffer *buffer = luaL_checkudata(L, 1, TYPE);
  if (buffer->data) {
    lua_pushfstring(L, "neap.buffer (%f bytes)", (double)buffer->bytes);
  } else {
    lua_pushliteral(L, "neap.buffer (no longer valid)");
  }
  return 1;
}

void neap__buffer_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg methods[] = {{"size", l_size},     {"copy", l_copy}, {"equals", l_equals},
                                     {"crc32c", l_crc32c}, {"fill", l_fill}, {"peek", l_peek},
                                     {"poke", l_poke},     {"free", l_free}, {NULL, NULL}};
  static const luaL_Reg events[] = {{"__gc", l_free}, {"__len", l_size}, {"__tostring", l_tostring}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"buffer", l_buffer}, {NULL, NULL}};
  luaL_newmetatable(L, TYPE);
  neap__vm_register(L, vm, events);
  lua_newtable(L); /* apart: the metatable is not to be had through a method */
  neap__vm_register(L, vm, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  neap__vm_register(L, vm, functions);
}
