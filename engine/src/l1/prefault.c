/* SPDX-License-Identifier: MIT
 *
 * l1/prefault.c - first touch of the pool, in the background and from its start, where the arena fills it first: no
 * request pays for a page that this thread has reached. Pages are populated, never written, so it runs beside workers
 * that already use the pool. They do not stay mapped here: a killed process closes its sockets only when its memory is
 * unmapped (an eighth of a second per GiB of 4 KiB pages), and until then swallows requests that nobody answers. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "l1/internal.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define STEP (8ull << 20)
#define PAGE 4096u

struct neap__prefault {
  pthread_t thread;
  uint8_t *pool;
  uint64_t bytes;
  _Atomic uint64_t done;
  atomic_bool stop;
};

/* Adding nothing to one word of each page is a write to the kernel and no change to anybody else. */
static void touch(uint8_t *at, uint64_t bytes) {
  for (uint64_t i = 0; i < bytes; i += PAGE) __atomic_fetch_add((uint32_t *)(void *)(at + i), 0, __ATOMIC_RELAXED);
}

static void *run(void *arg) {
  neap__prefault *p = arg;
  setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
  for (uint64_t at = 0; at < p->bytes && !atomic_load(&p->stop);) {
    uint64_t step = NEAP_MIN(STEP, p->bytes - at);
    if (madvise(p->pool + at, step, MADV_POPULATE_WRITE) != 0) {
      if (errno != EINVAL) {
        NEAP_LOG_WARN("prefault stopped at %llu of %llu bytes: %s", (unsigned long long)at,
                      (unsigned long long)p->bytes, strerror(errno));
        break;
      }
      touch(p->pool + at, step); /* a kernel before 5.14 */
    }
    madvise(p->pool + at, step, MADV_DONTNEED); /* of a shared mapping: the pages stay */
    at += step;
    atomic_store(&p->done, at);
  }
  return NULL;
}

int neap__prefault_start(uint8_t *pool, uint64_t bytes, neap__prefault **out) {
  neap__prefault *p = calloc(1, sizeof *p);
  if (!p) return NEAP_ENOMEM;
  p->pool = pool;
  p->bytes = bytes;
  if (pthread_create(&p->thread, NULL, run, p) != 0) {
    free(p);
    return NEAP_ENOMEM;
  }
  *out = p;
  return 0;
}

uint64_t neap__prefault_done(const neap__prefault *p) { return p ? atomic_load(&p->done) : 0; }

void neap__prefault_stop(neap__prefault *p) {
  if (!p) return;
  atomic_store(&p->stop, true);
  pthread_join(p->thread, NULL);
  free(p);
}
