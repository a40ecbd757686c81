/* SPDX-License-Identifier: MIT
 *
 * policy/instance.c - see instance.h.
 *
 * One row per slot says what the events said of it; `state` in it decides which proposals pass: resident, and not out
 * already. This makes answers distinct without a search, whatever the policy returns. Rows also carry the order of
 * recency, from which a policy that comes later (after a switch, or to complete an answer) is told of the residents, so
 * nobody follows the events in case it might be needed. Which victims may really go is not decided here. */
#include "policy/instance.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policies/builtin.h"
#include "policy/registry.h"

enum { EMPTY = 0, RESIDENT = 1, OUT = 2, STATE = 3, PINNED = 4 }; /* OUT: a victim, REMOVE or KEEP not yet seen */

#define SAMPLE 64u /* slots that a score is asked for at once; Hyperbolic caching (Blankstein et al., 2017) uses 64 */
#define DRAWS 8u   /* per slot of the sample, when most residents are out of scope */
#define FILTERED 256u
#define STATE_MAX (64 << 20)
#define RETOLD 12u         /* INSERT, HIT, UNLEAF, PIN, and a STORED for each bit of a row's tiers */
#define REFUSED_MAX 10000u /* so many, and nine times what was accepted, are nonsense */

/* An empty error without half a kilobyte of zeros: these questions are asked for every victim. */
#define NO_ERROR(err) \
  neap_error err;     \
  err.text[0] = '\0'

/* Residents in no order, for drawing samples. */
typedef struct pool {
  uint32_t *slot, *place; /* [slots]; place[slot] is its index in slot[] */
  uint32_t count;
} pool;

struct neap__instance {
  const neap_policy *policy;
  void *self; /* NULL: out */
  neap_policy_context context;
  char *params;
  neap_chunk *chunk;
  uint32_t order, residents;
  pool pool;       /* for a policy that scores */
  void *completer; /* of neap__policy_isolated_lru, made when it is first needed; NULL until then */
  uint64_t random;
  uint64_t events, proposals, refused, completed;
  bool out;
  neap_error why;
  neap_event filtered[FILTERED];
};

static const neap_policy *const lru = &neap__policy_isolated_lru; /* finds a tenant's slots without a walk over all */

/* --- failing -------------------------------------------------------------------------------------------------- */

/* The built-in goes on. The instance of the policy is not entered again, and not before it is destroyed. */
static void fail(neap__instance *in, const char *hook, const neap_error *err) {
  in->out = true;
  neap__fail(&in->why, NEAP_ESCRIPT, "%s: %s", hook, err->text);
}

static bool passed(neap__instance *in, const char *hook, int64_t rc, neap_error *err) {
  if (rc >= 0) return true;
  if (err->text[0] == '\0') neap__fail(err, (int)rc, "%s", neap_strerror((int)rc));
  fail(in, hook, err);
  return false;
}

static void nonsense(neap__instance *in, const char *hook, const char *what) {
  neap_error err = {""};
  neap__fail(&err, NEAP_EINVAL, "%s", what);
  fail(in, hook, &err);
}

/* --- rows ----------------------------------------------------------------------------------------------------- */

static void pool_add(pool *p, uint32_t slot) {
  p->place[slot] = p->count;
  p->slot[p->count++] = slot;
}

static void pool_remove(pool *p, uint32_t slot) {
  uint32_t last = p->slot[--p->count];
  p->slot[p->place[slot]] = last;
  p->place[last] = p->place[slot];
}

static int by_order(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* All residents, least recent first, as order << 32 | slot; NULL if there is no memory (or none is resident). */
static uint64_t *by_recency(const neap__instance *in) {
  uint64_t *all = malloc(sizeof(*all) * (in->residents + 1u));
  uint32_t count = 0;
  if (all == NULL) return NULL;
  for (uint32_t slot = 0; slot < in->context.slots && count < in->residents; slot++)
    if (in->chunk[slot].state != EMPTY) all[count++] = (uint64_t)in->chunk[slot].order << 32 | slot;
  qsort(all, count, sizeof(*all), by_order);
  return all;
}

/* After four billion uses the numbers begin anew. Without memory for it two generations mix: what that can cost is the
 * order in which a later policy is told of the residents. */
static void renumber(neap__instance *in) {
  uint64_t *all = by_recency(in);
  in->order = 0;
  for (uint32_t i = 0; all != NULL && i < in->residents; i++) in->chunk[(uint32_t)all[i]].order = ++in->order;
  free(all);
}

static void used(neap__instance *in, neap_chunk *row, const neap_event *ev) {
  row->order = ++in->order;
  row->last_ms = ev->time_ms;
  if (in->order == UINT32_MAX) renumber(in);
}

static void note(neap__instance *in, const neap_event *ev) {
  if (ev->slot >= in->context.slots) return; /* REQUEST, MISS, TICK */
  neap_chunk *row = &in->chunk[ev->slot];
  switch (ev->type) {
    case NEAP_EV_INSERT:
      if (row->state == EMPTY) {
        in->residents++;
        if (in->pool.slot != NULL) pool_add(&in->pool, ev->slot);
      }
      row->h1 = ev->h1, row->h2 = ev->h2, row->tenant = ev->tenant, row->kib = ev->kib, row->pos = ev->pos;
      row->hits = 0, row->tiers = 0, row->state = RESIDENT;
      used(in, row, ev);
      break;
    case NEAP_EV_HIT:
      if (row->state == EMPTY) break;
      if (row->hits != UINT16_MAX) row->hits++;
      used(in, row, ev);
      break;
    case NEAP_EV_REMOVE:
      if (row->state == EMPTY) break;
      in->residents--;
      if (in->pool.slot != NULL) pool_remove(&in->pool, ev->slot);
      *row = (neap_chunk){.children = row->children};
      break;
    case NEAP_EV_KEEP:
      if ((row->state & STATE) == OUT) row->state ^= OUT ^ RESIDENT;
      break;
    case NEAP_EV_PIN:
      if (row->state != EMPTY) row->state |= PINNED;
      break;
    case NEAP_EV_UNPIN: row->state &= (uint8_t)~PINNED; break;
    case NEAP_EV_STORED:
    case NEAP_EV_LOADED:
      if (row->state != EMPTY && ev->detail < 8) row->tiers |= (uint8_t)(1u << ev->detail);
      break;
    default: break;
  }
}

/* --- events --------------------------------------------------------------------------------------------------- */

static void tell_policy(neap__instance *in, const neap_event *events, uint32_t count) {
  if (in->out || count == 0) return;
  NO_ERROR(err);
  passed(in, "on_events", in->policy->on_events(in->self, events, count, &err), &err);
}

static void tell_filtered(neap__instance *in, const neap_event *events, uint32_t count) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (!(in->policy->wants >> events[i].type & 1u)) continue;
    in->filtered[kept++] = events[i];
    if (kept == FILTERED) tell_policy(in, in->filtered, kept), kept = 0;
  }
  tell_policy(in, in->filtered, kept);
}

static void tell(neap__instance *in, const neap_event *events, uint32_t count, uint32_t types) {
  if (types & ~in->policy->wants)
    tell_filtered(in, events, count);
  else
    tell_policy(in, events, count);
}

void neap__instance_deliver(neap__instance *in, const neap_event *events, uint32_t count) {
  uint32_t types = 0;
  for (uint32_t i = 0; i < count; i++) {
    note(in, &events[i]);
    types |= 1u << events[i].type;
  }
  in->events += count;
  tell(in, events, count, types);
  if (in->completer != NULL) lru->on_events(in->completer, events, count, NULL);
}

/* --- being told late ------------------------------------------------------------------------------------------ */

/* What happened to a resident, as far as it matters now. Returns how many events; at most RETOLD. */
static uint32_t retell(const neap__instance *in, uint32_t slot, neap_event *events) {
  const neap_chunk *row = &in->chunk[slot];
  const neap_event ev = {.slot = slot,
                         .type = NEAP_EV_INSERT,
                         .pos = row->pos,
                         .h1 = row->h1,
                         .h2 = row->h2,
                         .tenant = row->tenant,
                         .kib = row->kib,
                         .time_ms = row->last_ms};
  const struct {
    neap_event_type type;
    bool holds;
  } also[] = {
      {NEAP_EV_HIT, row->hits != 0}, {NEAP_EV_UNLEAF, row->children != 0}, {NEAP_EV_PIN, (row->state & PINNED) != 0}};
  uint32_t count = 0;
  events[count++] = ev;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(also); i++) {
    if (!also[i].holds) continue;
    events[count] = ev;
    events[count++].type = (uint8_t)also[i].type;
  }
  for (uint32_t tiers = row->tiers; tiers != 0; tiers &= tiers - 1) {
    events[count] = ev;
    events[count].type = NEAP_EV_STORED;
    events[count++].detail = (uint8_t)__builtin_ctz(tiers);
  }
  return count;
}

/* Tells a policy, which knows nothing yet, of all residents in order of recency. */
static int retell_all(const neap__instance *in, const neap_policy *policy, void *self, neap_error *err) {
  uint64_t *all = by_recency(in);
  neap_event told[RETOLD], events[FILTERED];
  uint32_t count = 0;
  int rc = all == NULL ? neap__fail(err, NEAP_ENOMEM, "no memory for %" PRIu32 " residents", in->residents) : 0;
  for (uint32_t i = 0; i < in->residents && rc >= 0; i++) {
    uint32_t got = retell(in, (uint32_t)all[i], told);
    for (uint32_t n = 0; n < got; n++)
      if (policy->wants >> told[n].type & 1u) events[count++] = told[n];
    if (count + RETOLD <= FILTERED && i + 1 < in->residents) continue;
    rc = count ? policy->on_events(self, events, count, err) : 0;
    count = 0;
  }
  free(all);
  return NEAP_MIN(rc, 0);
}

/* --- victims -------------------------------------------------------------------------------------------------- */

/* Moves what may pass to the front of out and returns how many. */
static uint32_t pass(neap__instance *in, uint32_t *out, uint32_t count) {
  uint32_t got = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t slot = out[i];
    if (slot >= in->context.slots || (in->chunk[slot].state & STATE) != RESIDENT) continue;
    in->chunk[slot].state ^= OUT ^ RESIDENT;
    out[got++] = slot;
  }
  return got;
}

/* Victims that are no leaves go back to a policy that promised leaves. */
static uint32_t pass_leaves(neap__instance *in, uint32_t *out, uint32_t count) {
  uint32_t got = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (in->chunk[out[i]].children == 0) {
      out[got++] = out[i];
      continue;
    }
    const neap_event keep = {.slot = out[i], .type = NEAP_EV_KEEP};
    neap__instance_deliver(in, &keep, 1);
  }
  return got;
}

static uint32_t ask_victims(neap__instance *in, uint32_t scope, uint32_t *out, uint32_t max) {
  NO_ERROR(err);
  memset(out, 0xff, max * sizeof(*out)); /* a policy that claims more than it wrote has proposed UINT32_MAX, no slot */
  int said = in->policy->victims(in->self, scope, out, max, &err);
  if (!passed(in, "victims", said, &err)) return 0;
  uint32_t got = pass(in, out, NEAP_MIN((uint32_t)said, max));
  in->proposals += got;
  in->refused += (uint32_t)said - got;
  if (in->refused > REFUSED_MAX && in->refused / 9 > in->proposals)
    nonsense(in, "victims", "nine of ten victims are no residents; expected slots that were inserted and not removed");
  return in->policy->constraint & NEAP_EVICT_LEAF ? pass_leaves(in, out, got) : got;
}

static uint32_t random_below(neap__instance *in, uint32_t below) { /* splitmix64 (Steele, Lea, Flood 2014) */
  uint64_t x = in->random += UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return (uint32_t)(((x ^ x >> 31) >> 32) * below >> 32);
}

static bool eligible(const neap__instance *in, uint32_t slot, uint32_t scope) {
  const neap_chunk *row = &in->chunk[slot];
  return row->state == RESIDENT && (scope == NEAP_SCOPE_ALL || row->tenant == scope) &&
         !(in->policy->constraint & NEAP_EVICT_LEAF && row->children != 0);
}

/* Distinct eligible slots: all of a small pool, else a random sample of a large one. */
static uint32_t draw(neap__instance *in, uint32_t scope, uint32_t *slots, uint32_t want) {
  const pool *p = &in->pool;
  uint32_t got = 0;
  bool all = p->count <= want * 2;
  for (uint32_t i = 0; i < (all ? p->count : want * DRAWS) && got < want; i++) {
    uint32_t slot = p->slot[all ? i : random_below(in, p->count)];
    if (!eligible(in, slot, scope)) continue;
    in->chunk[slot].state ^= OUT ^ RESIDENT; /* drawn: not eligible a second time */
    slots[got++] = slot;
  }
  for (uint32_t i = 0; i < got; i++) in->chunk[slots[i]].state ^= OUT ^ RESIDENT;
  return got;
}

/* The one of lowest score in a fresh sample. NaN is nonsense. */
static bool ask_score(neap__instance *in, uint32_t scope, uint32_t *out) {
  uint32_t slots[SAMPLE], count = draw(in, scope, slots, SAMPLE), best = 0;
  double scores[SAMPLE];
  NO_ERROR(err);
  for (uint32_t i = 0; i < count; i++) scores[i] = (double)NAN;
  if (count == 0 || !passed(in, "score", in->policy->score(in->self, slots, count, scores, &err), &err)) return false;
  for (uint32_t i = 0; i < count; i++) {
    if (isnan(scores[i])) {
      nonsense(in, "score", "a score is not a number; expected one for every slot");
      return false;
    }
    if (scores[i] < scores[best]) best = i;
  }
  *out = slots[best];
  in->proposals++;
  return pass(in, out, 1) == 1;
}

static uint32_t ask_policy(neap__instance *in, uint32_t scope, uint32_t *out, uint32_t max) {
  if (in->out) return 0;
  if (in->policy->victims != NULL) return ask_victims(in, scope, out, max);
  uint32_t got = 0;
  while (got < max && ask_score(in, scope, &out[got])) got++;
  return got;
}

static bool have_completer(neap__instance *in) {
  if (in->completer != NULL) return true;
  neap_error err = {""};
  void *self = NULL;
  int rc = lru->create(lru, &in->context, &self, &err);
  if (rc == 0) rc = retell_all(in, lru, self, &err);
  if (rc != 0) {
    if (self != NULL) lru->destroy(self);
    NEAP_LOG_ERROR("no victims but those of policy %s: %s", in->policy->name, err.text);
    return false;
  }
  in->completer = self;
  return true;
}

/* Ends, because the completer names each slot once; some of them the policy has named before. */
static uint32_t complete(neap__instance *in, uint32_t scope, uint32_t *out, uint32_t max) {
  uint32_t got = 0;
  while (got < max) {
    int said = lru->victims(in->completer, scope, out + got, max - got, NULL);
    if (said <= 0) break;
    got += pass(in, out + got, (uint32_t)said);
  }
  in->completed += got;
  return got;
}

uint32_t neap__instance_victims(neap__instance *in, uint32_t scope, uint32_t *out, uint32_t max) {
  if (max == 0) return 0;
  uint32_t got = ask_policy(in, scope, out, max);
  bool stands = !in->out && in->policy->flags & NEAP_POLICY_SHORT_STANDS;
  if (got == max || got == in->residents || stands || !have_completer(in)) return got;
  return got + complete(in, scope, out + got, max - got);
}

/* --- plans ---------------------------------------------------------------------------------------------------- */

bool neap__instance_store_plan(neap__instance *in, neap_store_plan *plan) {
  if (in->out || in->policy->store_plan == NULL) return false;
  neap_error err = {""};
  if (!passed(in, "store_plan", in->policy->store_plan(in->self, plan, &err), &err)) return false;
  for (uint32_t t = 0; t < plan->tiers; t++)
    if (plan->cut[t] > plan->chunks) {
      nonsense(in, "store_plan", "a cut lies behind the last chunk; expected 0 to the number of chunks");
      return false;
    }
  return true;
}

static const char *wrong_load(const neap_load_plan *plan) {
  if (plan->load > plan->chunks) return "'load' is more than there are chunks";
  if (plan->keep > plan->chunks) return "'keep' is more than there are chunks";
  for (uint32_t i = 0; i < plan->load; i++) {
    const neap_plan_chunk *c = &plan->chunk[i];
    bool resident = c->slot != NEAP_POLICY_NO_SLOT;
    if (!resident && (plan->source[i] >= plan->tiers || !(c->tiers >> plan->source[i] & 1u)))
      return "a chunk's 'source' is not a tier that has it";
  }
  return NULL;
}

bool neap__instance_load_plan(neap__instance *in, neap_load_plan *plan) {
  if (in->out || in->policy->load_plan == NULL) return false;
  neap_error err = {""};
  if (!passed(in, "load_plan", in->policy->load_plan(in->self, plan, &err), &err)) return false;
  const char *wrong = wrong_load(plan);
  if (wrong != NULL) nonsense(in, "load_plan", wrong);
  plan->keep = NEAP_MIN(plan->keep, plan->load); /* who loads less need not say so twice */
  return wrong == NULL;
}

void neap__instance_hint(neap__instance *in, const neap_hint *hints, uint32_t count) {
  if (in->out || in->policy->on_hint == NULL || count == 0) return;
  neap_error err = {""};
  passed(in, "on_hint", in->policy->on_hint(in->self, hints, count, &err), &err);
}

uint32_t neap__instance_predict(neap__instance *in, neap_hint *out, uint32_t max) {
  if (in->out || in->policy->predict == NULL || max == 0) return 0;
  neap_error err = {""};
  int said = in->policy->predict(in->self, out, max, &err);
  if (!passed(in, "predict", said, &err)) return 0;
  if ((uint32_t)said > max) nonsense(in, "predict", "more predictions than were asked for");
  return in->out ? 0 : (uint32_t)said;
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static void pool_free(pool *p) {
  free(p->slot);
  free(p->place);
  *p = (pool){0};
}

static int pool_fill(const neap__instance *in, const neap_policy *policy, pool *p, neap_error *err) {
  if (policy->score == NULL) return 0;
  p->slot = calloc(in->context.slots, sizeof(*p->slot));
  p->place = calloc(in->context.slots, sizeof(*p->place));
  if (p->slot == NULL || p->place == NULL) {
    pool_free(p);
    return neap__fail(err, NEAP_ENOMEM, "no memory for the sample of %" PRIu32 " slots", in->context.slots);
  }
  for (uint32_t slot = 0; slot < in->context.slots; slot++)
    if (in->chunk[slot].state != EMPTY) pool_add(p, slot);
  return 0;
}

/* What a policy has learnt goes on in the next one of its name. State that cannot be had is left behind; state that is
 * not taken is the next one's failure. */
static int hand_over(neap__instance *in, const neap_policy *policy, void *self, neap_error *err) {
  const neap_policy *from = in->policy;
  if (from == NULL || in->out || !from->save || !policy->load || strcmp(from->name, policy->name) != 0) return 0;
  NO_ERROR(why);
  int64_t bytes = from->save(in->self, NULL, 0, &why), got = NEAP_ELIMIT;
  void *state = bytes >= 0 && bytes <= STATE_MAX ? malloc((size_t)bytes + 1) : NULL;
  if (state != NULL) got = from->save(in->self, state, (uint64_t)bytes, &why);
  int rc = 0;
  if (got >= 0 && got <= bytes)
    rc = NEAP_MIN(policy->load(self, state, (uint64_t)got, err), 0);
  else
    NEAP_LOG_WARN("policy %s: its state is left behind: %s", from->name,
                  why.text[0] ? why.text : "save promised another size than it took, or more than 64 MiB");
  free(state);
  return rc;
}

int neap__instance_switch(neap__instance *in, const neap_policy *policy, const char *params, neap_error *err) {
  int rc = neap__policy_check(policy, err);
  if (rc != 0) return rc;
  char *before = in->params, *copy = strdup(params != NULL ? params : "");
  pool fresh = {0};
  void *self = NULL;
  if (copy == NULL) return neap__fail(err, NEAP_ENOMEM, "no memory for the policy's parameters");
  in->context.params = copy;
  rc = pool_fill(in, policy, &fresh, err);
  if (rc == 0) rc = NEAP_MIN(policy->create(policy, &in->context, &self, err), 0);
  bool created = rc == 0;
  if (rc == 0) rc = hand_over(in, policy, self, err);
  if (rc == 0 && in->residents != 0) rc = retell_all(in, policy, self, err);
  if (rc != 0) {
    if (created) policy->destroy(self);
    in->context.params = before;
    pool_free(&fresh);
    free(copy);
    return rc;
  }
  if (in->policy != NULL) in->policy->destroy(in->self);
  if (in->completer != NULL) lru->destroy(in->completer);
  pool_free(&in->pool);
  free(before);
  in->policy = policy, in->self = self, in->params = copy, in->pool = fresh, in->completer = NULL;
  in->proposals = in->refused = in->completed = 0;
  in->out = false;
  in->why.text[0] = '\0';
  return 0;
}

int neap__instance_open(const neap__instance_config *config, neap__instance **out, neap_error *err) {
  uint32_t slots = config->slots;
  if (slots == 0 || slots >= UINT32_MAX - 1)
    return neap__fail(err, NEAP_EINVAL, "slots is %" PRIu32 "; expected 1 to %" PRIu32, slots, UINT32_MAX - 2);
  neap__instance *in = calloc(1, sizeof(*in));
  if (in != NULL) in->chunk = calloc(slots, sizeof(*in->chunk));
  if (in == NULL || in->chunk == NULL) {
    free(in);
    return neap__fail(err, NEAP_ENOMEM, "no memory for the rows of %" PRIu32 " slots", slots);
  }
  in->random = config->seed;
  in->context = (neap_policy_context){.size = sizeof(in->context),
                                      .slots = slots,
                                      .capacity = config->capacity ? config->capacity : slots,
                                      .seed = config->seed,
                                      .chunk = in->chunk,
                                      .next = config->next,
                                      .cost = config->cost};
  int rc = neap__instance_switch(in, config->policy, config->params, err);
  if (rc != 0) {
    free(in->chunk);
    free(in);
    return rc;
  }
  *out = in;
  return 0;
}

void neap__instance_close(neap__instance *in) {
  if (in == NULL) return;
  in->policy->destroy(in->self);
  if (in->completer != NULL) lru->destroy(in->completer);
  pool_free(&in->pool);
  free(in->params);
  free(in->chunk);
  free(in);
}

neap_chunk *neap__instance_chunks(neap__instance *in) { return in->chunk; }
neap_policy_context *neap__instance_context(neap__instance *in) { return &in->context; }
const neap_policy *neap__instance_policy(neap__instance *in) { return in->policy; }
bool neap__instance_works(const neap__instance *in) { return !in->out; }

uint32_t neap__instance_wants(const neap__instance *in) {
  const uint32_t known = (NEAP_WANTS(TICK) << 1) - 2, leaves = NEAP_WANTS(LEAF) | NEAP_WANTS(UNLEAF);
  const neap_policy *p = in->policy;
  if (in->out) return lru->wants;
  uint32_t wants = p->wants & known;
  if (wants & leaves || p->constraint & NEAP_EVICT_LEAF) wants |= leaves;
  if (p->store_plan || p->load_plan) wants |= NEAP_WANTS(STORED) | NEAP_WANTS(LOADED);
  return wants;
}

void neap__instance_stats_get(const neap__instance *in, neap__instance_stats *out) {
  *out = (neap__instance_stats){.events = in->events,
                                .proposals = in->proposals,
                                .refused = in->refused,
                                .completed = in->completed,
                                .residents = in->residents,
                                .out = in->out,
                                .why = in->why};
}
