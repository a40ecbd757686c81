/* SPDX-License-Identifier: MIT
 *
 * policies/s3fifo.c - S3-FIFO (Yang and others, "FIFO Queues are All You Need for Cache Eviction", SOSP 2023): what is
 * new waits in a small queue; what was used there `promote` times goes on to the main queue, the rest leaves its name
 * in a history. A name that comes back enters the main queue at once. The main queue gives a second chance for each use
 * up to three.
 *
 * Parameters, shares of the capacity: small (0.1), ghost (0.9: names remembered), and promote (2), as in libCacheSim.
 * A victim that could not go is put at the new end of the main queue. 16 bytes per slot, 36 per name at most. */
#include "policies/history.h"
#include "policies/params.h"
#include "policies/queues.h"

enum { SMALL = 0, MAIN = 1 };

#define USES_MAX 3u /* of the main queue, two bits */

typedef struct s3fifo {
  neap__queues q; /* uses: since it came, or was passed over */
  neap__history history;
  bool full; /* has been */
  double small, ghost, promote;
} s3fifo;

static void s3fifo_destroy(void *self) {
  s3fifo *s = self;
  neap__history_close(&s->history);
  neap__queues_destroy(s);
}

static int s3fifo_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  s3fifo *s = *self = neap__queues_new(policy, context, sizeof(*s), err);
  if (s == NULL) return NEAP_ENOMEM;
  s->small = 0.1, s->ghost = 0.9, s->promote = 2;
  const neap__policy_param known[] = {
      {"small", &s->small, 0, 1}, {"ghost", &s->ghost, 0, 8}, {"promote", &s->promote, 1, UINT8_MAX}};
  int rc = neap__policy_params(policy->name, context->params, known, NEAP_ARRAY_LEN(known), err);
  if (rc == 0 && !neap__history_open(&s->history, neap__history_room(neap__share(s->ghost, context->slots))))
    rc = neap__fail(err, NEAP_ENOMEM, "policy S3FIFO: no memory for its history");
  if (rc != 0) s3fifo_destroy(s);
  return rc;
}

static void s3fifo_insert(s3fifo *s, const neap_event *ev) {
  uint32_t capacity = s->q.context->capacity;
  bool known = neap__history_arrive(&s->history, ev, neap__share(s->ghost, capacity));
  bool filling = !s->full && s->q.list[SMALL].count >= neap__share(s->small, capacity);
  neap__seat_enter(&s->q, ev, known || filling ? MAIN : SMALL);
}

static void s3fifo_remove(s3fifo *s, const neap_event *ev) {
  uint32_t i = ev->slot + 1;
  bool remember = ev->detail == NEAP_REMOVE_EVICT && s->q.seats[i].queue == SMALL;
  if (neap__seat_leave(&s->q, i) && remember) neap__history_remember(&s->history, ev);
}

static int s3fifo_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  s3fifo *s = self;
  for (const neap_event *ev = events; ev < events + count; ev++) {
    uint32_t i = ev->slot + 1;
    neap__seat *seat = &s->q.seats[i];
    switch (ev->type) {
      case NEAP_EV_INSERT: s3fifo_insert(s, ev); break;
      case NEAP_EV_HIT:
        if (seat->uses < UINT8_MAX) seat->uses++;
        break;
      case NEAP_EV_REMOVE: s3fifo_remove(s, ev); break;
      case NEAP_EV_KEEP:
        if (seat->place != NEAP__ABSENT) neap__seat_append(&s->q, i, MAIN);
        break;
      default: break;
    }
  }
  return 0;
}

static uint32_t pick_small(s3fifo *s) {
  for (;;) {
    uint32_t i = neap__queue_oldest(&s->q, SMALL);
    if (i == 0 || s->q.seats[i].uses < s->promote) return i;
    s->q.seats[i].uses = 0;
    neap__seat_append(&s->q, i, MAIN);
  }
}

static uint32_t pick_main(s3fifo *s) {
  for (;;) {
    uint32_t i = neap__queue_oldest(&s->q, MAIN);
    if (i == 0 || s->q.seats[i].uses == 0) return i;
    s->q.seats[i].uses = (uint8_t)(NEAP_MIN(s->q.seats[i].uses, USES_MAX) - 1);
    neap__seat_append(&s->q, i, MAIN);
  }
}

static uint32_t s3fifo_pick(void *self) {
  s3fifo *s = self;
  uint32_t capacity = s->q.context->capacity;
  bool main_first = s->q.list[MAIN].count > capacity - neap__share(s->small, capacity);
  uint32_t i = main_first ? 0 : pick_small(s);
  if (i == 0) i = pick_main(s);
  return i != 0 ? i : pick_small(s);
}

static int s3fifo_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)err;
  ((s3fifo *)self)->full = true;
  return neap__queues_answer(self, s3fifo_pick, scope, out, max);
}

const neap_policy neap__policy_s3fifo = {
    NEAP__POLICY_HEAD,         .wants = NEAP__WANTS_BASIC,    .name = "S3FIFO",          .create = s3fifo_create,
    .destroy = s3fifo_destroy, .on_events = s3fifo_on_events, .victims = s3fifo_victims,
};
