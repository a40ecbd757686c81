/* SPDX-License-Identifier: MIT
 *
 * base/loop.h - a thread that runs a libuv loop, and the one way to reach it from other threads.
 *
 * uv handles of a loop are touched on its thread only. Other threads post jobs; jobs run in the order posted, from
 * the loop, never inside neap__loop_post. Used by the engine (flows, policies) and by each Lua adapter. */
#pragma once
#include <uv.h>

#include "base/base.h"

typedef struct neap__loop neap__loop;

/* Intrusive: the poster owns the memory and may free it inside run. */
typedef struct neap__job {
  struct neap__job *next;
  void (*run)(struct neap__job *job);
} neap__job;

/* Starts the thread. name shows in debuggers (15 characters). 0, NEAP_ENOMEM, NEAP_EIO. */
int neap__loop_open(const char *name, neap__loop **out);
/* Any thread, never fails, never blocks for long. */
void neap__loop_post(neap__loop *loop, neap__job *job);
/* Runs work(arg) on the loop's thread and waits for it. Not from the loop's thread. */
void neap__loop_call(neap__loop *loop, void (*work)(void *arg), void *arg);
/* Returns when every job posted before has run. Not from the loop's thread. */
void neap__loop_settle(neap__loop *loop);
bool neap__loop_here(const neap__loop *loop); /* on the loop's thread? */
uv_loop_t *neap__loop_uv(neap__loop *loop);   /* loop thread only */
/* Runs jobs already posted, then stops, joins and frees. Handles that the users opened must be closed before. */
void neap__loop_close(neap__loop *loop);
