/* SPDX-License-Identifier: MIT
 *
 * base/log.c - log lines to stderr. One line is one write of at most PIPE_BUF bytes, so lines of different threads
 * and processes do not mix; what does not fit is cut from the text, never from the prefix or the source position.
 * A pipe or socket that nobody reads loses lines, and is told how many, instead of holding up the thread that logs.
 * Any thread. Rotation, files and sinks are the business of whoever owns stderr. */
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

static const struct {
  const char *name;
  const char *colour;
} levels[] = {
    [NEAP_DEBUG] = {"DEBUG", "\033[36m"},
    [NEAP_INFO] = {"INFO", "\033[32m"},
    [NEAP_WARNING] = {"WARNING", "\033[33m"},
    [NEAP_ERROR] = {"ERROR", "\033[31m"},
};

static _Atomic int least_level = NEAP_INFO;
static pthread_once_t stream_once = PTHREAD_ONCE_INIT;
static bool colour, may_block;
static pthread_mutex_t stream_lock = PTHREAD_MUTEX_INITIALIZER; /* where a write may block */
static unsigned long long lost;

static void stream_look(void) {
  const char *refused = getenv("NO_COLOR"); /* https://no-color.org: set and not empty */
  struct stat st;
  colour = isatty(STDERR_FILENO) && !(refused && *refused);
  may_block = fstat(STDERR_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

void neap__log_set_level(neap_log_level least) { atomic_store_explicit(&least_level, least, memory_order_relaxed); }

neap_log_level neap__log_level(void) {
  return (neap_log_level)atomic_load_explicit(&least_level, memory_order_relaxed);
}

static size_t put_prefix(char *line, size_t cap, neap_log_level level) {
  struct timespec now;
  struct tm local;
  char stamp[32];

  clock_gettime(CLOCK_REALTIME, &now);
  localtime_r(&now.tv_sec, &local);
  strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &local);
  int n = snprintf(line, cap, "[%s,%03d] neap %s%s%s: ", stamp, (int)(now.tv_nsec / 1000000),
                   colour ? levels[level].colour : "", levels[level].name, colour ? "\033[0m" : "");
  return n > 0 ? (size_t)n : 0;
}

/* Texts may quote what a client sent: a control character must neither forge a second line nor drive a terminal. */
static void make_printable(char *text, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) text[i] = ' ';
}

/* A log that cannot be written has nowhere to complain. */
static void put_line(const char *line, size_t bytes) {
  ssize_t written = write(STDERR_FILENO, line, bytes);
  (void)written;
}

/* Room for one line: a pipe that polls writable takes PIPE_BUF bytes. */
static bool stream_has_room(void) {
  struct pollfd stream = {.fd = STDERR_FILENO, .events = POLLOUT};
  return poll(&stream, 1, 0) == 1 && (stream.revents & POLLOUT);
}

static void put_lost_count(void) {
  char out[256];
  size_t used = put_prefix(out, sizeof(out), NEAP_WARNING);
  int n = snprintf(out + used, sizeof(out) - used, "%llu log lines were lost: nobody read them (log.c)\n", lost);
  put_line(out, used + (n > 0 ? (size_t)n : 0));
  lost = 0;
}

void neap__log(neap_log_level level, const char *file, int line, const char *fmt, ...) {
  if (level < neap__log_level() || level > NEAP_ERROR) return;
  pthread_once(&stream_once, stream_look);

  char out[PIPE_BUF];
  char where[128];
  const char *slash = strrchr(file, '/');
  int w = snprintf(where, sizeof(where), " (%.100s:%d)\n", slash ? slash + 1 : file, line);
  size_t where_bytes = w > 0 ? (size_t)w : 0;
  size_t used = put_prefix(out, sizeof(out), level);
  size_t room = sizeof(out) - used - where_bytes; /* the text's NUL is overwritten by `where` */

  va_list args;
  va_start(args, fmt);
  int n = vsnprintf(out + used, room, fmt, args);
  va_end(args);
  size_t text_bytes = n > 0 ? NEAP_MIN((size_t)n, room - 1) : 0;
  make_printable(out + used, text_bytes);
  used += text_bytes;
  memcpy(out + used, where, where_bytes);
  used += where_bytes;

  if (!may_block) {
    put_line(out, used);
    return;
  }
  pthread_mutex_lock(&stream_lock);
  if (!stream_has_room()) {
    lost++;
  } else {
    if (lost) put_lost_count();
    if (stream_has_room())
      put_line(out, used);
    else
      lost++;
  }
  pthread_mutex_unlock(&stream_lock);
}
