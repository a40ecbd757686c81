/* SPDX-License-Identifier: MIT
 *
 * lab/ring.c - see ring.h. Two counters of words that only grow: `head` is the writer's, `tail` the reader's. In front
 * of each record stands a word with its length; SKIP says that the rest of the ring is unused, for a record lies in one
 * piece. */
#include "lab/ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define SKIP UINT64_MAX

struct neap__ring {
  _Alignas(64) _Atomic uint64_t head; /* written by the writer */
  uint64_t claimed;                   /* head once what is claimed is published */
  uint64_t tail_seen;                 /* tail when the writer last looked */
  _Atomic uint64_t records, dropped;
  _Alignas(64) _Atomic uint64_t tail; /* written by the reader */
  _Atomic uint64_t popped;
  _Alignas(64) uint64_t mask;
  uint64_t *word;
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool woken; /* under lock */
};

int neap__ring_open(uint32_t words, neap__ring **out) {
  neap__ring *ring = aligned_alloc(64, sizeof(*ring));
  if (ring == NULL) return NEAP_ENOMEM;
  *ring = (neap__ring){.mask = 63};
  while (ring->mask + 1 < words) ring->mask = ring->mask * 2 + 1;
  ring->word = malloc((ring->mask + 1) * sizeof(*ring->word));
  if (ring->word == NULL) {
    free(ring);
    return NEAP_ENOMEM;
  }
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&ring->cond, &monotonic);
  pthread_condattr_destroy(&monotonic);
  pthread_mutex_init(&ring->lock, NULL);
  *out = ring;
  return 0;
}

void neap__ring_close(neap__ring *ring) {
  if (ring == NULL) return;
  pthread_cond_destroy(&ring->cond);
  pthread_mutex_destroy(&ring->lock);
  free(ring->word);
  free(ring);
}

uint64_t *neap__ring_claim(neap__ring *ring, uint32_t words) {
  uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed), size = ring->mask + 1;
  uint64_t to_end = size - (head & ring->mask), need = words + 1u, skip = to_end < need ? to_end : 0;
  if (need <= size / 4 && size - (head - ring->tail_seen) < skip + need)
    ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
  if (need > size / 4 || size - (head - ring->tail_seen) < skip + need) {
    atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
    return NULL;
  }
  if (skip) ring->word[head & ring->mask] = SKIP;
  head += skip;
  ring->word[head & ring->mask] = words;
  ring->claimed = head + need;
  return &ring->word[(head & ring->mask) + 1];
}

void neap__ring_publish(neap__ring *ring) {
  uint64_t before = atomic_load_explicit(&ring->head, memory_order_relaxed), half = (ring->mask + 1) / 2;
  atomic_fetch_add_explicit(&ring->records, 1, memory_order_relaxed);
  atomic_store_explicit(&ring->head, ring->claimed, memory_order_release);
  if (before - ring->tail_seen < half && ring->claimed - ring->tail_seen >= half) {
    ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
    if (ring->claimed - ring->tail_seen >= half) neap__ring_wake(ring);
  }
}

const uint64_t *neap__ring_peek(neap__ring *ring, uint32_t *words) {
  uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
  if (tail == atomic_load_explicit(&ring->head, memory_order_acquire)) return NULL;
  if (ring->word[tail & ring->mask] == SKIP) {
    tail += ring->mask + 1 - (tail & ring->mask);
    atomic_store_explicit(&ring->tail, tail, memory_order_release);
  }
  *words = (uint32_t)ring->word[tail & ring->mask];
  return &ring->word[(tail & ring->mask) + 1];
}

void neap__ring_pop(neap__ring *ring) {
  uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
  atomic_fetch_add_explicit(&ring->popped, 1, memory_order_relaxed);
  atomic_store_explicit(&ring->tail, tail + ring->word[tail & ring->mask] + 1, memory_order_release);
}

void neap__ring_wait(neap__ring *ring, uint32_t ms) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += ms / 1000;
  until.tv_nsec += (long)(ms % 1000) * 1000000;
  if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
  pthread_mutex_lock(&ring->lock);
  while (!ring->woken && pthread_cond_timedwait(&ring->cond, &ring->lock, &until) != ETIMEDOUT) continue;
  ring->woken = false;
  pthread_mutex_unlock(&ring->lock);
}

void neap__ring_wake(neap__ring *ring) {
  pthread_mutex_lock(&ring->lock);
  ring->woken = true;
  pthread_cond_signal(&ring->cond);
  pthread_mutex_unlock(&ring->lock);
}

void neap__ring_stats_get(const neap__ring *ring, neap__ring_stats *out) {
  uint64_t popped = atomic_load(&ring->popped);
  *out = (neap__ring_stats){.records = atomic_load(&ring->records), .dropped = atomic_load(&ring->dropped)};
  out->waiting = out->records - popped;
}
