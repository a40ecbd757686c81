/* SPDX-License-Identifier: MIT
 *
 * trace/sink.c - see sink.h. */
#include "trace/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES (256u << 10)

struct neap__sink {
  char *path, *temporary;
  int fd, failed; /* errno of the first error */
  size_t used;
  uint64_t written;
  char buffer[BUFFER_BYTES];
};

static int sink_fail(const neap__sink *sink, neap_error *err) {
  int code = sink->failed == ENOMEM ? NEAP_ENOMEM : NEAP_EIO;
  if (sink->failed == ENOSPC || sink->failed == EDQUOT) code = NEAP_ENOSPC;
  return neap__fail(err, code, "%s: cannot be written: %s", sink->path ? sink->path : "", strerror(sink->failed));
}

/* A pipe or a device is written as it is; beside a file, or where there is none, a temporary file takes its place. */
static void open_file(neap__sink *sink) {
  static atomic_uint count;
  struct stat st;
  if (stat(sink->path, &st) == 0 && !S_ISREG(st.st_mode)) {
    sink->fd = open(sink->path, O_WRONLY | O_CLOEXEC);
    if (sink->fd < 0) sink->failed = errno;
    return;
  }
  if (asprintf(&sink->temporary, "%s.%ld-%u", sink->path, (long)getpid(), atomic_fetch_add(&count, 1u)) < 0) {
    sink->temporary = NULL;
    sink->failed = ENOMEM;
    return;
  }
  sink->fd = open(sink->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (sink->fd >= 0) return;
  sink->failed = errno;
  free(sink->temporary); /* nothing of that name is ours */
  sink->temporary = NULL;
}

int neap__sink_open(const char *path, neap__sink **out, neap_error *err) {
  neap__sink *sink = calloc(1, sizeof(*sink));
  if (!sink) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  sink->fd = -1;
  sink->path = realpath(path, NULL); /* a link stays a link */
  if (!sink->path) sink->path = strdup(path);
  if (sink->path)
    open_file(sink);
  else
    sink->failed = ENOMEM;
  if (sink->failed) return neap__sink_close(sink, false, err);
  *out = sink;
  return 0;
}

static void flush(neap__sink *sink) {
  for (size_t done = 0; done < sink->used && !sink->failed;) {
    ssize_t n = write(sink->fd, sink->buffer + done, sink->used - done);
    if (n < 0 && errno != EINTR) sink->failed = errno;
    if (n > 0) done += (size_t)n;
  }
  sink->used = 0;
}

void neap__sink_write(neap__sink *sink, const void *data, size_t bytes) {
  const char *from = data;
  sink->written += bytes;
  while (bytes > 0 && !sink->failed) {
    size_t part = NEAP_MIN(bytes, BUFFER_BYTES - sink->used);
    memcpy(sink->buffer + sink->used, from, part);
    sink->used += part;
    from += part;
    bytes -= part;
    if (sink->used == BUFFER_BYTES) flush(sink);
  }
}

void neap__sink_printf(neap__sink *sink, const char *fmt, ...) {
  char text[1024];
  va_list args;
  va_start(args, fmt);
  int n = vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  NEAP_ASSERT(n >= 0 && (size_t)n < sizeof(text));
  neap__sink_write(sink, text, (size_t)n);
}

uint64_t neap__sink_bytes(const neap__sink *sink) { return sink->written; }

bool neap__sink_failed(const neap__sink *sink) { return sink->failed != 0; }

int neap__sink_close(neap__sink *sink, bool keep, neap_error *err) {
  int rc = 0;
  if (keep) flush(sink);
  if (keep && !sink->failed && sink->temporary) {
    if (fsync(sink->fd) != 0 && errno != EINVAL && errno != EROFS) sink->failed = errno;
    if (!sink->failed && rename(sink->temporary, sink->path) != 0) sink->failed = errno;
  }
  if (sink->failed) rc = sink_fail(sink, err);
  if (sink->temporary && (!keep || sink->failed)) unlink(sink->temporary);
  if (sink->fd >= 0) close(sink->fd);
  free(sink->temporary);
  free(sink->path);
  free(sink);
  return rc;
}
