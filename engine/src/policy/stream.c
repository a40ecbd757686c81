/* SPDX-License-Identifier: MIT
 *
 * policy/stream.c - carries events of any thread to the policy and asks it for victims.
 *
 * Two buffers: threads fill one under `fill_lock` while the other is delivered under `policy_lock`, so reporting an
 * event waits for the policy only when the buffer is full. Locks are taken in the order policy_lock, fill_lock; taking
 * the first before swapping the buffers is what keeps the order of events. The instance is entered under policy_lock.
 */
#include "policy/stream.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/builtin.h"
#include "policy/instance.h"

#define STREAM_EVENTS 4096u

typedef struct event_buffer {
  uint32_t count;
  neap_event events[STREAM_EVENTS];
} event_buffer;

struct neap__stream {
  pthread_mutex_t fill_lock;
  event_buffer *fill; /* under fill_lock */

  pthread_mutex_t policy_lock; /* all below */
  event_buffer *deliver;
  neap__instance *instance;

  event_buffer buffers[2];
  uint32_t slots;
};

/* --- life ----------------------------------------------------------------------------------------------------- */

int neap__stream_open(const neap_policy *policy, const char *params, uint32_t slots, neap__stream **out,
                      neap_error *err) {
  neap__stream *s = calloc(1, sizeof(*s));
  if (s == NULL) return neap__fail(err, NEAP_ENOMEM, "no memory for the events of %" PRIu32 " slots", slots);
  const neap__instance_config config = {.policy = policy, .params = params, .slots = slots};
  int rc = neap__instance_open(&config, &s->instance, err);
  if (rc != 0) {
    free(s);
    return rc;
  }
  s->slots = slots;
  s->fill = &s->buffers[0];
  s->deliver = &s->buffers[1];
  pthread_mutex_init(&s->fill_lock, NULL);
  pthread_mutex_init(&s->policy_lock, NULL);
  *out = s;
  return 0;
}

void neap__stream_close(neap__stream *stream) {
  if (stream == NULL) return;
  neap__instance_close(stream->instance);
  pthread_mutex_destroy(&stream->policy_lock);
  pthread_mutex_destroy(&stream->fill_lock);
  free(stream);
}

const char *neap__stream_policy(neap__stream *stream) { return neap__instance_policy(stream->instance)->name; }

/* --- events --------------------------------------------------------------------------------------------------- */

static void deliver_pending(neap__stream *s) { /* under policy_lock */
  pthread_mutex_lock(&s->fill_lock);
  event_buffer *full = s->fill;
  s->fill = s->deliver;
  s->deliver = full;
  pthread_mutex_unlock(&s->fill_lock);
  if (full->count == 0) return;

  neap__instance_deliver(s->instance, full->events, full->count);
  full->count = 0;
}

void neap__stream_flush(neap__stream *stream) {
  pthread_mutex_lock(&stream->policy_lock);
  deliver_pending(stream);
  pthread_mutex_unlock(&stream->policy_lock);
}

/* All of them or none, so that a request stays in one piece. */
static bool append(neap__stream *s, const neap_event *events, uint32_t count) {
  pthread_mutex_lock(&s->fill_lock);
  bool fits = count <= STREAM_EVENTS - s->fill->count;
  if (fits) {
    memcpy(&s->fill->events[s->fill->count], events, count * sizeof(*events));
    s->fill->count += count;
  }
  pthread_mutex_unlock(&s->fill_lock);
  return fits;
}

void neap__stream_emit(void *stream, const neap_event *events, uint32_t count) {
  neap__stream *s = stream;
  for (uint32_t i = 0; i < count; i++) NEAP_ASSERT(events[i].slot < s->slots);
  while (count > 0) {
    uint32_t part = NEAP_MIN(count, STREAM_EVENTS);
    while (!append(s, events, part)) neap__stream_flush(s);
    events += part;
    count -= part;
  }
}

void neap__stream_keep(neap__stream *stream, uint32_t slot) {
  const neap_event keep = {.slot = slot, .type = NEAP_EV_KEEP};
  neap__stream_emit(stream, &keep, 1);
}

/* --- victims -------------------------------------------------------------------------------------------------- */

uint32_t neap__stream_victims(neap__stream *stream, uint32_t scope, uint32_t *out, uint32_t max) {
  if (max == 0) return 0;
  pthread_mutex_lock(&stream->policy_lock);
  deliver_pending(stream);
  uint32_t got = neap__instance_victims(stream->instance, scope, out, max);
  pthread_mutex_unlock(&stream->policy_lock);
  return got;
}

uint64_t neap__stream_refused(neap__stream *stream) {
  neap__instance_stats stats;
  pthread_mutex_lock(&stream->policy_lock);
  neap__instance_stats_get(stream->instance, &stats);
  pthread_mutex_unlock(&stream->policy_lock);
  return stats.refused;
}
