/* SPDX-License-Identifier: MIT
 *
 * neap/policy.h - the contract between the engine and a policy, which decides what stays in the first level, what goes
 * down to the second, and what comes up again.
 *
 * A policy keeps its own order over dense slot numbers. The engine tells it what happened, in batches, and asks for
 * decisions; the policy proposes, the engine checks each proposal (alive, unpinned, allowed), acts, and reports what it
 * did as further events. A proposal that could not be carried out comes back as KEEP; a short answer is completed by
 * the built-in tail-first LRU. The policy never frees anything. One that returns an error, overruns its time or answers
 * nonsense is replaced by that LRU at once, and works again only when an operator says so.
 *
 * Events carry everything by value: when an event is read, its slot may already hold another object. Inside one
 * request events come tail first (last chunk of the prompt first), so a plain LRU evicts leaves before prefixes.
 *
 * Threads: the engine enters one instance from one thread at a time, never two. Every hook returns 0 or more, or a
 * negative NEAP_E code with err filled in. Unless said otherwise what is passed to a hook is valid during the call.
 *
 * A native policy is a shared object that exports neap_policy_entry (NEAP_POLICY_PLUGIN makes it).
 */
#ifndef NEAP_POLICY_H
#define NEAP_POLICY_H

#include <neap/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NEAP_POLICY_MAGIC 0x4e504f4cu /* "NPOL" */
#define NEAP_POLICY_ABI 2u
#define NEAP_POLICY_NO_SLOT UINT32_MAX
#define NEAP_SCOPE_ALL UINT32_MAX

/* --- what happened ---------------------------------------------------------------------------------------------- */

/* One list makes the enum and the names that scripts use. */
#define NEAP_EVENT_MAP(XX)                                                                                      \
  XX(INSERT, 1)   /* slot became resident */                                                                    \
  XX(HIT, 2)      /* slot was used by a request (looked up alone is no use) */                                  \
  XX(REMOVE, 3)   /* slot is gone; detail is a neap_remove_reason */                                            \
  XX(KEEP, 4)     /* a proposed victim was not evicted (pinned, gone, no leaf): it is still yours */            \
  XX(PIN, 5)      /* slot got its first lease: it cannot be evicted */                                          \
  XX(UNPIN, 6)    /* slot's last lease ended */                                                                 \
  XX(LEAF, 7)     /* nothing resident continues this slot's prefix any more (after its INSERT: not told) */     \
  XX(UNLEAF, 8)   /* something does */                                                                          \
  XX(MISS, 9)     /* a chunk was asked for that is not resident; slot is NEAP_POLICY_NO_SLOT */                 \
  XX(STORED, 10)  /* second-level tier `detail` has slot's object now */                                        \
  XX(LOADED, 11)  /* slot's object came from tier `detail`; follows its INSERT */                               \
  XX(REQUEST, 12) /* a request begins, its chunks follow: pos chunks; h1, h2 its session, 0 if none; no slot */ \
  XX(TICK, 13)    /* a second has passed; no slot */

typedef enum neap_event_type {
#define XX(name, number) NEAP_EV_##name = (number),
  NEAP_EVENT_MAP(XX)
#undef XX
} neap_event_type;

/* Live, a request's misses are told when it is looked up, its insertions when they are stored or loaded, and REQUEST
 * with its hits when it ends; its session is the one that the client names (lmcache.tag.session). A REMOVE of a pinned
 * slot, or of one that is no leaf, says all there is to say. */
#define NEAP_WANTS(name) (1u << NEAP_EV_##name)

typedef enum neap_remove_reason {
  NEAP_REMOVE_EVICT = 1,
  NEAP_REMOVE_DELETE = 2,
  NEAP_REMOVE_CLEAR = 3,
  NEAP_REMOVE_EXPIRE = 4, /* a temporary object whose last lease ended */
} neap_remove_reason;

typedef struct neap_event {
  uint32_t slot;    /* 0 .. slots-1 */
  uint8_t type;     /* neap_event_type */
  uint8_t detail;   /* of a REMOVE, STORED, LOADED: see there */
  uint16_t pos;     /* position of the chunk in its request, saturating */
  uint32_t h1, h2;  /* first eight bytes of the chunk hash */
  uint32_t request; /* hash of the request id, 0 if none */
  uint32_t tenant;  /* dense tenant number */
  uint32_t kib;     /* size of the object in KiB, rounded up */
  uint32_t time_ms; /* milliseconds since the engine was opened (replay: since the trace began) */
} neap_event;

/* What the engine knows of the object in a slot: a row for each slot, kept up to date with the events delivered so far.
 * Zero in a slot that is empty. */
typedef struct neap_chunk {
  uint32_t h1, h2, tenant, kib;
  uint32_t last_ms; /* when it was last used, or inserted */
  uint32_t order;   /* grows with every use and insertion: the recency order of all residents */
  uint16_t hits;    /* since it was inserted, saturating */
  uint16_t pos;
  uint16_t children; /* resident chunks that continue it, saturating; kept where a policy asks for leaves */
  uint8_t tiers;     /* bit t: tier t has it; kept if STORED is wanted or plans are made */
  uint8_t state;     /* 0: empty; the engine's own otherwise */
} neap_chunk;

/* --- what it works with ----------------------------------------------------------------------------------------- */

/* What recomputing a chunk costs, in microseconds: base_us + slope_us * position. */
typedef struct neap_cost {
  double base_us, slope_us;
} neap_cost;

/* Valid, at the same address, until destroy returns. `capacity` changes; read it when it is needed.
 * capacity  how many objects fit, as far as known: exact in a replay of objects of one size; live it follows what was
 *           resident when L1 was last full, and is `slots` before
 * next      replay only, else NULL: [slots] when slot's object is used next, as a number of references since the trace
 *           began; UINT32_MAX never
 * params    "name=value,name=value" as written behind the policy's name; "" if none. Refuse what you do not know. */
typedef struct neap_policy_context {
  uint32_t size;
  uint32_t slots;
  uint32_t capacity;
  uint32_t reserved;
  uint64_t seed;
  const neap_chunk *chunk; /* [slots] */
  const uint32_t *next;
  const char *params;
  neap_cost cost;
} neap_policy_context;

/* A second-level tier as a plan sees it; us: microseconds, measured, decaying averages. */
typedef struct neap_tier_view {
  const char *name;
  double store_us_per_mib, load_us_per_mib, load_first_us;
  uint64_t used_bytes, capacity_bytes; /* 0: not known / not bounded */
  uint32_t in_flight;                  /* objects */
  uint32_t healthy;                    /* 0: the breaker is open, nothing is stored or loaded */
} neap_tier_view;

typedef struct neap_plan_chunk {
  uint32_t slot; /* NEAP_POLICY_NO_SLOT if it is not resident */
  uint32_t h1, h2, kib;
  uint32_t pos;
  uint32_t hits;  /* of a resident chunk */
  uint32_t tiers; /* bit t: tier t has it, as far as known */
  uint32_t recompute_us;
} neap_plan_chunk;

/* The chunks of one request, head of the prompt first. `cut`, [tiers], holds what the engine would do and may be
 * changed: the first cut[t] chunks go to tier t, the rest does not. A cut, for a hole makes what is behind it useless.
 */
typedef struct neap_store_plan {
  uint32_t size;
  uint32_t tenant, request, chunks, tiers;
  const neap_plan_chunk *chunk;
  const neap_tier_view *tier;
  uint32_t *cut;
} neap_store_plan;

/* Which of the chunks that L1 lacks are loaded. The engine proposes to load and keep all that a tier has.
 * load    the first `load` chunks are used: those not resident are loaded, the rest is recomputed
 * source  [chunks]: the tier to load from; of a resident chunk UINT8_MAX. Must be one that has it.
 * keep    of what is loaded, the first `keep` chunks stay in L1 afterwards, the rest leaves with its last lease; more
 *         than `load` is all of it */
typedef struct neap_load_plan {
  uint32_t size;
  uint32_t tenant, request, chunks, tiers;
  const neap_plan_chunk *chunk;
  const neap_tier_view *tier;
  uint8_t *source;
  uint32_t load, keep;
} neap_load_plan;

/* Somebody outside knows what comes: a scheduler's queue, a graph of agent steps. score: 0 never again, 1 certainly. */
typedef struct neap_hint {
  uint32_t h1, h2;
  float score;
  uint32_t within_ms; /* 0: no idea */
} neap_hint;

typedef struct neap_policy neap_policy;

/* create       on failure returns an error code, fills err and leaves nothing behind. policy is the table it was called
 *              through, so that a larger struct may lie around it.
 * destroy      what create made
 * on_events    count events, in the order in which they happened; of the types in `wants` only
 * victims      writes at most max distinct slot numbers to out, best victim first; scope is a tenant number or
 *              NEAP_SCOPE_ALL; returns how many. All events so far have been delivered. A slot proposed stays in the
 *              policy's care until a REMOVE or KEEP for it arrives.
 * score        instead of victims: writes what each of count slots is worth; the engine draws a sample and evicts the
 *              lowest first. Not NaN.
 * constraint   NEAP_EVICT_LEAF: the engine hands back (KEEP) a victim with resident children, and samples leaves
 * store_plan   may be NULL (everything goes to every tier)
 * load_plan    may be NULL (everything is loaded and kept as the engine is configured)
 * on_hint      may be NULL
 * predict      may be NULL: asked when the engine is idle; writes the first eight bytes of the hashes of at most max
 *              chunks that should come up from L2 now, as h1, h2 of `out`; returns how many
 * save, load   may be NULL: state for another instance of the same policy, by name: what was learnt outlives a reload.
 *              save returns the bytes needed and writes them if room is enough; load gets them back before the first
 *              event.
 * Either victims or score is set. */
struct neap_policy {
  uint32_t magic, abi;
  uint32_t size;
  uint32_t wants;      /* NEAP_WANTS(...) | ... */
  uint32_t constraint; /* 0 or NEAP_EVICT_LEAF */
  uint32_t flags;      /* 0 or NEAP_POLICY_SHORT_STANDS */
  const char *name;
  int (*create)(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err);
  void (*destroy)(void *self);
  int (*on_events)(void *self, const neap_event *events, uint32_t count, neap_error *err);
  int (*victims)(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err);
  int (*score)(void *self, const uint32_t *slots, uint32_t count, double *scores, neap_error *err);
  int (*store_plan)(void *self, neap_store_plan *plan, neap_error *err);
  int (*load_plan)(void *self, neap_load_plan *plan, neap_error *err);
  int (*on_hint)(void *self, const neap_hint *hints, uint32_t count, neap_error *err);
  int (*predict)(void *self, neap_hint *out, uint32_t max, neap_error *err);
  int64_t (*save)(void *self, void *bytes, uint64_t room, neap_error *err);
  int (*load)(void *self, const void *bytes, uint64_t count, neap_error *err);
};

#define NEAP_EVICT_LEAF 1u
#define NEAP_POLICY_SHORT_STANDS 1u /* a short answer is not completed: nothing else may go */

#define NEAP_POLICY_PLUGIN(table)                         \
  NEAP_EXPORT const neap_policy *neap_policy_entry(void); \
  const neap_policy *neap_policy_entry(void) { return &(table); }

#ifdef __cplusplus
}
#endif
#endif
