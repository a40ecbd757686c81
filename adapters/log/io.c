/* SPDX-License-Identifier: MIT
 *
 * io.c - requests to files that do not block who asks: through io_uring where the kernel lets us, else on the engine's
 * worker threads.
 *
 * With threads, requests wait in one queue; a worker is asked for while fewer than DRAINERS_MAX of them empty it. A
 * callback may submit again: it runs on a worker that looks at the queue once more, so that cannot be refused. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

#define DRAINERS_MAX 32u
#define IOV_PER_CALL 1024u

struct neap__ls_io {
  const neap_host *host;
  neap__ls_uring *ring; /* NULL: threads */
  pthread_mutex_t lock;
  pthread_cond_t idle;
  neap__ls_req *queue, **queue_end;
  uint32_t drainers;
};

bool neap__ls_req_step(neap__ls_req *req, int64_t result, int *error) {
  *error = 0;
  if (result < 0 && (result == -EINTR || result == -EAGAIN)) return false;
  if (result < 0) *error = (int)-result;
  if (result < 0 || req->kind == NEAP__LS_SYNC || req->kind == NEAP__LS_FLUSH) return true;
  if (result == 0) {
    *error = req->kind == NEAP__LS_READ ? ENODATA : EIO;
    return true;
  }
  uint64_t moved = (uint64_t)result;
  req->offset += moved;
  while (req->iov_count && moved >= req->iov->iov_len) {
    moved -= req->iov->iov_len;
    req->iov++;
    req->iov_count--;
  }
  if (req->iov_count == 0) return true;
  req->iov->iov_base = (uint8_t *)req->iov->iov_base + moved;
  req->iov->iov_len -= moved;
  return false;
}

static int64_t call(const neap__ls_req *req) {
  int count = (int)(req->iov_count < IOV_PER_CALL ? req->iov_count : IOV_PER_CALL);
  int64_t rc = 0;
  switch (req->kind) {
    case NEAP__LS_READ: rc = preadv(req->fd, req->iov, count, (off_t)req->offset); break;
    case NEAP__LS_WRITE: rc = pwritev(req->fd, req->iov, count, (off_t)req->offset); break;
    case NEAP__LS_SYNC: rc = fdatasync(req->fd); break;
    case NEAP__LS_FLUSH:
      rc = sync_file_range(req->fd, (off_t)req->offset, (off_t)req->bytes,
                           SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
      break;
  }
  return rc < 0 ? -errno : rc;
}

static void perform(neap__ls_req *req) {
  int error;
  while (!neap__ls_req_step(req, call(req), &error)) continue;
  req->done(req, error);
}

/* A worker: empties the queue, then leaves. The last word to `io` is under its lock. */
static void drain(void *arg) {
  neap__ls_io *io = arg;
  pthread_mutex_lock(&io->lock);
  for (neap__ls_req *req; (req = io->queue) != NULL;) {
    io->queue = req->next;
    if (!io->queue) io->queue_end = &io->queue;
    pthread_mutex_unlock(&io->lock);
    perform(req);
    pthread_mutex_lock(&io->lock);
  }
  if (--io->drainers == 0) pthread_cond_signal(&io->idle);
  pthread_mutex_unlock(&io->lock);
}

static void refuse(neap__ls_req *chain) {
  for (neap__ls_req *next; chain; chain = next) {
    next = chain->next;
    chain->done(chain, EAGAIN);
  }
}

static void submit_to_workers(neap__ls_io *io, neap__ls_req *chain) {
  uint32_t wanted = 0;
  neap__ls_req *last = chain, *refused = NULL;
  for (;; last = last->next, wanted++)
    if (!last->next) break;
  wanted++;
  pthread_mutex_lock(&io->lock);
  *io->queue_end = chain;
  io->queue_end = &last->next;
  while (wanted-- && io->drainers < DRAINERS_MAX) {
    io->drainers++; /* before the worker starts, which lowers it */
    pthread_mutex_unlock(&io->lock);
    bool started = io->host->queue_work(io->host->engine, drain, io) == 0;
    pthread_mutex_lock(&io->lock);
    if (started) continue;
    if (--io->drainers == 0) {
      refused = io->queue;
      io->queue = NULL;
      io->queue_end = &io->queue;
    }
    break;
  }
  pthread_mutex_unlock(&io->lock);
  refuse(refused);
}

void neap__ls_io_submit(neap__ls_io *io, neap__ls_req *chain) {
  if (!chain) return;
  if (io->ring)
    neap__ls_uring_submit(io->ring, chain);
  else
    submit_to_workers(io, chain);
}

bool neap__ls_io_is_uring(const neap__ls_io *io) { return io->ring != NULL; }

int neap__ls_io_open(const neap_host *host, const char *want, neap__ls_io **out, neap_error *err) {
  char reason[128];
  neap__ls_io *io = calloc(1, sizeof(*io));
  if (!io) return NEAP_ENOMEM;
  int rc = strcmp(want, "threads") == 0 ? 0 : neap__ls_uring_open(&io->ring);
  if (rc && strcmp(want, "uring") == 0) {
    snprintf(err->text, sizeof(err->text), "io: the kernel does not let us use io_uring (%s); expected threads or auto",
             strerror_r(rc, reason, sizeof(reason)));
    free(io);
    return NEAP_ENOTSUP;
  }
  io->host = host;
  io->queue_end = &io->queue;
  pthread_mutex_init(&io->lock, NULL);
  pthread_cond_init(&io->idle, NULL);
  *out = io;
  return 0;
}

void neap__ls_io_close(neap__ls_io *io) {
  if (io->ring) neap__ls_uring_close(io->ring);
  pthread_mutex_lock(&io->lock);
  while (io->drainers) pthread_cond_wait(&io->idle, &io->lock);
  pthread_mutex_unlock(&io->lock);
  pthread_cond_destroy(&io->idle);
  pthread_mutex_destroy(&io->lock);
  free(io);
}
