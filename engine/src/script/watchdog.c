/* SPDX-License-Identifier: MIT
 *
 * script/watchdog.c - the thread that reads the pulses. Pulses are written by VM threads without locks; the list of
 * pulses is locked, so a pulse and its host are alive while they are looked at. */
#include "script/watchdog.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER; /* start and stop of the thread; taken before `lock` */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake; /* on CLOCK_MONOTONIC; made with the thread */
static pthread_t thread;
static bool running, stop;
static neap__pulse *pulses;
static _Atomic uint64_t limit_ms = 5000;

static void report(neap__pulse *pulse, bool stuck, uint64_t ms) {
  const char *what = atomic_load(&pulse->what);
  char text[1024];
  if (stuck) {
    snprintf(text, sizeof(text), "script '%s' has been inside '%s' for %llu ms without returning to its loop",
             pulse->name, what ? what : "?", (unsigned long long)ms);
  } else {
    snprintf(text, sizeof(text), "script '%s' is responsive again", pulse->name);
  }
  if (pulse->host) {
    pulse->host->log(pulse->host->engine, stuck ? NEAP_ERROR : NEAP_INFO, text);
  } else {
    NEAP_LOG(stuck ? NEAP_ERROR : NEAP_INFO, "%s", text);
  }
}

static void look(neap__pulse *pulse, uint64_t now) {
  uint64_t entered = atomic_load(&pulse->entered_ns);
  uint64_t ms = entered && now > entered ? (now - entered) / 1000000u : 0;
  bool stuck = ms > atomic_load(&limit_ms);
  if (stuck == atomic_load(&pulse->stuck)) return;
  atomic_store(&pulse->stuck, stuck);
  report(pulse, stuck, ms);
}

static void *watch(void *arg) {
  (void)arg;
  pthread_mutex_lock(&lock);
  while (!stop) {
    uint64_t now = neap__now_ns();
    for (neap__pulse *p = pulses; p; p = p->next) look(p, now);
    uint64_t next = now + atomic_load(&limit_ms) * 1000000u / 4;
    struct timespec at = {.tv_sec = (time_t)(next / 1000000000u), .tv_nsec = (long)(next % 1000000000u)};
    pthread_cond_timedwait(&wake, &lock, &at);
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

/* Without a thread adapters work all the same; only the report of a stuck one is lost, and that is said. */
static void start_thread(void) {
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&wake, &attr);
  pthread_condattr_destroy(&attr);
  stop = false;
  running = pthread_create(&thread, NULL, watch, NULL) == 0;
  if (running) return;
  pthread_cond_destroy(&wake);
  NEAP_LOG_WARN("no thread for the script watchdog: stuck scripts will not be reported");
}

void neap__watchdog_add(neap__pulse *pulse) {
  pthread_mutex_lock(&life);
  pthread_mutex_lock(&lock);
  pulse->next = pulses;
  pulses = pulse;
  pthread_mutex_unlock(&lock);
  if (!running) start_thread();
  pthread_mutex_unlock(&life);
}

void neap__watchdog_remove(neap__pulse *pulse) {
  pthread_mutex_lock(&life);
  pthread_mutex_lock(&lock);
  neap__pulse **at = &pulses;
  while (*at && *at != pulse) at = &(*at)->next;
  if (*at) *at = pulse->next;
  bool last = running && !pulses;
  if (last) {
    stop = true;
    pthread_cond_signal(&wake);
  }
  pthread_mutex_unlock(&lock);
  if (last) {
    pthread_join(thread, NULL);
    pthread_cond_destroy(&wake);
    running = false;
  }
  pthread_mutex_unlock(&life);
}

void neap__watchdog_set_limit(uint64_t ms) {
  atomic_store(&limit_ms, ms);
  pthread_mutex_lock(&life);
  pthread_mutex_lock(&lock);
  if (running) pthread_cond_signal(&wake);
  pthread_mutex_unlock(&lock);
  pthread_mutex_unlock(&life);
}

void neap__pulse_enter(neap__pulse *pulse, const char *what) {
  atomic_store_explicit(&pulse->what, what, memory_order_relaxed);
  atomic_store_explicit(&pulse->entered_ns, neap__now_ns(), memory_order_release);
}

void neap__pulse_enter_often(neap__pulse *pulse, const char *what) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &at);
  atomic_store_explicit(&pulse->what, what, memory_order_relaxed);
  atomic_store_explicit(&pulse->entered_ns, (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec,
                        memory_order_release);
}

void neap__pulse_leave(neap__pulse *pulse) { atomic_store_explicit(&pulse->entered_ns, 0, memory_order_release); }
