/* SPDX-License-Identifier: MIT
 *
 * policies/history.h - what was evicted, by name: the ghost lists of ARC, 2Q, S3-FIFO and LIRS.
 *
 * Exact (hash and tenant, no fingerprint: an inexact history tears holes into prefixes). One hash may be many objects,
 * one per rank, so equal ghosts may coexist and a return takes one of them, the latest first. A ghost is a number from
 * 1 to room. 32 bytes per ghost and 4 per bucket, untouched until something is evicted. One thread at a time. */
#pragma once
#include "base/base.h"
#include "policies/builtin.h"

typedef struct neap__ghost {
  neap__link link;
  uint32_t h1, h2, tenant;
  uint32_t chain; /* next in the same bucket; of a free ghost: next free one */
  uint32_t side;
  uint32_t note; /* 0, and whatever its owner writes there */
} neap__ghost;

typedef struct neap__history {
  neap__list list[2];  /* by side, oldest first */
  neap__ghost *ghosts; /* [room + 1] */
  uint32_t *buckets, bucket_mask;
  uint32_t room;
  uint32_t free, used; /* head of the free ones; highest number ever used */
} neap__history;

/* False if there is no memory. room 0 remembers nothing. */
bool neap__history_open(neap__history *history, uint32_t room);
void neap__history_close(neap__history *history);

/* The ghost of the object that ev is about, 0 if there is none. */
uint32_t neap__history_find(const neap__history *history, const neap_event *ev);

/* Adds a ghost to a side, newest; the history must not be full unless it has no room at all. Returns it. */
uint32_t neap__history_add(neap__history *history, const neap_event *ev, uint32_t side);
void neap__history_drop(neap__history *history, uint32_t ghost);

static inline uint32_t neap__history_count(const neap__history *history) {
  return history->list[0].count + history->list[1].count;
}

/* A history of one side that holds `most` names at the time of an arrival: an arrival takes its own name away before
 * the oldest ones are forgotten, so that what made room for it cannot push it out. */
static inline uint32_t neap__history_room(uint32_t most) { return most != 0 ? most + 1 : 0; }
void neap__history_remember(neap__history *history, const neap_event *ev);
/* Whether the object's name was there. */
bool neap__history_arrive(neap__history *history, const neap_event *ev, uint32_t most);
