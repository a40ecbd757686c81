/* SPDX-License-Identifier: MIT
 *
 * policy/stream.c - carries events to a policy and its proposals back, and lets nothing out that is not a resident
 * slot proposed once.
 *
 * Two buffers: threads fill one under `fill_lock` while the other is delivered under `policy_lock`, so reporting an
 * event waits for the policy only when the buffer is full. Locks are taken in the order policy_lock, fill_lock; taking
 * the first before swapping the buffers is what keeps the order of events. The policy is entered under policy_lock.
 *
 * `stage` remembers what the events said of each slot. A proposal passes if its slot is resident and not out already;
 * this makes answers distinct without a search, whatever the policy returns. A policy that is not built in has a
 * built-in beside it that completes short answers: IsolatedLRU, whose order over all is LRU's and which finds a
 * tenant's slots without a walk over everybody's. Which victims may really go is not decided here, L1 checks. */
#include "policy/stream.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/builtin.h"

#define STREAM_EVENTS 4096u

enum { GONE = 0, RESIDENT, OUT }; /* OUT: handed out as a victim, REMOVE or KEEP not yet seen */

typedef struct event_buffer {
  uint32_t count;
  neap_event events[STREAM_EVENTS];
} event_buffer;

struct neap__stream {
  pthread_mutex_t fill_lock;
  event_buffer *fill; /* under fill_lock */

  pthread_mutex_t policy_lock; /* all below */
  event_buffer *deliver;
  const neap_policy *policy;
  void *self;
  const neap_policy *completer; /* NULL: nobody completes */
  void *completer_self;
  uint64_t refused;

  event_buffer buffers[2];
  uint32_t slots;
  uint8_t stage[];
};

static const neap_policy *const builtins[] = {&neap__policy_lru, &neap__policy_isolated_lru, &neap__policy_arc,
                                              &neap__policy_noop};

/* --- which policy --------------------------------------------------------------------------------------------- */

const neap_policy *neap__policy_find(const char *name, neap_error *err) {
  const char *names[NEAP_ARRAY_LEN(builtins)];
  char list[128] = "";
  for (size_t i = 0; i < NEAP_ARRAY_LEN(builtins); i++) {
    if (strcmp(name, builtins[i]->name) == 0) return builtins[i];
    names[i] = builtins[i]->name;
    size_t used = strlen(list);
    snprintf(list + used, sizeof(list) - used, "%s%s", i == 0 ? "" : ", ", names[i]);
  }
  const char *near = neap__nearest(name, names, NEAP_ARRAY_LEN(names));
  neap__fail(err, NEAP_EINVAL, "eviction policy '%.64s' is unknown; expected one of %s%s%s%s", name, list,
             near == NULL ? "" : "; did you mean '", near == NULL ? "" : near, near == NULL ? "" : "'?");
  return NULL;
}

static bool is_builtin(const neap_policy *policy) {
  for (size_t i = 0; i < NEAP_ARRAY_LEN(builtins); i++)
    if (policy == builtins[i]) return true;
  return false;
}

/* Magic, abi and size come first in every version of the struct, so they may be read before the rest is trusted. */
static int policy_check(const neap_policy *policy, neap_error *err) {
  if (policy == NULL) return neap__fail(err, NEAP_EINVAL, "policy is NULL; expected a neap_policy");
  if (policy->magic != NEAP_POLICY_MAGIC)
    return neap__fail(err, NEAP_EABI, "policy magic is 0x%08" PRIx32 "; expected 0x%08x", policy->magic,
                      NEAP_POLICY_MAGIC);
  if (policy->abi != NEAP_POLICY_ABI)
    return neap__fail(err, NEAP_EABI, "policy abi is %" PRIu32 "; expected %u", policy->abi, NEAP_POLICY_ABI);
  if (policy->size < sizeof(*policy))
    return neap__fail(err, NEAP_EABI, "policy size is %" PRIu32 "; expected at least %zu", policy->size,
                      sizeof(*policy));
  const struct {
    const char *name;
    bool present;
  } members[] = {{"name", policy->name != NULL},
                 {"create", policy->create != NULL},
                 {"on_events", policy->on_events != NULL},
                 {"victims", policy->victims != NULL},
                 {"destroy", policy->destroy != NULL}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(members); i++)
    if (!members[i].present)
      return neap__fail(err, NEAP_EABI, "policy member '%s' is NULL; expected all to be set", members[i].name);
  return 0;
}

/* --- life ----------------------------------------------------------------------------------------------------- */

int neap__stream_open(const neap_policy *policy, uint32_t slots, neap__stream **out, neap_error *err) {
  int rc = policy_check(policy, err);
  if (rc != 0) return rc;
  if (slots == 0 || slots >= UINT32_MAX - 1)
    return neap__fail(err, NEAP_EINVAL, "slots is %" PRIu32 "; expected 1 to %" PRIu32, slots, UINT32_MAX - 2);
  neap__stream *s = calloc(1, sizeof(*s) + slots);
  if (s == NULL) return neap__fail(err, NEAP_ENOMEM, "no memory for the events of %" PRIu32 " slots", slots);
  s->policy = policy;
  s->completer = is_builtin(policy) ? NULL : &neap__policy_isolated_lru;
  s->slots = slots;
  s->fill = &s->buffers[0];
  s->deliver = &s->buffers[1];
  pthread_mutex_init(&s->fill_lock, NULL);
  pthread_mutex_init(&s->policy_lock, NULL);

  const neap_policy_context context = {.size = sizeof(context), .slots = slots};
  rc = policy->create(&context, &s->self, err);
  if (rc != 0) goto no_policy;
  if (s->completer != NULL) rc = s->completer->create(&context, &s->completer_self, err);
  if (rc != 0) goto no_completer;
  *out = s;
  return 0;

no_completer:
  policy->destroy(s->self);
no_policy:
  pthread_mutex_destroy(&s->policy_lock);
  pthread_mutex_destroy(&s->fill_lock);
  free(s);
  return rc;
}

void neap__stream_close(neap__stream *stream) {
  if (stream == NULL) return;
  stream->policy->destroy(stream->self);
  if (stream->completer != NULL) stream->completer->destroy(stream->completer_self);
  pthread_mutex_destroy(&stream->policy_lock);
  pthread_mutex_destroy(&stream->fill_lock);
  free(stream);
}

const char *neap__stream_policy(neap__stream *stream) { return stream->policy->name; }

/* --- events --------------------------------------------------------------------------------------------------- */

static void note(neap__stream *s, const neap_event *ev) {
  uint8_t *stage = &s->stage[ev->slot];
  if (ev->type == NEAP_EV_INSERT) *stage = RESIDENT;
  if (ev->type == NEAP_EV_REMOVE) *stage = GONE;
  if (ev->type == NEAP_EV_KEEP && *stage == OUT) *stage = RESIDENT;
}

static void deliver_pending(neap__stream *s) { /* under policy_lock */
  pthread_mutex_lock(&s->fill_lock);
  event_buffer *full = s->fill;
  s->fill = s->deliver;
  s->deliver = full;
  pthread_mutex_unlock(&s->fill_lock);
  if (full->count == 0) return;

  for (uint32_t i = 0; i < full->count; i++) note(s, &full->events[i]);
  s->policy->on_events(s->self, full->events, full->count);
  if (s->completer != NULL) s->completer->on_events(s->completer_self, full->events, full->count);
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

/* Moves what may pass to the front of out and returns how many. */
static uint32_t pass(neap__stream *s, uint32_t *out, uint32_t count) {
  uint32_t passed = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t slot = out[i];
    if (slot >= s->slots || s->stage[slot] != RESIDENT) continue;
    s->stage[slot] = OUT;
    out[passed++] = slot;
  }
  return passed;
}

static uint32_t ask_policy(neap__stream *s, uint32_t scope, uint32_t *out, uint32_t max) {
  memset(out, 0xff, max * sizeof(*out)); /* a policy that claims more than it wrote has proposed UINT32_MAX, no slot */
  uint32_t said = s->policy->victims(s->self, scope, out, max);
  uint32_t got = pass(s, out, NEAP_MIN(said, max));
  s->refused += said - got;
  return got;
}

/* Ends, because the completer names each slot once; some of them the policy has named before. */
static uint32_t complete(neap__stream *s, uint32_t scope, uint32_t *out, uint32_t max) {
  uint32_t got = 0;
  while (got < max) {
    uint32_t said = s->completer->victims(s->completer_self, scope, out + got, max - got);
    if (said == 0) break;
    got += pass(s, out + got, said);
  }
  return got;
}

uint32_t neap__stream_victims(neap__stream *stream, uint32_t scope, uint32_t *out, uint32_t max) {
  if (max == 0) return 0;
  pthread_mutex_lock(&stream->policy_lock);
  deliver_pending(stream);
  uint32_t got = ask_policy(stream, scope, out, max);
  if (stream->completer != NULL) got += complete(stream, scope, out + got, max - got);
  pthread_mutex_unlock(&stream->policy_lock);
  return got;
}

uint64_t neap__stream_refused(neap__stream *stream) {
  pthread_mutex_lock(&stream->policy_lock);
  uint64_t refused = stream->refused;
  pthread_mutex_unlock(&stream->policy_lock);
  return refused;
}
