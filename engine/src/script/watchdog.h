/* SPDX-License-Identifier: MIT
 *
 * script/watchdog.h - tells when a VM does not come back.
 *
 * Adapters are trusted and compiled, so nothing can stop `while true do end` (hooks are not checked by compiled code).
 * What can be done is to say so: each VM writes a pulse when it is entered and left, and one thread reads the pulses
 * of all VMs. It never touches a VM. */
#pragma once
#include <stdatomic.h>

#include "base/base.h"

typedef struct neap__pulse {
  _Atomic uint64_t entered_ns; /* 0: nobody is inside */
  _Atomic(const char *) what;  /* the hook that was entered last; lives as long as the pulse */
  atomic_bool stuck;           /* inside for longer than the limit */
  const char *name;            /* of the adapter */
  const neap_host *host;       /* for the log line; may be NULL */
  struct neap__pulse *next;    /* watchdog.c */
} neap__pulse;

/* The thread runs while there are pulses. The pulse stays where it is until removed. */
void neap__watchdog_add(neap__pulse *pulse);
void neap__watchdog_remove(neap__pulse *pulse);
/* How long a VM may be inside before it is reported; 5,000 ms unless set. Any thread. */
void neap__watchdog_set_limit(uint64_t limit_ms);

void neap__pulse_enter(neap__pulse *pulse, const char *what);
/* By a clock that is some milliseconds late and costs a quarter, for a VM that is entered millions of times. */
void neap__pulse_enter_often(neap__pulse *pulse, const char *what);
void neap__pulse_leave(neap__pulse *pulse);
