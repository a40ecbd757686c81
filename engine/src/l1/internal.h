/* SPDX-License-Identifier: MIT
 *
 * l1/internal.h - what the files of l1/ share: shards, slots, leases and the order of locks.
 *
 * Locks: a shard's lock, then the arena's; never two shards. Under a shard's lock: its chains, the words of its slots,
 * 0 -> 1 of pins. Without a lock: giving back a lease (one compare-and-swap on its word), 1 -> 0 of pins.
 *
 * l1.c opens, takes over, closes | object.c the life of objects and leases | remove.c the ways out |
 * tell.c events | inspect.c looking, checking | prefault.c first touch | arena.c whose bytes | segment.c the files */
#pragma once
#include <pthread.h>
#include <string.h>

#include "l1/arena.h"
#include "l1/l1.h"
#include "l1/segment.h"

typedef struct neap__shard {
  _Alignas(64) pthread_mutex_t lock;
  _Atomic uint32_t *buckets;   /* slot + 1 of each chain's head, 0 = empty; read without the lock only to prefetch */
  uint32_t free_lease;         /* list through lease_record.next, id + 1 */
  _Atomic uint32_t given_back; /* leases returned without the lock, id + 1 */
} neap__shard;

typedef struct neap__prefault neap__prefault;

struct neap__l1 {
  neap__l1_config config;
  neap__segment segment;
  neap__names *names;
  neap__slot *slots;          /* = segment.slots */
  neap__lease_record *leases; /* = segment.leases */
  uint32_t leases_per_shard, bucket_mask;
  _Atomic uint32_t *chain; /* slot -> next slot + 1 of its bucket */
  _Atomic uint32_t *pins;  /* slot -> leases on it */
  uint8_t *told_pinned;    /* slot -> the last thing told was PIN; under its shard's lock */
  neap__shard shards[NEAP_SHARDS];
  pthread_mutex_t arena_lock;
  neap__arena *arena;
  _Atomic uint64_t used_bytes, staged_bytes;
  uint64_t arriving_bytes; /* taken from the arena, in no slot's word yet; under the arena's lock */
  _Atomic uint64_t *tenant_bytes;
  _Atomic uint64_t evicted_objects, evicted_bytes, inserted_objects, alloc_failures;
  _Atomic uint32_t objects, staged;
  uint64_t opened_ns;
  neap__prefault *prefault;
};

/* --- words ---------------------------------------------------------------------------------------------------- */

static inline uint32_t neap__slot_state(uint64_t word) { return (uint32_t)(word & 0xff); }
static inline uint32_t neap__slot_generation(uint64_t word) { return (uint32_t)(word >> 16); }
static inline uint32_t neap__slot_shard(uint64_t word) {
  return (uint32_t)(word & NEAP_SLOT_SHARD) >> NEAP_SLOT_SHARD_AT;
}
static inline uint64_t neap__slot_word(uint32_t generation, uint64_t flags, uint32_t state) {
  return (uint64_t)generation << 16 | flags | state;
}
static inline uint32_t neap__lease_readers(uint64_t word) { return (uint32_t)(word & 0xffff); }
static inline uint32_t neap__lease_flags(uint64_t word) { return (uint32_t)(word >> 16) & 0xffff; }
static inline uint32_t neap__lease_generation(uint64_t word) { return (uint32_t)(word >> 32); }
/* Of a record that its word says is in use, or was when the caller looked: the word must then be looked at again. */
static inline uint32_t neap__lease_slot(const neap__lease_record *record) {
  return (uint32_t)atomic_load_explicit(&record->place, memory_order_relaxed);
}
static inline uint32_t neap__lease_slot_generation(const neap__lease_record *record) {
  return (uint32_t)(atomic_load_explicit(&record->place, memory_order_relaxed) >> 32);
}
static inline uint64_t neap__lease_word(uint32_t generation, uint32_t flags, uint32_t readers) {
  return (uint64_t)generation << 32 | (uint64_t)flags << 16 | readers;
}

/* --- object.c ------------------------------------------------------------------------------------------------- */

neap__shard *neap__l1_shard(neap__l1 *l1, uint64_t hash);
void neap__l1_link(neap__l1 *l1, uint32_t slot);   /* into its chain; shard locked, or while opening */
void neap__l1_unlink(neap__l1 *l1, uint32_t slot); /* out of its chain; shard locked */
uint64_t neap__l1_rounded(const neap__l1 *l1, uint64_t bytes);
uint32_t neap__l1_fingerprint(const neap__l1 *l1, uint64_t offset, uint64_t bytes);
uint32_t neap__l1_seal(const neap__slot *slot);
/* Takes a resident slot out of the index: frees it, or dooms it while it has leases. Shard locked. */
void neap__l1_expel(neap__l1 *l1, uint32_t slot, neap_remove_reason reason);
/* Takes a staged slot out of the index; its writer may still be at work. Shard locked. */
void neap__l1_doom_staged(neap__l1 *l1, uint32_t slot);
/* Frees a slot that nobody can reach any more. Shard locked. */
void neap__l1_free(neap__l1 *l1, uint32_t slot);
/* The lease record of a handle if its generation is current, else NULL; *word is what it said. */
neap__lease_record *neap__l1_record(neap__l1 *l1, neap__lease lease, uint64_t *word);
neap__lease neap__l1_handle(const neap__l1 *l1, const neap__lease_record *record, uint64_t word);
/* Puts an unused record into its shard's free list. While opening. */
void neap__l1_lease_recycle(neap__l1 *l1, uint32_t id);

/* The shard of a slot, locked, if the slot is resident or staged now; else NULL. (remove.c) */
neap__shard *neap__l1_lock_slot(neap__l1 *l1, uint32_t slot, uint32_t *state);

/* --- tell.c --------------------------------------------------------------------------------------------------- */

static inline bool neap__l1_wants(const neap__l1 *l1, uint32_t events) {
  return (atomic_load_explicit(l1->config.wanted, memory_order_relaxed) & events) != 0;
}
#define NEAP__WANTS_PINS (NEAP_WANTS(PIN) | NEAP_WANTS(UNPIN))

uint32_t neap__l1_now_ms(const neap__l1 *l1);

/* What happened to a slot, whose shard is locked. */
static inline neap_event neap__l1_slot_event(const neap__l1 *l1, neap_event_type type, uint32_t slot, uint32_t pos,
                                             uint32_t time_ms) {
  const neap__slot *s = &l1->slots[slot];
  neap_event event = {.slot = slot, .type = (uint8_t)type, .time_ms = time_ms};
  memcpy(&event.h1, s->key.hash, 4);
  memcpy(&event.h2, s->key.hash + 4, 4);
  event.pos = (uint16_t)NEAP_MIN(pos, UINT16_MAX);
  event.tenant = s->key.tenant;
  event.kib = (uint32_t)((s->bytes + 1023) / 1024);
  return event;
}

void neap__l1_tell_insert(neap__l1 *l1, uint32_t slot, uint32_t pos, uint32_t request);
void neap__l1_tell_remove(neap__l1 *l1, uint32_t slot, neap_remove_reason reason);
/* A resident slot has leases or has none, now. Shard locked. */
void neap__l1_tell_pin(neap__l1 *l1, uint32_t slot);

/* --- prefault.c ----------------------------------------------------------------------------------------------- */

/* Touches the pool from its start in a thread of low priority. */
int neap__prefault_start(uint8_t *pool, uint64_t bytes, neap__prefault **out);
uint64_t neap__prefault_done(const neap__prefault *prefault); /* bytes so far; NULL: 0 */
void neap__prefault_stop(neap__prefault *prefault);
