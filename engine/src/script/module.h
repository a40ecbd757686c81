/* SPDX-License-Identifier: MIT
 *
 * script/module.h - from a Lua file to a class of stores: which class, which hooks, which schema. */
#pragma once
#include "script/vm.h"

/* What the engine learns from a module. The adapter table is the first member: `open` finds the rest behind it.
 * Records live until the process ends; equal ones are shared, so loading a file again costs nothing. */
typedef struct neap__lua_class {
  neap_adapter table;
  char *path, *class_name, *config_class_name; /* config_class_name may be NULL */
  char *version, *schema_json;                 /* schema_json may be NULL */
  neap_traits traits;                          /* table.traits, as the class declares them */
  neap__guard_limits limits;
  struct neap__lua_class *next;
} neap__lua_class;

/* Below neap__vm_call: runs the module and pushes the checked class, its schema (or nil) and its name; class_name NULL
 * is the only class there. Raises with file, line and what was expected. */
void neap__module_push(lua_State *L, const char *path, const char *class_name, const char *config_class_name);
