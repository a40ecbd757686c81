/* SPDX-License-Identifier: MIT
 *
 * policies/isolated.c - see isolated.h. The queue holds all residents by recency; which instance has a slot is told by
 * the tenant in its seat. 16 bytes per slot beside the instances. */
#include "policies/isolated.h"

#include <stdio.h>
#include <stdlib.h>

#include "policies/queues.h"

#define PARTS 256u

typedef struct part {
  neap_policy_context context;
  void *self;
  uint32_t residents; /* proposed ones too */
  uint32_t tenant;    /* the first */
  bool shared;        /* there are others */
} part;

typedef struct many {
  neap__queues q; /* queue 0, by recency */
  const neap_policy *inner;
  part *parts[PARTS];
} many;

/* --- instances -------------------------------------------------------------------------------------------------- */

/* The instance of a tenant, made if there is none. */
static int part_of(many *m, uint32_t tenant, part **out, neap_error *err) {
  part **at = &m->parts[tenant % PARTS];
  *out = *at;
  if (*at != NULL) return 0;
  part *p = calloc(1, sizeof(*p));
  if (p == NULL) return neap__fail(err, NEAP_ENOMEM, "no memory for tenant %u", tenant);
  p->context = *m->q.context;
  p->context.seed += tenant % PARTS;
  p->tenant = tenant;
  int rc = m->inner->create(m->inner, &p->context, &p->self, err);
  if (rc < 0) {
    free(p);
    return rc;
  }
  *at = *out = p;
  return 0;
}

/* An instance has that share of the capacity that it has of the residents. */
static void set_capacity(const many *m, part *p) {
  uint64_t all = NEAP_MAX(1, m->q.residents);
  p->context.capacity = (uint32_t)NEAP_MAX(1, (uint64_t)m->q.context->capacity * p->residents / all);
}

/* --- events ----------------------------------------------------------------------------------------------------- */

/* Notes what happened to a slot; false if nothing did, for it is not there. */
static bool note(many *m, const neap_event *ev, part *p) {
  uint32_t i = ev->slot + 1;
  bool there = m->q.seats[i].place != NEAP__ABSENT;
  switch (ev->type) {
    case NEAP_EV_INSERT:
      if (!there) p->residents++;
      neap__seat_enter(&m->q, ev, 0);
      return true;
    case NEAP_EV_HIT:
      if (m->q.seats[i].place == NEAP__LISTED) neap__seat_append(&m->q, i, 0);
      break;
    case NEAP_EV_KEEP:
      if (there) neap__seat_append(&m->q, i, 0);
      break;
    case NEAP_EV_REMOVE:
      if (neap__seat_leave(&m->q, i)) p->residents--;
      break;
    default: break;
  }
  return there;
}

static uint32_t tenant_of(const many *m, const neap_event *ev) {
  bool known = ev->slot < m->q.context->slots && m->q.seats[ev->slot + 1].place != NEAP__ABSENT;
  return known ? m->q.seats[ev->slot + 1].tenant : ev->tenant;
}

/* The instance hears what it wants: the basic events come for the queue's sake. */
static int tell_wanted(const many *m, part *p, const neap_event *events, uint32_t count, neap_error *err) {
  int rc = 0;
  for (uint32_t i = 0, n; i < count && rc >= 0; i += NEAP_MAX(1, n)) {
    for (n = 0; i + n < count && m->inner->wants >> events[i + n].type & 1u;) n++;
    if (n != 0) rc = m->inner->on_events(p->self, &events[i], n, err);
  }
  return NEAP_MIN(rc, 0);
}

/* From events[0] on, those that one instance is to be told of together. */
static int tell_run(many *m, const neap_event *events, uint32_t count, uint32_t *told, neap_error *err) {
  part *p = NULL;
  int rc = part_of(m, tenant_of(m, events), &p, err);
  if (rc < 0) return rc;
  uint32_t n = 0;
  for (; n < count && events[n].type != NEAP_EV_TICK; n++) {
    if (m->parts[tenant_of(m, &events[n]) % PARTS] != p) break;
    if (tenant_of(m, &events[n]) != p->tenant) p->shared = true;
    if (events[n].slot < m->q.context->slots && !note(m, &events[n], p)) break;
  }
  *told = NEAP_MAX(1, n);
  set_capacity(m, p);
  return tell_wanted(m, p, events, n, err);
}

static int tell_all(many *m, const neap_event *event, neap_error *err) {
  for (uint32_t t = 0; t < PARTS; t++) {
    if (m->parts[t] == NULL) continue;
    int rc = m->inner->on_events(m->parts[t]->self, event, 1, err);
    if (rc < 0) return rc;
  }
  return 0;
}

static int isolated_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  many *m = self;
  int rc = 0;
  for (uint32_t told = 1; count > 0 && rc == 0; events += told, count -= told) {
    told = 1;
    rc = events->type == NEAP_EV_TICK ? tell_all(m, events, err) : tell_run(m, events, count, &told, err);
  }
  return rc;
}

/* --- victims ---------------------------------------------------------------------------------------------------- */

static int ask(many *m, part *p, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  set_capacity(m, p);
  int got = m->inner->victims(p->self, scope, out, max, err);
  for (int n = 0; n < got && n < (int)max; n++) /* a policy that is not ours may say anything */
    if (out[n] < m->q.context->slots && m->q.seats[out[n] + 1].place == NEAP__LISTED)
      neap__seat_take(&m->q, out[n] + 1, NEAP__PROPOSED);
  return got;
}

static int isolated_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  many *m = self;
  if (scope != NEAP_SCOPE_ALL) {
    part *p = m->parts[scope % PARTS];
    if (p == NULL || (!p->shared && p->tenant != scope)) return 0;
    return ask(m, p, p->shared ? scope : NEAP_SCOPE_ALL, out, max, err);
  }
  bool empty[PARTS] = {false};
  uint32_t got = 0;
  for (uint32_t i = m->q.list[0].oldest; i != 0 && got < max;) {
    uint32_t n = m->q.seats[i].tenant % PARTS;
    int rc = empty[n] ? 0 : ask(m, m->parts[n], NEAP_SCOPE_ALL, out + got, 1, err);
    if (rc < 0) return rc;
    got += (uint32_t)rc;
    if (rc == 0) empty[n] = true;
    i = rc == 0 ? m->q.seats[i].link.next : m->q.list[0].oldest;
  }
  return (int)got;
}

static int isolated_score(void *self, const uint32_t *slots, uint32_t count, double *scores, neap_error *err) {
  many *m = self;
  for (uint32_t n = 0; n < count; n++) {
    part *p = m->parts[m->q.seats[slots[n] + 1].tenant % PARTS];
    int rc = m->inner->score(p->self, &slots[n], 1, &scores[n], err);
    if (rc < 0) return rc;
  }
  return 0;
}

/* --- plans ------------------------------------------------------------------------------------------------------ */

static int isolated_store_plan(void *self, neap_store_plan *plan, neap_error *err) {
  many *m = self;
  part *p = NULL;
  int rc = part_of(m, plan->tenant, &p, err);
  return rc < 0 ? rc : m->inner->store_plan(p->self, plan, err);
}

static int isolated_load_plan(void *self, neap_load_plan *plan, neap_error *err) {
  many *m = self;
  part *p = NULL;
  int rc = part_of(m, plan->tenant, &p, err);
  return rc < 0 ? rc : m->inner->load_plan(p->self, plan, err);
}

static int isolated_on_hint(void *self, const neap_hint *hints, uint32_t count, neap_error *err) {
  many *m = self;
  int rc = 0;
  for (uint32_t t = 0; t < PARTS && rc >= 0; t++)
    if (m->parts[t] != NULL) rc = m->inner->on_hint(m->parts[t]->self, hints, count, err);
  return rc;
}

static int isolated_predict(void *self, neap_hint *out, uint32_t max, neap_error *err) {
  many *m = self;
  uint32_t got = 0;
  for (uint32_t t = 0; t < PARTS && got < max; t++) {
    int rc = m->parts[t] == NULL ? 0 : m->inner->predict(m->parts[t]->self, out + got, max - got, err);
    if (rc < 0) return rc;
    got += NEAP_MIN((uint32_t)rc, max - got);
  }
  return (int)got;
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void isolated_destroy(void *self) {
  many *m = self;
  for (uint32_t t = 0; t < PARTS; t++) {
    if (m->parts[t] == NULL) continue;
    m->inner->destroy(m->parts[t]->self);
    free(m->parts[t]);
  }
  neap__queues_destroy(m);
}

/* The first instance is made at once, so that bad parameters are refused here. */
static int isolated_create(const neap_policy *policy, const neap_policy_context *context, void **self,
                           neap_error *err) {
  many *m = neap__queues_new(policy, context, sizeof(*m), err);
  if (m == NULL) return NEAP_ENOMEM;
  m->inner = ((const neap__isolated *)(const void *)policy)->inner;
  *self = m;
  part *p = NULL;
  int rc = part_of(m, 0, &p, err);
  if (rc < 0) isolated_destroy(m);
  return NEAP_MIN(rc, 0);
}

void neap__isolated_init(neap__isolated *isolated, const neap_policy *inner) {
  snprintf(isolated->name, sizeof(isolated->name), "isolated:%.60s", inner->name);
  isolated->inner = inner;
  isolated->next = NULL;
  isolated->table = (neap_policy){
      NEAP__POLICY_HEAD,
      .wants = inner->wants | NEAP__WANTS_BASIC,
      .constraint = inner->constraint,
      .flags = inner->flags,
      .name = isolated->name,
      .create = isolated_create,
      .destroy = isolated_destroy,
      .on_events = isolated_on_events,
      .victims = inner->victims != NULL ? isolated_victims : NULL,
      .score = inner->score != NULL ? isolated_score : NULL,
      .store_plan = inner->store_plan != NULL ? isolated_store_plan : NULL,
      .load_plan = inner->load_plan != NULL ? isolated_load_plan : NULL,
      .on_hint = inner->on_hint != NULL ? isolated_on_hint : NULL,
      .predict = inner->predict != NULL ? isolated_predict : NULL,
  };
}
