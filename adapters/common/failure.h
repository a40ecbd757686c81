/* SPDX-License-Identifier: MIT
 *
 * failure.h - what built-in stores on files do about a system call that failed: which NEAP_ code it is, and one log
 * line for each burst of failures of one kind. Any thread. */
#pragma once
#include <neap/adapter.h>
#include <pthread.h>
#include <stdint.h>

/* The NEAP_ code of an errno value; NEAP_EIO for those that mean nothing in particular. */
int neap__failure_code(int errno_value);

/* What was said last. Belongs to its store; init before the first line, destroy after the last. */
typedef struct neap__failures {
  pthread_mutex_t lock;
  int errno_value;
  uint64_t said_ns, held; /* held: failures since then that were not said */
} neap__failures;

void neap__failures_init(neap__failures *failures);
void neap__failures_destroy(neap__failures *failures);
/* Logs a warning "WHAT NAME: REASON", unless the last one was about the same errno value and less than ten seconds
 * ago. */
void neap__failures_say(neap__failures *failures, const neap_host *host, const char *what, const char *name,
                        int errno_value);
