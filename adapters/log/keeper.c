/* SPDX-License-Identifier: MIT
 *
 * keeper.c - the thread that keeps the directory in order: segments ahead of demand, seals, capacity, compaction.
 *
 * Capacity is kept by whole segments, the oldest first. What was loaded since it was written is written anew, at most a
 * quarter of a segment, the latest used first; that is the CLOCK of a log. A sealed segment of which less than a third
 * is alive is emptied the same way, so each byte moved frees two. A moved object never waits for a segment, for it
 * would wait for this thread: where there is no room to write it anew, it goes.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "format.h"

#define FLUSH_NS UINT64_C(1000000000)
#define REINSERT_SHARE 4u

void neap__ls_keeper_wake(neap__ls *ls) { pthread_cond_signal(&ls->wake); }

void *neap__ls_buffer(uint64_t bytes) { return aligned_alloc(NEAP__LS_BLOCK, neap__ls_up(bytes) + NEAP__LS_BLOCK); }

/* The oldest segment that nothing is written to. Lock held. */
static neap__ls_segment *oldest(neap__ls *ls) {
  neap__ls_segment *found = NULL;
  for (uint32_t slot = 0; slot < ls->slots_top; slot++) {
    neap__ls_segment *s = ls->segments[slot];
    if (!s || s->writes || (s->state != NEAP__LS_SEALED && s->state != NEAP__LS_FULL)) continue;
    if (!found || s->number < found->number) found = s;
  }
  return found;
}

/* --- moving objects -------------------------------------------------------------------------------------------- */

typedef struct moving {
  neap__ls_record record; /* first */
  sem_t ended;
  uint32_t id;
  uint16_t from_slot;
  neap__ls_tomb from;
  int code;
  bool stale;
} moving;

static void moved(neap__ls *ls, neap__ls_record *record, int code) {
  moving *m = (moving *)record;
  m->code = code;
  if (code == 0) {
    pthread_mutex_lock(&ls->lock);
    neap__ls_entry *entry = neap__ls_entry_at(&ls->index, m->id);
    uint64_t bytes = neap__ls_record_bytes(record->bytes);
    m->stale = entry->state != NEAP__LS_LIVE || entry->segment != m->from_slot || entry->block != m->from.block;
    if (!m->stale) {
      neap__ls_segment *from = ls->segments[m->from_slot], *to = record->segment;
      from->live_bytes -= bytes;
      from->live_count--;
      to->live_bytes += bytes;
      to->live_count++;
      entry->segment = (uint16_t)to->slot;
      entry->block = record->block;
      entry->hot = 0;
      ls->counters.moved_bytes += bytes;
    }
    if (!neap__ls_tombs_add(&record->segment->tombs, m->from)) m->code = NEAP_ENOMEM;
    pthread_mutex_unlock(&ls->lock);
  }
  sem_post(&m->ended);
}

static int read_payload(neap__ls_segment *segment, uint32_t block, uint8_t *data, uint64_t bytes) {
  uint64_t at = ((uint64_t)block + 1) * NEAP__LS_BLOCK;
  while (bytes) {
    ssize_t n = pread(segment->fd, data, bytes, (off_t)at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENODATA;
    data += n;
    at += (uint64_t)n;
    bytes -= (uint64_t)n;
  }
  return 0;
}

/* Writes the record, and buries it again where the object was removed meanwhile. */
static int move_record(neap__ls *ls, moving *m) {
  sem_init(&m->ended, 0, 0);
  pthread_mutex_lock(&ls->lock);
  ls->moving = m->from;
  pthread_mutex_unlock(&ls->lock);
  neap__ls_append(ls, &m->record);
  neap__ls_pump(ls);
  while (sem_wait(&m->ended) != 0) continue;
  sem_destroy(&m->ended);
  pthread_mutex_lock(&ls->lock);
  void *waiter = ls->moving_waiter;
  ls->moving = (neap__ls_tomb){0};
  ls->moving_waiter = NULL;
  neap__ls_tomb copy = {0};
  if (m->stale) copy = (neap__ls_tomb){m->record.segment->number, m->record.block};
  pthread_mutex_unlock(&ls->lock);
  if (copy.number)
    neap__ls_append_tombs(ls, &copy, 1, true, waiter ? neap__ls_remove_finish : NULL, waiter);
  else if (waiter)
    neap__ls_remove_finish(waiter, 0); /* it was not written */
  return m->code;
}

/* Writes one object anew. `copy` is its entry as it was; its space has a reference of ours. */
static int move_payload(neap__ls *ls, neap__ls_segment *segment, uint32_t id, const neap__ls_entry *copy,
                        const neap_object_key *key) {
  moving m = {.id = id, .from_slot = copy->segment, .from = {segment->number, copy->block}};
  uint8_t *data = neap__ls_buffer(copy->bytes);
  if (!data) return NEAP_ENOMEM;
  int code = read_payload(segment, copy->block, data, copy->bytes) ? NEAP_EIO : 0;
  if (code == 0 && ls->host->crc32c(0, data, copy->bytes) != copy->crc) code = NEAP_ECORRUPT;
  if (code == 0) code = neap__ls_record_init(ls, &m.record, key, data, copy->bytes, copy->crc, m.from);
  if (code == 0) {
    m.record.finish = moved;
    m.record.no_wait = true;
    code = move_record(ls, &m);
    neap__ls_record_free(&m.record);
  }
  free(data);
  return code;
}

/* 0 also if the object is not there any more; one that turns out wrong is forgotten. */
static int move(neap__ls *ls, neap__ls_segment *segment, uint32_t id) {
  pthread_mutex_lock(&ls->lock);
  neap__ls_entry copy = *neap__ls_entry_at(&ls->index, id);
  bool there = copy.state == NEAP__LS_LIVE && copy.segment == segment->slot;
  neap_object_key key = {0};
  if (there) {
    key = neap__ls_index_key(&ls->index, &copy);
    neap__ls_space_ref(&ls->index, copy.space);
  }
  pthread_mutex_unlock(&ls->lock);
  if (!there) return 0;
  int code = move_payload(ls, segment, id, &copy, &key);
  pthread_mutex_lock(&ls->lock);
  neap__ls_space_unref(&ls->index, copy.space);
  neap__ls_entry *entry = neap__ls_entry_at(&ls->index, id);
  if (code == NEAP_ECORRUPT) ls->counters.corrupt++;
  if (code == NEAP_ECORRUPT && entry->state == NEAP__LS_LIVE && entry->segment == segment->slot &&
      entry->block == copy.block)
    neap__ls_forget(ls, id);
  pthread_mutex_unlock(&ls->lock);
  return code == NEAP_ECORRUPT ? 0 : code;
}

typedef struct candidate {
  uint32_t id, used_s;
  uint64_t bytes;
} candidate;

static int later_first(const void *a, const void *b) {
  uint32_t x = ((const candidate *)a)->used_s, y = ((const candidate *)b)->used_s;
  return (x < y) - (x > y);
}

/* The objects of a segment, all or the hot ones, the latest used first. Looks at a page of entries at a time. */
static candidate *candidates(neap__ls *ls, const neap__ls_segment *segment, bool all, uint32_t *count) {
  uint32_t cap = segment->live_count;
  candidate *list = calloc(cap + 1u, sizeof(*list));
  bool more = list != NULL;
  *count = 0;
  for (uint32_t first = 1; more; first += NEAP__LS_PAGE) {
    pthread_mutex_lock(&ls->lock);
    uint32_t top = ls->index.top;
    for (uint32_t id = first; id <= top && id < first + NEAP__LS_PAGE && *count < cap; id++) {
      const neap__ls_entry *e = neap__ls_entry_at(&ls->index, id);
      if (e->state != NEAP__LS_LIVE || e->segment != segment->slot || (!all && !e->hot)) continue;
      list[(*count)++] = (candidate){id, e->used_s, neap__ls_record_bytes(e->bytes)};
    }
    pthread_mutex_unlock(&ls->lock);
    more = *count < cap && first + NEAP__LS_PAGE <= top;
  }
  if (list) qsort(list, *count, sizeof(*list), later_first);
  return list;
}

/* Writes objects of a segment anew, `budget` bytes at most. The first failure, or 0. */
static int move_some(neap__ls *ls, neap__ls_segment *segment, bool all, uint64_t budget, uint64_t *moved_count) {
  uint32_t count;
  int code = 0;
  candidate *list = candidates(ls, segment, all, &count);
  if (!list) return NEAP_ENOMEM;
  for (uint32_t i = 0; i < count && code == 0; i++) {
    if (list[i].bytes > budget) continue;
    budget -= list[i].bytes;
    code = move(ls, segment, list[i].id);
    if (code == 0) (*moved_count)++;
  }
  free(list);
  return code;
}

/* --- capacity -------------------------------------------------------------------------------------------------- */

static void evict(neap__ls *ls, neap__ls_segment *segment) {
  uint64_t kept = 0;
  move_some(ls, segment, false, ls->segment_bytes / REINSERT_SHARE, &kept);
  neap__ls_segment_drop(ls, segment);
  pthread_mutex_lock(&ls->lock);
  ls->counters.reinserted += kept;
  ls->counters.evicted_segments++;
  pthread_mutex_unlock(&ls->lock);
}

static bool guard_allows(neap__ls *ls, uint64_t bytes, uint64_t min_free) {
  struct statvfs fs;
  if (!min_free || fstatvfs(ls->dir_fd, &fs) != 0) return true;
  uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
  return available >= bytes && available - bytes >= min_free;
}

/* One segment less, the oldest. False: there is none to give. No lock held. */
static bool make_room(neap__ls *ls) {
  pthread_mutex_lock(&ls->lock);
  neap__ls_segment *victim = oldest(ls);
  pthread_mutex_unlock(&ls->lock);
  if (!victim) return false;
  evict(ls, victim);
  return true;
}

/* Whether a segment fits max_bytes when all that may go has gone: what is appended to stays. Lock held. */
static bool can_fit(const neap__ls *ls, uint64_t bytes) {
  for (uint32_t slot = 0; slot < ls->slots_top; slot++)
    if (ls->segments[slot] && ls->segments[slot]->state == NEAP__LS_ACTIVE) bytes += ls->segments[slot]->file_bytes;
  return !ls->max_bytes || bytes <= ls->max_bytes;
}

/* Durability may have begun while a segment was made without. No lock held. */
static void name_is_durable(neap__ls *ls, bool already) {
  pthread_mutex_lock(&ls->lock);
  bool wanted = ls->durability != NEAP__LS_NONE;
  pthread_mutex_unlock(&ls->lock);
  if (wanted && !already && fsync(ls->dir_fd) != 0) neap__ls_failed(ls, "cannot sync", ls->base_path, errno);
}

/* 0 and a segment, or a NEAP_ code. No lock held. */
static int make_segment(neap__ls *ls, uint64_t bytes, uint32_t number, bool may_evict, neap__ls_segment **out) {
  for (;;) {
    int error = ENOSPC, code = NEAP_ENOSPC;
    pthread_mutex_lock(&ls->lock);
    uint64_t min_free = ls->min_free_bytes;
    bool durable = ls->durability != NEAP__LS_NONE;
    bool fits = !ls->max_bytes || ls->disk_bytes + bytes <= ls->max_bytes;
    may_evict = may_evict && can_fit(ls, bytes);
    pthread_mutex_unlock(&ls->lock);
    if (fits && guard_allows(ls, bytes, min_free))
      code = neap__ls_segment_make(ls, number, bytes, durable, out, &error);
    if (code == 0) {
      name_is_durable(ls, durable);
      return 0;
    }
    if (code == NEAP_ENOSPC && may_evict && make_room(ls)) continue;
    return neap__ls_failed(ls, "cannot make a segment in", ls->base_path, error);
  }
}

/* Makes the next segment and lets what waits go on, or fail. Called and left with the lock held. False: it could not.
 */
static bool make_next(neap__ls *ls, bool may_evict) {
  neap__ls_segment *segment = NULL;
  uint64_t head = ls->queue ? neap__ls_record_bytes(ls->queue->bytes) : 0;
  uint64_t bytes = head + NEAP__LS_BLOCK + NEAP__LS_TOMB_RESERVE;
  if (bytes < ls->segment_bytes) bytes = ls->segment_bytes;
  pthread_mutex_unlock(&ls->lock);
  int code = make_segment(ls, bytes, ls->number_next, may_evict, &segment);
  pthread_mutex_lock(&ls->lock);
  if (code && !may_evict) return false; /* who waits for a segment asks by himself */
  ls->number_next += code == 0;
  ls->need_segment = false; /* not earlier: who asks meanwhile would be given a second one */
  if (code == 0 && !neap__ls_segment_add(ls, segment)) {
    neap__ls_segment_free(segment);
    code = NEAP_ELIMIT;
  }
  if (code == 0) {
    if (ls->spare) ls->spare->state = NEAP__LS_FULL; /* too small for the head of the queue */
    ls->spare = segment;
  }
  pthread_mutex_unlock(&ls->lock);
  if (code)
    neap__ls_fail_queue(ls, code);
  else
    neap__ls_pump(ls);
  pthread_mutex_lock(&ls->lock);
  return code == 0;
}

/* --- what is to be done ---------------------------------------------------------------------------------------- */

/* Lock held: a segment to seal, empty, or make room with. */
static neap__ls_segment *find_full(neap__ls *ls) {
  for (uint32_t slot = 0; slot < ls->slots_top; slot++) {
    neap__ls_segment *s = ls->segments[slot];
    if (s && s->state == NEAP__LS_FULL && s->writes == 0) return s;
  }
  return NULL;
}

static neap__ls_segment *find_sparse(neap__ls *ls) {
  for (uint32_t slot = 0; slot < ls->slots_top; slot++) {
    neap__ls_segment *s = ls->segments[slot];
    if (!s || s->state != NEAP__LS_SEALED || s->writes) continue;
    if (s->live_count == 0 || (!s->left_alone && s->live_bytes < s->file_bytes / 3)) return s;
  }
  return NULL;
}

static void compact(neap__ls *ls, neap__ls_segment *segment) {
  uint64_t kept = 0;
  int code = segment->live_count ? move_some(ls, segment, true, UINT64_MAX, &kept) : 0;
  pthread_mutex_lock(&ls->lock);
  segment->left_alone = code != 0 || segment->live_count != 0;
  bool emptied = segment->live_count == 0;
  ls->counters.compacted_segments += emptied;
  pthread_mutex_unlock(&ls->lock);
  if (emptied) neap__ls_segment_drop(ls, segment);
}

/* What `flush` promises beyond the write: at most a second of it is lost with the power. Called and left with the lock
 * held; true if it was let go meanwhile. */
static bool sync_dirty(neap__ls *ls) {
  bool any = false;
  ls->last_sync_ns = ls->host->now_ns(ls->host->engine);
  for (uint32_t slot = 0; slot < ls->slots_top; slot++) {
    neap__ls_segment *s = ls->segments[slot];
    if (!s || !s->dirty || s->state == NEAP__LS_DROPPED) continue;
    s->dirty = false;
    s->refs++;
    any = true;
    pthread_mutex_unlock(&ls->lock);
    if (fdatasync(s->fd) != 0) neap__ls_failed(ls, "cannot sync a segment in", ls->base_path, errno);
    pthread_mutex_lock(&ls->lock);
    neap__ls_segment_unref(ls, s);
  }
  return any;
}

/* One thing; false if there is nothing to do. Called and left with the lock held. */
static bool step(neap__ls *ls) {
  neap__ls_segment *s;
  if (ls->need_segment) return make_next(ls, true), true;
  bool tight = ls->max_bytes && ls->disk_bytes + ls->segment_bytes > ls->max_bytes;
  if (tight && (s = oldest(ls)) != NULL) {
    pthread_mutex_unlock(&ls->lock);
    evict(ls, s);
  } else if ((s = find_full(ls)) != NULL) {
    pthread_mutex_unlock(&ls->lock);
    neap__ls_segment_seal(ls, s);
  } else if ((s = find_sparse(ls)) != NULL) {
    if (s->live_count && !ls->spare && !tight) { /* room to move into; nothing is evicted for it */
      s->left_alone = !make_next(ls, false);
      return true;
    }
    pthread_mutex_unlock(&ls->lock);
    compact(ls, s);
  } else {
    return false;
  }
  pthread_mutex_lock(&ls->lock);
  return true;
}

static void *keep(void *arg) {
  neap__ls *ls = arg;
  pthread_mutex_lock(&ls->lock);
  while (!ls->closing) {
    if (step(ls)) continue;
    if (ls->durability != NEAP__LS_WRITTEN) {
      pthread_cond_wait(&ls->wake, &ls->lock);
      continue;
    }
    uint64_t now = ls->host->now_ns(ls->host->engine);
    if (now - ls->last_sync_ns >= FLUSH_NS && sync_dirty(ls)) continue;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_cond_timedwait(&ls->wake, &ls->lock, &until);
  }
  pthread_mutex_unlock(&ls->lock);
  return NULL;
}

int neap__ls_keeper_start(neap__ls *ls) {
  int rc = pthread_create(&ls->keeper, NULL, keep, ls);
  ls->keeper_started = rc == 0;
  return rc ? neap__ls_code(rc) : 0;
}

/* Lock held: waits for writes that nobody waits for (tombstones of quarantined objects). */
static void await_writes(neap__ls *ls) {
  for (uint32_t slot = 0; slot < ls->slots_top; slot++)
    while (ls->segments[slot] && ls->segments[slot]->writes) pthread_cond_wait(&ls->wake, &ls->lock);
}

void neap__ls_keeper_stop(neap__ls *ls) {
  if (!ls->keeper_started) return;
  pthread_mutex_lock(&ls->lock);
  ls->closing = true;
  pthread_cond_signal(&ls->wake);
  pthread_mutex_unlock(&ls->lock);
  pthread_join(ls->keeper, NULL);
  pthread_mutex_lock(&ls->lock);
  if (ls->active) ls->active->state = NEAP__LS_FULL;
  if (ls->spare) ls->spare->state = NEAP__LS_FULL;
  ls->active = ls->spare = NULL;
  await_writes(ls);
  for (neap__ls_segment *s; (s = find_full(ls)) != NULL;) {
    bool empty = s->live_count == 0 && s->tombs.count == 0;
    pthread_mutex_unlock(&ls->lock);
    if (empty)
      neap__ls_segment_drop(ls, s);
    else
      neap__ls_segment_seal(ls, s);
    pthread_mutex_lock(&ls->lock);
  }
  pthread_mutex_unlock(&ls->lock);
  for (uint32_t slot = 0; slot < ls->slots_top; slot++) /* nobody else is left */
    if (ls->segments[slot] && ls->segments[slot]->touched) neap__ls_segment_seal(ls, ls->segments[slot]);
}
