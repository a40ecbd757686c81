/* SPDX-License-Identifier: MIT
 *
 * l2/catalogue.c - a chained hash table over one growing array, with the entries also linked by recency.
 *
 * Positions instead of pointers, so that the array may move when it grows. A position is also the slot by which a
 * policy knows an entry; the order of recency is kept beside it, for what the catalogue itself has to forget. See
 * catalogue.h for the promises. */
#include "l2/catalogue.h"

#include <stdlib.h>
#include <string.h>

#define NIL UINT32_MAX
#define MODELS_MAX 1024u
#define ITEMS_FIRST 1024u

struct neap__catalogue {
  neap__names *names;
  neap__item *items;
  uint32_t *buckets; /* as many as items, a power of two */
  uint32_t cap, items_max, count;
  uint32_t fresh, free; /* never used from here on; list of given-back positions, linked by chain */
  uint32_t newest, oldest;
  uint64_t bytes, leaving;
  uint64_t *tenant_bytes, *tenant_leaving;
  uint32_t tenants; /* with bytes > 0 */
  char *models[MODELS_MAX];
  uint32_t model_count, model_last;
  uint32_t space_model[NEAP_SPACES_MAX];
  const neap_policy *policy; /* NULL: order of recency */
  void *policy_self;
  neap_policy_context policy_context;
  uint32_t teach_at; /* the next entry to tell it of */
  bool teaching, taught;
};

int neap__catalogue_open(neap__names *names, uint32_t items_max, neap__catalogue **out) {
  neap__catalogue *c = calloc(1, sizeof(*c));
  if (!c) return NEAP_ENOMEM;
  c->names = names;
  c->items_max = items_max;
  c->newest = c->oldest = c->free = c->teach_at = NIL;
  memset(c->space_model, 0xff, sizeof(c->space_model));
  c->tenant_bytes = calloc(NEAP_TENANTS_MAX, sizeof(uint64_t));
  c->tenant_leaving = calloc(NEAP_TENANTS_MAX, sizeof(uint64_t));
  if (!c->tenant_bytes || !c->tenant_leaving) {
    neap__catalogue_close(c);
    return NEAP_ENOMEM;
  }
  *out = c;
  return 0;
}

void neap__catalogue_close(neap__catalogue *c) {
  if (!c) return;
  if (c->policy) c->policy->destroy(c->policy_self);
  for (uint32_t i = 0; i < c->model_count; i++) free(c->models[i]);
  free(c->tenant_bytes);
  free(c->tenant_leaving);
  free(c->items);
  free(c->buckets);
  free(c);
}

/* --- ids ------------------------------------------------------------------------------------------------------ */

/* The number of a model name, added if new. Listings come in runs of one model, so the last answer is tried first. */
static int model_number(neap__catalogue *c, const char *model, uint32_t *number) {
  if (c->model_count && strcmp(c->models[c->model_last], model) == 0) {
    *number = c->model_last;
    return 0;
  }
  uint32_t i = 0;
  while (i < c->model_count && strcmp(c->models[i], model) != 0) i++;
  if (i == MODELS_MAX) return NEAP_ELIMIT;
  if (i == c->model_count) {
    c->models[i] = strdup(model);
    if (!c->models[i]) return NEAP_ENOMEM;
    c->model_count++;
  }
  c->model_last = *number = i;
  return 0;
}

int neap__catalogue_id(neap__catalogue *c, const neap__key *key, neap__key *id) {
  *id = *key;
  uint32_t *number = &c->space_model[key->space % NEAP_SPACES_MAX];
  if (*number == NIL) {
    int rc = model_number(c, neap__names_model(c->names, key->space), number);
    if (rc) return rc;
  }
  id->space = *number;
  return 0;
}

int neap__catalogue_id_of(neap__catalogue *c, const neap_object_key *key, neap__key *id) {
  memcpy(id->hash, key->hash, sizeof(id->hash));
  id->rank = key->rank;
  id->group = key->group;
  int rc = neap__names_tenant(c->names, key->salt, strlen(key->salt), &id->tenant);
  return rc ? rc : model_number(c, key->model, &id->space);
}

neap_object_key neap__catalogue_name(neap__catalogue *c, const neap__key *id) {
  neap_object_key key = {.model = c->models[id->space],
                         .salt = neap__names_salt(c->names, id->tenant),
                         .rank = id->rank,
                         .group = id->group};
  memcpy(key.hash, id->hash, sizeof(key.hash));
  return key;
}

/* --- table and recency list ----------------------------------------------------------------------------------- */

static uint32_t *bucket_of(neap__catalogue *c, const neap__key *id) {
  return &c->buckets[neap__key_hash(id) & (c->cap - 1)];
}

static void unlink_recency(neap__catalogue *c, uint32_t at) {
  neap__item *item = &c->items[at];
  if (c->teach_at == at) c->teach_at = item->newer;
  *(item->newer == NIL ? &c->newest : &c->items[item->newer].older) = item->older;
  *(item->older == NIL ? &c->oldest : &c->items[item->older].newer) = item->newer;
}

static void link_newest(neap__catalogue *c, uint32_t at) {
  c->items[at].newer = NIL;
  c->items[at].older = c->newest;
  *(c->newest == NIL ? &c->oldest : &c->items[c->newest].newer) = at;
  c->newest = at;
}

static void link_oldest(neap__catalogue *c, uint32_t at) {
  c->items[at].older = NIL;
  c->items[at].newer = c->oldest;
  *(c->oldest == NIL ? &c->newest : &c->items[c->oldest].older) = at;
  c->oldest = at;
}

/* Tells the policy what happened to an entry that it knows. */
static void tell(neap__catalogue *c, const neap__item *item, neap_event_type type, uint8_t detail) {
  if (!item->tracked) return;
  neap_event event = {.slot = (uint32_t)(item - c->items),
                      .type = (uint8_t)type,
                      .detail = detail,
                      .tenant = item->id.tenant,
                      .kib = (uint32_t)NEAP_MIN((item->bytes + 1023) / 1024, UINT32_MAX)};
  memcpy(&event.h1, item->id.hash, sizeof(event.h1));
  memcpy(&event.h2, item->id.hash + sizeof(event.h1), sizeof(event.h2));
  c->policy->on_events(c->policy_self, &event, 1, NULL); /* a built-in: it does not fail */
}

static void introduce(neap__catalogue *c, neap__item *item) {
  item->tracked = true;
  tell(c, item, NEAP_EV_INSERT, 0);
}

neap__item *neap__catalogue_find(neap__catalogue *c, const neap__key *id) {
  if (!c->cap) return NULL;
  uint32_t at = *bucket_of(c, id);
  while (at != NIL && memcmp(&c->items[at].id, id, sizeof(*id)) != 0) at = c->items[at].chain;
  return at == NIL ? NULL : &c->items[at];
}

static void set_bytes(neap__catalogue *c, neap__item *item, uint64_t bytes) {
  uint64_t *used = &c->tenant_bytes[item->id.tenant];
  c->tenants -= *used > 0;
  *used += bytes - item->bytes;
  c->tenants += *used > 0;
  c->bytes += bytes - item->bytes;
  item->bytes = bytes;
}

void neap__catalogue_leave(neap__catalogue *c, neap__item *item, bool leaving) {
  if (item->leaving == leaving) return;
  item->leaving = leaving;
  uint64_t change = leaving ? item->bytes : 0 - item->bytes;
  c->leaving += change;
  c->tenant_leaving[item->id.tenant] += change;
  if (leaving || !item->proposed) return;
  item->proposed = false;
  tell(c, item, NEAP_EV_KEEP, 0);
}

static void drop(neap__catalogue *c, neap__item *item) {
  uint32_t at = (uint32_t)(item - c->items), *from = bucket_of(c, &item->id);
  tell(c, item, NEAP_EV_REMOVE, item->proposed ? NEAP_REMOVE_EVICT : NEAP_REMOVE_DELETE);
  item->proposed = item->tracked = false;
  neap__catalogue_leave(c, item, false);
  set_bytes(c, item, 0);
  while (*from != at) from = &c->items[*from].chain;
  *from = item->chain;
  unlink_recency(c, at);
  item->chain = c->free;
  c->free = at;
  c->count--;
}

static bool resize(neap__catalogue *c, uint32_t cap) {
  neap__item *items = realloc(c->items, cap * sizeof(*items));
  if (!items) return false;
  c->items = items;
  uint32_t *buckets = realloc(c->buckets, cap * sizeof(*buckets));
  if (!buckets) return false;
  c->buckets = buckets;
  c->cap = cap;
  memset(buckets, 0xff, cap * sizeof(*buckets));
  for (uint32_t at = c->newest; at != NIL; at = items[at].older) {
    uint32_t *bucket = bucket_of(c, &items[at].id);
    items[at].chain = *bucket;
    *bucket = at;
  }
  return true;
}

/* A position for one more entry, or NIL. */
static uint32_t take_position(neap__catalogue *c) {
  if (c->free != NIL) {
    uint32_t at = c->free;
    c->free = c->items[at].chain;
    return at;
  }
  if (c->fresh == c->cap && !resize(c, c->cap ? c->cap * 2 : ITEMS_FIRST)) return NIL;
  return c->fresh++;
}

static neap__item *insert(neap__catalogue *c, const neap__key *id, uint64_t bytes, bool as_newest) {
  uint32_t at = take_position(c);
  if (at == NIL) return NULL;
  neap__item *item = &c->items[at];
  uint32_t *bucket = bucket_of(c, id);
  *item = (neap__item){.id = *id, .chain = *bucket};
  *bucket = at;
  if (as_newest)
    link_newest(c, at);
  else
    link_oldest(c, at);
  c->count++;
  set_bytes(c, item, bytes);
  if (c->taught) introduce(c, item);
  return item;
}

/* The full catalogue makes place: the oldest entry that nobody needs. Its bytes stay in the store uncounted. */
static bool make_place(neap__catalogue *c) {
  if (c->count < c->items_max) return true;
  uint32_t at = c->oldest;
  while (at != NIL && (c->items[at].locks || c->items[at].leaving)) at = c->items[at].newer;
  if (at == NIL) return false;
  drop(c, &c->items[at]);
  return true;
}

neap__item *neap__catalogue_put(neap__catalogue *c, const neap__key *id, uint64_t bytes, const uint32_t *crc,
                                uint64_t seq) {
  neap__item *item = neap__catalogue_find(c, id);
  if (item) {
    neap__catalogue_leave(c, item, false);
    set_bytes(c, item, bytes);
    neap__catalogue_touch(c, item);
  } else {
    item = make_place(c) ? insert(c, id, bytes, true) : NULL;
    if (!item) return NULL;
  }
  item->seq = seq;
  if (crc) item->crc = *crc;
  item->has_crc |= crc != NULL;
  return item;
}

void neap__catalogue_forget(neap__catalogue *c, const neap__key *id, uint64_t seq) {
  neap__item *item = neap__catalogue_find(c, id);
  if (item && item->seq <= seq) drop(c, item);
}

void neap__catalogue_touch(neap__catalogue *c, neap__item *item) {
  neap__catalogue_defer(c, item);
  tell(c, item, NEAP_EV_HIT, 0);
}

void neap__catalogue_defer(neap__catalogue *c, neap__item *item) {
  uint32_t at = (uint32_t)(item - c->items);
  unlink_recency(c, at);
  link_newest(c, at);
}

/* --- recovery and eviction ------------------------------------------------------------------------------------ */

static int used_last_first(const void *a, const void *b) {
  const neap__found *x = a, *y = b;
  return (y->used_unix_s > x->used_unix_s) - (y->used_unix_s < x->used_unix_s);
}

void neap__found_sort(neap__found *found, uint32_t count) {
  if (count) qsort(found, count, sizeof(*found), used_last_first);
}

void neap__catalogue_reserve(neap__catalogue *c, uint32_t count) {
  uint64_t wanted = NEAP_MIN((uint64_t)c->count + count, c->items_max);
  uint32_t cap = c->cap ? c->cap : ITEMS_FIRST;
  while (cap < wanted) cap *= 2;
  if (cap > c->cap) (void)resize(c, cap);
}

uint32_t neap__catalogue_adopt(neap__catalogue *c, const neap__found *found, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (neap__catalogue_find(c, &found[i].id)) continue;
    if (c->count >= c->items_max || !insert(c, &found[i].id, found[i].bytes, false)) return i;
  }
  return count;
}

/* Whether a tenant's use is within an equal share of all that stays. */
static bool within_share(const neap__catalogue *c, uint32_t tenant) {
  uint64_t stays = c->tenant_bytes[tenant] - c->tenant_leaving[tenant];
  return stays <= (c->bytes - c->leaving) / NEAP_MAX(c->tenants, 1u);
}

int neap__catalogue_follow(neap__catalogue *c, const neap_policy *policy, neap_error *err) {
  c->policy_context = (neap_policy_context){
      .size = sizeof(c->policy_context), .slots = c->items_max, .capacity = c->items_max, .params = ""};
  int rc = policy->create(policy, &c->policy_context, &c->policy_self, err);
  if (rc == 0) c->policy = policy;
  return rc;
}

bool neap__catalogue_teach(neap__catalogue *c, uint32_t max) {
  if (!c->policy) return true;
  if (!c->teaching) c->teach_at = c->oldest;
  c->teaching = true;
  for (; c->teach_at != NIL && max; max--) {
    neap__item *item = &c->items[c->teach_at];
    if (!item->tracked) introduce(c, item);
    c->teach_at = item->newer;
  }
  c->taught = c->teach_at == NIL;
  return c->taught;
}

/* One proposal at a time, for it is sizes that have to add up. What cannot go is kept, and is at the end of the
 * policy's order then: who proposes as often as there are entries has proposed all. */
static uint32_t proposed_victims(neap__catalogue *c, uint64_t bytes, uint32_t max, neap__key *ids) {
  uint32_t count = 0, slot;
  uint64_t covered = 0;
  for (uint32_t tries = c->count; tries && count < max && covered < bytes; tries--) {
    if (c->policy->victims(c->policy_self, NEAP_SCOPE_ALL, &slot, 1, NULL) <= 0) break;
    neap__item *item = &c->items[slot];
    if (item->locks || item->leaving) {
      tell(c, item, NEAP_EV_KEEP, 0);
      continue;
    }
    neap__catalogue_leave(c, item, true);
    item->proposed = true;
    covered += item->bytes;
    ids[count++] = item->id;
  }
  return count;
}

uint32_t neap__catalogue_victims(neap__catalogue *c, uint64_t bytes, uint32_t max, bool fair, neap__key *ids) {
  if (c->policy) return proposed_victims(c, bytes, max, ids);
  uint32_t count = 0;
  uint64_t covered = 0;
  for (bool spare = fair;; spare = false) {
    for (uint32_t at = c->oldest; at != NIL && count < max && covered < bytes; at = c->items[at].newer) {
      neap__item *item = &c->items[at];
      if (item->locks || item->leaving) continue;
      if (spare && c->tenants > 1 && within_share(c, item->id.tenant)) continue;
      neap__catalogue_leave(c, item, true);
      covered += item->bytes;
      ids[count++] = item->id;
    }
    if (!spare) return count;
  }
}

uint32_t neap__catalogue_count(const neap__catalogue *c) { return c->count; }
uint64_t neap__catalogue_bytes(const neap__catalogue *c) { return c->bytes; }
uint64_t neap__catalogue_leaving(const neap__catalogue *c) { return c->leaving; }

uint64_t neap__catalogue_tenant_bytes(const neap__catalogue *c, uint32_t tenant) {
  return tenant < NEAP_TENANTS_MAX ? c->tenant_bytes[tenant] : 0;
}
