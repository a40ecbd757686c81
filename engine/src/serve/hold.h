/* SPDX-License-Identifier: MIT
 *
 * serve/hold.h - the leases that one request or one transfer holds, findable by key.
 *
 * L1 owns the leases; this list says whose they are and how many of their readers are still to be given back, so that
 * giving back twice does nothing and nobody gives back what another holds. One thread at a time. */
#pragma once
#include "l1/l1.h"

#define NEAP_READERS_ALL UINT32_MAX /* of a lease that an earlier process took: its readers are not known here */

typedef struct neap__held {
  neap__key key;
  neap__lease lease; /* NEAP_NO_LEASE: given back */
  uint32_t readers;  /* still to be given back, or NEAP_READERS_ALL */
} neap__held;

typedef struct neap__holds {
  neap__held *at;
  uint32_t count, cap;
  uint32_t live;   /* entries with a lease */
  uint32_t cursor; /* where the next search starts: keys are asked for in order */
} neap__holds;

/* Room for `more` entries. 0 or NEAP_ENOMEM. */
int neap__holds_reserve(neap__holds *holds, uint32_t more);
/* Within the room reserved. */
void neap__holds_add(neap__holds *holds, const neap__key *key, neap__lease lease, uint32_t readers);
/* The live entry of key, or NULL. */
neap__held *neap__holds_find(neap__holds *holds, const neap__key *key);
/* Gives back `readers` of the entry's readers (NEAP_READERS_ALL: what is left). */
void neap__holds_give(neap__holds *holds, neap__held *held, neap__l1 *l1, uint32_t readers);
/* Moves one reader of the entry to `to` (room reserved), which then answers for giving it back. */
void neap__holds_move(neap__holds *holds, neap__held *held, neap__holds *to);
/* Gives back everything, or what lies in one space. */
void neap__holds_give_all(neap__holds *holds, neap__l1 *l1);
void neap__holds_give_space(neap__holds *holds, neap__l1 *l1, uint32_t space);
