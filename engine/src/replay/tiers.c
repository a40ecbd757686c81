/* SPDX-License-Identifier: MIT
 *
 * replay/tiers.c - see tiers.h. */
#include "replay/tiers.h"

#include <stdlib.h>
#include <string.h>

#define NOBODY UINT32_MAX
#define KIB_PER_MIB 1024.0

/* A chunk of a tier: its neighbours in the order of use. `prev` of a chunk that is not there is OUTSIDE. */
#define OUTSIDE (UINT32_MAX - 1)
typedef struct seat {
  uint32_t prev, next;
} seat;

typedef struct tier {
  const neap__replay_tier *config;
  seat *seats; /* [numbers] */
  uint32_t oldest, newest;
  uint64_t used;
  neap__replay_tier_stats stats;
} tier;

struct neap__replay_tiers {
  tier tier[NEAP__REPLAY_TIERS];
  neap_tier_view view[NEAP__REPLAY_TIERS];
  uint32_t count;
  const neap__lineage *lineage;
  double chunk_kib;
  neap_cost cost;
  /* Of one request: [room] */
  uint32_t room;
  neap_plan_chunk *chunk;
  uint8_t *source, *pass;
};

/* --- one tier ----------------------------------------------------------------------------------------------------- */

static bool has(const tier *t, uint32_t number) { return t->seats[number].prev != OUTSIDE; }

static void unlink_seat(tier *t, uint32_t number) {
  seat *s = &t->seats[number];
  if (s->prev != NOBODY)
    t->seats[s->prev].next = s->next;
  else
    t->oldest = s->next;
  if (s->next != NOBODY)
    t->seats[s->next].prev = s->prev;
  else
    t->newest = s->prev;
  s->prev = OUTSIDE;
}

static void append_seat(tier *t, uint32_t number) {
  t->seats[number] = (seat){.prev = t->newest, .next = NOBODY};
  if (t->newest != NOBODY)
    t->seats[t->newest].next = number;
  else
    t->oldest = number;
  t->newest = number;
}

static uint32_t units_of(const neap__ghost_request *request, uint32_t number) {
  return request->units ? request->units[number] : 1;
}

static double kib_of(const neap__replay_tiers *tiers, const neap__ghost_request *request, uint32_t number) {
  return request->units ? request->units[number] : tiers->chunk_kib;
}

static void evict_oldest(neap__replay_tiers *tiers, uint32_t at, neap__ghost_cache *cache,
                         const neap__ghost_request *request) {
  tier *t = &tiers->tier[at];
  uint32_t number = t->oldest, slot = neap__ghost_slot(cache, number);
  unlink_seat(t, number);
  t->used -= units_of(request, number);
  t->stats.evictions++;
  if (slot != NEAP_POLICY_NO_SLOT)
    neap__instance_chunks(neap__ghost_instance(cache))[slot].tiers &= (uint8_t) ~(1u << at);
}

static void store(neap__replay_tiers *tiers, uint32_t at, neap__ghost_cache *cache, const neap__ghost_request *request,
                  uint32_t number) {
  tier *t = &tiers->tier[at];
  uint32_t units = units_of(request, number);
  if (has(t, number) || units > t->config->capacity) return;
  while (t->used + units > t->config->capacity) evict_oldest(tiers, at, cache, request);
  append_seat(t, number);
  t->used += units;
  t->stats.stores++;
  t->stats.stored_kib += (uint64_t)kib_of(tiers, request, number);
  neap__ghost_tell(cache, NEAP_EV_STORED, number, (uint8_t)at);
}

/* --- plans -------------------------------------------------------------------------------------------------------- */

static int make_room(neap__replay_tiers *tiers, uint32_t chunks) {
  if (chunks <= tiers->room) return 0;
  uint32_t room = NEAP_MAX(chunks, tiers->room * 2);
  neap_plan_chunk *chunk = realloc(tiers->chunk, room * sizeof(*chunk));
  if (chunk) tiers->chunk = chunk;
  uint8_t *source = chunk ? realloc(tiers->source, room) : NULL;
  if (source) tiers->source = source;
  uint8_t *pass = source ? realloc(tiers->pass, room) : NULL;
  if (!pass) return NEAP_ENOMEM;
  tiers->pass = pass;
  tiers->room = room;
  return 0;
}

static void describe_tiers(neap__replay_tiers *tiers, const neap__ghost_request *request) {
  double unit = request->units ? 1024 : tiers->chunk_kib * 1024;
  for (uint32_t t = 0; t < tiers->count; t++) {
    tiers->view[t].used_bytes = (uint64_t)((double)tiers->tier[t].used * unit);
    tiers->view[t].capacity_bytes = (uint64_t)((double)tiers->tier[t].config->capacity * unit);
  }
}

static void describe(neap__replay_tiers *tiers, neap__ghost_cache *cache, const neap__ghost_request *request) {
  const neap_chunk *rows = neap__instance_chunks(neap__ghost_instance(cache));
  for (uint32_t i = 0; i < request->chunks; i++) {
    uint32_t number = request->chunk[i], slot = neap__ghost_slot(cache, number), mask = 0;
    for (uint32_t t = 0; t < tiers->count; t++) mask |= (uint32_t)has(&tiers->tier[t], number) << t;
    tiers->chunk[i] = (neap_plan_chunk){.slot = slot,
                                        .h1 = (uint32_t)tiers->lineage->hash[number],
                                        .h2 = (uint32_t)(tiers->lineage->hash[number] >> 32),
                                        .kib = (uint32_t)kib_of(tiers, request, number),
                                        .pos = i,
                                        .hits = slot == NEAP_POLICY_NO_SLOT ? 0 : rows[slot].hits,
                                        .tiers = mask,
                                        .recompute_us = (uint32_t)(tiers->cost.base_us + tiers->cost.slope_us * i)};
  }
  describe_tiers(tiers, request);
}

/* What the engine proposes: the longest prefix that L1 and the tiers have, each chunk from the first that has it. */
static void plan_load(neap__replay_tiers *tiers, neap__ghost_cache *cache, const neap__ghost_request *request,
                      neap_load_plan *plan) {
  uint32_t load = 0;
  for (uint32_t i = 0; i < request->chunks; i++) {
    const neap_plan_chunk *c = &tiers->chunk[i];
    bool resident = c->slot != NEAP_POLICY_NO_SLOT;
    tiers->source[i] = resident || c->tiers == 0 ? UINT8_MAX : (uint8_t)__builtin_ctz(c->tiers);
    if (load == i && (resident || c->tiers != 0)) load++;
  }
  const neap_load_plan own = {.size = sizeof(own),
                              .tenant = request->tenant,
                              .request = request->request,
                              .chunks = request->chunks,
                              .tiers = tiers->count,
                              .chunk = tiers->chunk,
                              .tier = tiers->view,
                              .source = tiers->source,
                              .load = load,
                              .keep = load};
  *plan = own;
  if (neap__instance_policy(neap__ghost_instance(cache))->load_plan) {
    neap__ghost_flush(cache);
    if (!neap__instance_load_plan(neap__ghost_instance(cache), plan)) *plan = own;
  }
}

/* --- a request ---------------------------------------------------------------------------------------------------- */

static void load(neap__replay_tiers *tiers, const neap__ghost_request *request, const neap_load_plan *plan,
                 neap__replay_tiers_answer *answer) {
  uint32_t asked = 0; /* bit t: something comes from tier t */
  memset(tiers->pass, 0, request->chunks);
  for (uint32_t i = plan->load; i-- > 0;) { /* the head ends as the newest */
    uint32_t number = request->chunk[i];
    if (tiers->chunk[i].slot != NEAP_POLICY_NO_SLOT || !has(&tiers->tier[tiers->source[i]], number)) continue;
    tier *t = &tiers->tier[tiers->source[i]];
    double kib = kib_of(tiers, request, number);
    unlink_seat(t, number);
    append_seat(t, number);
    t->stats.loads++;
    t->stats.loaded_kib += (uint64_t)kib;
    answer->load_us += kib * t->config->us_per_kib;
    answer->loaded++;
    asked |= 1u << tiers->source[i];
    tiers->pass[i] = i >= plan->keep;
  }
  for (uint32_t t = 0; t < tiers->count; t++)
    if (asked >> t & 1u) answer->load_us += tiers->tier[t].config->first_us;
}

/* Chunks that became resident: where they came from and who else has them. */
static void tell_loaded(neap__replay_tiers *tiers, neap__ghost_cache *cache, const neap__ghost_request *request,
                        uint32_t loaded) {
  for (uint32_t i = request->chunks; i-- > 0;) {
    const neap_plan_chunk *c = &tiers->chunk[i];
    if (c->slot != NEAP_POLICY_NO_SLOT || c->tiers == 0) continue;
    if (i < loaded) neap__ghost_tell(cache, NEAP_EV_LOADED, request->chunk[i], tiers->source[i]);
    for (uint32_t t = 0; t < tiers->count; t++)
      if (c->tiers >> t & 1u) neap__ghost_tell(cache, NEAP_EV_STORED, request->chunk[i], (uint8_t)t);
  }
}

static void store_all(neap__replay_tiers *tiers, neap__ghost_cache *cache, const neap__ghost_request *request) {
  neap__instance *instance = neap__ghost_instance(cache);
  uint32_t cut[NEAP__REPLAY_TIERS], own[NEAP__REPLAY_TIERS];
  for (uint32_t t = 0; t < tiers->count; t++) cut[t] = own[t] = request->chunks;
  if (neap__instance_policy(instance)->store_plan) {
    describe(tiers, cache, request); /* hits are those after this request */
    neap__ghost_flush(cache);
    neap_store_plan plan = {.size = sizeof(plan),
                            .tenant = request->tenant,
                            .request = request->request,
                            .chunks = request->chunks,
                            .tiers = tiers->count,
                            .chunk = tiers->chunk,
                            .tier = tiers->view,
                            .cut = cut};
    if (!neap__instance_store_plan(instance, &plan)) memcpy(cut, own, sizeof(cut));
  }
  for (uint32_t t = 0; t < tiers->count; t++)
    for (uint32_t i = cut[t]; i-- > 0;) store(tiers, t, cache, request, request->chunk[i]);
}

int neap__replay_tiers_use(neap__replay_tiers *tiers, neap__ghost_cache *cache, neap__ghost_request *request,
                           neap__replay_tiers_answer *answer) {
  neap_load_plan plan;
  int rc = make_room(tiers, request->chunks);
  if (rc != 0) return rc;
  *answer = (neap__replay_tiers_answer){.usable = 0};
  describe(tiers, cache, request);
  plan_load(tiers, cache, request, &plan);
  load(tiers, request, &plan, answer);
  answer->usable = plan.load;
  request->pass = tiers->pass;
  neap__ghost_use(cache, request, &answer->l1);
  tell_loaded(tiers, cache, request, plan.load);
  store_all(tiers, cache, request);
  return 0;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

int neap__replay_tiers_open(const neap__replay_tier *tiers, uint32_t count, const neap__lineage *lineage,
                            double chunk_kib, neap_cost cost, neap__replay_tiers **out) {
  neap__replay_tiers *all = calloc(1, sizeof(*all));
  if (!all) return NEAP_ENOMEM;
  *all = (neap__replay_tiers){.count = count, .lineage = lineage, .chunk_kib = chunk_kib, .cost = cost};
  for (uint32_t t = 0; t < count; t++) {
    tier *one = &all->tier[t];
    *one = (tier){.config = &tiers[t], .oldest = NOBODY, .newest = NOBODY};
    one->seats = malloc(lineage->count * sizeof(*one->seats));
    if (!one->seats) {
      neap__replay_tiers_close(all);
      return NEAP_ENOMEM;
    }
    for (uint32_t n = 0; n < lineage->count; n++) one->seats[n].prev = OUTSIDE;
    all->view[t] = (neap_tier_view){.name = tiers[t].name,
                                    .store_us_per_mib = tiers[t].us_per_kib * KIB_PER_MIB,
                                    .load_us_per_mib = tiers[t].us_per_kib * KIB_PER_MIB,
                                    .load_first_us = tiers[t].first_us,
                                    .healthy = 1};
  }
  *out = all;
  return 0;
}

void neap__replay_tiers_close(neap__replay_tiers *tiers) {
  if (!tiers) return;
  for (uint32_t t = 0; t < tiers->count; t++) free(tiers->tier[t].seats);
  free(tiers->chunk);
  free(tiers->source);
  free(tiers->pass);
  free(tiers);
}

void neap__replay_tiers_stats(const neap__replay_tiers *tiers, neap__replay_tier_stats out[NEAP__REPLAY_TIERS]) {
  for (uint32_t t = 0; t < tiers->count; t++) out[t] = tiers->tier[t].stats;
}
