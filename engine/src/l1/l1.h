/* SPDX-License-Identifier: MIT
 *
 * l1/l1.h - the first level: one shared mapping of object bytes, an index over it, and leases.
 *
 * Life of an object
 *
 *      free --reserve--> staged --commit--> resident --evict / remove / clear--> free
 *                          |                   ^  |
 *                          +---- abort ----> free +-- leases (pins) keep it resident
 *
 * - Staged bytes belong to one writer and are invisible to everybody else. Several writers may stage one key; the
 *   first commit wins, a later one frees its own buffer and still succeeds.
 * - A lease is the right to read or write the bytes of one object. It is a handle, never a pointer: a stale handle is
 *   NEAP_ESTALE. An object with a lease is never evicted, overwritten or freed; remove and clear take it out of the
 *   index at once and free the bytes when the last lease ends.
 * - Slots and leases live in a metadata segment beside the pool. Every state change is published by one word written
 *   last, so a kill at any instant leaves a state that neap__l1_open can take over: committed objects stay, staged
 *   ones stay with their owner until it commits or is dropped, leases of outside owners stay, those of the dead
 *   process end.
 *
 * Threads: every function may be called from any thread; the index is sharded by key, one short lock per shard. A hit
 * allocates nothing and enters no script. Not here: what to evict (policy/), where else bytes are (l2/), who may ask
 * (serve/). */
#pragma once
#include <neap/policy.h>

#include "chunk/key.h"
#include "chunk/names.h"

typedef struct neap__l1 neap__l1;

/* Who holds a staged object or a lease. kind LOCAL belongs to this process and ends with it; the others are outside
 * owners (a request, a worker's transfer) and survive a restart. id and tag are the owner's to choose. */
typedef enum neap__owner_kind {
  NEAP_OWNER_LOCAL = 1,    /* id, tag unused: flows, adapters, host programs */
  NEAP_OWNER_REQUEST = 2,  /* id = hash of the request id */
  NEAP_OWNER_TRANSFER = 3, /* id = instance, tag = one prepare/commit pair */
} neap__owner_kind;

typedef struct neap__owner {
  uint32_t kind;
  uint32_t request; /* hash of the request id for events, 0 if none */
  uint64_t id;
  uint64_t tag;
} neap__owner;

/* A lease: number and generation of a lease record. NEAP_NO_LEASE is never valid. */
typedef uint64_t neap__lease;
#define NEAP_NO_LEASE 0u

/* What a lease gives access to. data is valid until the lease ends. offset is relative to the pool's start. */
typedef struct neap__view {
  uint8_t *data;
  uint64_t offset;
  uint64_t bytes;
  uint32_t slot;
  neap__key key;
} neap__view;

typedef struct neap__l1_config {
  uint64_t pool_bytes;
  uint32_t align_bytes; /* power of two, at least 64 */
  uint32_t chunk_tokens;
  const char *shm_name; /* bare POSIX name; "" or NULL: a memfd that nobody else can open */
  bool hugepages;
  bool prefault;      /* touch the pool in the background */
  uint32_t slots_max; /* most objects at once; 0 = one per 16 KiB of pool, at least 1024 */
  /* Called after a state change with the events of one call, in order. May be NULL. Must not call back into L1. */
  void (*emit)(void *ctx, const neap_event *events, uint32_t count);
  void *emit_ctx;
  /* Which events somebody wants, NEAP_WANTS(...), read whenever one might be made; NULL: none of the optional ones.
   * INSERT, HIT and REMOVE are always told. */
  const _Atomic uint32_t *wanted;
  /* Called when an object becomes resident (reason 0) and when it leaves. May be NULL. A shard is locked: must be quick
   * and must not call back into L1. */
  void (*moved)(void *ctx, const neap__key *key, neap_remove_reason reason, uint64_t bytes);
  void *moved_ctx;
} neap__l1_config;

/* What neap__l1_open found. */
typedef struct neap__l1_report {
  bool took_over;    /* an earlier process' segments were adopted */
  uint32_t kept;     /* resident objects that passed verification */
  uint32_t damaged;  /* resident objects dropped because their bytes or record failed verification */
  uint32_t staged;   /* reservations of outside owners that may still be committed */
  uint32_t leases;   /* leases of outside owners that still hold */
  char removed[256]; /* why earlier segments were not adopted; "" if there were none or they were */
} neap__l1_report;

/* How many slots neap__l1_open will use for config (slots_max, or its default): slot numbers are below it. */
uint32_t neap__l1_slots(const neap__l1_config *config);

/* Creates or takes over the pool; what was taken over is reported to config->emit as INSERT events, least recent
 * first. Errors: NEAP_EINVAL (a field of config, named), NEAP_EBUSY (another live server owns
 * the name), NEAP_ENOSPC (no room in /dev/shm, no huge pages), NEAP_ENOMEM, NEAP_EIO. */
int neap__l1_open(const neap__l1_config *config, neap__l1 **out, neap__l1_report *report, neap_error *err);
/* keep = false unlinks the segments; true leaves both for the next open. No call may be under way. */
void neap__l1_close(neap__l1 *l1, bool keep);
/* Instead of close when something may touch the bytes as long as the process lives: unlinks unless keep, stays usable,
 * owns the name until the process ends if keep. */
void neap__l1_leave(neap__l1 *l1, bool keep);

neap__names *neap__l1_names(neap__l1 *l1);
void neap__l1_memory(neap__l1 *l1, neap_memory *out);

/* Persistent words of the layer above (instance registrations). The area survives a restart together with the pool;
 * fresh = zeroed. Returns its address; bytes is its fixed size. */
void *neap__l1_annex(neap__l1 *l1, size_t *bytes);
#define NEAP_L1_ANNEX_BYTES (1u << 20)

/* --- writing -------------------------------------------------------------------------------------------------- */

#define NEAP_RESERVE_EXCLUSIVE 1u /* a key staged by anybody is NEAP_EBUSY instead of a second buffer */
#define NEAP_RESERVE_TEMPORARY 2u /* the object leaves L1 when its last lease ends */

/* Stages one buffer of bytes[i] for each key. results[i]: 0 (leases[i] is the writer's lease), NEAP_EEXIST (resident),
 * NEAP_EBUSY (exclusive, and staged by anybody, also earlier in this call). Space for all keys that need one is taken
 * together or not at all: when it is short the call returns NEAP_ENOSPC (no room now), NEAP_ELIMIT (no slot or lease
 * free) or NEAP_EINVAL (an object larger than the pool, or of zero bytes), and nothing is staged: all leases are
 * NEAP_NO_LEASE. Returns 0 otherwise. */
int neap__l1_reserve(neap__l1 *l1, uint32_t count, const neap__key *keys, const uint64_t *bytes, uint32_t flags,
                     const neap__owner *owner, neap__lease *leases, int *results);

/* Publishes a staged object and ends the writer's lease. If the key became resident meanwhile the own buffer is freed
 * and the call still succeeds with *won = false (won may be NULL). If pin is not NULL the resident object is leased to
 * pin_owner (readers times) in the same step and *pin receives the lease. NEAP_ESTALE: not a staged lease.
 * NEAP_ELIMIT: published, but no lease record was free for the pin. */
int neap__l1_commit(neap__l1 *l1, neap__lease lease, bool *won, const neap__owner *pin_owner, uint32_t readers,
                    neap__lease *pin);

/* Gives a staged buffer back unpublished. NEAP_ESTALE: not a staged lease. */
int neap__l1_abort(neap__l1 *l1, neap__lease lease);

/* Where the chunk of a staged object stands in its request, for its INSERT. Nothing if it is not a staged lease. */
void neap__l1_place(neap__l1 *l1, neap__lease lease, uint32_t pos);

/* The writer's lease that `owner` (kind, id and tag) holds on key, or NEAP_NO_LEASE. */
neap__lease neap__l1_staged(neap__l1 *l1, const neap__key *key, const neap__owner *owner);

/* --- reading -------------------------------------------------------------------------------------------------- */

/* Leases each resident object among keys to owner, readers times (brought into 1 .. 65535); leases[i] is NEAP_NO_LEASE
 * for a miss. With stop_at_miss the first miss ends the walk (the rest are NEAP_NO_LEASE). Returns how many were
 * leased, or NEAP_ELIMIT (no lease record free; nothing is held). */
int neap__l1_acquire(neap__l1 *l1, uint32_t count, const neap__key *keys, const neap__owner *owner, uint32_t readers,
                     bool stop_at_miss, neap__lease *leases);

/* True for each key that is resident now; leases nothing. A hint: it may change at once. */
void neap__l1_contains(neap__l1 *l1, uint32_t count, const neap__key *keys, bool *present);

/* 0 and the view, or NEAP_ESTALE. */
int neap__l1_view(neap__l1 *l1, neap__lease lease, neap__view *view);

/* Gives back n of the lease's readers (UINT32_MAX: all); the lease ends with its last reader. NEAP_ESTALE. */
int neap__l1_release(neap__l1 *l1, neap__lease lease, uint32_t readers);

/* Ends all leases and staged objects of owners of this kind and id (tag ignored); returns how many. A worker that is
 * gone, a request that ended. Walks the lease table: not for the hot path. */
uint32_t neap__l1_drop_owner(neap__l1 *l1, uint32_t kind, uint64_t id);

/* Calls visit for each lease of an outside owner, e.g. after a take-over. staged tells a writer's lease. */
void neap__l1_each_lease(neap__l1 *l1,
                         void (*visit)(void *ctx, neap__lease lease, const neap__owner *owner, bool staged), void *ctx);

/* Records use of objects (recency and HIT events), in the order given: pass the tail of a prompt first. pos is the
 * position of keys[0] in its request, counting down. Absent keys are skipped. The events come together, after the
 * locks are gone: the slot of a HIT may by then be free, or another object's. */
void neap__l1_touch(neap__l1 *l1, uint32_t count, const neap__key *keys, uint32_t pos, uint32_t request);

/* --- telling what is not L1's own doing; each does nothing unless somebody wants it ----------------------------- */

/* STORED or LOADED: what a lease is on is in second-level tier `tier`. */
void neap__l1_tell_tier(neap__l1 *l1, neap__lease lease, neap_event_type type, uint32_t tier);
/* MISS: a chunk that is not resident was asked for. */
void neap__l1_tell_miss(neap__l1 *l1, const neap__key *key, uint32_t pos, uint32_t request);
/* REQUEST: its chunks are touched next. session 0: none. */
void neap__l1_tell_request(neap__l1 *l1, uint32_t tenant, uint32_t request, uint64_t session, uint32_t chunks);
/* TICK. */
void neap__l1_tell_tick(neap__l1 *l1);
/* PIN and UNPIN are told from now on, and what has changed since they were last wanted is told at once: after whoever
 * wants them has begun to. Walks over all slots. */
void neap__l1_tell_pins(neap__l1 *l1);

/* --- removing ------------------------------------------------------------------------------------------------- */

/* Evicts a slot if it is resident and unpinned. Returns the bytes freed, or NEAP_EBUSY / NEAP_ENOENT. */
int64_t neap__l1_evict(neap__l1 *l1, uint32_t slot);

/* Makes room for one object of `bytes` by evicting neighbours, for a pool whose free bytes lie scattered: chooses the
 * contiguous window with the least resident bytes and nothing pinned; evicts nothing if there is room already.
 * Returns 0, or NEAP_ENOSPC if there is none. */
int neap__l1_evict_window(neap__l1 *l1, uint64_t bytes);

/* Takes key out of the index; its bytes are freed when the last lease ends. 0, NEAP_ENOENT, or, without force,
 * NEAP_EBUSY when it is leased. */
int neap__l1_remove(neap__l1 *l1, const neap__key *key, bool force);

/* Removes every unleased object; with force also leased ones (readers keep their bytes until they release) and drops
 * staged ones from view: their writers' commit succeeds as a no-op returning NEAP_ESTALE. Returns how many objects. */
uint32_t neap__l1_clear(neap__l1 *l1, bool force);

/* --- looking -------------------------------------------------------------------------------------------------- */

typedef struct neap__l1_stats {
  uint64_t pool_bytes, used_bytes, staged_bytes; /* used includes staged; sizes rounded up to align_bytes */
  uint64_t largest_free_bytes;
  uint32_t objects, staged, temporary, leased; /* leased: resident objects with at least one lease */
  uint32_t slots_max, leases_used, leases_max;
  uint64_t evicted_objects, evicted_bytes, inserted_objects, alloc_failures;
  uint64_t prefaulted_bytes;
} neap__l1_stats;
void neap__l1_stats_get(neap__l1 *l1, neap__l1_stats *out);

/* used / pool, exact, cheap: for the watermark test. */
double neap__l1_usage(neap__l1 *l1);
uint32_t neap__l1_objects(neap__l1 *l1);                       /* resident objects; cheap */
uint64_t neap__l1_tenant_bytes(neap__l1 *l1, uint32_t tenant); /* exact bytes of residents, rounded to align_bytes */

/* What L1 has under a key at this moment. */
typedef struct neap__l1_found {
  bool resident, temporary; /* temporary: leaves with its last lease */
  uint32_t staged;          /* buffers that are being written */
  uint32_t slot, leases;    /* of the resident object */
  uint64_t bytes;
} neap__l1_found;
void neap__l1_look(neap__l1 *l1, const neap__key *key, neap__l1_found *out);

/* Calls visit for each resident object until it returns false. The key is a copy; nothing is locked during visit. */
void neap__l1_each_object(neap__l1 *l1, bool (*visit)(void *ctx, uint32_t slot, const neap__key *key, uint64_t bytes),
                          void *ctx);

/* Checks every invariant (extents tile the pool, counts add up, index and slots agree). 0 or NEAP_ECORRUPT with err. */
int neap__l1_check(neap__l1 *l1, neap_error *err);
