/* SPDX-License-Identifier: MIT
 *
 * script/signal.c - see signal.h. The setter signals under the lock, so that a waiter that frees the signal as soon as
 * it wakes cannot do so before the setter is through. */
#include "script/signal.h"

#include <time.h>

void neap__signal_init(neap__signal *signal) {
  pthread_condattr_t attr;
  pthread_mutex_init(&signal->lock, NULL);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&signal->cond, &attr);
  pthread_condattr_destroy(&attr);
  signal->set = false;
}

void neap__signal_free(neap__signal *signal) {
  pthread_cond_destroy(&signal->cond);
  pthread_mutex_destroy(&signal->lock);
}

void neap__signal_set(neap__signal *signal) {
  pthread_mutex_lock(&signal->lock);
  signal->set = true;
  pthread_cond_signal(&signal->cond);
  pthread_mutex_unlock(&signal->lock);
}

void neap__signal_wait(neap__signal *signal) {
  pthread_mutex_lock(&signal->lock);
  while (!signal->set) pthread_cond_wait(&signal->cond, &signal->lock);
  pthread_mutex_unlock(&signal->lock);
}

bool neap__signal_wait_ms(neap__signal *signal, uint64_t ms) {
  uint64_t at_ns = neap__now_ns() + ms * 1000000u;
  struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000u), .tv_nsec = (long)(at_ns % 1000000000u)};
  pthread_mutex_lock(&signal->lock);
  while (!signal->set && pthread_cond_timedwait(&signal->cond, &signal->lock, &at) == 0) {
  }
  bool set = signal->set;
  pthread_mutex_unlock(&signal->lock);
  return set;
}
