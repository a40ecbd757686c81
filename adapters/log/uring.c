/* SPDX-License-Identifier: MIT
 *
 * uring.c - requests through io_uring, by its system calls (io_uring(7), io_uring_setup(2), io_uring_enter(2)).
 *
 * One thread enters the ring: it submits what others queued and calls back for what ended. So a request never runs on,
 * nor dies with, the thread that asked for it. It sleeps in the kernel; an eventfd that it reads through the ring
 * itself wakes it. Buffered transfers are sent to the kernel's own workers: in the ring's thread they would copy one by
 * one. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"

#define ENTRIES 256u
#define IN_FLIGHT_MAX (ENTRIES - 2) /* and the eventfd */
#define IOV_PER_SQE 1024u

struct neap__ls_uring {
  int fd, event_fd;
  void *sq_map, *sqe_map;
  size_t sq_bytes, sqe_bytes;
  _Atomic uint32_t *sq_tail, *cq_head, *cq_tail;
  uint32_t sq_mask, cq_mask, *sq_array;
  struct io_uring_sqe *sqes;
  struct io_uring_cqe *cqes;
  pthread_t thread;
  pthread_mutex_t lock;
  neap__ls_req *queue, **queue_end;
  bool asleep, closing;
  uint64_t event_value;             /* the kernel writes it */
  uint32_t in_flight, tail, unsent; /* of the thread alone, as all below */
  neap__ls_req *again;              /* half done, or taken and not yet sent */
};

static int enter(neap__ls_uring *ring, uint32_t submit, uint32_t wait) {
  long rc = syscall(SYS_io_uring_enter, ring->fd, submit, wait, IORING_ENTER_GETEVENTS, NULL, 0);
  return rc < 0 ? -errno : (int)rc;
}

static struct io_uring_sqe *next_sqe(neap__ls_uring *ring) {
  uint32_t at = ring->tail & ring->sq_mask;
  struct io_uring_sqe *sqe = &ring->sqes[at];
  memset(sqe, 0, sizeof(*sqe));
  ring->sq_array[at] = at;
  ring->tail++;
  ring->unsent++;
  return sqe;
}

static void arm_event(neap__ls_uring *ring) {
  struct io_uring_sqe *sqe = next_sqe(ring);
  sqe->opcode = IORING_OP_READ;
  sqe->fd = ring->event_fd;
  sqe->addr = (uintptr_t)&ring->event_value;
  sqe->len = sizeof(ring->event_value);
}

static void prepare(neap__ls_uring *ring, neap__ls_req *req) {
  struct io_uring_sqe *sqe = next_sqe(ring);
  sqe->fd = req->fd;
  sqe->user_data = (uintptr_t)req;
  switch (req->kind) {
    case NEAP__LS_READ:
    case NEAP__LS_WRITE:
      sqe->opcode = req->kind == NEAP__LS_READ ? IORING_OP_READV : IORING_OP_WRITEV;
      sqe->addr = (uintptr_t)req->iov;
      sqe->len = req->iov_count < IOV_PER_SQE ? req->iov_count : IOV_PER_SQE;
      sqe->off = req->offset;
      sqe->flags = req->direct ? 0 : IOSQE_ASYNC;
      break;
    case NEAP__LS_SYNC:
      sqe->opcode = IORING_OP_FSYNC;
      sqe->fsync_flags = IORING_FSYNC_DATASYNC;
      break;
    case NEAP__LS_FLUSH:
      sqe->opcode = IORING_OP_SYNC_FILE_RANGE;
      sqe->off = req->offset;
      sqe->len = (uint32_t)req->bytes;
      sqe->sync_range_flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
      break;
  }
  ring->in_flight++;
}

static void prepare_waiting(neap__ls_uring *ring) {
  for (neap__ls_req *req; (req = ring->again) != NULL && ring->in_flight < IN_FLIGHT_MAX;) {
    ring->again = req->next;
    prepare(ring, req);
  }
  atomic_store_explicit(ring->sq_tail, ring->tail, memory_order_release);
}

/* Takes what others queued, in order, behind what waits. False: nothing is left to do and the ring is closing. */
static bool take(neap__ls_uring *ring, bool *sleep) {
  pthread_mutex_lock(&ring->lock);
  neap__ls_req **end = &ring->again;
  while (*end) end = &(*end)->next;
  *end = ring->queue;
  ring->queue = NULL;
  ring->queue_end = &ring->queue;
  ring->asleep = *sleep = ring->again == NULL || ring->in_flight >= IN_FLIGHT_MAX;
  bool go_on = !ring->closing || ring->again || ring->in_flight;
  pthread_mutex_unlock(&ring->lock);
  return go_on;
}

static void reap(neap__ls_uring *ring) {
  uint32_t head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
  while (head != atomic_load_explicit(ring->cq_tail, memory_order_acquire)) {
    struct io_uring_cqe cqe = ring->cqes[head & ring->cq_mask];
    atomic_store_explicit(ring->cq_head, ++head, memory_order_release);
    if (cqe.user_data == 0) {
      arm_event(ring);
      continue;
    }
    neap__ls_req *req = (neap__ls_req *)(uintptr_t)cqe.user_data;
    int error;
    ring->in_flight--;
    if (neap__ls_req_step(req, cqe.res, &error)) {
      req->done(req, error);
    } else {
      req->next = ring->again;
      ring->again = req;
    }
  }
}

static void *run(void *arg) {
  neap__ls_uring *ring = arg;
  bool sleep;
  arm_event(ring);
  while (take(ring, &sleep)) {
    prepare_waiting(ring);
    int sent = enter(ring, ring->unsent, sleep);
    if (sent > 0) ring->unsent -= (uint32_t)sent;
    reap(ring);
  }
  return NULL;
}

void neap__ls_uring_submit(neap__ls_uring *ring, neap__ls_req *chain) {
  neap__ls_req *last = chain;
  while (last->next) last = last->next;
  pthread_mutex_lock(&ring->lock);
  *ring->queue_end = chain;
  ring->queue_end = &last->next;
  bool wake = ring->asleep;
  ring->asleep = false;
  pthread_mutex_unlock(&ring->lock);
  uint64_t one = 1;
  if (wake && write(ring->event_fd, &one, sizeof(one)) < 0) abort(); /* an eventfd has room for 2^64 - 2 of them */
}

/* --- open, close ----------------------------------------------------------------------------------------------- */

static int setup(struct io_uring_params *params) {
  const uint32_t flags[] = {IORING_SETUP_COOP_TASKRUN, 0}; /* the former is of Linux 5.19 */
  int fd = -1;
  for (size_t i = 0; i < 2 && fd < 0; i++) {
    *params = (struct io_uring_params){.flags = flags[i]};
    fd = (int)syscall(SYS_io_uring_setup, ENTRIES, params);
    if (fd < 0 && errno != EINVAL) break;
  }
  return fd;
}

static int map_rings(neap__ls_uring *ring, const struct io_uring_params *p) {
  if (!(p->features & IORING_FEAT_SINGLE_MMAP) || !(p->features & IORING_FEAT_NODROP)) return ENOSYS;
  size_t sq = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
  size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
  ring->sq_bytes = sq > cq ? sq : cq;
  ring->sqe_bytes = p->sq_entries * sizeof(struct io_uring_sqe);
  ring->sq_map =
      mmap(NULL, ring->sq_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQ_RING);
  if (ring->sq_map == MAP_FAILED) return errno;
  ring->sqe_map =
      mmap(NULL, ring->sqe_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
  if (ring->sqe_map == MAP_FAILED) return errno;
  uint8_t *base = ring->sq_map;
  ring->sq_tail = (_Atomic uint32_t *)(base + p->sq_off.tail);
  ring->cq_head = (_Atomic uint32_t *)(base + p->cq_off.head);
  ring->cq_tail = (_Atomic uint32_t *)(base + p->cq_off.tail);
  ring->sq_array = (uint32_t *)(base + p->sq_off.array);
  ring->cqes = (struct io_uring_cqe *)(base + p->cq_off.cqes);
  ring->sq_mask = *(uint32_t *)(base + p->sq_off.ring_mask);
  ring->cq_mask = *(uint32_t *)(base + p->cq_off.ring_mask);
  ring->sqes = ring->sqe_map;
  return 0;
}

static void release(neap__ls_uring *ring) {
  if (ring->sq_map != MAP_FAILED) munmap(ring->sq_map, ring->sq_bytes);
  if (ring->sqe_map != MAP_FAILED) munmap(ring->sqe_map, ring->sqe_bytes);
  if (ring->event_fd >= 0) close(ring->event_fd);
  if (ring->fd >= 0) close(ring->fd);
  pthread_mutex_destroy(&ring->lock);
  free(ring);
}

int neap__ls_uring_open(neap__ls_uring **out) {
  struct io_uring_params params;
  neap__ls_uring *ring = calloc(1, sizeof(*ring));
  if (!ring) return ENOMEM;
  ring->queue_end = &ring->queue;
  ring->sq_map = ring->sqe_map = MAP_FAILED;
  pthread_mutex_init(&ring->lock, NULL);
  ring->event_fd = eventfd(0, EFD_CLOEXEC);
  ring->fd = setup(&params);
  int rc = ring->event_fd < 0 || ring->fd < 0 ? errno : map_rings(ring, &params);
  if (rc == 0) rc = pthread_create(&ring->thread, NULL, run, ring);
  if (rc) {
    release(ring);
    return rc;
  }
  *out = ring;
  return 0;
}

void neap__ls_uring_close(neap__ls_uring *ring) {
  uint64_t one = 1;
  pthread_mutex_lock(&ring->lock);
  ring->closing = true;
  pthread_mutex_unlock(&ring->lock);
  if (write(ring->event_fd, &one, sizeof(one)) < 0) abort();
  pthread_join(ring->thread, NULL);
  release(ring);
}
