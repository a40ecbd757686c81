/* SPDX-License-Identifier: MIT
 *
 * l1/l1.c - opening and closing L1, and taking over what a killed process left.
 *
 * Take-over trusts nothing: a slot counts only if its word says so, its seal matches, its bytes lie inside the pool
 * without touching another's, its numbers are known, and (resident) its bytes match their fingerprint. Everything
 * private (arena, chains, pins, accounts) is rebuilt from what is left. One thread; nobody else has the L1 yet. */
#include "l1/l1.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "l1/internal.h"

#define BYTES_PER_SLOT (16u << 10)
#define SLOTS_LEAST 1024u
#define SLOTS_MOST (1u << 28)

uint32_t neap__l1_slots(const neap__l1_config *config) {
  if (config->slots_max) return config->slots_max;
  uint64_t slots = config->pool_bytes / BYTES_PER_SLOT;
  return (uint32_t)NEAP_MIN(NEAP_MAX(slots, SLOTS_LEAST), SLOTS_MOST);
}

static int check_config(const neap__l1_config *c, neap_error *err) {
  if (c->align_bytes < 64 || (c->align_bytes & (c->align_bytes - 1)) || c->align_bytes > (1u << 30))
    return neap__fail(err, NEAP_EINVAL, "l1-align-bytes: %u; expected a power of two from 64 to 2^30", c->align_bytes);
  if (c->pool_bytes < c->align_bytes || c->pool_bytes / c->align_bytes >= UINT32_MAX)
    return neap__fail(err, NEAP_EINVAL, "l1-size-gb: %llu bytes; expected at least %u and at most %llu",
                      (unsigned long long)c->pool_bytes, c->align_bytes,
                      (unsigned long long)c->align_bytes * (UINT32_MAX - 1ull));
  if (c->slots_max > SLOTS_MOST)
    return neap__fail(err, NEAP_EINVAL, "l1-slots-max: %u; expected at most %u", c->slots_max, SLOTS_MOST);
  return 0;
}

static int open_tables(neap__l1 *l1, uint32_t slots) {
  l1->leases_per_shard = l1->segment.header->leases_max / NEAP_SHARDS;
  uint32_t buckets = 16;
  while (buckets < slots / NEAP_SHARDS) buckets *= 2;
  l1->bucket_mask = buckets - 1;
  l1->chain = calloc(slots, sizeof *l1->chain);
  l1->pins = calloc(slots, sizeof *l1->pins);
  l1->tenant_bytes = calloc(NEAP_TENANTS_MAX, sizeof *l1->tenant_bytes);
  l1->told_pinned = calloc(slots, 1);
  bool ok = l1->chain && l1->pins && l1->told_pinned && l1->tenant_bytes;
  for (uint32_t i = 0; i < NEAP_SHARDS; i++) {
    pthread_mutex_init(&l1->shards[i].lock, NULL);
    l1->shards[i].buckets = calloc(buckets, sizeof *l1->shards[i].buckets);
    ok = ok && l1->shards[i].buckets;
  }
  pthread_mutex_init(&l1->arena_lock, NULL);
  if (!ok) return NEAP_ENOMEM;
  return neap__arena_open((uint32_t)(l1->config.pool_bytes / l1->config.align_bytes), slots, &l1->arena);
}

/* --- take-over ------------------------------------------------------------------------------------------------ */

typedef struct found_slot {
  uint64_t offset, stamp;
  uint32_t slot;
} found_slot;

static int by_offset(const void *a, const void *b) {
  const found_slot *x = a, *y = b;
  return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int by_stamp(const void *a, const void *b) {
  const found_slot *x = a, *y = b;
  return x->stamp < y->stamp ? -1 : x->stamp > y->stamp;
}

static bool record_plausible(neap__l1 *l1, const neap__slot *s) {
  return s->seal == neap__l1_seal(s) && s->bytes > 0 && s->offset % l1->config.align_bytes == 0 &&
         s->offset <= l1->config.pool_bytes && s->bytes <= l1->config.pool_bytes - s->offset &&
         s->key.space < neap__names_spaces(l1->names) && s->key.tenant < neap__names_tenants(l1->names);
}

/* Frees a slot that is not kept; leases on it hold no more. */
static void forget_slot(neap__l1 *l1, uint32_t slot) {
  neap__slot *s = &l1->slots[slot];
  uint64_t word = atomic_load(&s->word);
  atomic_store(&s->word, neap__slot_word(neap__slot_generation(word) + 1, 0, NEAP_SLOT_FREE));
  atomic_store(&l1->pins[slot], 0);
}

/* A lease holds after a restart if its owner lives outside this process and its slot is what it was. */
static bool lease_holds(neap__l1 *l1, const neap__lease_record *record, uint64_t word, uint32_t slots) {
  uint32_t flags = neap__lease_flags(word), kind = flags & ~NEAP_LEASE_WRITE;
  uint32_t slot = neap__lease_slot(record);
  if (!neap__lease_readers(word) || slot >= slots) return false;
  if (kind != NEAP_OWNER_REQUEST && kind != NEAP_OWNER_TRANSFER) return false;
  uint64_t slot_word = atomic_load(&l1->slots[slot].word);
  if (neap__slot_generation(slot_word) != neap__lease_slot_generation(record)) return false;
  bool writes = (flags & NEAP_LEASE_WRITE) != 0;
  switch (neap__slot_state(slot_word)) {
    case NEAP_SLOT_STAGED: return writes && l1->slots[slot].writer == (uint32_t)(record - l1->leases);
    case NEAP_SLOT_RESIDENT: return !writes; /* a writer's lease here: the commit was published, only its end was not */
    case NEAP_SLOT_DOOMED: return true;
    default: return false;
  }
}

static void count_pins(neap__l1 *l1, uint32_t slots) {
  for (uint32_t shard = 0; shard < NEAP_SHARDS; shard++) {
    uint32_t first = shard * l1->leases_per_shard, high = atomic_load(&l1->segment.header->leases_high[shard]);
    for (neap__lease_record *record = &l1->leases[first]; record < &l1->leases[first + high]; record++)
      if (lease_holds(l1, record, atomic_load(&record->word), slots))
        atomic_fetch_add(&l1->pins[neap__lease_slot(record)], 1);
  }
}

/* Ends the leases of the dead process and those on slots that were not kept. */
static void settle_leases(neap__l1 *l1, uint32_t slots, neap__l1_report *report) {
  for (uint32_t shard = 0; shard < NEAP_SHARDS; shard++)
    for (uint32_t i = atomic_load(&l1->segment.header->leases_high[shard]); i-- > 0;) {
      neap__lease_record *record = &l1->leases[shard * l1->leases_per_shard + i];
      uint64_t word = atomic_load(&record->word);
      if (!lease_holds(l1, record, word, slots)) {
        atomic_store(&record->word, neap__lease_word(neap__lease_generation(word) + 1, 0, 0));
        neap__l1_lease_recycle(l1, (uint32_t)(record - l1->leases));
      } else if (neap__slot_state(atomic_load(&l1->slots[neap__lease_slot(record)].word)) == NEAP_SLOT_STAGED) {
        report->staged++;
      } else {
        report->leases++;
      }
    }
}

/* Which slots to keep, before their extents are claimed: leased ones in any state, unleased ones if resident. */
static bool worth_keeping(neap__l1 *l1, uint32_t slot, neap__l1_report *report) {
  const neap__slot *s = &l1->slots[slot];
  uint64_t word = atomic_load(&s->word);
  uint32_t state = neap__slot_state(word);
  bool known = state <= NEAP_SLOT_DOOMED, resident = state == NEAP_SLOT_RESIDENT;
  bool leased = atomic_load(&l1->pins[slot]) > 0;
  if (known && !leased && (!resident || (word & NEAP_SLOT_TEMPORARY))) return false;
  if (known && record_plausible(l1, s) &&
      (!resident || neap__l1_fingerprint(l1, s->offset, s->bytes) == s->fingerprint))
    return true;
  report->damaged++;
  return false;
}

static bool resident_twin(neap__l1 *l1, uint32_t slot) {
  bool present;
  neap__l1_contains(l1, 1, &l1->slots[slot].key, &present);
  return present;
}

/* Gives a kept slot its place in the arena, the index and the accounts; false if it has none. */
static bool adopt_slot(neap__l1 *l1, const found_slot *f) {
  neap__slot *s = &l1->slots[f->slot];
  uint32_t state = neap__slot_state(atomic_load(&s->word));
  if (state == NEAP_SLOT_RESIDENT && resident_twin(l1, f->slot)) return false;
  uint64_t rounded = neap__l1_rounded(l1, s->bytes), unit = l1->config.align_bytes;
  uint32_t first = (uint32_t)(s->offset / unit), units = (uint32_t)(rounded / unit);
  if (neap__arena_claim(l1->arena, f->slot, first, units) != 0) return false;
  atomic_fetch_add(&l1->used_bytes, rounded);
  uint64_t word = atomic_load(&s->word) & ~(uint64_t)NEAP_SLOT_SHARD;
  atomic_store(&s->word, word | (neap__key_hash(&s->key) & (NEAP_SHARDS - 1)) << NEAP_SLOT_SHARD_AT);
  if (state == NEAP_SLOT_DOOMED) return true;
  neap__l1_link(l1, f->slot);
  if (state == NEAP_SLOT_STAGED) {
    atomic_fetch_add(&l1->staged_bytes, rounded);
    atomic_fetch_add(&l1->staged, 1);
  } else {
    atomic_fetch_add(&l1->tenant_bytes[s->key.tenant], rounded);
    atomic_fetch_add(&l1->objects, 1);
  }
  return true;
}

static int take_over(neap__l1 *l1, uint32_t slots, neap__l1_report *report) {
  uint32_t high = atomic_load(&l1->segment.header->slots_high), count = 0;
  found_slot *found = malloc((high + 1u) * sizeof *found);
  if (!found) return NEAP_ENOMEM;
  count_pins(l1, slots);
  for (uint32_t slot = 0; slot < high; slot++) {
    neap__slot *s = &l1->slots[slot];
    if (neap__slot_state(atomic_load(&s->word)) == NEAP_SLOT_FREE) continue;
    if (worth_keeping(l1, slot, report))
      found[count++] = (found_slot){.offset = s->offset, .stamp = atomic_load(&s->stamp), .slot = slot};
    else
      forget_slot(l1, slot);
  }
  qsort(found, count, sizeof *found, by_offset);
  uint32_t residents = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t slot = found[i].slot;
    if (!adopt_slot(l1, &found[i])) {
      report->damaged++;
      forget_slot(l1, slot);
    } else if (neap__slot_state(atomic_load(&l1->slots[slot].word)) == NEAP_SLOT_RESIDENT) {
      found[residents++] = found[i];
    }
  }
  settle_leases(l1, slots, report);
  qsort(found, residents, sizeof *found, by_stamp);
  for (uint32_t i = 0; i < residents; i++) neap__l1_tell_insert(l1, found[i].slot, 0, 0);
  report->kept = residents;
  report->took_over = true;
  free(found);
  return 0;
}

/* --- open and close ------------------------------------------------------------------------------------------- */

static int open_names(neap__l1 *l1, uint32_t slots, neap__l1_report *report, neap_error *err) {
  neap_error reason;
  void *area = l1->segment.meta + l1->segment.header->names_at;
  int rc = neap__names_open(area, &l1->names, l1->segment.took_over ? &reason : err);
  if (rc != NEAP_ECORRUPT || !l1->segment.took_over) return rc;
  snprintf(report->removed, sizeof report->removed, "its names were damaged (%.180s)", reason.text);
  rc = neap__segment_renew(&l1->config, slots, &l1->segment, err);
  return rc ? rc : neap__names_open(l1->segment.meta + l1->segment.header->names_at, &l1->names, err);
}

int neap__l1_open(const neap__l1_config *config, neap__l1 **out, neap__l1_report *report, neap_error *err) {
  neap__l1_report unread;
  if (!report) report = &unread;
  memset(report, 0, sizeof *report);
  int rc = check_config(config, err);
  if (rc) return rc;
  neap__l1 *l1 = aligned_alloc(64, (sizeof *l1 + 63) / 64 * 64);
  if (!l1) return neap__fail(err, NEAP_ENOMEM, "out of memory opening L1");
  memset(l1, 0, sizeof *l1);
  static const _Atomic uint32_t nothing = 0;
  l1->config = *config;
  if (!config->wanted || !config->emit) l1->config.wanted = &nothing;
  l1->opened_ns = neap__now_ns();
  uint32_t slots = neap__l1_slots(config);
  rc = neap__segment_open(config, slots, &l1->segment, report, err);
  if (rc) {
    free(l1);
    return rc;
  }
  rc = open_names(l1, slots, report, err);
  l1->slots = l1->segment.slots;
  l1->leases = l1->segment.leases;
  if (!rc && (rc = open_tables(l1, slots)) != 0) neap__fail(err, rc, "out of memory for %u slots", slots);
  if (!rc && l1->segment.took_over && (rc = take_over(l1, slots, report)) != 0)
    neap__fail(err, rc, "out of memory taking over %u slots", slots);
  if (!rc) neap__arena_rebuilt(l1->arena);
  if (!rc) neap__l1_tell_pins(l1);
  if (!rc && config->prefault && (rc = neap__prefault_start(l1->segment.pool, config->pool_bytes, &l1->prefault)) != 0)
    neap__fail(err, rc, "cannot start the prefault thread");
  if (rc) {
    neap__l1_close(l1, l1->segment.took_over);
    return rc;
  }
  *out = l1;
  return 0;
}

void neap__l1_close(neap__l1 *l1, bool keep) {
  if (!l1) return;
  neap__prefault_stop(l1->prefault);
  if (l1->names) neap__names_close(l1->names);
  neap__segment_close(&l1->segment, keep);
  neap__arena_close(l1->arena);
  for (uint32_t i = 0; i < NEAP_SHARDS; i++) {
    pthread_mutex_destroy(&l1->shards[i].lock);
    free(l1->shards[i].buckets);
  }
  pthread_mutex_destroy(&l1->arena_lock);
  free(l1->chain);
  free(l1->pins);
  free(l1->told_pinned);
  free(l1->tenant_bytes);
  free(l1);
}

void neap__l1_leave(neap__l1 *l1, bool keep) {
  neap__prefault_stop(l1->prefault);
  l1->prefault = NULL;
  if (!keep) neap__segment_unlink(&l1->segment);
}

neap__names *neap__l1_names(neap__l1 *l1) { return l1->names; }

void neap__l1_memory(neap__l1 *l1, neap_memory *out) {
  *out = (neap_memory){.base = l1->segment.pool,
                       .bytes = l1->config.pool_bytes,
                       .align_bytes = l1->config.align_bytes,
                       .shm_name = l1->segment.name};
}

void *neap__l1_annex(neap__l1 *l1, size_t *bytes) {
  *bytes = l1->segment.header->annex_bytes;
  return l1->segment.meta + l1->segment.header->annex_at;
}
