/* SPDX-License-Identifier: MIT
 *
 * l2/guard.c - what a tier does about a store that fails: a breaker, a memory of failed keys, a pause when it is full.
 *
 * The breaker opens after so many failed operations in a row, operations that the adapter holds past their deadline
 * among them, unless that gave it hardly any time. While it is open nothing of a flow reaches the adapter and nothing
 * waits for it: a lookup is a miss, a store ends, at once. After a pause the breaker is half open: a lookup of a key
 * that cannot exist is sent, with a short deadline and in a place of its own. An answer closes the breaker, unless all
 * that the adapter takes at once still hangs in it; silence opens it for twice as long. No request ever waits for a
 * probe.
 *
 * A key whose store failed is remembered for a while and refused without asking; lookups are not concerned. A store
 * that is full, also after victims have gone, gets nothing for a while; loads go on. Each change of state is logged
 * once. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "l2/tier_defs.h"

#define NS_PER_MS UINT64_C(1000000)
#define NEGATIVE_MAX 4096u /* keys; 288 KiB once a store has failed */
#define NIL UINT32_MAX

const char *neap__breaker_name(neap__breaker state) {
  static const char *const names[] = {"closed", "open", "half-open"};
  return names[state];
}

void neap__guard_count(neap__tier *tier, uint64_t *counter, uint64_t more) {
  pthread_mutex_lock(&tier->lock);
  *counter += more;
  pthread_mutex_unlock(&tier->lock);
}

/* --- breaker -------------------------------------------------------------------------------------------------- */

bool neap__guard_refuses(const neap__tier *tier) { return tier->stats.breaker != NEAP_BREAKER_CLOSED; }

bool neap__guard_is_silence(int result) {
  return result == NEAP_EIO || result == NEAP_ETIMEDOUT || result == NEAP_ELIMIT || result == NEAP_ECANCELED ||
         result == NEAP_ECLOSED || result == NEAP_ESCRIPT;
}

void neap__guard_note(neap__tier *tier, bool answered) {
  uint32_t bound = tier->guard.limits.breaker_failures;
  if (neap__guard_refuses(tier)) return; /* the probe decides; what was sent before it tells nothing new */
  tier->failures_in_row = answered ? 0 : tier->failures_in_row + 1;
  tier->stats.healthy = tier->failures_in_row < (bound ? bound : NEAP_TIER_SICK_AFTER);
  if (!bound || tier->stats.healthy) return;
  tier->stats.breaker = NEAP_BREAKER_OPEN;
  tier->stats.breaker_opened++;
  tier->guard.tripped = true;
}

static void set_state(neap__tier *tier, neap__breaker state) {
  pthread_mutex_lock(&tier->lock);
  tier->stats.breaker = state;
  tier->stats.healthy = state == NEAP_BREAKER_CLOSED;
  tier->failures_in_row = 0;
  pthread_mutex_unlock(&tier->lock);
}

static void cool_down(neap__tier *tier) {
  tier->guard.probe_ns = neap__now_ns() + tier->guard.cooldown_ms * NS_PER_MS;
  neap__tier_arm(tier, tier->guard.probe_ns);
}

void neap__guard_act(neap__tier *tier) {
  if (!tier->guard.tripped) return;
  tier->guard.tripped = false;
  tier->guard.cooldown_ms = tier->guard.limits.cooldown_ms;
  NEAP_LOG_WARN("%s failed %u operations in a row: its breaker opens, it is not asked until a probe is answered",
                tier->name, tier->guard.limits.breaker_failures);
  cool_down(tier);
  neap__tier_refuse(tier);
  neap__trip_end_waiting(tier, NEAP_EIO);
}

/* A store that answers may still have kept all that it takes at once; whoever came next would wait for nothing. The
 * probe that has just come back no longer flies, but is counted until its release. */
static bool has_place(const neap__tier *tier) {
  uint32_t taken = tier->flying_count - tier->stale - (tier->guard.probes - 1);
  return taken < tier->guard.limits.concurrency;
}

static void probed(neap__task *task) {
  neap__tier *tier = task->tier;
  int result = task->op.objects[0].result;
  if (tier->closing || neap__mount_is_old(task->flight)) return;
  if (!neap__guard_is_silence(result) && has_place(tier)) {
    NEAP_LOG_INFO("%s answers again: its breaker closes", tier->name);
    set_state(tier, NEAP_BREAKER_CLOSED);
    return;
  }
  set_state(tier, NEAP_BREAKER_OPEN);
  uint64_t twice = (uint64_t)tier->guard.cooldown_ms * 2;
  tier->guard.cooldown_ms = (uint32_t)NEAP_MIN(twice, tier->guard.limits.cooldown_max_ms);
  cool_down(tier);
}

static void probe_back(neap__task *task) {
  task->tier->guard.probes -= task->ctx == task->tier->mount;
  neap__task_free(task);
}

/* Sends a lookup of a key that nothing has: no hash is all ones. */
static void probe(neap__tier *tier) {
  neap__task *task = tier->guard.probes < NEAP_TIER_PROBES_MAX ? neap__task_flying(NEAP_OP_LOOKUP, 1) : NULL;
  if (!task) { /* probes that never came back: when one does, there is a place for the next */
    cool_down(tier);
    return;
  }
  neap_object *object = &task->flight->objects[0];
  *object = (neap_object){.key = {.model = "neap-probe", .salt = "", .rank = neap__rank(1, 0)}, .result = NEAP_EIO};
  memset(object->key.hash, 0xff, sizeof(object->key.hash));
  task->flight->probe = true;
  task->ctx = tier->mount;
  task->done = probed;
  task->release = probe_back;
  tier->guard.probes++;
  set_state(tier, NEAP_BREAKER_HALF_OPEN);
  neap__tier_enqueue(tier, task, neap__now_ns() + tier->guard.limits.probe_ms * NS_PER_MS, true);
}

uint64_t neap__guard_tick(neap__tier *tier, uint64_t now) {
  uint64_t at_ns = tier->guard.probe_ns;
  if (!at_ns || tier->closing) return UINT64_MAX;
  if (at_ns > now) return at_ns;
  tier->guard.probe_ns = 0;
  probe(tier);
  return UINT64_MAX;
}

/* --- keys whose store failed ---------------------------------------------------------------------------------- */

typedef struct failed_key {
  neap__key id;
  uint64_t until_ns;
  int code;
  uint32_t chain; /* next in the bucket */
} failed_key;

/* A ring, oldest overwritten first: all are remembered equally long. */
typedef struct neap__negative {
  uint32_t used, next;
  uint32_t buckets[NEGATIVE_MAX];
  failed_key keys[NEGATIVE_MAX];
} negative;

static uint32_t *bucket_of(negative *n, const neap__key *id) {
  return &n->buckets[neap__key_hash(id) & (NEGATIVE_MAX - 1)];
}

static failed_key *find(negative *n, const neap__key *id) {
  uint32_t at = *bucket_of(n, id);
  while (at != NIL && memcmp(&n->keys[at].id, id, sizeof(*id)) != 0) at = n->keys[at].chain;
  return at == NIL ? NULL : &n->keys[at];
}

int neap__guard_failed_before(neap__tier *tier, const neap__key *id) {
  failed_key *key = tier->guard.negative ? find(tier->guard.negative, id) : NULL;
  return key && neap__now_ns() < key->until_ns ? key->code : 0;
}

static negative *negative_new(void) {
  negative *n = calloc(1, sizeof(*n));
  if (n) memset(n->buckets, 0xff, sizeof(n->buckets));
  return n;
}

void neap__guard_failed(neap__tier *tier, const neap__key *id, int code) {
  if (!tier->guard.limits.negative_ms) return;
  if (!tier->guard.negative) tier->guard.negative = negative_new();
  negative *n = tier->guard.negative;
  if (!n) return; /* no memory: the key will be tried again, and that is all */
  failed_key *key = find(n, id);
  if (!key) {
    uint32_t at = n->next++ % NEGATIVE_MAX;
    key = &n->keys[at];
    if (n->used == NEGATIVE_MAX) {
      uint32_t *from = bucket_of(n, &key->id);
      while (*from != at) from = &n->keys[*from].chain;
      *from = key->chain;
    } else {
      n->used++;
    }
    uint32_t *bucket = bucket_of(n, id);
    *key = (failed_key){.id = *id, .chain = *bucket};
    *bucket = at;
  }
  key->code = code;
  key->until_ns = neap__now_ns() + tier->guard.limits.negative_ms * NS_PER_MS;
}

void neap__guard_reset(neap__tier *tier) {
  neap__tier_guard *guard = &tier->guard;
  free(guard->negative);
  guard->negative = NULL;
  guard->tripped = guard->full_told = false;
  guard->probe_ns = 0;
  guard->probes = 0;
  set_state(tier, NEAP_BREAKER_CLOSED);
  pthread_mutex_lock(&tier->lock);
  tier->stats.no_space_until_ns = 0;
  pthread_mutex_unlock(&tier->lock);
}

void neap__guard_end(neap__tier *tier) { free(tier->guard.negative); }

/* --- a store that is full ------------------------------------------------------------------------------------- */

bool neap__guard_is_full(neap__tier *tier) { return neap__now_ns() < tier->stats.no_space_until_ns; }

void neap__guard_full(neap__tier *tier) {
  if (neap__guard_is_full(tier)) return;
  pthread_mutex_lock(&tier->lock);
  tier->stats.no_space_until_ns = neap__now_ns() + tier->guard.limits.no_space_ms * NS_PER_MS;
  tier->stats.no_space_pauses++;
  pthread_mutex_unlock(&tier->lock);
  if (!tier->guard.full_told)
    NEAP_LOG_WARN("%s has no space left and none could be made: for the time being it is only read", tier->name);
  tier->guard.full_told = true;
}

void neap__guard_stored(neap__tier *tier) {
  if (!tier->guard.full_told || neap__guard_is_full(tier)) return;
  tier->guard.full_told = false;
  NEAP_LOG_INFO("%s has space again", tier->name);
}
