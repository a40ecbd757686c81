/* SPDX-License-Identifier: MIT
 *
 * base/log.c - log lines to stderr. One line is at most PIPE_BUF bytes and is never mixed with another; what does not
 * fit is cut from the text, never from the prefix or the source position. Any thread.
 *
 * By itself a line is written by the thread that logs it. A server starts the writer: lines then go to a bounded
 * buffer, and a thread writes what has gathered in a few milliseconds at once, so that neither the cost of a write nor
 * a reader that has stopped reading holds up a request. Lines that find the buffer full are lost, counted, and the
 * count is logged. Rotation, files and sinks are the business of whoever owns stderr. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
static pthread_once_t colour_once = PTHREAD_ONCE_INIT;
static bool colour;

static void colour_decide(void) {
  const char *refused = getenv("NO_COLOR"); /* https://no-color.org: set and not empty */
  colour = isatty(STDERR_FILENO) && !(refused && *refused);
}

void neap__log_set_level(neap_log_level least) { atomic_store_explicit(&least_level, least, memory_order_relaxed); }

neap_log_level neap__log_level(void) {
  return (neap_log_level)atomic_load_explicit(&least_level, memory_order_relaxed);
}

static size_t put_prefix(char *line, size_t cap, neap_log_level level) {
  static _Thread_local char stamp[32]; /* of second `stamped`: most lines share theirs with the one before */
  static _Thread_local time_t stamped;
  struct timespec now;
  struct tm local;

  clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec != stamped) {
    localtime_r(&now.tv_sec, &local);
    strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &local);
    stamped = now.tv_sec;
  }
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
static void put(const char *text, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = write(STDERR_FILENO, text, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text += n;
    bytes -= (size_t)n;
  }
}

/* --- the writer ------------------------------------------------------------------------------------------------- */

#define BUFFER_BYTES (256u << 10)
#define GATHER_NS 5000000
#define FLUSH_S 1

static struct {
  pthread_mutex_t lock;
  pthread_cond_t work, idle;
  pthread_t thread;
  bool running, stopping, writing;
  size_t used;
  unsigned long long lost;
  char filling[BUFFER_BYTES], leaving[BUFFER_BYTES];
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};

static void put_lost_count(unsigned long long lost) {
  char out[256];
  size_t used = put_prefix(out, sizeof(out), NEAP_WARNING);
  int n = snprintf(out + used, sizeof(out) - used, "%llu log lines were lost: nobody read them (log.c)\n", lost);
  put(out, used + (n > 0 ? (size_t)n : 0));
}

static void *write_lines(void *arg) {
  const struct timespec gather = {.tv_nsec = GATHER_NS};
  (void)arg;
  pthread_mutex_lock(&writer.lock);
  while (writer.used || !writer.stopping) {
    if (!writer.used) {
      pthread_cond_wait(&writer.work, &writer.lock);
      continue;
    }
    if (!writer.stopping) {
      pthread_mutex_unlock(&writer.lock);
      nanosleep(&gather, NULL);
      pthread_mutex_lock(&writer.lock);
    }
    size_t bytes = writer.used;
    unsigned long long lost = writer.lost;
    memcpy(writer.leaving, writer.filling, bytes);
    writer.used = 0;
    writer.lost = 0;
    writer.writing = true;
    pthread_mutex_unlock(&writer.lock);
    put(writer.leaving, bytes);
    if (lost) put_lost_count(lost);
    pthread_mutex_lock(&writer.lock);
    writer.writing = false;
    pthread_cond_broadcast(&writer.idle);
  }
  pthread_mutex_unlock(&writer.lock);
  return NULL;
}

/* Hands a line to the writer. False if there is none. */
static bool hand_over(const char *line, size_t bytes) {
  pthread_mutex_lock(&writer.lock);
  bool running = writer.running;
  if (running && writer.used + bytes <= BUFFER_BYTES) {
    if (writer.used == 0) pthread_cond_signal(&writer.work);
    memcpy(writer.filling + writer.used, line, bytes);
    writer.used += bytes;
  } else if (running) {
    writer.lost++;
  }
  pthread_mutex_unlock(&writer.lock);
  return running;
}

int neap__log_writer_start(void) {
  pthread_mutex_lock(&writer.lock);
  writer.stopping = false;
  bool started = writer.running || pthread_create(&writer.thread, NULL, write_lines, NULL) == 0;
  writer.running = started;
  pthread_mutex_unlock(&writer.lock);
  return started ? 0 : NEAP_ENOMEM;
}

static struct timespec flush_deadline(void) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  at.tv_sec += FLUSH_S;
  return at;
}

void neap__log_writer_stop(void) {
  struct timespec at = flush_deadline();
  pthread_mutex_lock(&writer.lock);
  bool running = writer.running;
  writer.running = false;
  writer.stopping = true;
  pthread_cond_signal(&writer.work);
  pthread_mutex_unlock(&writer.lock);
  /* A writer that nobody reads from is left behind: the program is about to end. */
  if (running && pthread_timedjoin_np(writer.thread, NULL, &at) != 0) pthread_detach(writer.thread);
}

void neap__log_flush(void) {
  struct timespec at = flush_deadline();
  pthread_mutex_lock(&writer.lock);
  while (writer.running && (writer.used || writer.writing))
    if (pthread_cond_timedwait(&writer.idle, &writer.lock, &at) != 0) break;
  pthread_mutex_unlock(&writer.lock);
}

/* --- lines ------------------------------------------------------------------------------------------------------ */

void neap__log(neap_log_level level, const char *file, int line, const char *fmt, ...) {
  if (level < neap__log_level() || level > NEAP_ERROR) return;
  pthread_once(&colour_once, colour_decide);

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

  if (!hand_over(out, used)) put(out, used);
}
