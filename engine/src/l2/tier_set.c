/* SPDX-License-Identifier: MIT
 *
 * l2/tier_set.c - see tier_set.h. `routes` and `tiers` belong to the loop thread; the slots are under the lock, and
 * what a change does to a slot that others may see it does on the loop thread as well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "l2/tier_set_defs.h"

#define NS_PER_MS UINT64_C(1000000)
#define LOOK_MS 20u /* how often a draining tier is looked at, if nothing ends in it */

int neap__tier_set_open(const neap__tier_env *env, const char *plugin_dirs, neap__tier_set **out) {
  neap__tier_set *set = calloc(1, sizeof *set);
  if (!set) return NEAP_ENOMEM;
  set->env = *env;
  set->plugin_dirs = plugin_dirs;
  pthread_mutex_init(&set->lock, NULL);
  pthread_cond_init(&set->dropped, NULL);
  *out = set;
  return 0;
}

static void slot_free(neap__tier_set *set, neap__slot *s) {
  pthread_mutex_lock(&set->lock);
  neap__tier_config_free(&s->config);
  free(s->json);
  *s = (neap__slot){0};
  pthread_mutex_unlock(&set->lock);
}

/* --- looking -------------------------------------------------------------------------------------------------- */

neap__tier *neap__tier_set_route(const neap__tier_set *set, uint32_t index) { return set->routes[index]; }
neap__tier *neap__tier_set_at(const neap__tier_set *set, uint32_t index) { return set->tiers[index]; }
uint32_t neap__tier_set_count(const neap__tier_set *set) { return atomic_load(&set->attached); }

static bool is_seen(const neap__slot *s) { return s->state == NEAP_SLOT_ATTACHED || s->state == NEAP_SLOT_DRAINING; }

/* Under the lock. */
static void hold(neap__tier_set *set, uint32_t index, neap__tier_entry *out) {
  neap__slot *s = &set->slots[index];
  s->holds++;
  *out = (neap__tier_entry){.tier = s->tier, .index = index, .draining = s->state == NEAP_SLOT_DRAINING};
  memcpy(out->name, s->name, sizeof out->name);
}

void neap__tier_set_view(neap__tier_set *set, neap__tier_view *out) {
  out->count = 0;
  pthread_mutex_lock(&set->lock);
  for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++)
    if (is_seen(&set->slots[i])) hold(set, i, &out->entries[out->count++]);
  pthread_mutex_unlock(&set->lock);
}

void neap__tier_view_drop(neap__tier_set *set, const neap__tier_view *view) {
  for (uint32_t i = 0; i < view->count; i++) neap__tier_set_drop(set, view->entries[i].index);
}

void neap__tier_set_drop(neap__tier_set *set, uint32_t index) {
  pthread_mutex_lock(&set->lock);
  NEAP_ASSERT(set->slots[index].holds > 0);
  if (--set->slots[index].holds == 0) pthread_cond_broadcast(&set->dropped);
  pthread_mutex_unlock(&set->lock);
}

static bool is_named(const neap__slot *s, uint32_t index, const char *name) {
  char digits[16];
  snprintf(digits, sizeof digits, "%u", index);
  return is_seen(s) && (strcmp(s->name, name) == 0 || strcmp(digits, name) == 0);
}

/* Under the lock. */
static int find(neap__tier_set *set, const char *name, uint32_t *index, neap_error *err) {
  const char *names[NEAP_TIERS_MAX];
  uint32_t count = 0;
  for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++) {
    const neap__slot *s = &set->slots[i];
    *index = i;
    if (is_named(s, i, name)) return 0;
    if (is_seen(s)) names[count++] = s->name;
  }
  const char *nearest = neap__nearest(name, names, count);
  return neap__fail(err, NEAP_ENOENT, "no adapter '%.64s' is attached%s%s%s", name, nearest ? "; did you mean '" : "",
                    nearest ? nearest : "", nearest ? "'?" : "");
}

int neap__tier_set_hold(neap__tier_set *set, const char *name, neap__tier_entry *out, neap_error *err) {
  uint32_t index;
  pthread_mutex_lock(&set->lock);
  int rc = find(set, name, &index, err);
  if (rc == 0) hold(set, index, out);
  pthread_mutex_unlock(&set->lock);
  return rc;
}

/* --- attaching ------------------------------------------------------------------------------------------------ */

static bool name_taken(const neap__tier_set *set, const char *name) {
  for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++)
    if (set->slots[i].state != NEAP_SLOT_FREE && strcmp(set->slots[i].name, name) == 0) return true;
  return false;
}

/* Its own name, else its type's, else that with the first free number behind it. Under the lock. */
static int name_slot(const neap__tier_set *set, const neap__tier_config *config, char *name, neap_error *err) {
  const char *type = config->label ? config->label : config->type;
  snprintf(name, NEAP_TIER_NAME_BYTES, "%.*s", (int)NEAP_TIER_NAME_BYTES - 4, type);
  if (config->label) snprintf(name, NEAP_TIER_NAME_BYTES, "%s", config->label);
  if (config->label && name_taken(set, name))
    return neap__fail(err, NEAP_EEXIST, "name: an adapter '%s' is attached already", name);
  for (uint32_t n = 2; name_taken(set, name); n++)
    snprintf(name, NEAP_TIER_NAME_BYTES, "%.*s-%u", (int)NEAP_TIER_NAME_BYTES - 4, type, n);
  return 0;
}

/* Takes config over. */
static int reserve(neap__tier_set *set, neap__tier_config *config, const char *json, uint32_t *index, neap_error *err) {
  char name[NEAP_TIER_NAME_BYTES], *copy = strdup(json);
  int rc = copy ? 0 : neap__fail(err, NEAP_ENOMEM, "out of memory");
  pthread_mutex_lock(&set->lock);
  for (*index = 0; *index < NEAP_TIERS_MAX && set->slots[*index].state != NEAP_SLOT_FREE;) ++*index;
  if (rc == 0 && *index == NEAP_TIERS_MAX)
    rc = neap__fail(err, NEAP_ELIMIT, "%u adapters are attached, which is the most", NEAP_TIERS_MAX);
  if (rc == 0) rc = name_slot(set, config, name, err);
  if (rc == 0) {
    neap__slot *s = &set->slots[*index];
    *s = (neap__slot){.state = NEAP_SLOT_OPENING, .changing = true, .config = *config, .json = copy};
    memcpy(s->name, name, sizeof s->name);
  }
  pthread_mutex_unlock(&set->lock);
  if (rc == 0) return 0;
  free(copy);
  neap__tier_config_free(config);
  return rc;
}

typedef struct change {
  neap__tier_set *set;
  uint32_t index;
  void (*forget)(void *ctx, uint32_t index);
  void *ctx;
  bool retired;
} change;

static void publish(void *arg) {
  const change *c = arg;
  neap__tier_set *set = c->set;
  neap__slot *s = &set->slots[c->index];
  set->routes[c->index] = set->tiers[c->index] = s->tier;
  atomic_fetch_add(&set->attached, 1);
  pthread_mutex_lock(&set->lock);
  s->state = NEAP_SLOT_ATTACHED;
  s->changing = false;
  if (atomic_load(&set->hurry)) neap__tier_hasten(s->tier);
  pthread_mutex_unlock(&set->lock);
}

int neap__tier_set_attach(neap__tier_set *set, const char *json, uint32_t number, neap__tier_entry *out,
                          neap_error *err) {
  neap__tier_config config;
  uint32_t index;
  int rc = neap__tier_config_parse(json, number, set->plugin_dirs, &config, err);
  if (rc == 0) rc = reserve(set, &config, json, &index, err);
  if (rc) return rc;

  neap__slot *s = &set->slots[index];
  neap__tier_env env = set->env;
  env.index = index;
  rc = neap__tier_open(&s->config, &env, &s->tier, err);
  if (rc) {
    slot_free(set, s);
    return rc;
  }
  if (out) {
    *out = (neap__tier_entry){.index = index};
    memcpy(out->name, s->name, sizeof out->name);
  }
  neap__loop_call(set->env.loop, publish, &(change){.set = set, .index = index});
  return 0;
}

/* --- detaching ------------------------------------------------------------------------------------------------ */

int neap__slot_claim(neap__tier_set *set, const char *name, uint32_t *index, neap_error *err) {
  pthread_mutex_lock(&set->lock);
  int rc = find(set, name, index, err);
  neap__slot *s = &set->slots[*index];
  if (rc == 0 && s->changing)
    rc = neap__fail(err, NEAP_EBUSY, "a change of adapter '%s' is under way; try again when it has ended", s->name);
  if (rc == 0) s->changing = true;
  pthread_mutex_unlock(&set->lock);
  return rc;
}

void neap__slot_unclaim(neap__tier_set *set, uint32_t index) {
  pthread_mutex_lock(&set->lock);
  set->slots[index].changing = false;
  pthread_mutex_unlock(&set->lock);
}

static void begin_drain(void *arg) {
  const change *c = arg;
  neap__tier_set *set = c->set;
  if (!set->routes[c->index]) return; /* it drains already */
  set->routes[c->index] = NULL;
  atomic_fetch_sub(&set->attached, 1);
  pthread_mutex_lock(&set->lock);
  set->slots[c->index].state = NEAP_SLOT_DRAINING;
  pthread_mutex_unlock(&set->lock);
  neap__tier_hurry(set->tiers[c->index], false);
}

static void give_up(void *arg) {
  const change *c = arg;
  if (c->forget) c->forget(c->ctx, c->index);
  neap__tier_hurry(c->set->tiers[c->index], true);
}

/* From here on nobody finds the tier; those who hold it are waited for. */
static void try_retire(void *arg) {
  change *c = arg;
  neap__tier_set *set = c->set;
  c->retired = neap__tier_retire(set->tiers[c->index]);
  if (!c->retired) return;
  set->tiers[c->index] = NULL;
  pthread_mutex_lock(&set->lock);
  set->slots[c->index].state = NEAP_SLOT_CLOSING;
  pthread_mutex_unlock(&set->lock);
}

/* How many operations the adapter has when patience ends; the tier may be retired then. */
static uint32_t drain(change *c, neap__tier *tier, uint64_t grace_ms) {
  uint64_t now = neap__now_ns(), until = now + grace_ms * NS_PER_MS;
  for (;;) {
    neap__loop_call(c->set->env.loop, try_retire, c);
    now = neap__now_ns();
    if (c->retired) return 0;
    if (now >= until || atomic_load(&c->set->hurry)) return neap__tier_await(tier, now);
    neap__tier_await(tier, NEAP_MIN(until, now + LOOK_MS * NS_PER_MS));
  }
}

static void close_slot(neap__tier_set *set, uint32_t index) {
  neap__slot *s = &set->slots[index];
  pthread_mutex_lock(&set->lock);
  while (s->holds) pthread_cond_wait(&set->dropped, &set->lock);
  pthread_mutex_unlock(&set->lock);
  bool closed = neap__tier_close(s->tier, 0);
  NEAP_ASSERT(closed); /* it was quiet */
  slot_free(set, s);
}

int neap__tier_set_detach(neap__tier_set *set, const char *name, uint64_t grace_ms,
                          void (*forget)(void *ctx, uint32_t index), void *ctx, neap_error *err) {
  change c = {.set = set, .forget = forget, .ctx = ctx};
  int rc = neap__slot_claim(set, name, &c.index, err);
  if (rc) return rc;
  neap__tier *tier = set->slots[c.index].tier;
  neap__loop_call(set->env.loop, begin_drain, &c);
  uint32_t left = drain(&c, tier, grace_ms);
  if (!c.retired) {
    neap__loop_call(set->env.loop, give_up, &c);
    left = drain(&c, tier, LOOK_MS);
  }
  if (c.retired) {
    close_slot(set, c.index);
    return 0;
  }
  rc = neap__fail(
      err, NEAP_ETIMEDOUT,
      "adapter '%s' gets nothing new, but it has not given back %u operations after %llu ms; detach it again "
      "when it has",
      set->slots[c.index].name, left, (unsigned long long)grace_ms);
  neap__slot_unclaim(set, c.index);
  return rc;
}

void neap__tier_set_hurry(neap__tier_set *set) {
  atomic_store(&set->hurry, true);
  pthread_mutex_lock(&set->lock);
  for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++)
    if (is_seen(&set->slots[i])) neap__tier_hasten(set->slots[i].tier);
  pthread_mutex_unlock(&set->lock);
}

/* --- closing -------------------------------------------------------------------------------------------------- */

bool neap__tier_set_close(neap__tier_set *set, uint64_t grace_ms) {
  bool all = true;
  uint64_t until = neap__now_ns() + grace_ms * NS_PER_MS;
  for (uint32_t i = 0; i < NEAP_TIERS_MAX; i++) {
    neap__slot *s = &set->slots[i];
    if (!is_seen(s)) continue;
    uint64_t now = neap__now_ns();
    all &= neap__tier_close(s->tier, now < until ? (until - now) / NS_PER_MS : 0);
    slot_free(set, s);
  }
  pthread_cond_destroy(&set->dropped);
  pthread_mutex_destroy(&set->lock);
  free(set);
  return all;
}
