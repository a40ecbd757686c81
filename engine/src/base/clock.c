/* SPDX-License-Identifier: MIT
 *
 * base/clock.c - the two clocks: one that never jumps, for ages and deadlines, and the calendar. Any thread. */
#include <time.h>

#include "base/base.h"

uint64_t neap__now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t neap__unix_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec;
}
