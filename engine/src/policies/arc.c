/* SPDX-License-Identifier: MIT
 *
 * policies/arc.c - adaptive replacement cache (Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache",
 * FAST 2003). T1 holds what was used once, T2 what was used again; B1 and B2 remember what was evicted from them, and a
 * return from B1 or B2 moves the target size p of T1 up or down.
 *
 * Where it departs from the paper, because the engine evicts in batches and ahead of demand: the capacity c is never
 * more than the largest number of residents seen; victims are named before the arrival that needs the room is known, so
 * T1 gives while |T1| >= max(1, p); only REMOVE with reason EVICT leaves a ghost. At most 52 bytes per slot. */
#include "policies/history.h"
#include "policies/params.h"
#include "policies/queues.h"

enum { ONCE = 0, AGAIN = 1 }; /* T1 and B1, T2 and B2 */

typedef struct arc {
  neap__queues q; /* queue: T1 or T2; of a proposed slot: where KEEP puts it back, where its ghost goes */
  neap__history b;
  uint32_t most; /* residents so far */
  double p;
} arc;

static uint32_t capacity(const arc *a) { return NEAP_MIN(a->q.context->capacity, a->most); }

/* --- ghosts --------------------------------------------------------------------------------------------------- */

static void drop_oldest(arc *a) {
  neap__history_drop(&a->b, a->b.list[AGAIN].count != 0 ? a->b.list[AGAIN].oldest : a->b.list[ONCE].oldest);
}

static void remember(arc *a, const neap_event *ev, uint32_t side) {
  if (neap__history_count(&a->b) == a->b.room) drop_oldest(a);
  neap__history_add(&a->b, ev, side);
}

/* The paper's bounds: |T1| + |B1| <= c and everything together <= 2c. */
static void trim(arc *a) {
  uint64_t c = capacity(a);
  while (a->b.list[ONCE].count != 0 && (uint64_t)a->q.list[ONCE].count + a->b.list[ONCE].count > c)
    neap__history_drop(&a->b, a->b.list[ONCE].oldest);
  while (neap__history_count(&a->b) != 0 && (uint64_t)a->q.residents + neap__history_count(&a->b) > 2 * c)
    drop_oldest(a);
}

/* --- residents ------------------------------------------------------------------------------------------------ */

/* A return from B1 says that T1 was too small, one from B2 that T2 was; the scarcer ghost speaks the louder. */
static void adapt(arc *a, uint32_t side) {
  double same = a->b.list[side].count;
  double other = a->b.list[!side].count;
  double step = NEAP_MAX(1.0, other / same);
  a->p = side == ONCE ? NEAP_MIN((double)capacity(a), a->p + step) : NEAP_MAX(0.0, a->p - step);
}

static void arc_insert(arc *a, const neap_event *ev) {
  uint32_t i = neap__seat_enter(&a->q, ev, ONCE);
  a->most = NEAP_MAX(a->most, a->q.residents);
  uint32_t ghost = neap__history_find(&a->b, ev);
  if (ghost != 0) {
    adapt(a, a->b.ghosts[ghost].side);
    neap__history_drop(&a->b, ghost);
    neap__seat_append(&a->q, i, AGAIN);
  }
  trim(a);
}

static void arc_remove(arc *a, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  if (!neap__seat_leave(&a->q, i)) return;
  if (ev->detail == NEAP_REMOVE_EVICT) remember(a, ev, a->q.seats[i].queue);
  trim(a);
}

static int arc_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  arc *a = self;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    neap__seat *seat = &a->q.seats[i];
    switch (ev->type) {
      case NEAP_EV_INSERT: arc_insert(a, ev); break;
      case NEAP_EV_HIT:
        if (seat->place == NEAP__LISTED) neap__seat_append(&a->q, i, AGAIN);
        seat->queue = AGAIN;
        break;
      case NEAP_EV_REMOVE: arc_remove(a, ev); break;
      case NEAP_EV_KEEP:
        if (seat->place != NEAP__ABSENT) neap__seat_append(&a->q, i, seat->queue);
        break;
      default: break;
    }
  }
  return 0;
}

static uint32_t arc_pick(void *self) {
  arc *a = self;
  uint32_t side = (double)a->q.list[ONCE].count >= NEAP_MAX(1.0, a->p) ? ONCE : AGAIN;
  uint32_t i = neap__queue_oldest(&a->q, side);
  return i != 0 ? i : neap__queue_oldest(&a->q, !side);
}

static int arc_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  return neap__queues_answer(self, arc_pick, scope, out, max);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static void arc_destroy(void *self) {
  neap__history_close(&((arc *)self)->b);
  neap__queues_destroy(self);
}

static int arc_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  int rc = neap__policy_params(policy->name, context->params, NULL, 0, err);
  if (rc != 0) return rc;
  arc *a = *self = neap__queues_new(policy, context, sizeof(*a), err);
  if (a == NULL) return NEAP_ENOMEM;
  if (neap__history_open(&a->b, context->slots)) return 0;
  arc_destroy(a);
  return neap__fail(err, NEAP_ENOMEM, "policy ARC: no memory for its history");
}

const neap_policy neap__policy_arc = {
    NEAP__POLICY_HEAD,      .wants = NEAP__WANTS_BASIC, .name = "ARC",          .create = arc_create,
    .destroy = arc_destroy, .on_events = arc_on_events, .victims = arc_victims,
};
