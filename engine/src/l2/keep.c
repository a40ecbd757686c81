/* SPDX-License-Identifier: MIT
 *
 * l2/keep.c - what a tier remembers about its store, and what it does about it: usage, verification, capacity,
 * eviction, quarantine, recovery after a restart.
 *
 * Promises: what is counted as used, together with stores under way, never passes the capacity: a store that does not
 * fit waits for victims, and fails with NEAP_ENOSPC when there are none. Eviction starts at watermark * capacity and
 * goes on, a batch at a time, until usage is below. Locked objects stay. A remove that fails is not repeated at once.
 * The store of a restarted server is listed first; until that is done nothing is evicted, for the oldest objects are
 * not known yet. With IsolatedLRU a tenant within an equal share of the usage keeps its objects as long as others
 * have more. With ARC the engine's policy of that name chooses (Megiddo and Modha, FAST 2003; policies/arc.c).
 *
 * Loop thread, but for recover_sink (the adapter's) and recover_digest (the pool's). */
#include <stdlib.h>
#include <string.h>

#include "l2/tier_defs.h"

#define WATERMARK 0.8 /* where the configuration has no eviction block */
#define RATIO 0.2
#define ADOPT_AT_ONCE 256u
#define WIDENED_MAX 8u      /* evictions that the first store waits for on behalf of later ones */
#define OVERHEAD_MAX 65536u /* an adapter's framing of one object; more is a mistake that would spoil the accounts */

/* --- removing ------------------------------------------------------------------------------------------------- */

/* Sends one remove for ids; they are marked as leaving. False: no memory. */
static bool remove_ids(neap__tier *tier, const neap__key *ids, uint32_t count, void (*done)(neap__task *task)) {
  neap__task *task = neap__task_flying(NEAP_OP_REMOVE, count);
  pthread_mutex_lock(&tier->lock);
  for (uint32_t i = 0; i < count; i++) {
    neap__item *item = neap__catalogue_find(tier->catalogue, &ids[i]);
    if (item) neap__catalogue_leave(tier->catalogue, item, task != NULL);
    if (!task) continue;
    task->flight->ids[i] = ids[i];
    task->flight->objects[i] = (neap_object){.key = neap__catalogue_name(tier->catalogue, &ids[i]), .result = NEAP_EIO};
  }
  pthread_mutex_unlock(&tier->lock);
  if (!task) return false;
  task->done = done;
  task->release = neap__task_free;
  neap__tier_enqueue(tier, task, neap__now_ns() + NEAP_TIER_DEADLINE_MS * UINT64_C(1000000), true);
  return true;
}

/* What became of a remove; what is still there no longer counts as leaving, also when the adapter never saw it. */
static void removed(neap__task *task, uint32_t *now_gone, uint32_t *gone) {
  neap__tier *tier = task->tier;
  int why = 0;
  *now_gone = *gone = 0;
  pthread_mutex_lock(&tier->lock);
  for (uint32_t i = 0; i < task->op.count; i++) {
    int result = task->op.objects[i].result;
    *now_gone += result == 0;
    *gone += result == 0 || result == NEAP_ENOENT;
    if (result == 0 || result == NEAP_ENOENT) continue;
    why = result;
    neap__item *item = neap__catalogue_find(tier->catalogue, &task->flight->ids[i]);
    if (item) neap__catalogue_leave(tier->catalogue, item, false);
  }
  pthread_mutex_unlock(&tier->lock);
  if (why)
    NEAP_LOG_WARN("%s: %u of %u objects could not be removed: %s", tier->name, task->op.count - *gone, task->op.count,
                  neap_strerror(why));
}

static void balance(neap__tier *tier);
static void evict(neap__tier *tier, uint64_t bytes);

/* What stores that the adapter has will take of the room that is made now. */
static uint64_t stores_under_way(neap__tier *tier) {
  uint64_t bytes = 0;
  pthread_mutex_lock(&tier->lock);
  for (uint32_t i = 0; i < tier->flying_count; i++)
    if (tier->flying[i]->op.kind == NEAP_OP_STORE) bytes += tier->flying[i]->bytes;
  pthread_mutex_unlock(&tier->lock);
  return bytes;
}

/* Room also for those who came short of it meanwhile. True: victims for them are on their way, all wait on. */
static bool widen(neap__tier *tier) {
  uint64_t bytes = tier->guard.short_bytes;
  tier->guard.short_bytes = 0;
  if (bytes && !tier->remove_failed && tier->guard.widened < WIDENED_MAX)
    evict(tier, 2 * bytes + stores_under_way(tier));
  tier->guard.widened = tier->removing ? tier->guard.widened + 1 : 0;
  return tier->removing;
}

static void evicted(neap__task *task) {
  neap__tier *tier = task->tier;
  uint32_t now_gone, gone;
  removed(task, &now_gone, &gone);
  pthread_mutex_lock(&tier->lock);
  tier->stats.evicted_objects += now_gone;
  pthread_mutex_unlock(&tier->lock);
  tier->removing = false;
  tier->remove_failed = gone == 0;
  bool made = gone > 0 || tier->guard.widened > 0;
  if (widen(tier)) return;
  if (gone) balance(tier);
  neap__trip_room(tier, made);
}

/* Sends for victims worth `bytes`, at most the configured share of the objects. One batch at a time. */
static void evict(neap__tier *tier, uint64_t bytes) {
  neap__key ids[NEAP_TIER_REMOVE_MAX];
  const neap__tier_config *config = tier->config;
  if (tier->closing || tier->removing || tier->recovering || !neap__tier_can(tier, NEAP_OP_REMOVE) ||
      strcmp(config->eviction_policy, "noop") == 0)
    return;
  double ratio = config->eviction_ratio > 0 ? config->eviction_ratio : RATIO;
  pthread_mutex_lock(&tier->lock);
  double share = NEAP_MIN(ratio, 1.0) * neap__catalogue_count(tier->catalogue);
  uint32_t max = NEAP_MAX((uint32_t)NEAP_MIN(share, (double)NEAP_TIER_REMOVE_MAX), 1u);
  bool fair = strcmp(config->eviction_policy, "IsolatedLRU") == 0;
  uint32_t count = neap__catalogue_victims(tier->catalogue, bytes, max, fair, ids);
  pthread_mutex_unlock(&tier->lock);
  if (!count) return;
  tier->removing = remove_ids(tier, ids, count, evicted);
  NEAP_LOG_DEBUG("%s: evicting %u objects", tier->name, count);
}

/* Evicts while usage is at the watermark or above. */
static void balance(neap__tier *tier) {
  uint64_t capacity = tier->config->capacity_bytes;
  if (!capacity) return;
  double mark = tier->config->trigger_watermark > 0 ? tier->config->trigger_watermark : WATERMARK;
  uint64_t limit = (uint64_t)(mark * (double)capacity);
  pthread_mutex_lock(&tier->lock);
  uint64_t stays = neap__catalogue_bytes(tier->catalogue) - neap__catalogue_leaving(tier->catalogue);
  pthread_mutex_unlock(&tier->lock);
  if (stays >= limit && stays > 0) evict(tier, stays - limit + 1);
}

bool neap__keep_room(neap__tier *tier, neap__flight *flight) {
  uint64_t capacity = tier->config->capacity_bytes, need = 0;
  if (!capacity) return true;
  pthread_mutex_lock(&tier->lock);
  for (uint32_t i = 0; i < flight->op.count; i++)
    if (!neap__catalogue_find(tier->catalogue, &flight->ids[i])) need += flight->objects[i].bytes;
  uint64_t total = neap__catalogue_bytes(tier->catalogue) + tier->claimed + need;
  pthread_mutex_unlock(&tier->lock);
  flight->claimed = need;
  if (total <= capacity || !need) return true;
  if (need <= capacity && !tier->remove_failed) evict(tier, total - capacity);
  if (!tier->removing) tier->remove_failed = false; /* this store is refused; the next one may try again */
  return false;
}

/* --- booking -------------------------------------------------------------------------------------------------- */

bool neap__keep_expect(neap__flight *flight) {
  bool any = false;
  neap__tier *tier = flight->tier;
  pthread_mutex_lock(&tier->lock);
  for (uint32_t i = 0; i < flight->op.count; i++) {
    neap__item *item = flight->objects[i].result ? NULL : neap__catalogue_find(tier->catalogue, &flight->ids[i]);
    flight->has_crc[i] = item && item->has_crc;
    if (flight->has_crc[i]) flight->crcs[i] = item->crc;
    any |= flight->has_crc[i];
  }
  pthread_mutex_unlock(&tier->lock);
  return any;
}

/* A hit: keeps what is known, else learns of the object. */
static void book_present(neap__tier *tier, const neap__key *id, uint64_t bytes, bool used) {
  neap__item *item = neap__catalogue_find(tier->catalogue, id);
  if (!item)
    neap__catalogue_put(tier->catalogue, id, bytes, NULL, ++tier->seq);
  else if (used)
    neap__catalogue_touch(tier->catalogue, item);
}

static void book_store(neap__flight *flight, uint32_t i) {
  neap__tier *tier = flight->tier;
  neap_object *o = &flight->objects[i];
  if (o->result == 0) {
    tier->stats.stored_objects++;
    tier->stats.stored_bytes += o->stored_bytes;
    if (o->stored_bytes == 0)
      book_present(tier, &flight->ids[i], o->bytes, true);
    else
      neap__catalogue_put(tier->catalogue, &flight->ids[i], o->stored_bytes, &flight->crcs[i], ++tier->seq);
  } else if (!flight->expired) {
    tier->stats.store_failures[-o->result]++;
  }
}

static void book_lookup(neap__flight *flight, uint32_t i) {
  neap__tier *tier = flight->tier;
  neap_object *o = &flight->objects[i];
  tier->stats.lookups++;
  if (o->result == 0 && o->bytes && o->stored_bytes && o->stored_bytes != o->bytes) o->result = NEAP_ECORRUPT;
  if (o->result == 0) {
    tier->stats.lookup_hits++;
    book_present(tier, &flight->ids[i], o->stored_bytes ? o->stored_bytes : o->bytes, false);
  }
}

static void book_load(neap__flight *flight, uint32_t i) {
  neap__tier *tier = flight->tier;
  neap_object *o = &flight->objects[i];
  if (o->result == 0) {
    tier->stats.loaded_objects++;
    tier->stats.loaded_bytes += o->bytes;
    book_present(tier, &flight->ids[i], o->bytes, true);
  } else if (!flight->expired) {
    tier->stats.load_failures[-o->result]++;
  }
}

static void book_remove(neap__flight *flight, uint32_t i) {
  neap__tier *tier = flight->tier;
  neap__item *item = neap__catalogue_find(tier->catalogue, &flight->ids[i]);
  if (flight->objects[i].result == 0) {
    neap__catalogue_forget(tier->catalogue, &flight->ids[i], flight->seq);
  } else if (item) {
    neap__catalogue_leave(tier->catalogue, item, false);
    neap__catalogue_defer(tier->catalogue, item); /* the next batch tries others */
  }
}

static void book_object(neap__flight *flight, uint32_t i) {
  neap__tier *tier = flight->tier;
  if (flight->objects[i].result == NEAP_ENOENT) neap__catalogue_forget(tier->catalogue, &flight->ids[i], flight->seq);
  switch ((neap_op_kind)flight->op.kind) {
    case NEAP_OP_STORE: book_store(flight, i); break;
    case NEAP_OP_LOOKUP: book_lookup(flight, i); break;
    case NEAP_OP_LOAD: book_load(flight, i); break;
    case NEAP_OP_REMOVE: book_remove(flight, i); break;
    case NEAP_OP_LIST: break;
  }
  bool read = flight->op.kind == NEAP_OP_LOOKUP || flight->op.kind == NEAP_OP_LOAD;
  tier->stats.quarantined += read && flight->objects[i].result == NEAP_ECORRUPT;
}

/* A result must be a code of this interface, a size must be believable. */
static bool sanitize(neap_object *o) {
  bool sane = o->result <= 0 && o->result >= NEAP_EPERM;
  if (!sane) o->result = NEAP_EIO;
  if (o->bytes) o->stored_bytes = NEAP_MIN(o->stored_bytes, o->bytes + OVERHEAD_MAX);
  return sane;
}

/* How long it took, queueing aside, if all of it was done. Under the lock. */
static void measure(neap__flight *flight) {
  bool store = flight->op.kind == NEAP_OP_STORE;
  if (!neap__flight_moves(flight) || flight->expired || flight->bounced || flight->bytes == 0) return;
  for (uint32_t i = 0; i < flight->op.count; i++)
    if (flight->objects[i].result != 0 || (store && flight->objects[i].stored_bytes == 0)) return;
  neap__pace_note(store ? &flight->tier->store_pace : &flight->tier->load_pace, (double)flight->bytes / (1 << 20),
                  (double)(neap__now_ns() - flight->start_ns) / 1e3);
}

void neap__keep_settle(neap__flight *flight) {
  neap__tier *tier = flight->tier;
  neap__tier_stats *stats = &tier->stats;
  bool answered = flight->op.kind == NEAP_OP_LIST, sane = true;
  stats->in_flight_stores -= flight->op.kind == NEAP_OP_STORE;
  stats->in_flight_loads -= flight->op.kind == NEAP_OP_LOAD;
  if (flight->op.kind == NEAP_OP_LOAD) stats->in_flight_load_bytes -= flight->bytes;
  stats->in_flight_objects -= neap__flight_moves(flight) ? flight->op.count : 0;

  for (uint32_t i = 0; i < flight->op.count; i++) {
    sane &= sanitize(&flight->objects[i]);
    if (!flight->probe) book_object(flight, i);
    answered |= !neap__guard_is_silence(flight->objects[i].result);
  }
  if (!flight->expired && !flight->bounced && !neap__mount_is_old(flight)) neap__guard_note(tier, answered);
  measure(flight);
  if (!sane) NEAP_LOG_ERROR("%s gave a result that is no error code; taken as NEAP_EIO", tier->name);
}

static void quarantined(neap__task *task) {
  uint32_t now_gone, gone;
  removed(task, &now_gone, &gone);
}

/* Takes what failed verification out of the store. Where that cannot be, the checksum stays and refuses it again. */
static void quarantine(neap__flight *flight) {
  neap__tier *tier = flight->tier;
  neap__key *ids = calloc(flight->op.count, sizeof(*ids));
  uint32_t count = 0;
  for (uint32_t i = 0; ids && i < flight->op.count; i++)
    if (flight->objects[i].result == NEAP_ECORRUPT) ids[count++] = flight->ids[i];
  if (count) {
    NEAP_LOG_WARN("%s: %u objects failed verification and are removed", tier->name, count);
    remove_ids(tier, ids, count, quarantined);
  }
  free(ids);
}

void neap__keep_after(neap__flight *flight) {
  neap__tier *tier = flight->tier;
  uint32_t kind = flight->op.kind;
  if (tier->closing) return;
  if ((kind == NEAP_OP_LOOKUP || kind == NEAP_OP_LOAD) && neap__tier_can(tier, NEAP_OP_REMOVE)) quarantine(flight);
  if (kind == NEAP_OP_REMOVE) return;

  uint64_t short_by = 0;
  for (uint32_t i = 0; kind == NEAP_OP_STORE && !flight->bounced && i < flight->op.count; i++)
    if (flight->objects[i].result == NEAP_ENOSPC) short_by += flight->objects[i].bytes;
  /* The store is fuller than its capacity says: room for these, which are tried once more, and for the next ones. */
  if (tier->removing)
    tier->guard.short_bytes += short_by;
  else if (short_by)
    evict(tier, 2 * short_by + stores_under_way(tier));
  balance(tier);
  if (!tier->removing) neap__trip_room(tier, false);
}

/* --- recovery ------------------------------------------------------------------------------------------------- */

typedef struct recovery {
  neap__found *found;
  uint32_t count, cap, skipped, adopted;
} recovery;

/* Any thread, one at a time. */
static int recover_sink(neap_op *op, const neap_list_entry *entry) {
  neap__task *task = (neap__task *)op;
  recovery *r = task->ctx;
  if (r->count == NEAP_TIER_OBJECTS_MAX) {
    r->skipped++;
    return 0;
  }
  if (r->count == r->cap) {
    uint32_t cap = r->cap ? r->cap * 2 : 1024;
    neap__found *found = realloc(r->found, cap * sizeof(*found));
    if (!found) return 1;
    r->found = found;
    r->cap = cap;
  }
  neap__found *f = &r->found[r->count];
  f->bytes = entry->bytes;
  f->used_unix_s = entry->used_unix_s;
  pthread_mutex_lock(&task->tier->lock);
  int rc = neap__catalogue_id_of(task->tier->catalogue, &entry->key, &f->id);
  pthread_mutex_unlock(&task->tier->lock);
  if (rc)
    r->skipped++;
  else
    r->count++;
  return 0;
}

static void teach(neap__tier *tier) {
  for (bool all = false; !all;) {
    pthread_mutex_lock(&tier->lock);
    all = neap__catalogue_teach(tier->catalogue, ADOPT_AT_ONCE);
    pthread_mutex_unlock(&tier->lock);
  }
}

/* On the pool, in parts: a million entries take seconds, and the loop needs the lock in between. */
static void recover_digest(neap__flight *flight) {
  neap__tier *tier = flight->tier;
  recovery *r = flight->task->ctx;
  neap__found_sort(r->found, r->count);
  pthread_mutex_lock(&tier->lock);
  neap__catalogue_reserve(tier->catalogue, r->count);
  pthread_mutex_unlock(&tier->lock);
  for (uint32_t taken = 1; taken && r->adopted < r->count; r->adopted += taken) {
    uint32_t part = NEAP_MIN(r->count - r->adopted, ADOPT_AT_ONCE);
    pthread_mutex_lock(&tier->lock);
    taken = neap__catalogue_adopt(tier->catalogue, r->found + r->adopted, part);
    pthread_mutex_unlock(&tier->lock);
  }
  teach(tier);
}

static void recover_done(neap__task *task) {
  neap__tier *tier = task->tier;
  recovery *r = task->ctx;
  int rc = task->op.list_result;
  tier->recovering = false;
  if (tier->closing || task->flight->expired) return; /* given up: the pool may still be at it */
  pthread_mutex_lock(&tier->lock);
  uint64_t bytes = neap__catalogue_bytes(tier->catalogue);
  pthread_mutex_unlock(&tier->lock);
  r->skipped += r->count - r->adopted;
  if (r->adopted)
    NEAP_LOG_INFO("%s recovered %u existing objects (%llu bytes)", tier->name, r->adopted, (unsigned long long)bytes);
  if (r->skipped) NEAP_LOG_WARN("%s: %u existing objects are not counted: a bound was reached", tier->name, r->skipped);
  if (rc && rc != NEAP_ENOTSUP) NEAP_LOG_WARN("%s could not list what it holds: %s", tier->name, neap_strerror(rc));
}

static void recover_release(neap__task *task) {
  recovery *r = task->ctx;
  free(r->found);
  free(r);
  neap__task_free(task);
}

void neap__keep_recover(neap__tier *tier) {
  if (tier->config->capacity_bytes && !neap__tier_can(tier, NEAP_OP_REMOVE))
    NEAP_LOG_WARN("%s cannot remove objects: when its capacity is used up, stores fail", tier->name);
  if (!neap__tier_can(tier, NEAP_OP_LIST)) {
    teach(tier);
    return;
  }
  neap__task *task = neap__task_flying(NEAP_OP_LIST, 0);
  recovery *r = calloc(1, sizeof(*r));
  if (!task || !r) {
    NEAP_LOG_WARN("%s: no memory to list what the store holds", tier->name);
    neap__task_free(task);
    free(r);
    teach(tier);
    return;
  }
  task->ctx = r;
  task->op.sink = recover_sink;
  task->done = recover_done;
  task->flight->digest = recover_digest;
  task->release = recover_release;
  tier->recovering = true;
  neap__tier_enqueue(tier, task, UINT64_MAX, true);
  neap__tier_pump(tier);
}
