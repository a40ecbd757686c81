/* SPDX-License-Identifier: MIT
 *
 * The worker pool and the loop thread. Nothing is asserted inside a worker or a loop callback: they record, the test
 * thread judges after it has waited for them. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/loop.h"

/* --- pool ----------------------------------------------------------------------------------------------------- */

static void count_up(void *arg) { atomic_fetch_add((_Atomic int *)arg, 1); }

static void the_pool_runs_everything_it_accepted_before_it_closes(void **state) {
  (void)state;
  neap__pool *pool;
  _Atomic int ran = 0;
  int accepted = 0;
  assert_int_equal(neap__pool_open(3, 64, &pool), 0);
  for (int i = 0; i < 10000; i++) {
    int rc = neap__pool_submit(pool, count_up, &ran);
    assert_true(rc == 0 || rc == NEAP_ELIMIT);
    accepted += rc == 0;
  }
  neap__pool_close(pool);
  assert_true(accepted >= 64);
  assert_int_equal(atomic_load(&ran), accepted);
}

typedef struct gate {
  uv_sem_t entered, open;
} gate;

static void wait_at_gate(void *arg) {
  gate *g = arg;
  uv_sem_post(&g->entered);
  uv_sem_wait(&g->open);
}

static void a_full_queue_refuses_and_recovers(void **state) {
  (void)state;
  neap__pool *pool;
  gate g;
  _Atomic int ran = 0;
  assert_int_equal(uv_sem_init(&g.entered, 0), 0);
  assert_int_equal(uv_sem_init(&g.open, 0), 0);
  assert_int_equal(neap__pool_open(1, 2, &pool), 0);

  assert_int_equal(neap__pool_submit(pool, wait_at_gate, &g), 0);
  uv_sem_wait(&g.entered); /* the only thread is busy, the queue is empty */
  assert_int_equal(neap__pool_submit(pool, count_up, &ran), 0);
  assert_int_equal(neap__pool_submit(pool, wait_at_gate, &g), 0);
  assert_int_equal(neap__pool_submit(pool, count_up, &ran), NEAP_ELIMIT);
  uv_sem_post(&g.open);
  uv_sem_wait(&g.entered);
  assert_int_equal(neap__pool_submit(pool, count_up, &ran), 0);
  uv_sem_post(&g.open);

  neap__pool_close(pool);
  assert_int_equal(atomic_load(&ran), 2);
  uv_sem_destroy(&g.entered);
  uv_sem_destroy(&g.open);
}

static void a_pool_without_threads_or_queue_is_refused(void **state) {
  (void)state;
  neap__pool *pool;
  assert_int_equal(neap__pool_open(0, 4, &pool), NEAP_EINVAL);
  assert_int_equal(neap__pool_open(4, 0, &pool), NEAP_EINVAL);
}

typedef struct chain {
  neap__pool *pool;
  int left;
} chain;

static void submit_next(void *arg) {
  chain *c = arg;
  if (c->left-- > 0) neap__pool_submit(c->pool, submit_next, c);
}

static void work_may_submit_more_work_while_the_pool_closes(void **state) {
  (void)state;
  chain c = {.left = 500};
  assert_int_equal(neap__pool_open(2, 4, &c.pool), 0);
  assert_int_equal(neap__pool_submit(c.pool, submit_next, &c), 0);
  neap__pool_close(c.pool);
  assert_int_equal(c.left, -1);
}

/* --- loop ----------------------------------------------------------------------------------------------------- */

enum { POSTERS = 4, POSTS = 5000 };

typedef struct numbered {
  neap__job job;
  struct recorder *recorder;
  int poster, number;
} numbered;

typedef struct recorder {
  neap__loop *loop;
  int next[POSTERS]; /* loop thread only, read after close */
  int out_of_order, elsewhere;
} recorder;

static void record(neap__job *job) {
  numbered *n = (numbered *)job;
  recorder *r = n->recorder;
  r->out_of_order += n->number != r->next[n->poster];
  r->next[n->poster]++;
  r->elsewhere += !neap__loop_here(r->loop);
  free(n);
}

typedef struct poster {
  recorder *recorder;
  int poster;
} poster;

static void *post_many(void *arg) {
  poster *p = arg;
  for (int i = 0; i < POSTS; i++) {
    numbered *n = calloc(1, sizeof(*n));
    if (!n) return p;
    *n = (numbered){.job.run = record, .recorder = p->recorder, .poster = p->poster, .number = i};
    neap__loop_post(p->recorder->loop, &n->job);
  }
  return NULL;
}

static void jobs_run_on_the_loop_in_the_order_of_each_poster(void **state) {
  (void)state;
  recorder r = {.loop = NULL};
  pthread_t threads[POSTERS];
  poster posters[POSTERS];
  assert_int_equal(neap__loop_open("neap-test", &r.loop), 0);
  assert_false(neap__loop_here(r.loop));
  for (int i = 0; i < POSTERS; i++) {
    posters[i] = (poster){&r, i};
    assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
  }
  for (int i = 0; i < POSTERS; i++) {
    void *failed;
    pthread_join(threads[i], &failed);
    assert_null(failed);
  }
  neap__loop_close(r.loop);
  for (int i = 0; i < POSTERS; i++) assert_int_equal(r.next[i], POSTS);
  assert_int_equal(r.out_of_order, 0);
  assert_int_equal(r.elsewhere, 0);
}

typedef struct timing {
  neap__loop *loop;
  neap__job again;
  uv_timer_t timer;
  uv_sem_t fired;
  bool stop;
  int runs;
} timing;

static void on_timer_closed(uv_handle_t *handle) { uv_sem_post(&((timing *)handle->data)->fired); }

static void on_timer(uv_timer_t *timer) {
  ((timing *)timer->data)->stop = true;
  uv_close((uv_handle_t *)timer, on_timer_closed);
}

static void post_again(neap__job *job) {
  timing *t = (timing *)(void *)((char *)job - offsetof(timing, again));
  t->runs++;
  if (!t->stop) neap__loop_post(t->loop, job);
}

static void start_timing(void *arg) {
  timing *t = arg;
  uv_timer_init(neap__loop_uv(t->loop), &t->timer);
  t->timer.data = t;
  uv_timer_start(&t->timer, on_timer, 1, 0);
  t->again.run = post_again;
  neap__loop_post(t->loop, &t->again);
}

static void a_job_that_posts_itself_does_not_starve_the_loop(void **state) {
  (void)state;
  timing t = {.stop = false};
  assert_int_equal(uv_sem_init(&t.fired, 0), 0);
  assert_int_equal(neap__loop_open("a name longer than fifteen characters", &t.loop), 0);
  neap__loop_call(t.loop, start_timing, &t);
  uv_sem_wait(&t.fired);
  neap__loop_close(t.loop);
  assert_true(t.runs > 0);
  uv_sem_destroy(&t.fired);
}

typedef struct seen {
  neap__loop *loop;
  bool here;
  int value;
} seen;

static void look(void *arg) {
  seen *s = arg;
  s->here = neap__loop_here(s->loop);
  s->value++;
}

static void a_call_has_happened_when_it_returns(void **state) {
  (void)state;
  seen s = {.value = 0};
  assert_int_equal(neap__loop_open("neap-test", &s.loop), 0);
  for (int i = 1; i <= 2000; i++) {
    neap__loop_call(s.loop, look, &s);
    assert_true(s.here);
    assert_int_equal(s.value, i);
  }
  neap__loop_close(s.loop);
}

typedef struct cascade {
  neap__job job;
  neap__loop *loop;
  int left;
} cascade;

static void cascade_run(neap__job *job) {
  cascade *c = (cascade *)job;
  if (c->left-- > 0) neap__loop_post(c->loop, job);
}

static void jobs_posted_by_jobs_run_before_close_returns(void **state) {
  (void)state;
  for (int round = 0; round < 50; round++) {
    cascade c = {.job.run = cascade_run, .left = 20};
    assert_int_equal(neap__loop_open("neap-test", &c.loop), 0);
    neap__loop_post(c.loop, &c.job);
    neap__loop_close(c.loop);
    assert_int_equal(c.left, -1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_pool_runs_everything_it_accepted_before_it_closes),
      cmocka_unit_test(a_full_queue_refuses_and_recovers),
      cmocka_unit_test(a_pool_without_threads_or_queue_is_refused),
      cmocka_unit_test(work_may_submit_more_work_while_the_pool_closes),
      cmocka_unit_test(jobs_run_on_the_loop_in_the_order_of_each_poster),
      cmocka_unit_test(a_job_that_posts_itself_does_not_starve_the_loop),
      cmocka_unit_test(a_call_has_happened_when_it_returns),
      cmocka_unit_test(jobs_posted_by_jobs_run_before_close_returns),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
