/* SPDX-License-Identifier: MIT
 *
 * replay/run.c - one run, and many on threads; see replay.h. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "replay/replay.h"

#define TELL_EVERY 65536u /* references between two looks at the policy's health and words about progress */
#define TELL_NS 100000000L
#define AHEAD 16u /* how many chunks ahead the places of chunks are fetched into the processor's cache */

typedef struct work {
  const neap__replay_input *input;
  const neap__replay_options *options;
  neap__replay_run *runs;
  uint32_t count;
  double all_us;             /* cost of recomputing every chunk */
  atomic_uint next;          /* the run that is to be taken next */
  atomic_uint_fast64_t done; /* references, of all runs */
  pthread_mutex_t lock;
  pthread_cond_t ended;
  uint32_t threads; /* at work; under the lock */
} work;

/* --- one run ------------------------------------------------------------------------------------------------------ */

/* The cost of recomputing the first n chunks of a prompt. */
static double recompute_us(neap_cost cost, uint32_t n) { return n * cost.base_us + cost.slope_us * n * (n - 1.0) / 2; }

static uint64_t kib_of(const work *w, const uint32_t *chunk, uint32_t count) {
  const uint32_t *units = w->input->units;
  if (!units) return (uint64_t)count * w->options->chunk_bytes / 1024;
  uint64_t kib = 0;
  for (uint32_t i = 0; i < count; i++) kib += units[chunk[i]];
  return kib;
}

static void use(const work *w, neap__replay_run *run, neap__ghost_cache *cache, const neap__trace_request *request,
                uint32_t number) {
  const neap__replay_input *input = w->input;
  const uint32_t *chunk = input->trace->chunk + request->first;
  uint64_t behind = input->trace->references - request->first; /* chunks from this request on */
  const neap__ghost_request asked = {
      .chunk = chunk,
      .next = input->next ? input->next + request->first : NULL,
      .units = input->units,
      .soon = chunk + AHEAD,
      .chunks = request->chunks,
      .soon_count = behind > AHEAD ? (uint32_t)NEAP_MIN(request->chunks, behind - AHEAD) : 0,
      .tenant = request->tenant,
      .request = number + 1,
      .time_ms = request->time_ms,
      .session = request->session};
  neap__ghost_answer answer;
  neap__ghost_use(cache, &asked, &answer);
  neap__replay_share *group = &run->group[input->group_of[request->tenant]];
  group->accesses += request->chunks;
  group->hits += answer.touched;
  group->prefix_hits += answer.prefix;
  if (answer.prefix == 0) return;
  run->saved_us += recompute_us(w->options->cost, answer.prefix) - answer.prefix * w->options->load_us;
  run->saved_kib += kib_of(w, chunk, answer.prefix);
}

/* What happened since `before`, as a share. */
static neap__replay_share since(const neap__ghost_stats *before, const neap__ghost_stats *now) {
  return (neap__replay_share){.accesses = now->accesses - before->accesses,
                              .hits = now->hits - before->hits,
                              .prefix_hits = now->prefix_hits - before->prefix_hits};
}

/* False once the policy is out: its figures would be those of the LRU that went on for it. */
static bool works(neap__replay_run *run, neap__ghost_cache *cache) {
  neap__ghost_stats_get(cache, &run->stats);
  if (!run->stats.policy.out) return true;
  run->rc = NEAP_ESCRIPT;
  run->err = run->stats.policy.why;
  return false;
}

static void feed(work *w, neap__replay_run *run, neap__ghost_cache *cache) {
  const neap__trace *trace = w->input->trace;
  uint64_t untold = 0;
  for (uint32_t b = 0; b < NEAP__REPLAY_BUCKETS; b++) {
    const neap__ghost_stats before = run->stats;
    for (uint32_t r = w->input->bucket_first[b]; r < w->input->bucket_first[b + 1]; r++) {
      __builtin_prefetch(&trace->requests[r] + AHEAD); /* past the end, it does nothing */
      use(w, run, cache, &trace->requests[r], r);
      untold += trace->requests[r].chunks;
      if (untold < TELL_EVERY) continue;
      atomic_fetch_add(&w->done, untold);
      untold = 0;
      if (!works(run, cache)) return;
    }
    if (!works(run, cache)) return;
    run->bucket[b] = since(&before, &run->stats);
  }
  atomic_fetch_add(&w->done, untold);
  run->all_us = w->all_us;
}

static double thread_seconds(void) {
  struct timespec at;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
  return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void do_run(work *w, neap__replay_run *run) {
  neap__ghost_cache *cache;
  const neap__ghost_config config = {.policy = run->policy->policy,
                                     .params = run->policy->params,
                                     .lineage = &w->input->trace->lineage,
                                     .numbers = w->input->trace->lineage.count,
                                     .capacity = run->capacity,
                                     .head_first = w->input->head_first,
                                     .batch = w->options->batch,
                                     .seed = w->options->seed,
                                     .cost = w->options->cost};
  run->rc = neap__ghost_open(&config, &cache, &run->err);
  if (run->rc != 0) return;
  double began = thread_seconds();
  feed(w, run, cache);
  run->seconds = thread_seconds() - began;
  neap__ghost_close(cache);
}

/* --- many --------------------------------------------------------------------------------------------------------- */

static void *worker(void *arg) {
  work *w = arg;
  for (;;) {
    uint32_t i = atomic_fetch_add(&w->next, 1);
    if (i >= w->count) break;
    do_run(w, &w->runs[i]);
  }
  pthread_mutex_lock(&w->lock);
  w->threads--;
  pthread_cond_signal(&w->ended);
  pthread_mutex_unlock(&w->lock);
  return NULL;
}

/* Waits for all threads, with a word about progress now and then. */
static void wait_for_all(work *w, uint64_t total) {
  const neap__replay_options *options = w->options;
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  pthread_mutex_lock(&w->lock);
  while (w->threads > 0) {
    at.tv_nsec += TELL_NS;
    if (at.tv_nsec >= 1000000000L) at.tv_nsec -= 1000000000L, at.tv_sec++;
    while (w->threads > 0 && pthread_cond_timedwait(&w->ended, &w->lock, &at) == 0) {
    }
    pthread_mutex_unlock(&w->lock);
    if (options->progress) options->progress(options->ctx, atomic_load(&w->done), total);
    pthread_mutex_lock(&w->lock);
  }
  pthread_mutex_unlock(&w->lock);
}

int neap__replay(const neap__replay_input *input, const neap__replay_options *options, neap__replay_run *runs,
                 uint32_t count) {
  work w = {.input = input, .options = options, .runs = runs, .count = count};
  for (uint32_t r = 0; r < input->trace->request_count; r++)
    w.all_us += recompute_us(options->cost, input->trace->requests[r].chunks);
  uint32_t wanted = NEAP_MAX(1u, NEAP_MIN(options->threads, count)), started = 0;
  pthread_t *threads = calloc(wanted, sizeof(*threads));
  if (!threads) return NEAP_ENOMEM;
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&w.ended, &attr);
  pthread_condattr_destroy(&attr);
  pthread_mutex_init(&w.lock, NULL);
  pthread_mutex_lock(&w.lock);
  while (started < wanted && pthread_create(&threads[started], NULL, worker, &w) == 0) started++;
  w.threads = started;
  pthread_mutex_unlock(&w.lock);
  wait_for_all(&w, input->trace->references * count);
  for (uint32_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
  pthread_cond_destroy(&w.ended);
  pthread_mutex_destroy(&w.lock);
  free(threads);
  return started > 0 ? 0 : NEAP_ENOMEM;
}
