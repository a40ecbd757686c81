/* SPDX-License-Identifier: MIT
 *
 * l1/remove.c - the ways out of L1: evict, evict a window, remove, clear, drop an owner. Whatever the way, bytes that
 * somebody holds a lease on stay where they are until the lease ends. Any thread. */
#include <stdlib.h>
#include <string.h>

#include "l1/internal.h"

neap__shard *neap__l1_lock_slot(neap__l1 *l1, uint32_t slot, uint32_t *state) {
  for (;;) {
    uint64_t word = atomic_load(&l1->slots[slot].word);
    *state = neap__slot_state(word);
    if (*state != NEAP_SLOT_RESIDENT && *state != NEAP_SLOT_STAGED) return NULL;
    neap__shard *shard = &l1->shards[neap__slot_shard(word)];
    pthread_mutex_lock(&shard->lock);
    if (atomic_load(&l1->slots[slot].word) == word) return shard;
    pthread_mutex_unlock(&shard->lock);
  }
}

int64_t neap__l1_evict(neap__l1 *l1, uint32_t slot) {
  if (slot >= l1->segment.header->slots_max) return NEAP_ENOENT;
  uint32_t state;
  neap__shard *shard = neap__l1_lock_slot(l1, slot, &state);
  if (!shard) return NEAP_ENOENT;
  int64_t freed = state == NEAP_SLOT_RESIDENT ? NEAP_EBUSY : NEAP_ENOENT;
  if (state == NEAP_SLOT_RESIDENT && atomic_load(&l1->pins[slot]) == 0) {
    freed = (int64_t)neap__l1_rounded(l1, l1->slots[slot].bytes);
    neap__l1_expel(l1, slot, NEAP_REMOVE_EVICT);
    atomic_fetch_add(&l1->evicted_objects, 1);
    atomic_fetch_add(&l1->evicted_bytes, (uint64_t)freed);
  }
  pthread_mutex_unlock(&shard->lock);
  return freed;
}

static bool movable(void *ctx, uint32_t slot) {
  neap__l1 *l1 = ctx;
  uint32_t state = neap__slot_state(atomic_load(&l1->slots[slot].word));
  return state == NEAP_SLOT_RESIDENT && atomic_load(&l1->pins[slot]) == 0;
}

int neap__l1_evict_window(neap__l1 *l1, uint64_t bytes) {
  enum { WINDOW_OBJECTS = 4096 };
  if (bytes == 0 || bytes > l1->config.pool_bytes) return NEAP_ENOSPC;
  uint32_t *slots = malloc(WINDOW_OBJECTS * sizeof *slots);
  if (!slots) return NEAP_ENOSPC;
  uint32_t units = (uint32_t)(neap__l1_rounded(l1, bytes) / l1->config.align_bytes);
  pthread_mutex_lock(&l1->arena_lock);
  bool there = neap__arena_largest_free(l1->arena) >= units;
  uint32_t count = there ? 0 : neap__arena_window(l1->arena, units, movable, l1, slots, WINDOW_OBJECTS);
  pthread_mutex_unlock(&l1->arena_lock);
  int rc = there || count ? 0 : NEAP_ENOSPC;
  for (uint32_t i = 0; i < count; i++)
    if (neap__l1_evict(l1, slots[i]) == NEAP_EBUSY) rc = NEAP_ENOSPC; /* leased since: the caller may try again */
  free(slots);
  return rc;
}

int neap__l1_remove(neap__l1 *l1, const neap__key *key, bool force) {
  neap__shard *shard = neap__l1_shard(l1, neap__key_hash(key));
  int rc = NEAP_ENOENT;
  pthread_mutex_lock(&shard->lock);
  for (uint32_t at = shard->buckets[(neap__key_hash(key) >> 6) & l1->bucket_mask]; at; at = l1->chain[at - 1]) {
    if (neap__slot_state(atomic_load(&l1->slots[at - 1].word)) != NEAP_SLOT_RESIDENT) continue;
    if (memcmp(&l1->slots[at - 1].key, key, sizeof *key) != 0) continue;
    rc = !force && atomic_load(&l1->pins[at - 1]) ? NEAP_EBUSY : 0;
    if (!rc) neap__l1_expel(l1, at - 1, NEAP_REMOVE_DELETE);
    break;
  }
  pthread_mutex_unlock(&shard->lock);
  return rc;
}

uint32_t neap__l1_clear(neap__l1 *l1, bool force) {
  uint32_t removed = 0, high = atomic_load(&l1->segment.header->slots_high);
  for (uint32_t slot = 0; slot < high; slot++) {
    uint32_t state;
    neap__shard *shard = neap__l1_lock_slot(l1, slot, &state);
    if (!shard) continue;
    if (state == NEAP_SLOT_STAGED && force) neap__l1_doom_staged(l1, slot);
    if (state == NEAP_SLOT_RESIDENT && (force || atomic_load(&l1->pins[slot]) == 0)) {
      neap__l1_expel(l1, slot, NEAP_REMOVE_CLEAR);
      removed++;
    }
    pthread_mutex_unlock(&shard->lock);
  }
  return removed;
}

/* The handle and the owner of a lease of an outside owner, or NEAP_NO_LEASE if the record is of none. */
static neap__lease outside_lease(neap__l1 *l1, neap__shard *shard, const neap__lease_record *record, neap__owner *owner,
                                 bool *staged) {
  uint64_t word = atomic_load(&record->word);
  neap__lease lease = NEAP_NO_LEASE;
  if (!neap__lease_readers(word)) return lease;
  pthread_mutex_lock(&shard->lock);
  word = atomic_load(&record->word);
  *owner = (neap__owner){.kind = neap__lease_flags(word) & ~NEAP_LEASE_WRITE,
                         .request = record->request,
                         .id = record->owner_id,
                         .tag = record->owner_tag};
  *staged = (neap__lease_flags(word) & NEAP_LEASE_WRITE) != 0;
  if (neap__lease_readers(word) && owner->kind != NEAP_OWNER_LOCAL) lease = neap__l1_handle(l1, record, word);
  pthread_mutex_unlock(&shard->lock);
  return lease;
}

void neap__l1_each_lease(neap__l1 *l1,
                         void (*visit)(void *ctx, neap__lease lease, const neap__owner *owner, bool staged),
                         void *ctx) {
  for (uint32_t shard = 0; shard < NEAP_SHARDS; shard++) {
    uint32_t high = atomic_load(&l1->segment.header->leases_high[shard]);
    const neap__lease_record *first = &l1->leases[shard * l1->leases_per_shard];
    for (uint32_t i = 0; i < high; i++) {
      neap__owner owner;
      bool staged;
      neap__lease lease = outside_lease(l1, &l1->shards[shard], &first[i], &owner, &staged);
      if (lease != NEAP_NO_LEASE) visit(ctx, lease, &owner, staged);
    }
  }
}

typedef struct dropping {
  neap__l1 *l1;
  uint32_t kind, count;
  uint64_t id;
} dropping;

static void drop_one(void *ctx, neap__lease lease, const neap__owner *owner, bool staged) {
  dropping *d = ctx;
  if (owner->kind != d->kind || owner->id != d->id) return;
  if (staged)
    neap__l1_abort(d->l1, lease);
  else if (neap__l1_release(d->l1, lease, UINT32_MAX) != 0)
    return; /* its owner was quicker */
  d->count++;
}

uint32_t neap__l1_drop_owner(neap__l1 *l1, uint32_t kind, uint64_t id) {
  dropping d = {.l1 = l1, .kind = kind, .id = id};
  neap__l1_each_lease(l1, drop_one, &d);
  return d.count;
}
