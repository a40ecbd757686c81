/* SPDX-License-Identifier: MIT
 *
 * script/inner_list.h - what an inner store listed, kept in C until a script has walked through it. */
#pragma once
#include "script/vm.h"

#define NEAP_LISTING_BYTES_MAX (UINT64_C(256) << 20) /* two million entries, about */

typedef struct neap__listing neap__listing;

neap__listing *neap__listing_new(void);
void neap__listing_free(neap__listing *listing);
/* For sinks: any thread, one at a time. Non-zero when there is no room for more. */
int neap__listing_add(neap__listing *listing, const neap_list_entry *entry);
bool neap__listing_full(const neap__listing *listing); /* true: entries were left out */
/* Pushes an iterator that yields key, bytes, used_unix_s, and takes the listing over. Returns 1. Raises. */
int neap__listing_push(lua_State *L, neap__vm *vm, neap__listing **listing);
void neap__listing_open(lua_State *L, neap__vm *vm);
