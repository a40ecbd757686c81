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

/* Chunks with something in common, as far as cost goes: how many, and how many others there were before them. */
typedef struct chunk_sum {
  uint64_t count, before;
} chunk_sum;

static void add_chunks(chunk_sum *sum, uint64_t first_n) {
  sum->count += first_n;
  sum->before += first_n * (first_n - 1) / 2;
}

static double recompute_us(neap_cost cost, const chunk_sum *sum) {
  return cost.base_us * (double)sum->count + cost.slope_us * (double)sum->before;
}

/* One run at work. */
typedef struct state {
  const work *work;
  neap__replay_run *run;
  neap__ghost_cache *cache;
  neap__replay_tiers *tiers; /* NULL: none */
  chunk_sum usable;
  uint64_t loaded; /* of these, from tiers */
  double load_us;
} state;

static uint64_t kib_of(const work *w, const uint32_t *chunk, uint32_t count) {
  const uint32_t *units = w->input->units;
  if (!units) return (uint64_t)count * w->options->chunk_bytes / 1024;
  uint64_t kib = 0;
  for (uint32_t i = 0; i < count; i++) kib += units[chunk[i]];
  return kib;
}

/* 0 or NEAP_ENOMEM. */
static int use(state *s, const neap__trace_request *request, uint32_t number) {
  const neap__replay_input *input = s->work->input;
  const uint32_t *chunk = input->trace->chunk + request->first;
  uint64_t behind = input->trace->references - request->first; /* chunks from this request on */
  neap__ghost_request asked = {.chunk = chunk,
                               .next = input->next ? input->next + request->first : NULL,
                               .units = input->units,
                               .soon = chunk + AHEAD,
                               .chunks = request->chunks,
                               .soon_count = behind > AHEAD ? (uint32_t)NEAP_MIN(request->chunks, behind - AHEAD) : 0,
                               .tenant = request->tenant,
                               .request = number + 1,
                               .time_ms = request->time_ms,
                               .session = request->session};
  neap__replay_tiers_answer answer = {.usable = 0};
  int rc = 0;
  if (s->tiers) {
    rc = neap__replay_tiers_use(s->tiers, s->cache, &asked, &answer);
    s->loaded += answer.loaded;
    s->load_us += answer.load_us;
  } else {
    neap__ghost_use(s->cache, &asked, &answer.l1);
    answer.usable = answer.l1.prefix;
  }
  if (input->groups > 1) {
    neap__replay_share *group = &s->run->group[input->group_of[request->tenant]];
    group->accesses += request->chunks;
    group->hits += answer.l1.touched;
    group->prefix_hits += answer.l1.prefix;
  }
  if (answer.usable == 0) return rc;
  add_chunks(&s->usable, answer.usable);
  s->run->saved_kib += kib_of(s->work, chunk, answer.usable);
  return rc;
}

/* What happened since `before`, as a share. */
static neap__replay_share since(const neap__ghost_stats *before, const neap__ghost_stats *now) {
  return (neap__replay_share){.accesses = now->accesses - before->accesses,
                              .hits = now->hits - before->hits,
                              .prefix_hits = now->prefix_hits - before->prefix_hits};
}

/* False once the policy is out: its figures would be those of the LRU that went on for it. */
static bool works(state *s) {
  neap__replay_run *run = s->run;
  neap__ghost_stats_get(s->cache, &run->stats);
  if (!run->stats.policy.out) return true;
  run->rc = NEAP_ESCRIPT;
  run->err = run->stats.policy.why;
  return false;
}

static void feed(work *w, state *s) {
  const neap__trace *trace = w->input->trace;
  neap__replay_run *run = s->run;
  uint64_t untold = 0;
  for (uint32_t b = 0; b < NEAP__REPLAY_BUCKETS; b++) {
    const neap__ghost_stats before = run->stats;
    for (uint32_t r = w->input->bucket_first[b]; r < w->input->bucket_first[b + 1]; r++) {
      __builtin_prefetch(&trace->requests[r] + AHEAD); /* past the end, it does nothing */
      run->rc = use(s, &trace->requests[r], r);
      if (run->rc != 0) return;
      untold += trace->requests[r].chunks;
      if (untold < TELL_EVERY) continue;
      atomic_fetch_add(&w->done, untold);
      untold = 0;
      if (!works(s)) return;
    }
    if (!works(s)) return;
    run->bucket[b] = since(&before, &run->stats);
  }
  atomic_fetch_add(&w->done, untold);
}

/* What is known once the last request has been. */
static void sum_up(state *s) {
  const neap__replay_options *o = s->work->options;
  neap__replay_run *run = s->run;
  if (s->work->input->groups == 1) run->group[0] = since(&(neap__ghost_stats){.accesses = 0}, &run->stats);
  run->usable = s->usable.count;
  run->all_us = s->work->all_us;
  run->saved_us = recompute_us(o->cost, &s->usable) - s->load_us;
  run->saved_us -= (double)(s->usable.count - s->loaded) * o->load_us;
  if (s->tiers) neap__replay_tiers_stats(s->tiers, run->tier);
}

static double thread_seconds(void) {
  struct timespec at;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
  return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void do_run(work *w, neap__replay_run *run) {
  const neap__replay_options *o = w->options;
  const neap__lineage *lineage = &w->input->trace->lineage;
  state s = {.work = w, .run = run};
  const neap__ghost_config config = {.policy = run->policy->policy,
                                     .params = run->policy->params,
                                     .lineage = lineage,
                                     .numbers = lineage->count,
                                     .capacity = run->capacity,
                                     .head_first = w->input->head_first,
                                     .batch = o->batch,
                                     .seed = o->seed,
                                     .cost = o->cost};
  run->rc = neap__ghost_open(&config, &s.cache, &run->err);
  if (run->rc != 0) return;
  if (o->tiers > 0)
    run->rc = neap__replay_tiers_open(o->tier, o->tiers, lineage, (double)o->chunk_bytes / 1024, o->cost, &s.tiers);
  double began = thread_seconds();
  if (run->rc == 0) feed(w, &s);
  run->seconds = thread_seconds() - began;
  sum_up(&s);
  neap__replay_tiers_close(s.tiers);
  neap__ghost_close(s.cache);
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
  chunk_sum all = {0};
  for (uint32_t r = 0; r < input->trace->request_count; r++) add_chunks(&all, input->trace->requests[r].chunks);
  w.all_us = recompute_us(options->cost, &all);
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
