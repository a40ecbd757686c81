/* SPDX-License-Identifier: MIT
 *
 * script/inner_list.c - see inner_list.h. Records lie one behind the other, each with the strings of its key behind it;
 * Lua objects are made only for the entry that the script looks at. */
#include "script/inner_list.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/key.h"

#define TYPE "neap.listing"
#define FIRST_BYTES 4096u

struct neap__listing {
  char *data;
  uint64_t bytes, capacity, at; /* at: where the walk is */
  bool full;                    /* something was left out */
};

typedef struct record {
  neap_list_entry entry; /* its strings lie behind: model, salt */
  uint64_t bytes;        /* of the whole record */
} record;

neap__listing *neap__listing_new(void) { return calloc(1, sizeof(neap__listing)); }

void neap__listing_free(neap__listing *listing) {
  if (!listing) return;
  free(listing->data);
  free(listing);
}

static bool reserve(neap__listing *listing, uint64_t bytes) {
  if (listing->bytes + bytes <= listing->capacity) return true;
  uint64_t capacity = NEAP_MAX(2 * listing->capacity, listing->bytes + bytes + FIRST_BYTES);
  if (listing->bytes + bytes > NEAP_LISTING_BYTES_MAX) return false;
  char *data = realloc(listing->data, capacity);
  if (!data) return false;
  listing->data = data;
  listing->capacity = capacity;
  return true;
}

int neap__listing_add(neap__listing *listing, const neap_list_entry *entry) {
  size_t model = strlen(entry->key.model) + 1, salt = strlen(entry->key.salt) + 1;
  uint64_t bytes = (sizeof(record) + model + salt + 7) & ~UINT64_C(7);
  listing->full |= !reserve(listing, bytes);
  if (listing->full) return 1;
  record *r = (record *)(void *)(listing->data + listing->bytes);
  *r = (record){.entry = *entry, .bytes = bytes};
  memcpy((char *)(r + 1), entry->key.model, model);
  memcpy((char *)(r + 1) + model, entry->key.salt, salt);
  listing->bytes += bytes;
  return 0;
}

bool neap__listing_full(const neap__listing *listing) { return listing->full; }

static int l_next(lua_State *L) {
  neap__listing **box = lua_touserdata(L, lua_upvalueindex(2));
  neap__listing *listing = *box;
  if (listing->at == listing->bytes) {
    free(listing->data);
    *listing = (neap__listing){0};
    return 0;
  }
  record *r = (record *)(void *)(listing->data + listing->at);
  r->entry.key.model = (const char *)(r + 1);
  r->entry.key.salt = r->entry.key.model + strlen(r->entry.key.model) + 1;
  neap__key_push(L, &r->entry.key);
  listing->at += r->bytes;
  lua_pushnumber(L, (double)r->entry.bytes);
  lua_pushnumber(L, (double)r->entry.used_unix_s);
  return 3;
}

static int l_gc(lua_State *L) {
  neap__listing **box = lua_touserdata(L, 1);
  neap__listing_free(*box);
  *box = NULL;
  return 0;
}

int neap__listing_push(lua_State *L, neap__vm *vm, neap__listing **listing) {
  lua_pushlightuserdata(L, vm);
  neap__listing **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  lua_pushcclosure(L, l_next, 2); /* may raise; the listing is still the caller's */
  lua_getupvalue(L, -1, 2);
  box = lua_touserdata(L, -1);
  *box = *listing;
  *listing = NULL;
  lua_pop(L, 1);
  return 1;
}

void neap__listing_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg methods[] = {{"__gc", l_gc}, {NULL, NULL}};
  luaL_newmetatable(L, TYPE);
  neap__vm_register(L, vm, methods);
  lua_pop(L, 1);
}
