/* SPDX-License-Identifier: MIT
 *
 * policies/lirs.c - LIRS (Jiang and Zhang, "LIRS: An Efficient Low Inter-reference Recency Set Replacement Policy to
 * Improve Buffer Cache Performance", SIGMETRICS 2002). Chunks used twice within a short distance are hot (LIR) and fill
 * the cache but for a small part; the others are cold (HIR), wait in queue Q and are the victims. The stack S holds, by
 * recency, the hot ones and every cold one, resident or not, that was used after the least recent hot one: a cold one
 * used while in S becomes hot, and the least recent hot one turns cold.
 *
 * Parameters: cold (0.01, share of the capacity, at least one) and stack (2, the most that S holds, in capacities;
 * beyond it the names evicted first are forgotten), as in libCacheSim. A victim that could not go is put at the new end
 * of Q. At most 24 bytes per slot and 44 per name. */
#include <stdlib.h>

#include "policies/history.h"
#include "policies/params.h"
#include "policies/queues.h"

enum { COLD = 0, HOT = 1 }; /* queue COLD is Q; HOT is by recency, so its oldest is the least recent of S */
enum { IN_S = 1 };          /* mark */

/* S links slots and ghosts: slot s is s + 1, ghost g is slots + g. */
typedef struct lirs {
  neap__queues q;
  neap__history history; /* the names in S */
  neap__list s;
  neap__link *links;
  double cold, stack;
} lirs;

/* --- the stack ------------------------------------------------------------------------------------------------ */

static void s_unlink(lirs *l, uint32_t n) { neap__list_unlink(&l->s, l->links, sizeof(neap__link), n); }

static void s_leave(lirs *l, uint32_t i) {
  if (l->q.seats[i].mark & IN_S) s_unlink(l, i);
  l->q.seats[i].mark = 0;
}

static void s_push(lirs *l, uint32_t i) {
  s_leave(l, i);
  neap__list_append(&l->s, l->links, sizeof(neap__link), i);
  l->q.seats[i].mark = IN_S;
}

static void s_forget(lirs *l, uint32_t ghost) {
  s_unlink(l, l->q.context->slots + ghost);
  neap__history_drop(&l->history, ghost);
}

/* A ghost where its slot was. */
static void s_haunt(lirs *l, uint32_t i, uint32_t ghost) {
  uint32_t n = l->q.context->slots + ghost;
  neap__link link = l->links[i];
  l->links[n] = link;
  *(link.prev != 0 ? &l->links[link.prev].next : &l->s.oldest) = n;
  *(link.next != 0 ? &l->links[link.next].prev : &l->s.newest) = n;
  l->q.seats[i].mark = 0;
}

/* What is below the least recent hot one says nothing any more; and S is bounded. */
static void s_prune(lirs *l) {
  uint32_t slots = l->q.context->slots;
  uint32_t most = neap__share(l->stack, NEAP_MIN(l->q.context->capacity, slots));
  for (uint32_t n = l->s.oldest; n != 0 && (n > slots || l->q.seats[n].queue != HOT); n = l->s.oldest) {
    if (n > slots)
      s_forget(l, n - slots);
    else
      s_leave(l, n);
  }
  while (l->s.count > most && neap__history_count(&l->history) != 0) s_forget(l, l->history.list[0].oldest);
}

/* --- residents ------------------------------------------------------------------------------------------------ */

static uint32_t hot_limit(const lirs *l) {
  uint32_t capacity = l->q.context->capacity;
  return capacity - NEAP_MIN(NEAP_MAX(1, neap__share(l->cold, capacity)), capacity);
}

static void make_hot(lirs *l, uint32_t i) {
  s_push(l, i);
  neap__seat_append(&l->q, i, HOT);
  while (l->q.list[HOT].count > hot_limit(l)) {
    uint32_t least = l->q.list[HOT].oldest;
    s_leave(l, least);
    neap__seat_append(&l->q, least, COLD);
  }
  s_prune(l);
}

static void lirs_hit(lirs *l, uint32_t i) {
  const neap__seat *seat = &l->q.seats[i];
  if (seat->place != NEAP__LISTED) return;
  if (seat->mark & IN_S) {
    make_hot(l, i);
  } else {
    s_push(l, i);
    neap__seat_append(&l->q, i, COLD);
    s_prune(l);
  }
}

static void lirs_insert(lirs *l, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  uint32_t ghost = neap__history_find(&l->history, ev);
  if (ghost != 0) s_forget(l, ghost);
  s_leave(l, i);
  neap__seat_enter(&l->q, ev, COLD);
  if (ghost != 0 || l->q.list[HOT].count < hot_limit(l)) {
    make_hot(l, i);
  } else {
    s_push(l, i);
    s_prune(l);
  }
}

static void lirs_remove(lirs *l, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  if (!neap__seat_leave(&l->q, i)) return;
  if (ev->detail == NEAP_REMOVE_EVICT && l->q.seats[i].mark & IN_S && l->q.seats[i].queue == COLD)
    s_haunt(l, i, neap__history_add(&l->history, ev, 0));
  else
    s_leave(l, i);
  s_prune(l);
}

static int lirs_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  lirs *l = self;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    switch (ev->type) {
      case NEAP_EV_INSERT: lirs_insert(l, ev); break;
      case NEAP_EV_HIT: lirs_hit(l, i); break;
      case NEAP_EV_REMOVE: lirs_remove(l, ev); break;
      case NEAP_EV_KEEP:
        if (l->q.seats[i].place != NEAP__ABSENT) neap__seat_append(&l->q, i, COLD);
        break;
      default: break;
    }
  }
  return 0;
}

/* A hot one, when the cold ones are out, turns cold first: KEEP finds it so. */
static uint32_t lirs_pick(void *self) {
  lirs *l = self;
  uint32_t i = neap__queue_oldest(&l->q, COLD);
  if (i != 0) return i;
  i = neap__queue_oldest(&l->q, HOT);
  if (i == 0) return 0;
  s_leave(l, i);
  neap__seat_append(&l->q, i, COLD);
  s_prune(l);
  return i;
}

static int lirs_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  return neap__queues_answer(self, lirs_pick, scope, out, max);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static void lirs_destroy(void *self) {
  lirs *l = self;
  neap__history_close(&l->history);
  free(l->links);
  neap__queues_destroy(l);
}

static int lirs_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  lirs *l = *self = neap__queues_new(policy, context, sizeof(*l), err);
  if (l == NULL) return NEAP_ENOMEM;
  l->cold = 0.01, l->stack = 2;
  const neap__policy_param known[] = {{"cold", &l->cold, 0, 1}, {"stack", &l->stack, 1, 8}};
  int rc = neap__policy_params(policy->name, context->params, known, NEAP_ARRAY_LEN(known), err);
  uint32_t ghosts = NEAP_MIN(neap__share(l->stack, context->slots), UINT32_MAX - 2 - context->slots) + 1;
  if (rc == 0) l->links = calloc((size_t)context->slots + ghosts + 1, sizeof(*l->links));
  if (rc == 0 && (l->links == NULL || !neap__history_open(&l->history, ghosts)))
    rc = neap__fail(err, NEAP_ENOMEM, "policy LIRS: no memory for its stack");
  if (rc != 0) lirs_destroy(l);
  return rc;
}

const neap_policy neap__policy_lirs = {
    NEAP__POLICY_HEAD,       .wants = NEAP__WANTS_BASIC,  .name = "LIRS",          .create = lirs_create,
    .destroy = lirs_destroy, .on_events = lirs_on_events, .victims = lirs_victims,
};
