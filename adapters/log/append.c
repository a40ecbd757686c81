/* SPDX-License-Identifier: MIT
 *
 * append.c - records become groups, groups become one write each, and records end when what was promised is true.
 *
 *   append -> queue -> pump: places in the active segment, as many records as wait -> one vectored write
 *          -> written: none ends here; the others wait for one sync, which covers all that were written before it began
 *
 * A place is given when the write starts, so records lie in the file in the order in which they were written and a
 * queue behind a busy disk becomes large writes by itself. A record whose write or sync failed is wiped (its header
 * becomes zeros), so that no later scan of the segment can find it. After a sync that failed no later one vouches for
 * what was written before: the kernel tells of lost pages once, and calls them clean then. */
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "format.h"

#define GROUP_BYTES_MAX (UINT64_C(8) << 20)
#define GROUP_RECORDS_MAX 64u
#define GROUPS_DIRECT 16u  /* writes under way at once */
#define GROUPS_BUFFERED 2u /* the kernel does one at a time per file: one copies while the next one is made */

typedef struct group {
  neap__ls_req req; /* first */
  neap__ls *ls;
  neap__ls_segment *segment;
  neap__ls_record *records;
  struct iovec iov[3 * GROUP_RECORDS_MAX];
} group;

/* --- records --------------------------------------------------------------------------------------------------- */

static bool record_blocks(neap__ls_record *record, uint32_t count) {
  record->header = aligned_alloc(NEAP__LS_BLOCK, count * (size_t)NEAP__LS_BLOCK);
  return record->header != NULL;
}

int neap__ls_record_init(neap__ls *ls, neap__ls_record *record, const neap_object_key *key, const void *data,
                         uint64_t bytes, uint32_t crc, neap__ls_tomb replaces) {
  (void)ls;
  *record = (neap__ls_record){.data = data, .bytes = bytes, .crc = crc};
  record->aligned = (uintptr_t)data % NEAP__LS_BLOCK == 0;
  uint64_t tail = bytes % NEAP__LS_BLOCK;
  if (!record_blocks(record, tail ? 2 : 1)) return NEAP_ENOMEM;
  if (!neap__ls_object_header_make(record->header, key, bytes, crc, (uint32_t)time(NULL), replaces)) {
    neap__ls_record_free(record);
    return NEAP_EINVAL;
  }
  if (tail) {
    memcpy(record->header + NEAP__LS_BLOCK, (const uint8_t *)data + (bytes - tail), tail);
    memset(record->header + NEAP__LS_BLOCK + tail, 0, NEAP__LS_BLOCK - tail);
  }
  return 0;
}

void neap__ls_record_free(neap__ls_record *record) {
  free(record->header);
  record->header = NULL;
}

static void finish_all(neap__ls *ls, neap__ls_record *records, int code) {
  for (neap__ls_record *next; records; records = next) {
    next = records->next;
    records->finish(ls, records, code);
  }
}

/* Zeros over the headers: from now on these records are not there, whatever reached the disk. */
static void wipe(neap__ls *ls, neap__ls_segment *segment, const neap__ls_record *records) {
  static const uint8_t zeros[NEAP__LS_BLOCK];
  for (; records; records = records->next) {
    ssize_t n = pwrite(segment->fd, zeros, sizeof(zeros), (off_t)records->block * NEAP__LS_BLOCK);
    if (n != (ssize_t)sizeof(zeros)) neap__ls_failed(ls, "cannot wipe a failed record of", ls->base_path, errno);
  }
}

static void fail(neap__ls *ls, neap__ls_segment *segment, neap__ls_record *records, int code) {
  wipe(ls, segment, records);
  finish_all(ls, records, code);
}

/* --- syncs ----------------------------------------------------------------------------------------------------- */

static void sync_start(neap__ls *ls, neap__ls_segment *segment, neap__ls_req **chain);

/* A write of this segment is accounted for: the keeper may be waiting for the last one. Lock held. */
static void write_ended(neap__ls *ls, neap__ls_segment *segment) {
  segment->writes--;
  if (segment->state == NEAP__LS_FULL && segment->writes == 0) neap__ls_keeper_wake(ls);
  neap__ls_segment_unref(ls, segment);
}

/* Nothing is appended to a segment whose disk said no; a lack of workers (EAGAIN) says nothing of it. Lock held. */
static void retire(neap__ls *ls, neap__ls_segment *segment, int error) {
  ls->counters.failed_writes++;
  if (ls->active != segment || error == EAGAIN) return;
  segment->state = NEAP__LS_FULL;
  ls->active = NULL;
}

static void sync_done(neap__ls_req *req, int error) {
  neap__ls_segment *segment = (neap__ls_segment *)req;
  neap__ls *ls = segment->store;
  neap__ls_req *chain = NULL;
  neap__ls_record *ended = segment->in_sync, *lost = NULL;
  int code = error ? neap__ls_failed(ls, "cannot sync a segment in", ls->base_path, error) : 0;
  /* Nothing more goes to a segment that cannot be synced before its writers hear of it, for they may try again. */
  pthread_mutex_lock(&ls->lock);
  ls->counters.syncs++;
  if (error) retire(ls, segment, error);
  segment->syncing = false;
  segment->unsafe = segment->unsafe || (error && error != EAGAIN);
  if (segment->unsafe) {
    lost = segment->unsynced;
    segment->unsynced = NULL;
    segment->unsynced_end = &segment->unsynced;
  } else if (segment->unsynced) {
    sync_start(ls, segment, &chain);
  }
  pthread_mutex_unlock(&ls->lock);
  if (error)
    fail(ls, segment, ended, code);
  else
    finish_all(ls, ended, 0);
  if (lost) fail(ls, segment, lost, NEAP_EIO);
  pthread_mutex_lock(&ls->lock);
  write_ended(ls, segment);
  pthread_mutex_unlock(&ls->lock);
  neap__ls_io_submit(ls->io, chain);
  neap__ls_pump(ls);
}

/* The bytes of the file that these records span. */
static void span(const neap__ls_record *records, uint64_t *offset, uint64_t *bytes) {
  uint64_t from = UINT64_MAX, to = 0;
  for (; records; records = records->next) {
    uint64_t at = (uint64_t)records->block * NEAP__LS_BLOCK, end = at + neap__ls_record_bytes(records->bytes);
    if (at < from) from = at;
    if (end > to) to = end;
  }
  *offset = from;
  *bytes = to - from <= UINT32_MAX ? to - from : 0; /* 0: to the end of the file */
}

/* One sync for all records of the segment that were written. Lock held. */
static void sync_start(neap__ls *ls, neap__ls_segment *segment, neap__ls_req **chain) {
  neap__ls_req *req = &segment->sync;
  *req = (neap__ls_req){.done = sync_done, .kind = NEAP__LS_SYNC, .fd = segment->fd, .next = *chain};
  segment->store = ls;
  segment->in_sync = segment->unsynced;
  if (ls->durability == NEAP__LS_WRITTEN) {
    req->kind = NEAP__LS_FLUSH;
    span(segment->in_sync, &req->offset, &req->bytes);
    segment->dirty = true;
  }
  segment->unsynced = NULL;
  segment->unsynced_end = &segment->unsynced;
  segment->syncing = true;
  segment->writes++;
  segment->refs++;
  *chain = req;
}

/* --- writes ---------------------------------------------------------------------------------------------------- */

/* Lock held: written records either end now (returned) or wait for a sync. */
static neap__ls_record *after_write(neap__ls *ls, group *g, neap__ls_req **chain) {
  neap__ls_segment *segment = g->segment;
  if (ls->durability == NEAP__LS_NONE) {
    segment->dirty = true;
    return g->records;
  }
  *segment->unsynced_end = g->records;
  while (*segment->unsynced_end) segment->unsynced_end = &(*segment->unsynced_end)->next;
  if (!segment->syncing) sync_start(ls, segment, chain);
  return NULL;
}

static void group_done(neap__ls_req *req, int error) {
  group *g = (group *)req;
  neap__ls *ls = g->ls;
  neap__ls_segment *segment = g->segment;
  neap__ls_req *chain = NULL;
  neap__ls_record *ended = g->records;
  int code = error ? neap__ls_failed(ls, "cannot write to a segment in", ls->base_path, error) : 0;
  pthread_mutex_lock(&ls->lock);
  ls->groups--;
  ls->counters.writes++;
  if (error)
    retire(ls, segment, error);
  else if (segment->unsafe && ls->durability != NEAP__LS_NONE)
    code = NEAP_EIO;
  else
    ended = after_write(ls, g, &chain);
  pthread_mutex_unlock(&ls->lock);
  neap__ls_io_submit(ls->io, chain);
  if (code)
    fail(ls, segment, ended, code);
  else
    finish_all(ls, ended, 0);
  free(g);
  pthread_mutex_lock(&ls->lock);
  write_ended(ls, segment);
  pthread_mutex_unlock(&ls->lock);
  neap__ls_pump(ls);
}

static uint32_t record_iov(const neap__ls_record *record, struct iovec *iov) {
  uint64_t tail = record->bytes % NEAP__LS_BLOCK, whole = record->bytes - tail;
  uint32_t n = 0;
  iov[n++] = (struct iovec){record->header, NEAP__LS_BLOCK};
  if (whole) iov[n++] = (struct iovec){(void *)(uintptr_t)record->data, whole};
  if (tail) iov[n++] = (struct iovec){record->header + NEAP__LS_BLOCK, NEAP__LS_BLOCK};
  return n;
}

/* Whether the record finds room; makes the spare segment the active one where it does not. Lock held. */
static bool room_for(neap__ls *ls, const neap__ls_record *record) {
  uint64_t bytes = neap__ls_record_bytes(record->bytes);
  for (;;) {
    neap__ls_segment *segment = ls->active;
    uint64_t limit = segment && !record->tombs ? segment->limit - NEAP__LS_TOMB_RESERVE : segment ? segment->limit : 0;
    if (segment && segment->end + bytes <= limit) return true;
    if (!ls->spare || ls->spare->end + bytes > ls->spare->limit - NEAP__LS_TOMB_RESERVE) return false;
    if (segment) segment->state = NEAP__LS_FULL;
    ls->active = ls->spare;
    ls->spare = NULL;
    neap__ls_keeper_wake(ls);
  }
}

/* Takes records off the queue while they fit behind each other. Lock held. NULL: none fits, or no memory. */
static group *group_make(neap__ls *ls) {
  group *g = malloc(sizeof(*g));
  if (!g) return NULL;
  neap__ls_segment *segment = ls->active;
  neap__ls_record **end = &g->records;
  uint64_t bytes = 0;
  uint32_t iovs = 0, count = 0;
  bool aligned = true;
  g->records = NULL;
  g->req = (neap__ls_req){.done = group_done, .iov = g->iov, .kind = NEAP__LS_WRITE, .offset = segment->end};
  for (neap__ls_record *r; (r = ls->queue) != NULL && count < GROUP_RECORDS_MAX; count++) {
    uint64_t more = neap__ls_record_bytes(r->bytes);
    if ((count && bytes + more > GROUP_BYTES_MAX) || !room_for(ls, r) || ls->active != segment) break;
    ls->queue = r->next;
    if (!ls->queue) ls->queue_end = &ls->queue;
    r->next = NULL;
    r->segment = segment;
    r->block = (uint32_t)(segment->end / NEAP__LS_BLOCK);
    neap__ls_record_header_place(ls->host, r->header, segment->salt, segment->end);
    iovs += record_iov(r, &g->iov[iovs]);
    aligned = aligned && r->aligned;
    segment->end += more;
    bytes += more;
    *end = r;
    end = &r->next;
  }
  if (!g->records) {
    free(g);
    return NULL;
  }
  g->ls = ls;
  g->segment = segment;
  g->req.iov_count = iovs;
  g->req.direct = aligned && segment->direct_fd >= 0;
  g->req.fd = g->req.direct ? segment->direct_fd : segment->fd;
  segment->writes++;
  segment->refs++;
  ls->groups++;
  ls->counters.written_bytes += bytes;
  return g;
}

/* The head of the queue needs a segment that is not there: those that will not wait fail, the others ask the keeper.
 * Lock held. Returns what fails. */
static neap__ls_record *wait_for_segment(neap__ls *ls) {
  neap__ls_record *failed = NULL;
  for (neap__ls_record **at = &ls->queue; *at;) {
    neap__ls_record *r = *at;
    if (!r->no_wait) {
      at = &r->next;
      continue;
    }
    *at = r->next;
    r->next = failed;
    failed = r;
  }
  ls->queue_end = &ls->queue;
  while (*ls->queue_end) ls->queue_end = &(*ls->queue_end)->next;
  if (!ls->queue) return failed;
  ls->need_segment = true;
  neap__ls_keeper_wake(ls);
  return failed;
}

void neap__ls_pump(neap__ls *ls) {
  neap__ls_req *chain = NULL;
  neap__ls_record *failed = NULL;
  pthread_mutex_lock(&ls->lock);
  uint32_t groups_max = ls->direct ? GROUPS_DIRECT : GROUPS_BUFFERED;
  while (ls->queue && ls->groups < groups_max) {
    if (!room_for(ls, ls->queue)) {
      failed = wait_for_segment(ls);
      break;
    }
    group *g = group_make(ls);
    if (!g) { /* no memory: what waits fails rather than hangs */
      if (ls->groups) break;
      failed = ls->queue;
      ls->queue = NULL;
      ls->queue_end = &ls->queue;
      break;
    }
    g->req.next = chain;
    chain = &g->req;
  }
  /* The next segment is asked for while there is still room in this one. */
  if (ls->active && !ls->spare && !ls->need_segment && ls->active->end > ls->active->limit / 8 * 7) {
    ls->need_segment = true;
    neap__ls_keeper_wake(ls);
  }
  pthread_mutex_unlock(&ls->lock);
  neap__ls_io_submit(ls->io, chain);
  finish_all(ls, failed, NEAP_ENOSPC);
}

void neap__ls_fail_queue(neap__ls *ls, int code) {
  neap__ls_record *failed = NULL;
  pthread_mutex_lock(&ls->lock);
  if (ls->queue && !room_for(ls, ls->queue)) {
    failed = ls->queue;
    ls->queue = NULL;
    ls->queue_end = &ls->queue;
  }
  pthread_mutex_unlock(&ls->lock);
  finish_all(ls, failed, code);
}

/* Tombstones go first: they are small, and have room where the head of the queue has none. */
void neap__ls_append(neap__ls *ls, neap__ls_record *record) {
  pthread_mutex_lock(&ls->lock);
  bool last = !record->tombs || !ls->queue;
  record->next = last ? NULL : ls->queue;
  if (last)
    *ls->queue_end = record;
  else
    ls->queue = record;
  if (last) ls->queue_end = &record->next;
  pthread_mutex_unlock(&ls->lock);
}

/* --- tombstones ------------------------------------------------------------------------------------------------ */

typedef struct tomb_append {
  atomic_uint left;
  atomic_int code;
  void (*finish)(void *arg, int code);
  void *arg;
} tomb_append;

typedef struct tomb_record {
  neap__ls_record record; /* first */
  tomb_append *of;
  uint32_t count;
  neap__ls_tomb tombs[NEAP__LS_TOMBS_PER_RECORD];
} tomb_record;

static void tombs_put(tomb_append *of) {
  if (atomic_fetch_sub(&of->left, 1) != 1) return;
  if (of->finish) of->finish(of->arg, atomic_load(&of->code));
  free(of);
}

/* The tombstones also go into the footer of their segment. */
static void tombs_finish(neap__ls *ls, neap__ls_record *record, int code) {
  tomb_record *t = (tomb_record *)record;
  if (code == 0) {
    pthread_mutex_lock(&ls->lock);
    for (uint32_t i = 0; i < t->count; i++)
      if (!neap__ls_tombs_add(&record->segment->tombs, t->tombs[i])) code = NEAP_ENOMEM;
    pthread_mutex_unlock(&ls->lock);
  }
  if (code) atomic_store(&t->of->code, code);
  tomb_append *of = t->of;
  neap__ls_record_free(record);
  free(t);
  tombs_put(of);
}

static bool tombs_queue(neap__ls *ls, tomb_append *of, const neap__ls_tomb *tombs, uint32_t count, bool no_wait) {
  tomb_record *t = malloc(sizeof(*t));
  if (!t) return false;
  t->of = of;
  t->count = count;
  t->record = (neap__ls_record){.finish = tombs_finish, .aligned = true, .no_wait = no_wait, .tombs = true};
  memcpy(t->tombs, tombs, count * sizeof(*tombs));
  if (!record_blocks(&t->record, 1)) {
    free(t);
    return false;
  }
  neap__ls_tombs_header_make(t->record.header, tombs, count, (uint32_t)time(NULL));
  atomic_fetch_add(&of->left, 1);
  neap__ls_append(ls, &t->record);
  return true;
}

void neap__ls_append_tombs(neap__ls *ls, const neap__ls_tomb *tombs, uint32_t count, bool no_wait,
                           void (*finish)(void *arg, int code), void *arg) {
  tomb_append *of = malloc(sizeof(*of));
  if (!of) {
    if (finish) finish(arg, NEAP_ENOMEM);
    return;
  }
  *of = (tomb_append){.finish = finish, .arg = arg};
  atomic_init(&of->left, 1);
  atomic_init(&of->code, 0);
  for (uint32_t i = 0; i < count; i += NEAP__LS_TOMBS_PER_RECORD) {
    uint32_t n = count - i < NEAP__LS_TOMBS_PER_RECORD ? count - i : NEAP__LS_TOMBS_PER_RECORD;
    if (tombs_queue(ls, of, tombs + i, n, no_wait)) continue;
    atomic_store(&of->code, NEAP_ENOMEM);
    break;
  }
  neap__ls_pump(ls);
  tombs_put(of);
}

typedef struct tomb_wait {
  sem_t ended;
  int code;
} tomb_wait;

static void tombs_waited(void *arg, int code) {
  tomb_wait *wait = arg;
  wait->code = code;
  sem_post(&wait->ended);
}

int neap__ls_append_tombs_wait(neap__ls *ls, const neap__ls_tomb *tombs, uint32_t count) {
  tomb_wait wait = {0};
  sem_init(&wait.ended, 0, 0);
  neap__ls_append_tombs(ls, tombs, count, true, tombs_waited, &wait);
  while (sem_wait(&wait.ended) != 0) continue;
  sem_destroy(&wait.ended);
  return wait.code;
}
