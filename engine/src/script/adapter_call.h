/* SPDX-License-Identifier: MIT
 *
 * script/adapter_call.h - one opened Lua adapter, and the calls of its hooks. Shared by lua_adapter.c (life, status)
 * and adapter_call.c (operations). */
#pragma once
#include <cjson/cJSON.h>
#include <pthread.h>

#include "script/coro.h"
#include "script/signal.h"

enum { /* the first five are neap_op_kind */
       NEAP__HOOK_OPEN = 5,
       NEAP__HOOK_CLOSE,
       NEAP__HOOK_STATUS,
       NEAP__HOOKS
};
extern const char *const neap__hook_names[NEAP__HOOKS]; /* as the Lua class calls them */

typedef struct neap__lua_op neap__lua_op;

/* vm and the refs belong to the loop thread; live and status to `lock`. */
typedef struct neap__lua_adapter {
  const neap_host *host;
  const char *name;
  neap__loop *loop;
  neap__vm vm;
  bool vm_open;
  int self_ref, params_ref, hook_refs[NEAP__HOOKS];
  pthread_mutex_t lock;
  neap__lua_op *live; /* operations between submit and done */
  cJSON *status;      /* the last answer of the status hook */
  neap__signal vm_closed;
} neap__lua_adapter;

/* The five operations and cancel of the adapter table. */
void neap__lua_submit(void *self, neap_op *op);
void neap__lua_cancel(void *self, neap_op *op);

/* Runs the open or close hook as a coroutine and waits for it; not on the loop's thread. A missing hook is 0. */
int neap__hook_call(neap__lua_adapter *adapter, int hook, uint64_t deadline_ns, neap_error *err);
