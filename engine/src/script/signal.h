/* SPDX-License-Identifier: MIT
 *
 * script/signal.h - a flag that one thread sets, once, and another waits for. */
#pragma once
#include <pthread.h>

#include "base/base.h"

typedef struct neap__signal {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool set;
} neap__signal;

void neap__signal_init(neap__signal *signal);
/* Any time after the wait returned: the setter no longer touches it then. */
void neap__signal_free(neap__signal *signal);
void neap__signal_set(neap__signal *signal);
void neap__signal_wait(neap__signal *signal);
bool neap__signal_wait_ms(neap__signal *signal, uint64_t ms); /* false: not set within that time */
