/* SPDX-License-Identifier: MIT
 *
 * policies/queues.h - what most built-ins are made of: every resident slot sits in one of a few queues, oldest first,
 * or is out as a proposed victim. 16 bytes per slot, zeroed memory until a slot is used. Slot s is seat s + 1, seat 0
 * is nobody (builtin.h). A policy's state begins with its neap__queues. Not here: which queue, and who goes. Internal
 * to policy/; one thread at a time. */
#pragma once
#include "policies/builtin.h"

#define NEAP__QUEUES 9u

typedef struct neap__seat {
  neap__link link;
  uint32_t tenant;
  uint8_t place; /* neap__place */
  uint8_t queue; /* of a proposed one: the one it was in */
  uint8_t uses;  /* the policy's; 0 when the slot becomes resident */
  uint8_t mark;  /* likewise */
} neap__seat;

_Static_assert(sizeof(neap__seat) == 16, "a seat has 16 bytes");

typedef struct neap__queues {
  neap__seat *seats; /* [slots + 1] */
  const neap_policy_context *context;
  uint32_t residents; /* proposed ones too */
  uint32_t scope;     /* of the question being answered */
  neap__list list[NEAP__QUEUES];
  uint32_t from[NEAP__QUEUES]; /* what is older is out of scope; 0: nothing known */
} neap__queues;

/* State of `bytes` bytes for a policy, zero but for its queues; NULL with NEAP_ENOMEM in err. */
void *neap__queues_new(const neap_policy *policy, const neap_policy_context *context, size_t bytes, neap_error *err);
/* Frees it all; what else the policy has in it is its own to free before. */
void neap__queues_destroy(void *self);

/* A create for a policy that has no state but its queues, and no parameters. */
int neap__queues_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err);

/* Out of its queue, if it is in one. */
static inline void neap__seat_take(neap__queues *q, uint32_t i, neap__place place) {
  neap__seat *seat = &q->seats[i];
  if (seat->place == NEAP__LISTED) {
    if (q->from[seat->queue] == i) q->from[seat->queue] = seat->link.prev;
    neap__list_unlink(&q->list[seat->queue], q->seats, sizeof(neap__seat), i);
  }
  seat->place = (uint8_t)place;
}

/* To the new end of a queue, wherever it was. */
static inline void neap__seat_append(neap__queues *q, uint32_t i, uint32_t queue) {
  neap__seat_take(q, i, NEAP__LISTED);
  q->seats[i].queue = (uint8_t)queue;
  neap__list_append(&q->list[queue], q->seats, sizeof(neap__seat), i);
}

/* INSERT: a new resident at the new end of a queue. Returns its seat's number. */
static inline uint32_t neap__seat_enter(neap__queues *q, const neap_event *ev, uint32_t queue) {
  uint32_t i = ev->slot + 1;
  neap__seat *seat = &q->seats[i];
  if (seat->place == NEAP__ABSENT) q->residents++;
  seat->tenant = ev->tenant;
  seat->uses = 0;
  seat->mark = 0;
  neap__seat_append(q, i, queue);
  return i;
}

/* REMOVE. False if it was not there. */
static inline bool neap__seat_leave(neap__queues *q, uint32_t i) {
  if (q->seats[i].place == NEAP__ABSENT) return false;
  neap__seat_take(q, i, NEAP__ABSENT);
  q->residents--;
  return true;
}

/* --- victims -------------------------------------------------------------------------------------------------- */

/* Begins an answer; a tenant's seats are found by a walk that starts at the old end and is not repeated within it. */
static inline void neap__queues_ask(neap__queues *q, uint32_t scope) {
  q->scope = scope;
  for (uint32_t n = 0; n < NEAP__QUEUES; n++) q->from[n] = 0;
}

static inline bool neap__seat_in_scope(const neap__queues *q, uint32_t i) {
  return q->scope == NEAP_SCOPE_ALL || q->seats[i].tenant == q->scope;
}

/* The oldest in scope, 0 if there is none. */
static inline uint32_t neap__queue_oldest(neap__queues *q, uint32_t queue) {
  uint32_t i = q->from[queue] != 0 ? q->from[queue] : q->list[queue].oldest;
  if (q->scope == NEAP_SCOPE_ALL) return q->list[queue].oldest;
  while (i != 0 && !neap__seat_in_scope(q, i)) {
    q->from[queue] = i;
    i = q->seats[i].link.next;
  }
  return i;
}

/* Proposes what pick says until it says 0, or max are proposed. */
static inline int neap__queues_answer(void *self, uint32_t (*pick)(void *self), uint32_t scope, uint32_t *out,
                                      uint32_t max) {
  neap__queues *q = self;
  uint32_t got = 0;
  neap__queues_ask(q, scope);
  while (got < max) {
    uint32_t i = pick(self);
    if (i == 0) break;
    neap__seat_take(q, i, NEAP__PROPOSED);
    out[got++] = i - 1;
  }
  return (int)got;
}
