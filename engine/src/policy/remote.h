/* SPDX-License-Identifier: MIT
 *
 * policy/remote.h - a policy on a thread of its own, for a live engine: whoever asks it waits for a bounded time.
 *
 * The wrapper is a policy like any other. on_events copies events into a bounded queue and returns; every other hook
 * is handed over together with the events before it, and the caller waits. A call that has taken the budget of
 * processor time, or ten times as long by the clock, is an overrun: NEAP_ETIMEDOUT names the hook and where it is
 * written, and the thread is abandoned. Nothing can stop compiled code, so a thread that is stuck stays, with its
 * memory, until it returns, if ever; then it cleans up after itself. While eight are stuck no further one is created:
 * NEAP_ELIMIT. Rows of chunks are copies, made when the slot last had an event, so the policy never reads what the
 * engine writes; events that change a row come here whether the policy itself wants them or not. */
#pragma once
#include <neap/policy.h>

#include "base/base.h"

#define NEAP__REMOTE_BUDGET_MS 5u

typedef struct neap__remote_config {
  const neap_policy *inner; /* created, entered and destroyed on the thread */
  uint32_t budget_ms;       /* for each call; 0: NEAP__REMOTE_BUDGET_MS */
  /* "FILE:LINE" where a hook of a policy is written, or NULL; may be NULL itself. Any thread. */
  const char *(*place)(const neap_policy *policy, const char *hook);
} neap__remote_config;

/* The table of the wrapper. It lives as long as the process; equal configurations share one. 0 or NEAP_ENOMEM. Any
 * thread. */
int neap__remote_wrap(const neap__remote_config *config, const neap_policy **out, neap_error *err);

/* Threads that were abandoned and have not come back. Any thread. */
uint32_t neap__remote_abandoned(void);
