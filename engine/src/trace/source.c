/* SPDX-License-Identifier: MIT
 *
 * trace/source.c - see source.h. Decompression is libarchive's: its "raw" format is one file without an archive. */
#include "trace/source.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (256u << 10)

struct neap__source {
  struct archive *archive;
  int fd;
  bool ended;
  char *buffer; /* what was read and not yet taken lies in [start, end) */
  size_t start, end, room;
  size_t ahead; /* bytes behind start that are known to hold no line end */
  uint64_t number, total;
};

/* Of an error that libarchive reports: damage of the content, or of the disk. */
static int archive_failed(const neap__source *source, neap_error *err) {
  const char *text = archive_error_string(source->archive);
  int code = archive_errno(source->archive);
  if (code == ENOMEM) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  if (code == EIO || code == EISDIR) return neap__fail(err, NEAP_EIO, "cannot be read: %s", strerror(code));
  return neap__fail(err, NEAP_EINVAL, "the compressed file is damaged or cut short (%s)",
                    text ? text : "no reason told");
}

int neap__source_open(const char *path, neap__source **out, neap_error *err) {
  struct stat st = {0};
  struct archive_entry *entry = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return neap__fail(err, errno == ENOENT ? NEAP_ENOENT : NEAP_EIO, "cannot be opened: %s", strerror(errno));
  if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
    close(fd);
    return neap__fail(err, NEAP_EIO, "is a folder; expected a file");
  }
  neap__source *source = calloc(1, sizeof(*source));
  struct archive *archive = archive_read_new();
  if (!source || !archive) {
    free(source);
    archive_read_free(archive);
    close(fd);
    return neap__fail(err, NEAP_ENOMEM, "out of memory");
  }
  *source = (neap__source){.archive = archive, .fd = fd, .total = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0};
  archive_read_support_filter_gzip(archive);
  archive_read_support_filter_xz(archive);
  archive_read_support_filter_zstd(archive);
  archive_read_support_format_raw(archive);
  archive_read_support_format_empty(archive);
  int rc = archive_read_open_fd(archive, fd, READ_BYTES);
  if (rc == ARCHIVE_OK) rc = archive_read_next_header(archive, &entry);
  if (rc == ARCHIVE_EOF) source->ended = true;
  if (rc != ARCHIVE_OK && rc != ARCHIVE_EOF) {
    rc = archive_failed(source, err);
    neap__source_close(source);
    return rc;
  }
  *out = source;
  return 0;
}

void neap__source_close(neap__source *source) {
  if (!source) return;
  archive_read_free(source->archive);
  close(source->fd);
  free(source->buffer);
  free(source);
}

/* Reads more behind `end`; one byte of the buffer stays free for a NUL. */
static int fill(neap__source *source, neap_error *err) {
  if (source->start > 0) {
    memmove(source->buffer, source->buffer + source->start, source->end - source->start);
    source->end -= source->start;
    source->start = 0;
  }
  if (source->room - source->end < READ_BYTES + 1u) {
    size_t room = NEAP_MAX(2 * source->room, 2u * READ_BYTES);
    char *buffer = realloc(source->buffer, room);
    if (!buffer) return neap__fail(err, NEAP_ENOMEM, "out of memory for a line of %zu bytes", source->end);
    source->buffer = buffer;
    source->room = room;
  }
  la_ssize_t got = archive_read_data(source->archive, source->buffer + source->end, READ_BYTES);
  if (got < 0) return archive_failed(source, err);
  source->ended = got == 0;
  source->end += (size_t)got;
  return 0;
}

int neap__source_peek(neap__source *source, size_t bytes, const char **data, size_t *have, neap_error *err) {
  while (!source->ended && source->end - source->start < bytes) {
    int rc = fill(source, err);
    if (rc != 0) return rc;
  }
  *data = source->buffer ? source->buffer + source->start : "";
  *have = source->end - source->start;
  return 0;
}

int neap__source_line(neap__source *source, char **line, size_t *bytes, neap_error *err) {
  char *found = NULL;
  for (;;) {
    size_t have = source->end - source->start;
    if (have > source->ahead)
      found = memchr(source->buffer + source->start + source->ahead, '\n', have - source->ahead);
    if (found || source->ended) break;
    source->ahead = have;
    if (have > NEAP__LINE_MAX) {
      source->number++;
      return neap__fail(err, NEAP_EINVAL, "longer than %u MiB; expected lines", NEAP__LINE_MAX >> 20);
    }
    int rc = fill(source, err);
    if (rc != 0) return rc;
  }
  source->ahead = 0;
  if (!found && source->start == source->end) return 0;
  char *start = source->buffer + source->start;
  size_t length = found ? (size_t)(found - start) : source->end - source->start;
  source->start += length + (found != NULL);
  source->number++;
  if (length > 0 && start[length - 1] == '\r') length--;
  start[length] = '\0';
  if (memchr(start, '\0', length)) return neap__fail(err, NEAP_EINVAL, "holds a NUL; expected text");
  *line = start;
  *bytes = length;
  return 1;
}

int neap__source_record(neap__source *source, size_t bytes, const uint8_t **record, neap_error *err) {
  const char *data = NULL;
  size_t have = 0;
  int rc = neap__source_peek(source, bytes, &data, &have, err);
  if (rc != 0 || have == 0) return rc;
  source->number++;
  if (have < bytes) return neap__fail(err, NEAP_EINVAL, "cut short: %zu of %zu bytes", have, bytes);
  *record = (const uint8_t *)data;
  source->start += bytes;
  return 1;
}

void neap__source_skip(neap__source *source, size_t bytes) { source->start += bytes; }

uint64_t neap__source_number(const neap__source *source) { return source->number; }

uint64_t neap__source_done(const neap__source *source) {
  int64_t done = archive_filter_bytes(source->archive, -1);
  return done > 0 ? (uint64_t)done : 0;
}

uint64_t neap__source_total(const neap__source *source) { return source->total; }
