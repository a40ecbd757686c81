/* SPDX-License-Identifier: MIT
 *
 * newest_first.c - a native policy as an author would write one: the slot inserted last goes first. POLICY_ABI and
 * POLICY_CREATE make tables that must be refused. */
#include <neap/policy.h>
#include <stdlib.h>
#include <string.h>

#ifndef POLICY_ABI
#define POLICY_ABI NEAP_POLICY_ABI
#endif
#ifndef POLICY_CREATE
#define POLICY_CREATE create
#endif

typedef struct newest_first {
  uint32_t count;
  uint32_t slots[]; /* oldest first */
} newest_first;

int create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err);

int create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy, (void)err;
  *self = calloc(1, sizeof(newest_first) + context->slots * sizeof(uint32_t));
  return *self != NULL ? 0 : NEAP_ENOMEM;
}

static void take(newest_first *n, uint32_t slot) {
  for (uint32_t i = 0; i < n->count; i++) {
    if (n->slots[i] != slot) continue;
    memmove(&n->slots[i], &n->slots[i + 1], (--n->count - i) * sizeof(slot));
    return;
  }
}

static int on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)err;
  newest_first *n = self;
  for (uint32_t i = 0; i < count; i++) {
    take(n, events[i].slot);
    if (events[i].type != NEAP_EV_REMOVE) n->slots[n->count++] = events[i].slot;
  }
  return 0;
}

static int victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)scope, (void)err; /* foreign ones are the engine's to pass over */
  newest_first *n = self;
  uint32_t got = 0;
  while (got < max && n->count > 0) out[got++] = n->slots[--n->count];
  return (int)got;
}

static const neap_policy table = {
    .magic = NEAP_POLICY_MAGIC,
    .abi = POLICY_ABI,
    .size = sizeof(neap_policy),
    .wants = NEAP_WANTS(INSERT) | NEAP_WANTS(REMOVE) | NEAP_WANTS(KEEP),
    .name = "newest first",
    .create = POLICY_CREATE,
    .destroy = free,
    .on_events = on_events,
    .victims = victims,
};

NEAP_POLICY_PLUGIN(table)
