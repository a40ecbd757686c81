/* SPDX-License-Identifier: MIT
 *
 * policy/wtinylfu.c - W-TinyLFU (Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy",
 * ACM Transactions on Storage 2017): what is new enters a small LRU, the window; its oldest may enter the main part, a
 * segmented LRU, only in place of one that a sketch of frequencies (policy/sketch.h) says was seen less often.
 *
 * Parameters: window (0.01, share of the capacity, at least one), protected (0.8, share of the main part), and
 * window_uses (0: the sketch counts arrivals, uses in the main part and duels fought, as libCacheSim does; 1: it counts
 * uses in the window too, as the paper does). All counts are halved each 32 uses per object of the main part. A victim
 * that could not go is put at the new end of its queue. 16 bytes per slot, 8 bytes of sketch. */
#include "policy/registry.h"
#include "policy/segments.h"
#include "policy/sketch.h"

enum { WINDOW = 0, PROBATION = 1, PROTECTED = 2 };

#define USES_PER_OBJECT 32u

typedef struct wtinylfu {
  neap__queues q;
  neap__segments main;
  neap__sketch sketch;
  uint64_t uses; /* since all counts were halved */
  uint32_t window_limit, main_limit;
  double window, protected, window_uses;
} wtinylfu;

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
  w->window = 0.01, w->protected = 0.8;
  const neap__policy_param known[] = {
      {"window", &w->window, 0, 1}, {"protected", &w->protected, 0, 1}, {"window_uses", &w->window_uses, 0, 1}};
  int rc = neap__policy_params(policy->name, context->params, known, NEAP_ARRAY_LEN(known), err);
  if (rc == 0 && !neap__sketch_open(&w->sketch, context->slots))
    rc = neap__fail(err, NEAP_ENOMEM, "policy WTinyLFU: no memory for its sketch");
  if (rc != 0) wtinylfu_destroy(w);
  return rc;
}

static void set_limits(wtinylfu *w) {
  uint32_t capacity = w->q.context->capacity;
  w->window_limit = NEAP_MAX(1, neap__share(w->window, capacity));
  w->main_limit = capacity - NEAP_MIN(w->window_limit, capacity);
  w->main.limit[1] = neap__share(w->protected, w->main_limit);
  w->main.limit[0] = w->main_limit - w->main.limit[1];
}

static uint64_t name_of(const neap_chunk *row) {
  return ((uint64_t)row->h1 << 32 | row->h2) + row->tenant * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t name_in(const neap_event *ev) {
  const neap_chunk row = {.h1 = ev->h1, .h2 = ev->h2, .tenant = ev->tenant};
  return name_of(&row);
}

static void count_use(wtinylfu *w, const neap_event *ev) {
  neap__sketch_add(&w->sketch, name_in(ev));
  if (++w->uses < (uint64_t)USES_PER_OBJECT * NEAP_MAX(1, w->main_limit)) return;
  w->uses = 0;
  neap__sketch_halve(&w->sketch);
}

static void wtinylfu_hit(wtinylfu *w, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  const neap__seat *seat = &w->q.seats[i];
  if (seat->place == NEAP__ABSENT) return;
  bool in_main = seat->queue != WINDOW;
  if (in_main || w->window_uses != 0) count_use(w, ev);
  if (seat->place != NEAP__LISTED) return;
  if (in_main)
    neap__segments_use(&w->main, i);
  else
    neap__seat_append(&w->q, i, WINDOW);
}

static int wtinylfu_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  wtinylfu *w = self;
  set_limits(w);
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    switch (ev->type) {
      case NEAP_EV_INSERT:
        neap__sketch_add(&w->sketch, name_in(ev));
        neap__seat_enter(&w->q, ev, WINDOW);
        break;
      case NEAP_EV_HIT: wtinylfu_hit(w, ev); break;
      case NEAP_EV_REMOVE: neap__seat_leave(&w->q, i); break;
      case NEAP_EV_KEEP:
        if (w->q.seats[i].place != NEAP__ABSENT) neap__seat_append(&w->q, i, w->q.seats[i].queue);
        break;
      default: break;
    }
  }
  return 0;
}

/* The oldest of the window against the oldest of the main part: the loser goes. */
static uint32_t wtinylfu_pick(void *self) {
  wtinylfu *w = self;
  uint32_t candidate = neap__queue_oldest(&w->q, WINDOW);
  uint32_t incumbent = neap__segments_oldest(&w->main);
  if (candidate == 0) return incumbent;
  if (incumbent == 0) return candidate;
  uint64_t name = name_of(&w->q.context->chunk[candidate - 1]);
  bool wins = neap__sketch_estimate(&w->sketch, name) >
              neap__sketch_estimate(&w->sketch, name_of(&w->q.context->chunk[incumbent - 1]));
  neap__sketch_add(&w->sketch, name);
  if (!wins) return candidate;
  neap__seat_take(&w->q, incumbent, NEAP__PROPOSED);
  neap__seat_append(&w->q, candidate, neap__segment_for_new(&w->main));
  return incumbent;
}

static int wtinylfu_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  wtinylfu *w = self;
  set_limits(w);
  while (w->q.list[WINDOW].count > w->window_limit &&
         w->q.list[PROBATION].count + w->q.list[PROTECTED].count < w->main_limit)
    neap__seat_append(&w->q, w->q.list[WINDOW].oldest, neap__segment_for_new(&w->main));
  return neap__queues_answer(self, wtinylfu_pick, scope, out, max);
}

const neap_policy neap__policy_wtinylfu = {
    NEAP__POLICY_HEAD,           .wants = NEAP__WANTS_BASIC,  .name = "WTinyLFU",
    .create = wtinylfu_create,   .destroy = wtinylfu_destroy, .on_events = wtinylfu_on_events,
    .victims = wtinylfu_victims,
};
