/* SPDX-License-Identifier: MIT
 *
 * script/lua_adapter.h - the adapter table behind which Lua classes stand. */
#pragma once
#include <neap/adapter.h>

#include <stdbool.h>

/* The optional functions of a table. */
typedef struct neap__lua_has {
  bool remove, list, reconfigure;
} neap__lua_has;

/* Fills in the functions of a table that is the first member of a neap__lua_class. */
void neap__lua_adapter_table(neap_adapter *table, neap__lua_has has);
