/* SPDX-License-Identifier: MIT
 *
 * lab/fate.c - see fate.h. A set-associative table: a key's place is one of WAYS, the oldest note of them makes way.
 * Policies are numbered; a number is
 * never used for another. */
#include "lab/fate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAYS 8u
#define LOCKS 64u
#define POLICIES 256u

typedef struct note {
  uint64_t tag; /* of the key; 0: empty */
  uint64_t time_ns, inserted;
  uint32_t kib;
  uint8_t reason, policy;
} note;

typedef struct rule {
  char spec[256], place[256];
} rule;

struct neap__fate {
  note *note;
  uint64_t mask; /* of sets */
  pthread_mutex_t locks[LOCKS];
  _Atomic uint64_t inserted;
  _Atomic uint32_t policy;
  pthread_mutex_t policy_lock;
  rule rules[POLICIES]; /* [0]: unknown, or one too many */
  uint32_t rule_count;
  _Atomic uint64_t lookups[NEAP_FATE_REASONS], chunks[NEAP_FATE_REASONS];
};

const char *neap__fate_name(neap__fate_reason reason) {
  static const char *const names[] = {
#define XX(name, text) text,
      NEAP_FATE_MAP(XX)
#undef XX
  };
  return (uint32_t)reason < NEAP_FATE_REASONS ? names[reason] : "unknown";
}

int neap__fate_open(uint32_t chunks, neap__fate **out) {
  neap__fate *f = calloc(1, sizeof(*f));
  if (f == NULL) return NEAP_ENOMEM;
  while ((f->mask + 1) * WAYS < chunks) f->mask = f->mask * 2 + 1;
  f->note = calloc((f->mask + 1) * WAYS, sizeof(*f->note));
  if (f->note == NULL) {
    free(f);
    return NEAP_ENOMEM;
  }
  for (uint32_t i = 0; i < LOCKS; i++) pthread_mutex_init(&f->locks[i], NULL);
  pthread_mutex_init(&f->policy_lock, NULL);
  f->rule_count = 1;
  *out = f;
  return 0;
}

void neap__fate_close(neap__fate *f) {
  if (f == NULL) return;
  for (uint32_t i = 0; i < LOCKS; i++) pthread_mutex_destroy(&f->locks[i]);
  pthread_mutex_destroy(&f->policy_lock);
  free(f->note);
  free(f);
}

void neap__fate_policy(neap__fate *f, const char *spec, const char *place) {
  rule fresh;
  memset(&fresh, 0, sizeof(fresh));
  snprintf(fresh.spec, sizeof(fresh.spec), "%s", spec);
  snprintf(fresh.place, sizeof(fresh.place), "%s", place);
  pthread_mutex_lock(&f->policy_lock);
  uint32_t i = 1;
  while (i < f->rule_count && memcmp(&f->rules[i], &fresh, sizeof(fresh)) != 0) i++;
  if (i == f->rule_count && f->rule_count < POLICIES) f->rules[f->rule_count++] = fresh;
  atomic_store(&f->policy, i < f->rule_count ? i : 0);
  pthread_mutex_unlock(&f->policy_lock);
}

/* --- notes ----------------------------------------------------------------------------------------------------- */

static uint64_t tag_of(const neap__key *key) {
  uint64_t hash = neap__key_hash(key);
  return hash ? hash : 1;
}

static note *lock_set(neap__fate *f, uint64_t tag, pthread_mutex_t **lock) {
  uint64_t set = tag >> 8 & f->mask;
  *lock = &f->locks[set % LOCKS];
  pthread_mutex_lock(*lock);
  return &f->note[set * WAYS];
}

void neap__fate_note(neap__fate *f, const neap__key *key, neap__fate_reason reason, uint64_t bytes) {
  uint64_t tag = tag_of(key);
  bool chosen = reason == NEAP_FATE_EVICTED || reason == NEAP_FATE_REFUSED;
  const note fresh = {.tag = tag,
                      .time_ns = neap__now_ns(),
                      .inserted = atomic_load_explicit(&f->inserted, memory_order_relaxed),
                      .kib = (uint32_t)NEAP_MIN((bytes + 1023) / 1024, UINT32_MAX),
                      .reason = (uint8_t)reason,
                      .policy = chosen ? (uint8_t)atomic_load(&f->policy) : 0};
  pthread_mutex_t *lock;
  note *set = lock_set(f, tag, &lock), *at = set;
  for (uint32_t i = 0; i < WAYS; i++) {
    if (set[i].time_ns < at->time_ns) at = &set[i];
    if (set[i].tag != tag) continue;
    at = &set[i];
    break;
  }
  *at = fresh;
  pthread_mutex_unlock(lock);
}

void neap__fate_moved(void *fate, const neap__key *key, neap_remove_reason reason, uint64_t bytes) {
  neap__fate *f = fate;
  static const neap__fate_reason reasons[] = {[NEAP_REMOVE_EVICT] = NEAP_FATE_EVICTED,
                                              [NEAP_REMOVE_DELETE] = NEAP_FATE_DELETED,
                                              [NEAP_REMOVE_CLEAR] = NEAP_FATE_CLEARED,
                                              [NEAP_REMOVE_EXPIRE] = NEAP_FATE_EXPIRED};
  if (reason == 0)
    atomic_fetch_add(&f->inserted, bytes);
  else
    neap__fate_note(f, key, reasons[reason], bytes);
}

bool neap__fate_find(neap__fate *f, const neap__key *key, neap__fate_entry *out) {
  uint64_t tag = tag_of(key);
  pthread_mutex_t *lock;
  const note *set = lock_set(f, tag, &lock);
  note found = {0};
  for (uint32_t i = 0; i < WAYS; i++)
    if (set[i].tag == tag) found = set[i];
  pthread_mutex_unlock(lock);
  if (found.tag == 0) return false;
  *out = (neap__fate_entry){.reason = found.reason,
                            .time_ns = found.time_ns,
                            .bytes = (uint64_t)found.kib * 1024,
                            .inserted_bytes = atomic_load(&f->inserted) - found.inserted};
  const rule *by = &f->rules[found.policy]; /* written before its number was known */
  memcpy(out->policy, by->spec, sizeof(out->policy));
  memcpy(out->place, by->place, sizeof(out->place));
  return true;
}

/* --- misses ---------------------------------------------------------------------------------------------------- */

void neap__fate_missed(neap__fate *f, neap__fate_reason reason, uint32_t chunks) {
  atomic_fetch_add(&f->lookups[reason], 1);
  atomic_fetch_add(&f->chunks[reason], chunks);
}

void neap__fate_stats_get(neap__fate *f, neap__fate_stats *out) {
  for (uint32_t i = 0; i < NEAP_FATE_REASONS; i++) {
    out->lookups[i] = atomic_load(&f->lookups[i]);
    out->chunks[i] = atomic_load(&f->chunks[i]);
  }
}
