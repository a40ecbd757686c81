/* SPDX-License-Identifier: MIT
 *
 * l2/mount.c - the instances of a tier's adapter: opening, checking, replacing and closing them.
 *
 *   reload:  open a new one -> it answers a lookup of nothing -> swap (loop thread) -> the old one gives back what it
 *            has -> close it
 *
 * An operation goes to one instance and comes back from it; which one that is, is decided when it is handed over. So a
 * swap holds nobody up and nothing is asked twice. All instances share the tier's host, which outlives them; the tier
 * itself (queue, statistics, catalogue) does not notice. Changes run on a thread that may block, one at a time per
 * tier. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "l2/tier_defs.h"

#define NS_PER_MS UINT64_C(1000000)
#define CHECK_MS 5000u

/* --- users ---------------------------------------------------------------------------------------------------- */

void neap__mount_drop(neap__tier *tier, neap__mount *mount) {
  NEAP_ASSERT(mount->users > 0);
  if (--mount->users == 0) pthread_cond_broadcast(&tier->idle);
}

static neap__mount *use_current(neap__tier *tier) {
  pthread_mutex_lock(&tier->lock);
  neap__mount *mount = tier->mount;
  mount->users++;
  pthread_mutex_unlock(&tier->lock);
  return mount;
}

static void leave(neap__tier *tier, neap__mount *mount) {
  pthread_mutex_lock(&tier->lock);
  neap__mount_drop(tier, mount);
  pthread_mutex_unlock(&tier->lock);
}

bool neap__mount_is_old(const neap__flight *flight) { return flight->mount && flight->mount != flight->tier->mount; }

/* Waits until nobody uses it, at most so long; how many do then. */
static uint32_t await_unused(neap__tier *tier, neap__mount *mount, uint64_t until_ns) {
  struct timespec at = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
  pthread_mutex_lock(&tier->lock);
  int rc = 0;
  while (mount->users && !tier->hastened && rc == 0) rc = pthread_cond_timedwait(&tier->idle, &tier->lock, &at);
  uint32_t users = mount->users;
  pthread_mutex_unlock(&tier->lock);
  return users;
}

void neap__tier_hasten(neap__tier *tier) {
  pthread_mutex_lock(&tier->lock);
  tier->hastened = true;
  pthread_cond_broadcast(&tier->idle);
  pthread_mutex_unlock(&tier->lock);
}

/* --- opening and closing -------------------------------------------------------------------------------------- */

int neap__mount_open(neap__tier *tier, const neap_adapter *adapter, const char *params_json, neap__mount **out,
                     neap_error *err) {
  neap__mount *mount = calloc(1, sizeof(*mount));
  if (!mount) return neap__fail(err, NEAP_ENOMEM, "%s: out of memory", tier->name);
  mount->adapter = adapter;
  int rc = adapter->open(adapter, &tier->host, params_json, &mount->self, err);
  if (rc == 0)
    *out = mount;
  else
    free(mount);
  return rc;
}

void neap__mount_close(neap__mount *mount) {
  if (NEAP_HAS(mount->adapter, neap_adapter, close)) mount->adapter->close(mount->self);
  free(mount->check);
  free(mount);
}

static void put_aside(neap__tier *tier, neap__mount *mount) {
  pthread_mutex_lock(&tier->lock);
  mount->older = tier->older;
  tier->older = mount;
  tier->checked = NULL;
  pthread_mutex_unlock(&tier->lock);
}

/* Closes what was put aside and is not used any more; how many are left. */
static uint32_t sweep(neap__tier *tier) {
  uint32_t left = 0;
  neap__mount *unused = NULL;
  pthread_mutex_lock(&tier->lock);
  for (neap__mount **at = &tier->older; *at;) {
    neap__mount *mount = *at;
    if (mount->users) {
      at = &mount->older;
      left++;
      continue;
    }
    *at = mount->older;
    mount->older = unused;
    unused = mount;
  }
  pthread_mutex_unlock(&tier->lock);
  while (unused) {
    neap__mount *mount = unused;
    unused = mount->older;
    neap__mount_close(mount);
  }
  return left;
}

/* Closes it when it gives back what it has in time, else later: how many users it has. */
static uint32_t dismiss(neap__tier *tier, neap__mount *mount, uint64_t grace_ms) {
  put_aside(tier, mount);
  uint32_t users = await_unused(tier, mount, neap__now_ns() + grace_ms * NS_PER_MS);
  sweep(tier);
  return users;
}

/* --- the check ------------------------------------------------------------------------------------------------ */

struct neap__check {
  neap_op op;
  neap_object object;
  bool ended;
};

typedef struct checking {
  neap__tier *tier;
  neap__mount *mount;
} checking;

/* Late answers count, too: until then the instance cannot be closed. */
bool neap__mount_answered(neap__tier *tier, const neap_op *op) {
  neap__mount *mount = tier->checked;
  if (!mount || &mount->check->op != op)
    for (mount = tier->older; mount && (!mount->check || &mount->check->op != op);) mount = mount->older;
  if (!mount || mount->check->ended) return false;
  mount->check->ended = true;
  neap__mount_drop(tier, mount);
  return true;
}

uint32_t neap__mount_unanswered(const neap__tier *tier) {
  uint32_t count = 0;
  for (const neap__mount *mount = tier->older; mount; mount = mount->older)
    count += mount->check && !mount->check->ended;
  return count;
}

static void send_check(void *arg) {
  const checking *c = arg;
  c->mount->adapter->lookup(c->mount->self, &c->mount->check->op);
}

static void cancel_check(void *arg) {
  const checking *c = arg;
  if (NEAP_HAS(c->mount->adapter, neap_adapter, cancel))
    c->mount->adapter->cancel(c->mount->self, &c->mount->check->op);
}

/* Asks for a key that nobody can have stored. */
static int check(neap__tier *tier, neap__mount *mount, neap_error *err) {
  neap__check *asked = calloc(1, sizeof(*asked));
  if (!asked) return neap__fail(err, NEAP_ENOMEM, "%s: out of memory", tier->name);
  asked->object =
      (neap_object){.key = {.model = "neap-check", .salt = "", .rank = neap__rank(1, 0)}, .result = NEAP_EIO};
  NEAP_ASSERT(getrandom(asked->object.key.hash, sizeof(asked->object.key.hash), 0) == NEAP_HASH_BYTES);
  asked->op = (neap_op){.size = sizeof(neap_op), .kind = NEAP_OP_LOOKUP, .count = 1, .objects = &asked->object};
  asked->op.deadline_ns = neap__now_ns() + CHECK_MS * NS_PER_MS;
  pthread_mutex_lock(&tier->lock);
  mount->check = asked;
  mount->users++;
  tier->checked = mount;
  pthread_mutex_unlock(&tier->lock);

  checking c = {.tier = tier, .mount = mount};
  neap__loop_call(tier->env.loop, send_check, &c);
  if (await_unused(tier, mount, asked->op.deadline_ns)) {
    neap__loop_call(tier->env.loop, cancel_check, &c);
    return neap__fail(err, NEAP_ETIMEDOUT,
                      "self-check: a lookup was not answered within %u ms, or before the server ended", CHECK_MS);
  }
  int result = asked->object.result;
  if (result == NEAP_ENOENT) return 0;
  if (result == 0) return neap__fail(err, NEAP_EINVAL, "self-check: a lookup found a key that nobody has stored");
  return neap__fail(err, result, "self-check: a lookup ended with %s", neap_strerror(result));
}

/* --- replacing ------------------------------------------------------------------------------------------------ */

typedef struct swap {
  neap__tier *tier;
  neap__mount *mount; /* the new one; then the old one */
  const neap__limits *limits;
} swap;

static void swap_mounts(void *arg) {
  swap *s = arg;
  neap__tier *tier = s->tier;
  pthread_mutex_lock(&tier->lock);
  neap__mount *old = tier->mount;
  for (uint32_t i = 0; i < tier->flying_count; i++) {
    const neap__flight *flight = tier->flying[i];
    if (flight->mount != old) continue; /* older ones are counted; one that is being prepared goes to the new one */
    tier->stale++;
    tier->stale_writes += neap__flight_writes(flight);
  }
  tier->mount = s->mount;
  tier->table = s->mount->adapter;
  tier->checked = NULL;
  pthread_mutex_unlock(&tier->lock);
  s->mount = old;
  tier->guard.limits = *s->limits;
  neap__guard_reset(tier);
  neap__tier_pump(tier);
}

int neap__tier_reload(neap__tier *tier, const neap__tier_config *config, uint64_t grace_ms, uint32_t *left,
                      neap_error *err) {
  swap s = {.tier = tier, .limits = &config->limits};
  neap_error why = {""};
  if (sweep(tier) >= NEAP_TIER_OLDER_MAX)
    return neap__fail(err, NEAP_EBUSY, "%u earlier instances still have operations; try again when they gave them back",
                      NEAP_TIER_OLDER_MAX);
  int rc = neap__mount_open(tier, config->adapter, config->params_json, &s.mount, &why);
  if (rc) return neap__fail(err, rc, "%s; the running instance stays", why.text);
  rc = check(tier, s.mount, &why);
  if (rc) {
    dismiss(tier, s.mount, CHECK_MS);
    return neap__fail(err, rc, "%s: %s; the running instance stays", tier->name, why.text);
  }
  neap__loop_call(tier->env.loop, swap_mounts, &s);
  *left = dismiss(tier, s.mount, grace_ms);
  return 0;
}

int neap__tier_reconfigure(neap__tier *tier, const char *params_json, neap_error *err) {
  neap__mount *mount = use_current(tier);
  int rc = NEAP_ENOTSUP;
  if (NEAP_HAS(mount->adapter, neap_adapter, reconfigure))
    rc = mount->adapter->reconfigure(mount->self, params_json, err);
  else
    neap__fail(err, rc, "%s cannot take new parameters while it runs", tier->name);
  leave(tier, mount);
  return rc;
}

/* --- looking -------------------------------------------------------------------------------------------------- */

const neap_adapter *neap__tier_adapter(neap__tier *tier) { return tier->table; }

bool neap__tier_can(neap__tier *tier, neap_op_kind kind) {
  const neap_adapter *table = tier->table;
  switch (kind) {
    case NEAP_OP_STORE: return NEAP_HAS(table, neap_adapter, store);
    case NEAP_OP_LOOKUP: return NEAP_HAS(table, neap_adapter, lookup);
    case NEAP_OP_LOAD: return NEAP_HAS(table, neap_adapter, load);
    case NEAP_OP_REMOVE: return NEAP_HAS(table, neap_adapter, remove);
    case NEAP_OP_LIST: return NEAP_HAS(table, neap_adapter, list);
  }
  return false;
}

int neap__tier_status(neap__tier *tier, char *json, size_t cap) {
  char own[NEAP_TIER_STATUS_BYTES] = "";
  neap__mount *mount = use_current(tier);
  if (NEAP_HAS(mount->adapter, neap_adapter, status) && mount->adapter->status(mount->self, own, sizeof(own)) < 0)
    own[0] = 0;
  leave(tier, mount);
  cJSON *status = cJSON_Parse(own);
  if (!cJSON_IsObject(status)) {
    cJSON_Delete(status);
    status = cJSON_CreateObject();
  }
  neap__tier_stats stats;
  neap__tier_stats_get(tier, &stats);
  bool healthy = stats.healthy && !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(status, "is_healthy"));
  cJSON_DeleteItemFromObjectCaseSensitive(status, "is_healthy");
  cJSON_AddBoolToObject(status, "is_healthy", healthy);
  if (!cJSON_HasObjectItem(status, "type")) cJSON_AddStringToObject(status, "type", tier->name);
  bool fits = cap <= INT32_MAX && cJSON_PrintPreallocated(status, json, (int)cap, false);
  cJSON_Delete(status);
  return fits ? (int)strlen(json) : NEAP_ELIMIT;
}
