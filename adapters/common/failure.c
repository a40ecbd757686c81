/* SPDX-License-Identifier: MIT
 *
 * failure.c - see failure.h. */
#include "failure.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define BURST_NS UINT64_C(10000000000)

int neap__failure_code(int errno_value) {
  switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return NEAP_ENOSPC;
    case EACCES:
    case EPERM:
    case EROFS: return NEAP_EPERM;
    case ENOMEM: return NEAP_ENOMEM;
    case EMFILE:
    case ENFILE: return NEAP_ELIMIT;
    default: return NEAP_EIO;
  }
}

void neap__failures_init(neap__failures *failures) {
  *failures = (neap__failures){.errno_value = 0};
  pthread_mutex_init(&failures->lock, NULL);
}

void neap__failures_destroy(neap__failures *failures) { pthread_mutex_destroy(&failures->lock); }

/* Whether it is to be said now; *held: how many were not since the last one that was. */
static bool is_to_be_said(neap__failures *failures, const neap_host *host, int errno_value, uint64_t *held) {
  pthread_mutex_lock(&failures->lock);
  uint64_t now = host->now_ns(host->engine); /* under the lock, or it may lie before said_ns */
  bool burst = failures->errno_value == errno_value && now - failures->said_ns < BURST_NS;
  *held = failures->held;
  failures->held = burst ? failures->held + 1 : 0;
  if (!burst) {
    failures->errno_value = errno_value;
    failures->said_ns = now;
  }
  pthread_mutex_unlock(&failures->lock);
  return !burst;
}

void neap__failures_say(neap__failures *failures, const neap_host *host, const char *what, const char *name,
                        int errno_value) {
  char line[1000], reason[128], more[64] = "";
  uint64_t held;
  if (!is_to_be_said(failures, host, errno_value, &held)) return;
  if (held) snprintf(more, sizeof(more), " (%llu more failures since the last such line)", (unsigned long long)held);
  snprintf(line, sizeof(line), "%s %.600s: %s%s", what, name, strerror_r(errno_value, reason, sizeof(reason)), more);
  host->log(host->engine, NEAP_WARNING, line);
}
