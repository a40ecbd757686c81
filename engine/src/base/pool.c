/* SPDX-License-Identifier: MIT
 *
 * base/pool.c - threads for work that blocks. A ring of jobs under one mutex; work runs without it, so work may submit
 * more work, also while the pool closes. Order of start is the order submitted; nothing is promised about the end. */
#include <pthread.h>
#include <stdlib.h>

#include "base/base.h"

typedef struct pool_job {
  void (*work)(void *arg);
  void *arg;
} pool_job;

struct neap__pool {
  pthread_mutex_t lock;
  pthread_cond_t changed; /* a job was queued, or closing was set */
  pool_job *ring;
  uint32_t ring_max, first, queued;
  bool closing;
  uint32_t thread_count;
  pthread_t threads[];
};

static void *pool_thread(void *arg) {
  neap__pool *pool = arg;

  pthread_mutex_lock(&pool->lock);
  for (;;) {
    while (pool->queued == 0 && !pool->closing) pthread_cond_wait(&pool->changed, &pool->lock);
    if (pool->queued == 0) break;
    pool_job job = pool->ring[pool->first];
    pool->first = (pool->first + 1) % pool->ring_max;
    pool->queued--;

    pthread_mutex_unlock(&pool->lock);
    job.work(job.arg);
    pthread_mutex_lock(&pool->lock);
  }
  pthread_mutex_unlock(&pool->lock);
  return NULL;
}

int neap__pool_open(uint32_t threads, uint32_t queue_max, neap__pool **out) {
  if (threads == 0 || queue_max == 0) return NEAP_EINVAL;
  neap__pool *pool = calloc(1, sizeof(*pool) + threads * sizeof(pool->threads[0]));
  if (!pool) return NEAP_ENOMEM;
  pool->ring = calloc(queue_max, sizeof(pool->ring[0]));
  if (!pool->ring) {
    free(pool);
    return NEAP_ENOMEM;
  }

  pool->ring_max = queue_max;
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->changed, NULL);
  for (; pool->thread_count < threads; pool->thread_count++) {
    if (pthread_create(&pool->threads[pool->thread_count], NULL, pool_thread, pool) != 0) {
      neap__pool_close(pool);
      return NEAP_EIO;
    }
  }
  *out = pool;
  return 0;
}

int neap__pool_submit(neap__pool *pool, void (*work)(void *arg), void *arg) {
  int rc = NEAP_ELIMIT;

  pthread_mutex_lock(&pool->lock);
  if (pool->queued < pool->ring_max) {
    uint32_t last = (uint32_t)(((uint64_t)pool->first + pool->queued) % pool->ring_max);
    pool->ring[last] = (pool_job){work, arg};
    pool->queued++;
    pthread_cond_signal(&pool->changed);
    rc = 0;
  }
  pthread_mutex_unlock(&pool->lock);
  return rc;
}

void neap__pool_close(neap__pool *pool) {
  pthread_mutex_lock(&pool->lock);
  pool->closing = true;
  pthread_cond_broadcast(&pool->changed);
  pthread_mutex_unlock(&pool->lock);

  for (uint32_t i = 0; i < pool->thread_count; i++) pthread_join(pool->threads[i], NULL);
  pthread_cond_destroy(&pool->changed);
  pthread_mutex_destroy(&pool->lock);
  free(pool->ring);
  free(pool);
}
