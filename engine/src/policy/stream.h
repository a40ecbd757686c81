/* SPDX-License-Identifier: MIT
 *
 * policy/stream.h - between L1, which reports what happens, and the policy, which decides what goes.
 *
 * Events of any thread are appended to a bounded buffer in batches; the policy sees them in that order, in bulk, no
 * later than the next request for victims. A full buffer is flushed by the thread that filled it. The policy instance
 * is entered under one lock, so it needs none. Not here: which policies there are (policy/registry.h), and what one is
 * trusted with (policy/instance.h). */
#pragma once
#include <neap/policy.h>

#include "base/base.h"

typedef struct neap__stream neap__stream;

/* Opens a stream for slots 0 .. slots-1 with the given policy and its parameters (copied; NULL is ""). 0, NEAP_ENOMEM,
 * NEAP_EABI, or the policy's own error. */
int neap__stream_open(const neap_policy *policy, const char *params, uint32_t slots, neap__stream **out,
                      neap_error *err);
void neap__stream_close(neap__stream *stream);

/* Appends events (any thread). Never fails, never calls L1. The signature fits neap__l1_config.emit. */
void neap__stream_emit(void *stream, const neap_event *events, uint32_t count);

/* Delivers pending events, then asks for at most max victims in scope (a tenant or NEAP_SCOPE_ALL). Distinct, in
 * order, resident by the events so far. Each must be answered with a REMOVE event or neap__stream_keep: until then it
 * is not handed out again. Any thread; waits for a call already under way. */
uint32_t neap__stream_victims(neap__stream *stream, uint32_t scope, uint32_t *out, uint32_t max);

/* Says that a proposed victim could not go (KEEP): slot stays in the policy's care. */
void neap__stream_keep(neap__stream *stream, uint32_t slot);

/* Delivers pending events now. */
void neap__stream_flush(neap__stream *stream);

/* The policy's name. */
const char *neap__stream_policy(neap__stream *stream);

/* How many proposals of the policy were dropped so far: no slot, not resident, or proposed already. Any thread. */
uint64_t neap__stream_refused(neap__stream *stream);
