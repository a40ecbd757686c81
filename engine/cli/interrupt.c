/* SPDX-License-Identifier: MIT
 *
 * cli/interrupt.c - see interrupt.h. The thread lives as long as the program. */
#include "interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATUS_INTERRUPTED 130

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static neap__target *target;
static int times;
static bool ignored;

static void say(const char *text) {
  ssize_t n = write(STDERR_FILENO, text, strlen(text));
  (void)n;
}

static void on_interrupt(void) {
  pthread_mutex_lock(&lock);
  bool end = !ignored && (!target || ++times == 3);
  if (target && times == 1) neap__target_interrupt(target);
  if (target && times == 2) say("\nstill busy: code that is compiled, or C, cannot be stopped; once more ends neap\n");
  pthread_mutex_unlock(&lock);
  if (end) _exit(STATUS_INTERRUPTED);
}

static void *take_signals(void *arg) {
  sigset_t set;
  int number;
  (void)arg;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  for (;;)
    if (sigwait(&set, &number) == 0) on_interrupt();
  return NULL;
}

int neap__interrupt_start(neap_error *err) {
  sigset_t set;
  pthread_t thread;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  if (pthread_create(&thread, NULL, take_signals, NULL) != 0) return neap__fail(err, NEAP_EIO, "no thread");
  pthread_detach(thread);
  return 0;
}

void neap__interrupt_target(neap__target *begun) {
  pthread_mutex_lock(&lock);
  target = begun;
  times = 0;
  pthread_mutex_unlock(&lock);
}

void neap__interrupt_ignore(bool ignore) {
  pthread_mutex_lock(&lock);
  ignored = ignore;
  pthread_mutex_unlock(&lock);
}
