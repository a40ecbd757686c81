/* SPDX-License-Identifier: MIT
 *
 * policy/stream.h - between L1 and the flows, which report what happens, and the policy, which decides what goes.
 *
 * Events of any thread are appended to a bounded buffer in batches; the policy sees them in that order, in bulk, no
 * later than the next question to it. A full buffer is flushed by the thread that filled it. The policy instance is
 * entered under one lock, so it needs none; whoever asks waits for a call already under way. Not here: which policies
 * there are (policy/registry.h), what one is trusted with (policy/instance.h). Any thread may call any function here,
 * open and close aside. */
#pragma once
#include <neap/policy.h>

#include "policy/instance.h"

typedef struct neap__stream neap__stream;

/* Opens a stream for slots 0 .. config->slots-1. The errors of neap__instance_open. */
int neap__stream_open(const neap__instance_config *config, neap__stream **out, neap_error *err);
void neap__stream_close(neap__stream *stream); /* nobody is inside */

/* Changes the policy (neap__instance_switch): the new one knows of everything reported so far. On failure the old one
 * goes on. Ends with what was given to neap__stream_on_switch. */
int neap__stream_switch(neap__stream *stream, const neap_policy *policy, const char *params, neap_error *err);

/* Called on the thread of whoever switches, after each switch that worked: a policy may want to hear of what was not
 * reported before. Before the first switch. */
void neap__stream_on_switch(neap__stream *stream, void (*told)(void *ctx, uint32_t wants), void *ctx);

/* --- what the policy wants ------------------------------------------------------------------------------------- */

/* Beside the events that it acts on, NEAP_WANTS(...), the hooks that it has. LEAF and UNLEAF are always both, and also
 * wanted by a policy that may only evict leaves. Nothing optional once the built-in has taken over. */
#define NEAP__HAS_STORE_PLAN (1u << 28)
#define NEAP__HAS_LOAD_PLAN (1u << 29)
#define NEAP__HAS_HINT (1u << 30)
#define NEAP__HAS_PREDICT (1u << 31)

/* One load: so that an event nobody wants is not even made. The word stays where it is as long as the stream. */
uint32_t neap__stream_wants(const neap__stream *stream);
const _Atomic uint32_t *neap__stream_wants_word(const neap__stream *stream);

/* --- telling --------------------------------------------------------------------------------------------------- */

/* Appends events. Never fails, never calls L1. The signature fits neap__l1_config.emit. */
void neap__stream_emit(void *stream, const neap_event *events, uint32_t count);

/* Tells the chunks of a prompt, head first: `hash` is where the first one's hash lies, the next ones follow at that
 * distance. Does nothing unless leaves are wanted. */
void neap__stream_chain(neap__stream *stream, uint32_t tenant, const void *hash, size_t stride, uint32_t count);

/* Says that a proposed victim could not go (KEEP): slot stays in the policy's care. */
void neap__stream_keep(neap__stream *stream, uint32_t slot);

/* Says that L1 is full now: what is resident is its capacity, as far as anybody can know. */
void neap__stream_full(neap__stream *stream);

/* Delivers pending events now. */
void neap__stream_flush(neap__stream *stream);

/* --- asking; pending events are delivered first ---------------------------------------------------------------- */

/* At most max victims in scope (a tenant or NEAP_SCOPE_ALL). Distinct, in order, resident by the events so far. Each
 * must be answered with a REMOVE event or neap__stream_keep: until then it is not handed out again. */
uint32_t neap__stream_victims(neap__stream *stream, uint32_t scope, uint32_t *out, uint32_t max);

/* A plan for chunks, [plan->chunks], which the plan is given: `hits` and `recompute_us` are filled in, and tiers that
 * the policy was told of are added. False: the policy has no such hook, or it failed; then the engine's own plan
 * counts, and what the policy wrote into this one does not. */
bool neap__stream_store_plan(neap__stream *stream, neap_store_plan *plan, neap_plan_chunk *chunks);
bool neap__stream_load_plan(neap__stream *stream, neap_load_plan *plan, neap_plan_chunk *chunks);
/* False: the policy takes no hints. */
bool neap__stream_hint(neap__stream *stream, const neap_hint *hints, uint32_t count);
/* How many of at most max chunks should come up now. */
uint32_t neap__stream_predict(neap__stream *stream, neap_hint *out, uint32_t max);

typedef struct neap__stream_stats {
  neap__instance_stats instance;
  const char *policy; /* its name; tables live as long as the process */
  char params[256];   /* cut if longer */
  uint32_t capacity;  /* objects, see neap_policy_context */
} neap__stream_stats;
void neap__stream_stats_get(neap__stream *stream, neap__stream_stats *out);

/* What the events so far say of a slot; zero if it is empty. */
neap_chunk neap__stream_row(neap__stream *stream, uint32_t slot);
