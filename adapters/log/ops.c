/* SPDX-License-Identifier: MIT
 *
 * ops.c - the operations of the contract. None of them waits: a lookup is answered from memory on the caller's thread,
 * a load starts its reads there, a store goes to worker threads (checksums) and from there to the queue of append.c.
 *
 * An operation is held by each object under way and by whoever still starts some; the last to let go ends it. Nothing
 * of the store is touched after that, except by threads that close joins. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"

#define STORE_WORKERS_MAX 4u
#define LIST_BATCH 256u

typedef struct job {
  neap__ls *ls;
  neap_op *op;
  atomic_uint holders, next;
} job;

static job *job_new(neap__ls *ls, neap_op *op) {
  job *j = malloc(sizeof(*j));
  if (!j) return NULL;
  *j = (job){.ls = ls, .op = op};
  atomic_init(&j->holders, 1);
  atomic_init(&j->next, 0);
  return j;
}

static void job_put(job *j) {
  if (atomic_fetch_sub(&j->holders, 1) != 1) return;
  const neap_host *host = j->ls->host;
  neap_op *op = j->op;
  free(j);
  host->done(host->engine, op);
}

static void fail_op(neap__ls *ls, neap_op *op, int code) {
  for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = code;
  op->list_result = code;
  ls->host->done(ls->host->engine, op);
}

/* --- store ----------------------------------------------------------------------------------------------------- */

/* One object on its way, or waiting for the one that stores the same key. */
typedef struct neap__ls_storing {
  neap__ls_record record; /* first */
  job *job;
  neap_object *object;
  uint32_t id;
  neap__ls_tomb replaces;
  struct neap__ls_storing *next;    /* in ls->pending */
  struct neap__ls_storing *waiters; /* of the first; linked by their own waiters */
} storing;

static void store_end(storing *s, int code, uint64_t stored) {
  s->object->result = code;
  s->object->stored_bytes = stored;
  job *j = s->job;
  neap__ls_record_free(&s->record);
  free(s);
  job_put(j);
}

/* Lock held: the entry becomes visible. */
static int publish(neap__ls *ls, storing *s) {
  neap__ls_record *r = &s->record;
  if (s->replaces.number && !neap__ls_tombs_add(&r->segment->tombs, s->replaces)) return NEAP_ENOMEM;
  neap__ls_entry *entry = neap__ls_entry_at(&ls->index, s->id);
  entry->segment = (uint16_t)r->segment->slot;
  entry->block = r->block;
  entry->bytes = (uint32_t)r->bytes;
  entry->crc = r->crc;
  entry->used_s = (uint32_t)time(NULL);
  entry->state = NEAP__LS_LIVE;
  r->segment->live_bytes += neap__ls_record_bytes(r->bytes);
  r->segment->live_count++;
  ls->live_bytes += r->bytes;
  ls->counters.stores++;
  return 0;
}

static void store_finish(neap__ls *ls, neap__ls_record *record, int code) {
  storing *s = (storing *)record;
  pthread_mutex_lock(&ls->lock);
  storing **at = &ls->pending;
  while (*at != s) at = &(*at)->next;
  *at = s->next;
  if (code == 0) code = publish(ls, s);
  if (code) neap__ls_index_remove(&ls->index, s->id);
  storing *waiting = s->waiters;
  neap__ls_tomb dead = s->replaces;
  pthread_mutex_unlock(&ls->lock);
  if (code && dead.number) neap__ls_append_tombs(ls, &dead, 1, true, NULL, NULL);
  store_end(s, code, code ? 0 : record->bytes);
  for (storing *next; waiting; waiting = next) {
    next = waiting->waiters;
    store_end(waiting, code, 0);
  }
}

/* What is to be done with a store: 1 it is ours, 0 it is there, 2 it waits for another one, or an error. */
static int claim(neap__ls *ls, storing *s) {
  const neap_object *object = s->object;
  pthread_mutex_lock(&ls->lock);
  int rc = 1;
  uint32_t id = neap__ls_index_find(&ls->index, &object->key);
  neap__ls_entry *entry = id ? neap__ls_entry_at(&ls->index, id) : NULL;
  if (entry && entry->state == NEAP__LS_PENDING) {
    storing *first = ls->pending;
    while (first->id != id) first = first->next;
    s->waiters = first->waiters;
    first->waiters = s;
    rc = 2;
  } else if (entry && entry->bytes == object->bytes) {
    rc = 0;
  } else if (entry) { /* of another length: it would be refused for ever */
    s->replaces = neap__ls_forget(ls, id);
  }
  if (rc == 1) {
    s->id = neap__ls_index_add(&ls->index, &object->key);
    s->next = ls->pending;
    if (s->id)
      ls->pending = s;
    else
      rc = NEAP_ENOMEM;
  }
  pthread_mutex_unlock(&ls->lock);
  return rc;
}

static void store_one(job *j, neap_object *object) {
  neap__ls *ls = j->ls;
  storing *s = object->bytes <= NEAP__LS_BYTES_MAX ? calloc(1, sizeof(*s)) : NULL;
  object->stored_bytes = 0;
  object->result = object->bytes <= NEAP__LS_BYTES_MAX ? NEAP_ENOMEM : NEAP_EINVAL;
  if (!s) return;
  atomic_fetch_add(&j->holders, 1);
  s->job = j;
  s->object = object;
  int rc = claim(ls, s);
  if (rc == 2) return;
  if (rc != 1) {
    store_end(s, rc, 0);
    return;
  }
  uint32_t crc = ls->host->crc32c(0, object->data, object->bytes);
  rc = neap__ls_record_init(ls, &s->record, &object->key, object->data, object->bytes, crc, s->replaces);
  s->record.finish = store_finish;
  if (rc) {
    store_finish(ls, &s->record, rc);
    return;
  }
  neap__ls_append(ls, &s->record);
  neap__ls_pump(ls);
}

static void store_work(void *arg) {
  job *j = arg;
  for (uint32_t i; (i = atomic_fetch_add(&j->next, 1)) < j->op->count;) store_one(j, &j->op->objects[i]);
  job_put(j);
}

void neap__ls_store(void *self, neap_op *op) {
  neap__ls *ls = self;
  uint32_t started = 0;
  job *j = job_new(ls, op);
  if (!j) {
    fail_op(ls, op, NEAP_ENOMEM);
    return;
  }
  for (; started < op->count && started < STORE_WORKERS_MAX; started++) {
    atomic_fetch_add(&j->holders, 1);
    if (ls->host->queue_work(ls->host->engine, store_work, j) == 0) continue;
    atomic_fetch_sub(&j->holders, 1);
    break;
  }
  if (!started)
    for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = NEAP_ELIMIT;
  job_put(j);
}

/* --- load ------------------------------------------------------------------------------------------------------ */

typedef struct loading {
  neap__ls_req req; /* first */
  job *job;
  neap_object *object;
  neap__ls_segment *segment;
  uint32_t block, crc;
  uint8_t *tail; /* the last block of a direct read that the caller's buffer has no room for */
  struct iovec iov[2];
} loading;

/* The object is not what was stored: nobody gets it again. */
static int quarantine(neap__ls *ls, const loading *l) {
  neap__ls_tomb tomb = {0};
  pthread_mutex_lock(&ls->lock);
  uint32_t id = neap__ls_index_find(&ls->index, &l->object->key);
  const neap__ls_entry *entry = id ? neap__ls_entry_at(&ls->index, id) : NULL;
  if (entry && entry->state == NEAP__LS_LIVE && entry->segment == l->segment->slot && entry->block == l->block) {
    ls->counters.corrupt++;
    tomb = neap__ls_forget(ls, id);
  }
  pthread_mutex_unlock(&ls->lock);
  if (tomb.number) {
    neap__ls_say(ls, NEAP_WARNING, "an object at byte %llu of %08u.seg in %s failed its checksum and is given up",
                 (unsigned long long)l->block * NEAP__LS_BLOCK, tomb.number, ls->base_path);
    neap__ls_append_tombs(ls, &tomb, 1, true, NULL, NULL);
  }
  return NEAP_ECORRUPT;
}

static void load_done(neap__ls_req *req, int error) {
  loading *l = (loading *)req;
  neap__ls *ls = l->job->ls;
  neap_object *object = l->object;
  uint64_t tail = object->bytes % NEAP__LS_BLOCK;
  if (error == 0 && l->tail) memcpy((uint8_t *)object->data + (object->bytes - tail), l->tail, tail);
  if (error && error != ENODATA)
    object->result = neap__ls_failed(ls, "cannot read a segment in", ls->base_path, error);
  else if (error || ls->host->crc32c(0, object->data, object->bytes) != l->crc)
    object->result = quarantine(ls, l);
  else
    object->result = 0;
  pthread_mutex_lock(&ls->lock);
  neap__ls_segment_unref(ls, l->segment);
  pthread_mutex_unlock(&ls->lock);
  job *j = l->job;
  free(l->tail);
  free(l);
  job_put(j);
}

/* Lock held: where to read from; false with the object's result where there is nothing to read. */
static bool load_find(neap__ls *ls, loading *l) {
  neap_object *object = l->object;
  uint32_t id = neap__ls_index_find(&ls->index, &object->key);
  neap__ls_entry *entry = id ? neap__ls_entry_at(&ls->index, id) : NULL;
  object->result = NEAP_ENOENT;
  if (!entry || entry->state != NEAP__LS_LIVE) return false;
  object->result = NEAP_ECORRUPT;
  if (entry->bytes != object->bytes) return false;
  entry->used_s = (uint32_t)time(NULL);
  entry->hot = 1;
  l->segment = ls->segments[entry->segment];
  l->segment->refs++;
  l->block = entry->block;
  l->crc = entry->crc;
  ls->counters.loads++;
  ls->counters.read_bytes += object->bytes;
  return true;
}

static void load_prepare(loading *l) {
  neap_object *object = l->object;
  uint64_t tail = object->bytes % NEAP__LS_BLOCK, whole = object->bytes - tail;
  bool direct = l->segment->direct_fd >= 0 && (uintptr_t)object->data % NEAP__LS_BLOCK == 0;
  if (direct && tail) direct = (l->tail = aligned_alloc(NEAP__LS_BLOCK, NEAP__LS_BLOCK)) != NULL;
  l->req = (neap__ls_req){.done = load_done,
                          .iov = l->iov,
                          .kind = NEAP__LS_READ,
                          .fd = direct ? l->segment->direct_fd : l->segment->fd,
                          .direct = direct,
                          .offset = ((uint64_t)l->block + 1) * NEAP__LS_BLOCK};
  uint64_t first = direct ? whole : object->bytes;
  if (first) l->iov[l->req.iov_count++] = (struct iovec){object->data, first};
  if (l->tail) l->iov[l->req.iov_count++] = (struct iovec){l->tail, NEAP__LS_BLOCK};
}

static bool load_one(job *j, neap_object *object, neap__ls_req ***end) {
  loading *l = calloc(1, sizeof(*l));
  object->result = NEAP_ENOMEM;
  if (!l) return false;
  l->job = j;
  l->object = object;
  pthread_mutex_lock(&j->ls->lock);
  bool found = load_find(j->ls, l);
  pthread_mutex_unlock(&j->ls->lock);
  if (!found) {
    free(l);
    return false;
  }
  atomic_fetch_add(&j->holders, 1);
  load_prepare(l);
  if (l->req.iov_count == 0) {
    load_done(&l->req, 0);
    return false;
  }
  **end = &l->req;
  *end = &l->req.next;
  return true;
}

void neap__ls_load(void *self, neap_op *op) {
  neap__ls *ls = self;
  neap__ls_req *chain = NULL, **end = &chain;
  job *j = job_new(ls, op);
  if (!j) {
    fail_op(ls, op, NEAP_ENOMEM);
    return;
  }
  for (uint32_t i = 0; i < op->count; i++) load_one(j, &op->objects[i], &end);
  neap__ls_io_submit(ls->io, chain);
  job_put(j);
}

/* --- lookup, remove -------------------------------------------------------------------------------------------- */

void neap__ls_lookup(void *self, neap_op *op) {
  neap__ls *ls = self;
  pthread_mutex_lock(&ls->lock);
  for (uint32_t i = 0; i < op->count; i++) {
    neap_object *object = &op->objects[i];
    uint32_t id = neap__ls_index_find(&ls->index, &object->key);
    const neap__ls_entry *entry = id ? neap__ls_entry_at(&ls->index, id) : NULL;
    bool there = entry && entry->state == NEAP__LS_LIVE;
    object->result = !there ? NEAP_ENOENT : object->bytes && object->bytes != entry->bytes ? NEAP_ECORRUPT : 0;
    if (object->result == 0) object->stored_bytes = entry->bytes;
  }
  pthread_mutex_unlock(&ls->lock);
  ls->host->done(ls->host->engine, op);
}

/* A removal that could not be written would come back with the next start: the caller is told. */
static void remove_finish(void *arg, int code) {
  job *j = arg;
  for (uint32_t i = 0; code && i < j->op->count; i++)
    if (j->op->objects[i].result == 0) j->op->objects[i].result = code;
  job_put(j);
}

void neap__ls_remove(void *self, neap_op *op) {
  neap__ls *ls = self;
  job *j = job_new(ls, op);
  neap__ls_tomb *tombs = j ? calloc(op->count + 1u, sizeof(*tombs)) : NULL;
  uint32_t count = 0;
  if (!tombs) {
    free(j);
    fail_op(ls, op, NEAP_ENOMEM);
    return;
  }
  pthread_mutex_lock(&ls->lock);
  for (uint32_t i = 0; i < op->count; i++) {
    uint32_t id = neap__ls_index_find(&ls->index, &op->objects[i].key);
    bool there = id && neap__ls_entry_at(&ls->index, id)->state == NEAP__LS_LIVE;
    op->objects[i].result = there ? 0 : NEAP_ENOENT;
    if (there) tombs[count++] = neap__ls_forget(ls, id);
  }
  ls->counters.removes += count;
  pthread_mutex_unlock(&ls->lock);
  if (count)
    neap__ls_append_tombs(ls, tombs, count, false, remove_finish, j);
  else
    job_put(j);
  free(tombs);
}

/* --- list ------------------------------------------------------------------------------------------------------ */

typedef struct listed {
  neap_list_entry entry;
  uint32_t space;
} listed;

/* Copies the next live entries; their spaces are referenced until list_release. */
static uint32_t list_take(neap__ls *ls, uint32_t *id, listed batch[LIST_BATCH]) {
  uint32_t count = 0;
  pthread_mutex_lock(&ls->lock);
  for (uint32_t end = *id + NEAP__LS_PAGE; *id <= ls->index.top && *id < end && count < LIST_BATCH; (*id)++) {
    const neap__ls_entry *e = neap__ls_entry_at(&ls->index, *id);
    if (e->state != NEAP__LS_LIVE) continue;
    neap_list_entry entry = {.key = neap__ls_index_key(&ls->index, e), .bytes = e->bytes, .used_unix_s = e->used_s};
    batch[count++] = (listed){entry, e->space};
    neap__ls_space_ref(&ls->index, e->space);
  }
  if (*id > ls->index.top) *id = 0;
  pthread_mutex_unlock(&ls->lock);
  return count;
}

static void list_work(void *arg) {
  job *j = arg;
  listed *batch = calloc(LIST_BATCH, sizeof(*batch));
  bool stop = batch == NULL;
  for (uint32_t id = 1; id && !stop;) {
    uint32_t count = list_take(j->ls, &id, batch);
    for (uint32_t i = 0; i < count && !stop; i++) stop = j->op->sink(j->op, &batch[i].entry) != 0;
    pthread_mutex_lock(&j->ls->lock);
    for (uint32_t i = 0; i < count; i++) neap__ls_space_unref(&j->ls->index, batch[i].space);
    pthread_mutex_unlock(&j->ls->lock);
  }
  j->op->list_result = batch ? 0 : NEAP_ENOMEM;
  free(batch);
  job_put(j);
}

void neap__ls_list(void *self, neap_op *op) {
  neap__ls *ls = self;
  job *j = job_new(ls, op);
  if (j && ls->host->queue_work(ls->host->engine, list_work, j) == 0) return;
  fail_op(ls, op, j ? NEAP_ELIMIT : NEAP_ENOMEM);
  free(j);
}
