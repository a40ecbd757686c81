/* SPDX-License-Identifier: MIT
 *
 * script/result.h - what the results of a hook mean. Runs on the loop's thread; nothing here raises. */
#pragma once
#include "script/adapter_call.h"

/* Whose results are read: R has them, and nothing else, on its stack. */
typedef struct neap__result {
  const neap__lua_adapter *adapter;
  lua_State *R;
  uint32_t kind; /* neap_op_kind */
  int hook;      /* that returned them */
  char *why;     /* filled in when the code is worth a line in the log; else "" */
  size_t why_bytes;
  neap_log_level level; /* of that line */
} neap__result;

/* NEAP_E* for "ENOSPC", "NEAP_ENOSPC" and the errno names that have another name here; NEAP_EIO for all others. */
int neap__result_code(const char *name);

/* The code of one object's hook; sets object->stored_bytes. object is NULL for a listing. */
int neap__result_single(neap__result *result, neap_object *object);

/* Sets result and stored_bytes of all objects of a batch. Returns the index of the object that `why` is about. */
uint32_t neap__result_batch(neap__result *result, neap_object *objects, uint32_t count);
