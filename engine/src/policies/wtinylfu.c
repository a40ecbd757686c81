/* SPDX-License-Identifier: MIT
 *
 * policies/wtinylfu.c - W-TinyLFU (Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy",
 * ACM Transactions on Storage 2017): what is new enters a small LRU, the window; its oldest may enter the main part, a
 * segmented LRU, only in place of one that a sketch of frequencies (policies/sketch.h) says was seen less often.
 *
 * Parameters: window (0.01, share of the capacity, at least one), probation (0.2, share of the main part), and
 * window_uses (0: the sketch counts arrivals, uses in the main part and duels fought, as libCacheSim does; 1: it counts
 * uses in the window too, as the paper does). All counts are halved each 32 uses per object of the main part. A victim
 * that could not go is put at the new end of its queue. 45 bytes per slot. */
#include "policies/params.h"
#include "policies/segments.h"
#include "policies/sketch.h"

enum { WINDOW = 0, PROBATION = 1, PROTECTED = 2, SURPLUS = 3 };

#define USES_PER_OBJECT 32u

typedef struct wtinylfu {
  neap__queues q;
  neap__segments main;
  neap__sketch sketch;
  uint64_t uses; /* since all counts were halved */
  uint32_t window_limit, main_limit;
  double window, probation, window_uses;
} wtinylfu;

static uint32_t window_limit(const wtinylfu *w, uint32_t capacity) {
  return NEAP_MAX(1, neap__share(w->window, capacity));
}

static void wtinylfu_destroy(void *self) {
  wtinylfu *w = self;
  neap__sketch_close(&w->sketch);
  neap__queues_destroy(w);
}

static int wtinylfu_create(const neap_policy *policy, const neap_policy_context *context, void **self,
                           neap_error *err) {
  wtinylfu *w = *self = neap__queues_new(policy, context, sizeof(*w), err);
  if (w == NULL) return NEAP_ENOMEM;
  w->main = (neap__segments){.q = &w->q, .first = PROBATION, .count = 2};
  w->window = 0.01, w->probation = 0.2;
  const neap__policy_param known[] = {
      {"window", &w->window, 0, 1}, {"probation", &w->probation, 0, 1}, {"window_uses", &w->window_uses, 0, 1}};
  int rc = neap__policy_params(policy->name, context->params, known, NEAP_ARRAY_LEN(known), err);
  uint32_t names = context->slots - NEAP_MIN(window_limit(w, context->slots), context->slots);
  if (rc == 0 && !neap__sketch_open(&w->sketch, names))
    rc = neap__fail(err, NEAP_ENOMEM, "policy WTinyLFU: no memory for its sketch");
  if (rc != 0) wtinylfu_destroy(w);
  return rc;
}

static void set_limits(wtinylfu *w) {
  uint32_t capacity = w->q.context->capacity;
  w->window_limit = window_limit(w, capacity);
  w->main_limit = capacity - NEAP_MIN(w->window_limit, capacity);
  w->main.limit[1] = neap__share(1 - w->probation, w->main_limit);
  w->main.limit[0] = neap__share(w->probation, w->main_limit);
}

static void count_use(wtinylfu *w, const neap_event *ev) {
  neap__sketch_add(&w->sketch, ev->h1, ev->h2);
  if (++w->uses < (uint64_t)USES_PER_OBJECT * NEAP_MAX(1, w->main_limit)) return;
  w->uses = 0;
  neap__sketch_halve(&w->sketch);
}

/* The shares of the segments are rounded down, so there may be one more in probation than its limit after a use has
 * made another one protected. As in libCacheSim it goes without a duel. */
static void use_in_main(wtinylfu *w, uint32_t i) {
  uint32_t segment = w->q.seats[i].queue;
  neap__segments_use(&w->main, i);
  if (segment == PROBATION && w->q.list[PROBATION].count > w->main.limit[0])
    neap__seat_append(&w->q, w->q.list[PROBATION].oldest, SURPLUS);
}

static void wtinylfu_hit(wtinylfu *w, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  const neap__seat *seat = &w->q.seats[i];
  if (seat->place == NEAP__ABSENT) return;
  bool in_main = seat->queue != WINDOW;
  if (in_main || w->window_uses != 0) count_use(w, ev);
  if (seat->place != NEAP__LISTED) return;
  if (seat->queue == WINDOW || seat->queue == SURPLUS)
    neap__seat_append(&w->q, i, seat->queue == WINDOW ? WINDOW : PROBATION);
  else
    use_in_main(w, i);
}

static int wtinylfu_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  wtinylfu *w = self;
  set_limits(w);
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    switch (ev->type) {
      case NEAP_EV_INSERT:
        neap__sketch_add(&w->sketch, ev->h1, ev->h2);
        neap__seat_enter(&w->q, ev, WINDOW);
        break;
      case NEAP_EV_HIT: wtinylfu_hit(w, ev); break;
      case NEAP_EV_REMOVE: neap__seat_leave(&w->q, i); break;
      case NEAP_EV_KEEP:
        if (w->q.seats[i].place != NEAP__ABSENT) neap__seat_append(&w->q, i, NEAP_MIN(w->q.seats[i].queue, PROTECTED));
        break;
      default: break;
    }
  }
  return 0;
}

static uint32_t uses_of(const wtinylfu *w, uint32_t i) {
  const neap_chunk *row = &w->q.context->chunk[i - 1];
  return neap__sketch_estimate(&w->sketch, row->h1, row->h2);
}

static void count_duel(wtinylfu *w, uint32_t i) {
  const neap_chunk *row = &w->q.context->chunk[i - 1];
  neap__sketch_add(&w->sketch, row->h1, row->h2);
}

/* From the window to the main part. */
static void admit(wtinylfu *w, uint32_t candidate) {
  neap__seat_append(&w->q, candidate, neap__segment_for_new(&w->main));
  count_duel(w, candidate);
}

/* The oldest of the window against the oldest of the main part: the loser goes. */
static uint32_t wtinylfu_pick(void *self) {
  wtinylfu *w = self;
  uint32_t surplus = neap__queue_oldest(&w->q, SURPLUS);
  if (surplus != 0) return surplus;
  uint32_t candidate = neap__queue_oldest(&w->q, WINDOW);
  uint32_t incumbent = neap__segments_oldest(&w->main);
  if (candidate == 0) return incumbent;
  if (incumbent == 0) return candidate;
  if (uses_of(w, candidate) <= uses_of(w, incumbent)) {
    count_duel(w, candidate);
    return candidate;
  }
  neap__seat_take(&w->q, incumbent, NEAP__PROPOSED);
  admit(w, candidate);
  return incumbent;
}

static int wtinylfu_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  wtinylfu *w = self;
  set_limits(w);
  while (w->q.list[WINDOW].count > w->window_limit &&
         w->q.list[PROBATION].count + w->q.list[PROTECTED].count < w->main_limit)
    admit(w, w->q.list[WINDOW].oldest);
  return neap__queues_answer(self, wtinylfu_pick, scope, out, max);
}

const neap_policy neap__policy_wtinylfu = {
    NEAP__POLICY_HEAD,           .wants = NEAP__WANTS_BASIC,  .name = "WTinyLFU",
    .create = wtinylfu_create,   .destroy = wtinylfu_destroy, .on_events = wtinylfu_on_events,
    .victims = wtinylfu_victims,
};
