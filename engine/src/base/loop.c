/* SPDX-License-Identifier: MIT
 *
 * base/loop.c - a thread with a libuv loop and an inbox.
 *
 *   any thread   post: append to the inbox; when it was empty, wake the loop
 *   loop thread  woken: take the whole inbox, run it in order; what those jobs post waits for the next turn,
 *                so sockets and timers get theirs in between
 *   close        a last job closes the wake-up handle; the loop then runs out of handles, the inbox is emptied, join
 *
 * The wake-up is sent under the inbox lock: the loop cannot be closed and freed between a poster's append and its
 * send. It is an eventfd and no uv_async_t, for a loop that such a handle wakes spins until the sender has come back
 * from its system call, which costs more than the operation when both share a processor. What is not here: timers,
 * retries, anything about what a job means. */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct neap__loop {
  uv_loop_t uv;
  int wake_fd;
  uv_poll_t wake;
  pthread_mutex_t lock; /* guards first, last, woken_by_posts */
  neap__job *first, **last;
  bool woken_by_posts; /* false once the wake-up handle is closing */
  pthread_t thread;    /* set by the thread itself before open returns */
  uv_sem_t started;
  char name[16];
};

/* Runs what is in the inbox now; false if it was empty. */
static bool run_jobs(neap__loop *loop) {
  pthread_mutex_lock(&loop->lock);
  neap__job *job = loop->first;
  loop->first = NULL;
  loop->last = &loop->first;
  pthread_mutex_unlock(&loop->lock);

  bool any = job != NULL;
  while (job) {
    neap__job *next = job->next; /* run may free the job */
    job->run(job);
    job = next;
  }
  return any;
}

/* The count is taken before the inbox: a post in between wakes again. */
static void on_wake(uv_poll_t *wake, int status, int events) {
  neap__loop *loop = wake->data;
  uint64_t count;
  (void)status, (void)events;
  while (read(loop->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR) continue;
  run_jobs(loop);
}

static void wake_up(neap__loop *loop) {
  const uint64_t one = 1;
  while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) continue;
}

static void *loop_thread(void *arg) {
  neap__loop *loop = arg;

  loop->thread = pthread_self();
  pthread_setname_np(loop->thread, loop->name);
  uv_sem_post(&loop->started);
  do {
    uv_run(&loop->uv, UV_RUN_DEFAULT);
  } while (run_jobs(loop)); /* jobs posted after the stop may have opened handles */
  return NULL;
}

int neap__loop_open(const char *name, neap__loop **out) {
  int rc = NEAP_ENOMEM;
  neap__loop *loop = calloc(1, sizeof(*loop));
  if (!loop) return rc;
  if (uv_loop_init(&loop->uv) != 0) goto out_free;
  loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (loop->wake_fd < 0) goto out_uv;
  if (uv_poll_init(&loop->uv, &loop->wake, loop->wake_fd) != 0) goto out_fd;
  loop->wake.data = loop;
  if (uv_poll_start(&loop->wake, UV_READABLE, on_wake) != 0) goto out_wake;
  if (uv_sem_init(&loop->started, 0) != 0) goto out_wake;

  loop->last = &loop->first;
  loop->woken_by_posts = true;
  pthread_mutex_init(&loop->lock, NULL);
  memcpy(loop->name, name, strnlen(name, sizeof(loop->name) - 1));
  pthread_t thread;
  if (pthread_create(&thread, NULL, loop_thread, loop) == 0) {
    uv_sem_wait(&loop->started);
    uv_sem_destroy(&loop->started);
    *out = loop;
    return 0;
  }

  rc = NEAP_EIO;
  pthread_mutex_destroy(&loop->lock);
  uv_sem_destroy(&loop->started);
out_wake:
  uv_close((uv_handle_t *)&loop->wake, NULL);
  uv_run(&loop->uv, UV_RUN_DEFAULT);
out_fd:
  close(loop->wake_fd);
out_uv:
  uv_loop_close(&loop->uv);
out_free:
  free(loop);
  return rc;
}

void neap__loop_post(neap__loop *loop, neap__job *job) {
  job->next = NULL;
  pthread_mutex_lock(&loop->lock);
  bool was_empty = !loop->first;
  *loop->last = job;
  loop->last = &job->next;
  if (was_empty && loop->woken_by_posts) wake_up(loop);
  pthread_mutex_unlock(&loop->lock);
}

typedef struct call_job {
  neap__job job;
  void (*work)(void *arg);
  void *arg;
  uv_sem_t done;
} call_job;

static void call_run(neap__job *job) {
  call_job *call = (call_job *)job;
  call->work(call->arg);
  uv_sem_post(&call->done);
}

void neap__loop_call(neap__loop *loop, void (*work)(void *arg), void *arg) {
  NEAP_ASSERT(!neap__loop_here(loop)); /* it would wait for itself */

  call_job call = {.job.run = call_run, .work = work, .arg = arg};
  NEAP_ASSERT(uv_sem_init(&call.done, 0) == 0);
  neap__loop_post(loop, &call.job);
  uv_sem_wait(&call.done);
  uv_sem_destroy(&call.done);
}

static void nothing(void *arg) { (void)arg; }

void neap__loop_settle(neap__loop *loop) { neap__loop_call(loop, nothing, NULL); }

bool neap__loop_here(const neap__loop *loop) { return pthread_equal(loop->thread, pthread_self()) != 0; }

uv_loop_t *neap__loop_uv(neap__loop *loop) { return &loop->uv; }

typedef struct stop_job {
  neap__job job;
  neap__loop *loop;
} stop_job;

static void stop_run(neap__job *job) {
  neap__loop *loop = ((stop_job *)job)->loop;

  pthread_mutex_lock(&loop->lock);
  loop->woken_by_posts = false;
  pthread_mutex_unlock(&loop->lock);
  uv_close((uv_handle_t *)&loop->wake, NULL);
}

void neap__loop_close(neap__loop *loop) {
  NEAP_ASSERT(!neap__loop_here(loop));

  stop_job stop = {.job.run = stop_run, .loop = loop};
  neap__loop_post(loop, &stop.job);
  NEAP_ASSERT(pthread_join(loop->thread, NULL) == 0);
  NEAP_ASSERT(uv_loop_close(&loop->uv) == 0); /* a handle that its user did not close */
  close(loop->wake_fd);
  pthread_mutex_destroy(&loop->lock);
  free(loop);
}
