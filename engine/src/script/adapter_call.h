/* SPDX-License-Identifier: MIT
 *
 * script/adapter_call.h - one opened Lua adapter, and the calls of its hooks. Shared by lua_adapter.c (life, status),
 * adapter_call.c (operations), result.c (what hooks return) and hook_call.c (open, close, reconfigure). */
#pragma once
#include <cjson/cJSON.h>
#include <pthread.h>

#include "script/coro.h"
#include "script/signal.h"

enum { /* the first five are neap_op_kind; NEAP__HOOK_BATCH + kind is the batch form of the first four */
       NEAP__HOOK_OPEN = 5,
       NEAP__HOOK_CLOSE,
       NEAP__HOOK_STATUS,
       NEAP__HOOK_RECONFIGURE,
       NEAP__HOOK_BATCH,
       NEAP__HOOKS = NEAP__HOOK_BATCH + NEAP_OP_LIST
};
extern const char *const neap__hook_names[NEAP__HOOKS]; /* as the Lua class calls them */

typedef struct neap__lua_op neap__lua_op;

/* vm, the refs and lanes belong to the loop thread; live and status to `lock`. */
typedef struct neap__lua_adapter {
  const neap_host *host;
  const char *name;
  neap__loop *loop;
  neap__vm vm;
  bool vm_open;
  int self_ref, hook_refs[NEAP__HOOKS];
  char *hook_places[NEAP__HOOKS]; /* "store of FILE:LINE", for the watchdog; NULL for hooks that are not there */
  uint32_t concurrency; /* coroutines that may run while an operation could use another one */
  uint32_t lanes;       /* coroutines that run operations */
  pthread_mutex_t lock;
  neap__lua_op *live; /* operations between submit and done */
  cJSON *status;      /* the last answer of the status hook */
  neap__signal vm_closed;
} neap__lua_adapter;

/* The five operations and cancel of the adapter table. */
void neap__lua_submit(void *self, neap_op *op);
void neap__lua_cancel(void *self, neap_op *op);

/* Runs the open, close or reconfigure hook as a coroutine and waits for it; not on the loop's thread. A missing hook is
 * 0. params is what the hook is given after self; NULL: nothing. */
int neap__hook_call(neap__lua_adapter *adapter, int hook, const cJSON *params, uint64_t deadline_ns, neap_error *err);
