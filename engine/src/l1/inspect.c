/* SPDX-License-Identifier: MIT
 *
 * l1/inspect.c - looking at L1 without changing it: statistics, listing, and the check of every invariant. */
#include <string.h>

#include "l1/internal.h"

double neap__l1_usage(neap__l1 *l1) { return (double)atomic_load(&l1->used_bytes) / (double)l1->config.pool_bytes; }

uint32_t neap__l1_objects(neap__l1 *l1) { return atomic_load(&l1->objects); }

uint64_t neap__l1_tenant_bytes(neap__l1 *l1, uint32_t tenant) {
  return tenant < NEAP_TENANTS_MAX ? atomic_load(&l1->tenant_bytes[tenant]) : 0;
}

void neap__l1_stats_get(neap__l1 *l1, neap__l1_stats *out) {
  memset(out, 0, sizeof *out);
  out->pool_bytes = l1->config.pool_bytes;
  out->used_bytes = atomic_load(&l1->used_bytes);
  out->staged_bytes = atomic_load(&l1->staged_bytes);
  out->objects = atomic_load(&l1->objects);
  out->staged = atomic_load(&l1->staged);
  out->slots_max = l1->segment.header->slots_max;
  out->leases_max = l1->segment.header->leases_max;
  out->evicted_objects = atomic_load(&l1->evicted_objects);
  out->evicted_bytes = atomic_load(&l1->evicted_bytes);
  out->inserted_objects = atomic_load(&l1->inserted_objects);
  out->alloc_failures = atomic_load(&l1->alloc_failures);
  out->prefaulted_bytes = neap__prefault_done(l1->prefault);
  pthread_mutex_lock(&l1->arena_lock);
  out->largest_free_bytes = (uint64_t)neap__arena_largest_free(l1->arena) * l1->config.align_bytes;
  pthread_mutex_unlock(&l1->arena_lock);
  uint32_t high = atomic_load(&l1->segment.header->slots_high);
  for (uint32_t slot = 0; slot < high; slot++) {
    uint64_t word = atomic_load(&l1->slots[slot].word);
    if (neap__slot_state(word) == NEAP_SLOT_FREE) continue;
    out->leases_used += atomic_load(&l1->pins[slot]);
    if (neap__slot_state(word) != NEAP_SLOT_RESIDENT) continue;
    if (word & NEAP_SLOT_TEMPORARY) out->temporary++;
    if (atomic_load(&l1->pins[slot])) out->leased++;
  }
}

void neap__l1_look(neap__l1 *l1, const neap__key *key, neap__l1_found *out) {
  uint64_t hash = neap__key_hash(key);
  neap__shard *shard = neap__l1_shard(l1, hash);
  *out = (neap__l1_found){.slot = NEAP_NO_SLOT};
  pthread_mutex_lock(&shard->lock);
  for (uint32_t at = shard->buckets[(hash >> 6) & l1->bucket_mask]; at; at = l1->chain[at - 1]) {
    const neap__slot *s = &l1->slots[at - 1];
    if (memcmp(&s->key, key, sizeof *key) != 0) continue;
    uint64_t word = atomic_load(&s->word);
    out->staged += neap__slot_state(word) == NEAP_SLOT_STAGED;
    if (neap__slot_state(word) != NEAP_SLOT_RESIDENT) continue;
    out->resident = true;
    out->temporary = (word & NEAP_SLOT_TEMPORARY) != 0;
    out->slot = at - 1;
    out->leases = atomic_load(&l1->pins[at - 1]);
    out->bytes = s->bytes;
  }
  pthread_mutex_unlock(&shard->lock);
}

void neap__l1_each_object(neap__l1 *l1, bool (*visit)(void *ctx, uint32_t slot, const neap__key *key, uint64_t bytes),
                          void *ctx) {
  uint32_t high = atomic_load(&l1->segment.header->slots_high);
  for (uint32_t slot = 0; slot < high; slot++) {
    neap__slot *s = &l1->slots[slot];
    uint64_t word = atomic_load(&s->word);
    if (neap__slot_state(word) != NEAP_SLOT_RESIDENT) continue;
    neap__shard *shard = &l1->shards[neap__slot_shard(word)];
    neap__key key;
    uint64_t bytes = 0;
    pthread_mutex_lock(&shard->lock);
    bool same = atomic_load(&s->word) == word;
    if (same) key = s->key, bytes = s->bytes;
    pthread_mutex_unlock(&shard->lock);
    if (same && !visit(ctx, slot, &key, bytes)) return;
  }
}

static int check_shard(neap__l1 *l1, uint32_t number, uint32_t *resident, uint32_t *staged, uint64_t *bytes,
                       neap_error *err) {
  for (uint32_t b = 0; b <= l1->bucket_mask; b++)
    for (uint32_t at = l1->shards[number].buckets[b]; at; at = l1->chain[at - 1]) {
      const neap__slot *s = &l1->slots[at - 1];
      uint32_t state = neap__slot_state(atomic_load(&s->word));
      uint64_t hash = neap__key_hash(&s->key);
      if ((hash & (NEAP_SHARDS - 1)) != number || ((hash >> 6) & l1->bucket_mask) != b)
        return neap__fail(err, NEAP_ECORRUPT, "slot %u is in a chain of another key", at - 1);
      if (state != NEAP_SLOT_RESIDENT && state != NEAP_SLOT_STAGED)
        return neap__fail(err, NEAP_ECORRUPT, "slot %u is in the index in state %u", at - 1, state);
      if (s->seal != neap__l1_seal(s)) return neap__fail(err, NEAP_ECORRUPT, "slot %u has a broken seal", at - 1);
      *(state == NEAP_SLOT_RESIDENT ? resident : staged) += 1;
      *bytes += neap__l1_rounded(l1, s->bytes);
    }
  return 0;
}

int neap__l1_check(neap__l1 *l1, neap_error *err) {
  uint32_t resident = 0, staged = 0;
  uint64_t bytes = 0, doomed_bytes = 0;
  int rc = 0;
  for (uint32_t i = 0; i < NEAP_SHARDS; i++) pthread_mutex_lock(&l1->shards[i].lock);
  pthread_mutex_lock(&l1->arena_lock);
  rc = neap__arena_check(l1->arena, err);
  for (uint32_t i = 0; i < NEAP_SHARDS && !rc; i++) rc = check_shard(l1, i, &resident, &staged, &bytes, err);
  uint32_t high = atomic_load(&l1->segment.header->slots_high);
  for (uint32_t slot = 0; slot < high; slot++)
    if (neap__slot_state(atomic_load(&l1->slots[slot].word)) == NEAP_SLOT_DOOMED)
      doomed_bytes += neap__l1_rounded(l1, l1->slots[slot].bytes);
  uint64_t arena_bytes = neap__arena_used_units(l1->arena) * l1->config.align_bytes;
  if (!rc && (resident != atomic_load(&l1->objects) || staged != atomic_load(&l1->staged)))
    rc = neap__fail(err, NEAP_ECORRUPT, "index has %u resident and %u staged objects, counted %u and %u", resident,
                    staged, atomic_load(&l1->objects), atomic_load(&l1->staged));
  if (!rc && (bytes + doomed_bytes + l1->arriving_bytes != arena_bytes || arena_bytes != atomic_load(&l1->used_bytes)))
    rc = neap__fail(err, NEAP_ECORRUPT, "index holds %llu bytes, %llu doomed, %llu arriving; arena %llu, counted %llu",
                    (unsigned long long)bytes, (unsigned long long)doomed_bytes, (unsigned long long)l1->arriving_bytes,
                    (unsigned long long)arena_bytes, (unsigned long long)atomic_load(&l1->used_bytes));
  pthread_mutex_unlock(&l1->arena_lock);
  for (uint32_t i = NEAP_SHARDS; i-- > 0;) pthread_mutex_unlock(&l1->shards[i].lock);
  return rc;
}
