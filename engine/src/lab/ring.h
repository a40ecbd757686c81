/* SPDX-License-Identifier: MIT
 *
 * lab/ring.h - a bounded way from one thread to another: records of 64-bit words, in order.
 *
 * The thread that writes never waits and makes no system call: a record that finds no room is dropped and counted. The
 * one that reads looks now and then, and is woken early only when the ring is half full. One writer, one reader. */
#pragma once
#include "base/base.h"

typedef struct neap__ring neap__ring;

/* words: of the ring, rounded up to a power of two; a record is at most a quarter of it. 0 or NEAP_ENOMEM. */
int neap__ring_open(uint32_t words, neap__ring **out);
void neap__ring_close(neap__ring *ring); /* nobody is inside */

/* Room for a record of so many words, to be filled and published; NULL: dropped. Writer. */
uint64_t *neap__ring_claim(neap__ring *ring, uint32_t words);
void neap__ring_publish(neap__ring *ring);

/* The oldest record, valid until it is popped; NULL: there is none. Reader. */
const uint64_t *neap__ring_peek(neap__ring *ring, uint32_t *words);
void neap__ring_pop(neap__ring *ring);
/* Waits at most ms, or until woken. Reader. */
void neap__ring_wait(neap__ring *ring, uint32_t ms);

void neap__ring_wake(neap__ring *ring); /* any thread */
typedef struct neap__ring_stats {
  uint64_t records, dropped, waiting; /* waiting: published, not popped */
} neap__ring_stats;
void neap__ring_stats_get(const neap__ring *ring, neap__ring_stats *out); /* any thread */
