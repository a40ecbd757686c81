/* SPDX-License-Identifier: MIT
 *
 * l1/object.c - the life of an object: reserve, commit or abort, acquire, view, release, touch. Called from any
 * thread; see internal.h for the locks and l1.h for the promises. */
#include <string.h>

#include "l1/internal.h"

#define FINGERPRINT_LINES 32u

#define LOOK_AHEAD 16u

/* --- small parts ---------------------------------------------------------------------------------------------- */

neap__shard *neap__l1_shard(neap__l1 *l1, uint64_t hash) { return &l1->shards[hash & (NEAP_SHARDS - 1)]; }

static _Atomic uint32_t *bucket_of(neap__l1 *l1, uint64_t hash) {
  return &neap__l1_shard(l1, hash)->buckets[(hash >> 6) & l1->bucket_mask];
}

void neap__l1_link(neap__l1 *l1, uint32_t slot) {
  _Atomic uint32_t *head = bucket_of(l1, neap__key_hash(&l1->slots[slot].key));
  atomic_store(&l1->chain[slot], atomic_load(head));
  atomic_store(head, slot + 1);
}

void neap__l1_unlink(neap__l1 *l1, uint32_t slot) {
  _Atomic uint32_t *at = bucket_of(l1, neap__key_hash(&l1->slots[slot].key));
  while (atomic_load(at) != slot + 1) at = &l1->chain[atomic_load(at) - 1];
  atomic_store(at, atomic_load(&l1->chain[slot]));
}

uint64_t neap__l1_rounded(const neap__l1 *l1, uint64_t bytes) {
  uint64_t mask = l1->config.align_bytes - 1;
  return (bytes + mask) & ~mask;
}

/* Some cache lines of the object, evenly spread from its first to its last: finds bytes that were lost or are another
 * object's, at a fraction of a full checksum. What the adapters store has a checksum of its own. */
uint32_t neap__l1_fingerprint(const neap__l1 *l1, uint64_t offset, uint64_t bytes) {
  const uint8_t *data = l1->segment.pool + offset;
  if (bytes <= FINGERPRINT_LINES * 64) return neap__crc32c(0, data, bytes);
  uint64_t at[FINGERPRINT_LINES];
  for (uint64_t i = 0; i < FINGERPRINT_LINES; i++) {
    at[i] = (bytes - 64) * i / (FINGERPRINT_LINES - 1);
    __builtin_prefetch(data + at[i]); /* the writer's core has them: wait for all at once, not for each */
  }
  uint32_t crc = 0;
  for (uint32_t i = 0; i < FINGERPRINT_LINES; i++) crc = neap__crc32c(crc, data + at[i], 64);
  return crc;
}

uint32_t neap__l1_seal(const neap__slot *slot) {
  return neap__crc32c(neap__crc32c(0, &slot->key, sizeof slot->key), &slot->offset, 2 * sizeof slot->offset);
}

/* The resident slot of key, or NEAP_NO_SLOT; *staged tells whether anybody is writing it. Shard locked. */
static uint32_t find(neap__l1 *l1, const neap__key *key, uint64_t hash, bool *staged) {
  if (staged) *staged = false;
  for (uint32_t at = *bucket_of(l1, hash); at; at = l1->chain[at - 1]) {
    if (memcmp(&l1->slots[at - 1].key, key, sizeof *key) != 0) continue;
    uint32_t state = neap__slot_state(atomic_load(&l1->slots[at - 1].word));
    if (state == NEAP_SLOT_RESIDENT) return at - 1;
    if (staged) *staged = true;
  }
  return NEAP_NO_SLOT;
}

/* Hashes keys and asks for the memory that finding them will read, so that their misses overlap. */
static void look_ahead(neap__l1 *l1, uint32_t count, const neap__key *keys, uint64_t *hashes) {
  for (uint32_t i = 0; i < count; i++) {
    hashes[i] = neap__key_hash(&keys[i]);
    __builtin_prefetch(bucket_of(l1, hashes[i]));
  }
  for (uint32_t i = 0; i < count; i++) {
    uint32_t head = atomic_load_explicit(bucket_of(l1, hashes[i]), memory_order_relaxed);
    if (!head) continue;
    const char *slot = (const char *)&l1->slots[head - 1];
    __builtin_prefetch(slot);
    __builtin_prefetch(slot + sizeof(neap__slot) - 1);
    __builtin_prefetch((const void *)&l1->pins[head - 1], 1);
  }
}

/* --- leases --------------------------------------------------------------------------------------------------- */

neap__lease neap__l1_handle(const neap__l1 *l1, const neap__lease_record *record, uint64_t word) {
  return (uint64_t)neap__lease_generation(word) << 32 | (uint32_t)(record - l1->leases + 1);
}

neap__lease_record *neap__l1_record(neap__l1 *l1, neap__lease lease, uint64_t *word) {
  uint32_t id = (uint32_t)lease - 1;
  if (id >= l1->segment.header->leases_max) return NULL;
  *word = atomic_load(&l1->leases[id].word);
  bool current = neap__lease_generation(*word) == (uint32_t)(lease >> 32) && neap__lease_readers(*word) > 0;
  return current ? &l1->leases[id] : NULL;
}

void neap__l1_lease_recycle(neap__l1 *l1, uint32_t id) {
  neap__shard *shard = &l1->shards[id / l1->leases_per_shard];
  l1->leases[id].next = shard->free_lease;
  shard->free_lease = id + 1;
}

/* An unused record of the shard, or NULL. Shard locked. */
static neap__lease_record *lease_take(neap__l1 *l1, neap__shard *shard) {
  if (!shard->free_lease) shard->free_lease = atomic_exchange(&shard->given_back, 0);
  if (shard->free_lease) {
    neap__lease_record *record = &l1->leases[shard->free_lease - 1];
    shard->free_lease = record->next;
    return record;
  }
  uint32_t number = (uint32_t)(shard - l1->shards);
  uint32_t high = atomic_load(&l1->segment.header->leases_high[number]);
  if (high == l1->leases_per_shard) return NULL;
  atomic_store(&l1->segment.header->leases_high[number], high + 1);
  return &l1->leases[number * l1->leases_per_shard + high];
}

/* A lease is taken from the shard of its object's key, so its number tells the shard. */
static neap__shard *lease_shard(neap__l1 *l1, neap__lease lease) {
  return &l1->shards[((uint32_t)lease - 1) / l1->leases_per_shard];
}

static void lease_give(neap__l1 *l1, neap__lease_record *record) {
  uint32_t id = (uint32_t)(record - l1->leases);
  _Atomic uint32_t *stack = &l1->shards[id / l1->leases_per_shard].given_back;
  uint32_t head = atomic_load(stack);
  do record->next = head;
  while (!atomic_compare_exchange_weak(stack, &head, id + 1));
}

/* Leases slot to owner: the record's word is written last and makes it count. Shard locked. */
static neap__lease lease_grant(neap__l1 *l1, neap__shard *shard, uint32_t slot, const neap__owner *owner,
                               uint32_t flags, uint32_t readers) {
  neap__lease_record *record = lease_take(l1, shard);
  if (!record) return NEAP_NO_LEASE;
  record->owner_id = owner->id;
  record->owner_tag = owner->tag;
  record->request = owner->request;
  uint64_t place = (uint64_t)neap__slot_generation(atomic_load(&l1->slots[slot].word)) << 32 | slot;
  atomic_store_explicit(&record->place, place, memory_order_relaxed);
  uint32_t generation = neap__lease_generation(atomic_load(&record->word)) + 1;
  uint64_t word = neap__lease_word(generation, owner->kind | flags, NEAP_MAX(NEAP_MIN(readers, UINT16_MAX), 1));
  atomic_fetch_add(&l1->pins[slot], 1);
  atomic_store_explicit(&record->word, word, memory_order_release);
  if (neap__l1_wants(l1, NEAP__WANTS_PINS) && !(flags & NEAP_LEASE_WRITE)) neap__l1_tell_pin(l1, slot);
  return neap__l1_handle(l1, record, word);
}

/* Ends one lease on slot in its `generation`; frees the object if it was only waiting for that. */
static void unpin(neap__l1 *l1, neap__shard *shard, uint32_t slot, uint32_t generation) {
  if (atomic_fetch_sub(&l1->pins[slot], 1) != 1) return;
  uint64_t word = atomic_load(&l1->slots[slot].word);
  bool resident = neap__slot_state(word) == NEAP_SLOT_RESIDENT;
  bool doomed = neap__slot_state(word) == NEAP_SLOT_DOOMED, expires = resident && (word & NEAP_SLOT_TEMPORARY);
  bool told = resident && (atomic_load(l1->config.wanted) & NEAP__WANTS_PINS);
  if (!(doomed || expires || told) || neap__slot_generation(word) != generation) return;
  pthread_mutex_lock(&shard->lock);
  if (atomic_load(&l1->slots[slot].word) == word && atomic_load(&l1->pins[slot]) == 0) {
    if (doomed)
      neap__l1_free(l1, slot);
    else if (expires)
      neap__l1_expel(l1, slot, NEAP_REMOVE_EXPIRE);
    else
      neap__l1_tell_pin(l1, slot);
  }
  pthread_mutex_unlock(&shard->lock);
}

/* --- writing -------------------------------------------------------------------------------------------------- */

void neap__l1_free(neap__l1 *l1, uint32_t slot) {
  neap__slot *s = &l1->slots[slot];
  uint64_t word = atomic_load(&s->word);
  uint64_t rounded = neap__l1_rounded(l1, s->bytes);
  atomic_store(&s->word, neap__slot_word(neap__slot_generation(word) + 1, 0, NEAP_SLOT_FREE));
  pthread_mutex_lock(&l1->arena_lock);
  neap__arena_give(l1->arena, slot);
  atomic_fetch_sub(&l1->used_bytes, rounded);
  pthread_mutex_unlock(&l1->arena_lock);
}

void neap__l1_expel(neap__l1 *l1, uint32_t slot, neap_remove_reason reason) {
  neap__slot *s = &l1->slots[slot];
  uint64_t word = atomic_load(&s->word);
  neap__l1_unlink(l1, slot);
  neap__l1_tell_remove(l1, slot, reason);
  atomic_fetch_sub(&l1->tenant_bytes[s->key.tenant], neap__l1_rounded(l1, s->bytes));
  atomic_fetch_sub(&l1->objects, 1);
  /* The word first, then the pins: a release that ends the last lease meanwhile sees DOOMED and frees, or its pin is
   * seen here. */
  atomic_store(&s->word, neap__slot_word(neap__slot_generation(word), word & NEAP_SLOT_SHARD, NEAP_SLOT_DOOMED));
  if (atomic_load(&l1->pins[slot]) == 0) neap__l1_free(l1, slot);
}

/* Takes space for every key whose result is 0, all or nothing; slots[i] otherwise NEAP_NO_SLOT (kept in leases[i]). */
static int take_space(neap__l1 *l1, uint32_t count, const uint64_t *bytes, neap__lease *slots, const int *results) {
  int rc = 0;
  uint32_t done = 0;
  uint64_t taken = 0;
  pthread_mutex_lock(&l1->arena_lock);
  for (; done < count && rc == 0; done++) {
    slots[done] = NEAP_NO_SLOT;
    if (results[done]) continue;
    uint32_t slot, first;
    rc = neap__arena_take(l1->arena, (uint32_t)(neap__l1_rounded(l1, bytes[done]) / l1->config.align_bytes), &slot,
                          &first);
    if (rc) continue;
    slots[done] = slot;
    taken += neap__l1_rounded(l1, bytes[done]);
    l1->slots[slot].offset = (uint64_t)first * l1->config.align_bytes;
    l1->slots[slot].bytes = bytes[done];
  }
  if (rc) {
    for (uint32_t i = 0; i < done; i++)
      if (slots[i] != NEAP_NO_SLOT) neap__arena_give(l1->arena, (uint32_t)slots[i]);
  } else {
    l1->arriving_bytes += taken;
    atomic_fetch_add(&l1->used_bytes, taken);
  }
  uint32_t high = neap__arena_slots_high(l1->arena);
  if (high > atomic_load(&l1->segment.header->slots_high)) atomic_store(&l1->segment.header->slots_high, high);
  pthread_mutex_unlock(&l1->arena_lock);
  if (rc) atomic_fetch_add(&l1->alloc_failures, 1);
  return rc;
}

/* Makes a slot with space a staged object of owner. *lease and the result say how it went; on failure the space is
 * given back. */
static int stage(neap__l1 *l1, const neap__key *key, uint32_t slot, uint32_t flags, const neap__owner *owner,
                 neap__lease *lease) {
  neap__slot *s = &l1->slots[slot];
  uint64_t hash = neap__key_hash(key);
  neap__shard *shard = neap__l1_shard(l1, hash);
  bool staged;
  int rc = 0;
  pthread_mutex_lock(&shard->lock);
  if (find(l1, key, hash, &staged) != NEAP_NO_SLOT)
    rc = NEAP_EEXIST;
  else if (staged && (flags & NEAP_RESERVE_EXCLUSIVE))
    rc = NEAP_EBUSY;
  *lease = rc ? NEAP_NO_LEASE : lease_grant(l1, shard, slot, owner, NEAP_LEASE_WRITE, 1);
  if (!rc && *lease == NEAP_NO_LEASE) rc = NEAP_ELIMIT;
  uint64_t rounded = neap__l1_rounded(l1, s->bytes);
  pthread_mutex_lock(&l1->arena_lock);
  l1->arriving_bytes -= rounded;
  if (rc) {
    neap__arena_give(l1->arena, slot);
    atomic_fetch_sub(&l1->used_bytes, rounded);
  }
  pthread_mutex_unlock(&l1->arena_lock);
  if (!rc) {
    s->key = *key;
    s->seal = neap__l1_seal(s);
    s->writer = (uint32_t)*lease - 1;
    atomic_store(&s->stamp, 0);
    atomic_fetch_add(&l1->staged_bytes, rounded);
    atomic_fetch_add(&l1->staged, 1);
    uint64_t keep = (hash & (NEAP_SHARDS - 1)) << NEAP_SLOT_SHARD_AT;
    if (flags & NEAP_RESERVE_TEMPORARY) keep |= NEAP_SLOT_TEMPORARY;
    atomic_store(&s->word, neap__slot_word(neap__slot_generation(atomic_load(&s->word)), keep, NEAP_SLOT_STAGED));
    neap__l1_link(l1, slot);
  }
  pthread_mutex_unlock(&shard->lock);
  return rc;
}

int neap__l1_reserve(neap__l1 *l1, uint32_t count, const neap__key *keys, const uint64_t *bytes, uint32_t flags,
                     const neap__owner *owner, neap__lease *leases, int *results) {
  uint64_t bytes_max = l1->config.pool_bytes & ~(uint64_t)(l1->config.align_bytes - 1);
  bool valid = true;
  for (uint32_t i = 0; i < count; i++) {
    leases[i] = NEAP_NO_LEASE;
    valid = valid && bytes[i] > 0 && bytes[i] <= bytes_max;
  }
  if (!valid) return NEAP_EINVAL;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t hash = neap__key_hash(&keys[i]);
    neap__shard *shard = neap__l1_shard(l1, hash);
    bool staged;
    pthread_mutex_lock(&shard->lock);
    bool resident = find(l1, &keys[i], hash, &staged) != NEAP_NO_SLOT;
    pthread_mutex_unlock(&shard->lock);
    results[i] = resident ? NEAP_EEXIST : staged && (flags & NEAP_RESERVE_EXCLUSIVE) ? NEAP_EBUSY : 0;
  }
  int rc = take_space(l1, count, bytes, leases, results);
  if (rc) {
    for (uint32_t i = 0; i < count; i++) leases[i] = NEAP_NO_LEASE;
    return rc;
  }
  for (uint32_t i = 0; i < count; i++) {
    if (leases[i] == NEAP_NO_SLOT)
      leases[i] = NEAP_NO_LEASE;
    else
      results[i] = stage(l1, &keys[i], (uint32_t)leases[i], flags, owner, &leases[i]);
    if (results[i] == NEAP_ELIMIT) rc = NEAP_ELIMIT;
  }
  for (uint32_t i = 0; rc && i < count; i++)
    if (leases[i] != NEAP_NO_LEASE) neap__l1_abort(l1, leases[i]), leases[i] = NEAP_NO_LEASE;
  return rc;
}

/* Ends a staged object's writing: takes the writer's lease, if it still is one, and leaves the shard locked.
 * Exactly one of several callers with the same handle gets through. */
static neap__shard *claim_staged(neap__l1 *l1, neap__lease lease, uint32_t *slot) {
  uint64_t word;
  neap__lease_record *record = neap__l1_record(l1, lease, &word);
  if (!record || !(neap__lease_flags(word) & NEAP_LEASE_WRITE)) return NULL;
  neap__shard *shard = lease_shard(l1, lease);
  pthread_mutex_lock(&shard->lock);
  if (atomic_load(&record->word) == word) {
    *slot = neap__lease_slot(record);
    return shard;
  }
  pthread_mutex_unlock(&shard->lock);
  return NULL;
}

static void end_writer(neap__l1 *l1, neap__lease_record *record) {
  uint64_t word = atomic_load(&record->word);
  atomic_store(&record->word, neap__lease_word(neap__lease_generation(word) + 1, 0, 0));
  atomic_fetch_sub(&l1->pins[neap__lease_slot(record)], 1);
  lease_give(l1, record);
}

/* A staged slot is no longer staged, whatever becomes of it. Shard locked. */
static void unstage(neap__l1 *l1, uint32_t slot) {
  atomic_fetch_sub(&l1->staged_bytes, neap__l1_rounded(l1, l1->slots[slot].bytes));
  atomic_fetch_sub(&l1->staged, 1);
}

void neap__l1_doom_staged(neap__l1 *l1, uint32_t slot) {
  neap__slot *s = &l1->slots[slot];
  uint64_t word = atomic_load(&s->word);
  unstage(l1, slot);
  neap__l1_unlink(l1, slot);
  atomic_store(&s->word, neap__slot_word(neap__slot_generation(word), word & NEAP_SLOT_SHARD, NEAP_SLOT_DOOMED));
}

/* What a writer leaves whose object is not wanted. Freed here, or by the last to let go of it. Shard locked. */
static void discard(neap__l1 *l1, uint32_t slot) {
  if (neap__slot_state(atomic_load(&l1->slots[slot].word)) == NEAP_SLOT_STAGED) neap__l1_doom_staged(l1, slot);
  if (atomic_load(&l1->pins[slot]) == 0) neap__l1_free(l1, slot);
}

static void admit(neap__l1 *l1, uint32_t slot, uint32_t request) {
  neap__slot *s = &l1->slots[slot];
  uint64_t word = atomic_load(&s->word);
  unstage(l1, slot);
  uint32_t pos = (uint32_t)atomic_load(&s->stamp);
  atomic_store(&s->stamp, atomic_fetch_add(&l1->segment.header->stamp, 1) + 1);
  atomic_fetch_add(&l1->tenant_bytes[s->key.tenant], neap__l1_rounded(l1, s->bytes));
  atomic_fetch_add(&l1->objects, 1);
  atomic_fetch_add(&l1->inserted_objects, 1);
  atomic_store(&s->word, neap__slot_word(neap__slot_generation(word), word & 0xff00, NEAP_SLOT_RESIDENT));
  neap__l1_tell_insert(l1, slot, pos, request);
}

/* Until it is resident a slot has no recency: its stamp says where its chunk stands. */
void neap__l1_place(neap__l1 *l1, neap__lease lease, uint32_t pos) {
  uint32_t slot;
  neap__shard *shard = claim_staged(l1, lease, &slot);
  if (!shard) return;
  if (neap__slot_state(atomic_load(&l1->slots[slot].word)) == NEAP_SLOT_STAGED)
    atomic_store(&l1->slots[slot].stamp, pos);
  pthread_mutex_unlock(&shard->lock);
}

int neap__l1_commit(neap__l1 *l1, neap__lease lease, bool *won, const neap__owner *pin_owner, uint32_t readers,
                    neap__lease *pin) {
  uint32_t slot;
  neap__shard *shard = claim_staged(l1, lease, &slot);
  if (!shard) return NEAP_ESTALE;
  /* Reading the bytes takes long, and the lease may be dropped meanwhile: a pin of our own keeps them. */
  uint32_t generation = neap__slot_generation(atomic_load(&l1->slots[slot].word));
  atomic_fetch_add(&l1->pins[slot], 1);
  pthread_mutex_unlock(&shard->lock);
  uint32_t fingerprint = neap__l1_fingerprint(l1, l1->slots[slot].offset, l1->slots[slot].bytes);
  if (!claim_staged(l1, lease, &slot)) {
    unpin(l1, shard, slot, generation);
    return NEAP_ESTALE;
  }
  atomic_fetch_sub(&l1->pins[slot], 1);
  neap__lease_record *writer = &l1->leases[(uint32_t)lease - 1];
  uint64_t hash = neap__key_hash(&l1->slots[slot].key);
  bool staged = neap__slot_state(atomic_load(&l1->slots[slot].word)) == NEAP_SLOT_STAGED;
  uint32_t resident = find(l1, &l1->slots[slot].key, hash, NULL);
  bool first = staged && resident == NEAP_NO_SLOT;
  if (first) {
    l1->slots[slot].fingerprint = fingerprint;
    admit(l1, slot, writer->request);
    resident = slot;
  }
  end_writer(l1, writer);
  if (pin) *pin = staged ? lease_grant(l1, shard, resident, pin_owner, 0, readers) : NEAP_NO_LEASE;
  if (!first) discard(l1, slot); /* another was quicker, or it was cleared by force while it was being written */
  pthread_mutex_unlock(&shard->lock);
  if (won) *won = first;
  if (staged && pin && *pin == NEAP_NO_LEASE) return NEAP_ELIMIT;
  return staged ? 0 : NEAP_ESTALE;
}

int neap__l1_abort(neap__l1 *l1, neap__lease lease) {
  uint32_t slot;
  neap__shard *shard = claim_staged(l1, lease, &slot);
  if (!shard) return NEAP_ESTALE;
  bool staged = neap__slot_state(atomic_load(&l1->slots[slot].word)) == NEAP_SLOT_STAGED;
  end_writer(l1, &l1->leases[(uint32_t)lease - 1]);
  discard(l1, slot);
  pthread_mutex_unlock(&shard->lock);
  return staged ? 0 : NEAP_ESTALE;
}

neap__lease neap__l1_staged(neap__l1 *l1, const neap__key *key, const neap__owner *owner) {
  uint64_t hash = neap__key_hash(key);
  neap__shard *shard = neap__l1_shard(l1, hash);
  neap__lease found = NEAP_NO_LEASE;
  pthread_mutex_lock(&shard->lock);
  for (uint32_t at = *bucket_of(l1, hash); at && found == NEAP_NO_LEASE; at = l1->chain[at - 1]) {
    const neap__slot *s = &l1->slots[at - 1];
    if (neap__slot_state(atomic_load(&s->word)) != NEAP_SLOT_STAGED || memcmp(&s->key, key, sizeof *key) != 0) continue;
    const neap__lease_record *writer = &l1->leases[s->writer];
    uint64_t word = atomic_load(&writer->word);
    if (neap__lease_flags(word) == (owner->kind | NEAP_LEASE_WRITE) && writer->owner_id == owner->id &&
        writer->owner_tag == owner->tag)
      found = neap__l1_handle(l1, writer, word);
  }
  pthread_mutex_unlock(&shard->lock);
  return found;
}

/* --- reading -------------------------------------------------------------------------------------------------- */

int neap__l1_acquire(neap__l1 *l1, uint32_t count, const neap__key *keys, const neap__owner *owner, uint32_t readers,
                     bool stop_at_miss, neap__lease *leases) {
  uint64_t hashes[LOOK_AHEAD];
  uint32_t held = 0, i = 0;
  bool dry = false;
  for (; i < count && !dry; i++) {
    if (i % LOOK_AHEAD == 0) look_ahead(l1, NEAP_MIN(count - i, LOOK_AHEAD), &keys[i], hashes);
    uint64_t hash = hashes[i % LOOK_AHEAD];
    neap__shard *shard = neap__l1_shard(l1, hash);
    pthread_mutex_lock(&shard->lock);
    uint32_t slot = find(l1, &keys[i], hash, NULL);
    leases[i] = slot == NEAP_NO_SLOT ? NEAP_NO_LEASE : lease_grant(l1, shard, slot, owner, 0, readers);
    pthread_mutex_unlock(&shard->lock);
    dry = slot != NEAP_NO_SLOT && leases[i] == NEAP_NO_LEASE;
    if (leases[i] != NEAP_NO_LEASE) held++;
    if (slot == NEAP_NO_SLOT && stop_at_miss) break;
  }
  if (dry) {
    while (i-- > 0)
      if (leases[i] != NEAP_NO_LEASE) neap__l1_release(l1, leases[i], UINT32_MAX);
    i = 0;
  }
  for (; i < count; i++) leases[i] = NEAP_NO_LEASE;
  return dry ? NEAP_ELIMIT : (int)held;
}

void neap__l1_contains(neap__l1 *l1, uint32_t count, const neap__key *keys, bool *present) {
  for (uint32_t i = 0; i < count; i++) {
    uint64_t hash = neap__key_hash(&keys[i]);
    neap__shard *shard = neap__l1_shard(l1, hash);
    pthread_mutex_lock(&shard->lock);
    present[i] = find(l1, &keys[i], hash, NULL) != NEAP_NO_SLOT;
    pthread_mutex_unlock(&shard->lock);
  }
}

int neap__l1_view(neap__l1 *l1, neap__lease lease, neap__view *view) {
  uint64_t word;
  if (!neap__l1_record(l1, lease, &word)) return NEAP_ESTALE;
  /* Under the lock a slot with a lease cannot change hands, even if the lease is dropped meanwhile. */
  neap__shard *shard = lease_shard(l1, lease);
  pthread_mutex_lock(&shard->lock);
  const neap__lease_record *record = neap__l1_record(l1, lease, &word);
  if (record) {
    uint32_t slot = neap__lease_slot(record);
    const neap__slot *s = &l1->slots[slot];
    *view = (neap__view){
        .data = l1->segment.pool + s->offset, .offset = s->offset, .bytes = s->bytes, .slot = slot, .key = s->key};
  }
  pthread_mutex_unlock(&shard->lock);
  return record ? 0 : NEAP_ESTALE;
}

int neap__l1_release(neap__l1 *l1, neap__lease lease, uint32_t readers) {
  uint64_t word, less;
  neap__lease_record *record = neap__l1_record(l1, lease, &word);
  if (!record) return NEAP_ESTALE;
  if (neap__lease_flags(word) & NEAP_LEASE_WRITE) return NEAP_ESTALE;
  uint32_t slot = neap__lease_slot(record), generation = neap__lease_slot_generation(record);
  do {
    if (neap__lease_generation(word) != (uint32_t)(lease >> 32) || !neap__lease_readers(word)) return NEAP_ESTALE;
    uint32_t have = neap__lease_readers(word);
    less = readers < have ? word - readers : neap__lease_word(neap__lease_generation(word) + 1, 0, 0);
  } while (!atomic_compare_exchange_weak(&record->word, &word, less));
  if (neap__lease_readers(less)) return 0;
  lease_give(l1, record);
  unpin(l1, lease_shard(l1, lease), slot, generation);
  return 0;
}

/* Hits are told outside of the locks and together: one that comes late finds its slot gone or another's, and the
 * receiver allows for that. */
void neap__l1_touch(neap__l1 *l1, uint32_t count, const neap__key *keys, uint32_t pos, uint32_t request) {
  uint64_t hashes[LOOK_AHEAD];
  neap_event events[LOOK_AHEAD];
  uint32_t told = 0, time_ms = l1->config.emit ? neap__l1_now_ms(l1) : 0;
  for (uint32_t i = 0; i < count; i++) {
    if (i % LOOK_AHEAD == 0) look_ahead(l1, NEAP_MIN(count - i, LOOK_AHEAD), &keys[i], hashes);
    uint64_t hash = hashes[i % LOOK_AHEAD];
    neap__shard *shard = neap__l1_shard(l1, hash);
    pthread_mutex_lock(&shard->lock);
    uint32_t slot = find(l1, &keys[i], hash, NULL);
    if (slot != NEAP_NO_SLOT) {
      uint64_t stamp = atomic_fetch_add(&l1->segment.header->stamp, 1) + 1;
      atomic_store_explicit(&l1->slots[slot].stamp, stamp, memory_order_relaxed);
      events[told] = neap__l1_slot_event(l1, NEAP_EV_HIT, slot, pos > i ? pos - i : 0, time_ms);
      events[told++].request = request;
    }
    pthread_mutex_unlock(&shard->lock);
    if (told < LOOK_AHEAD && (told == 0 || i + 1 < count)) continue;
    if (l1->config.emit) l1->config.emit(l1->config.emit_ctx, events, told);
    told = 0;
  }
}
