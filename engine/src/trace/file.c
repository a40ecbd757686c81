/* SPDX-License-Identifier: MIT
 *
 * trace/file.c - the way of a trace into and out of a file: which format it is, progress, errors with their place. What
 * a format looks like is in a file of its own. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace/format.h"

#define HEAD_BYTES 4096u
#define PROGRESS_BYTES (1u << 18)

/* In the order in which they are told: what has a magic number first. */
static const neap__format *const formats[] = {&neap__format_neap,     &neap__format_lookup, &neap__format_agent,
                                              &neap__format_mooncake, &neap__format_oracle, &neap__format_csv};

static neap__trace_format format_list[NEAP_ARRAY_LEN(formats) + 1];
static pthread_once_t format_once = PTHREAD_ONCE_INIT;

static void list_formats(void) {
  for (size_t i = 0; i < NEAP_ARRAY_LEN(formats); i++) format_list[i] = formats[i]->is;
}

const neap__trace_format *neap__trace_formats(void) {
  pthread_once(&format_once, list_formats);
  return format_list;
}

/* The ending of a file name, that of compression left out: ".jsonl" of "a.jsonl.xz". */
static void ending_of(const char *path, char *ending, size_t cap) {
  static const char *const compressed[] = {".gz", ".xz", ".zst"};
  char name[256];
  const char *slash = strrchr(path, '/');
  snprintf(name, sizeof(name), "%s", slash ? slash + 1 : path);
  char *dot = strrchr(name, '.');
  for (size_t i = 0; dot && i < NEAP_ARRAY_LEN(compressed); i++) {
    if (strcasecmp(dot, compressed[i]) != 0) continue;
    *dot = '\0';
    dot = strrchr(name, '.');
    break;
  }
  snprintf(ending, cap, "%s", dot ? dot : "");
}

static bool has_ending(const neap__format *format, const char *ending) {
  size_t bytes = strlen(ending);
  for (const char *at = format->endings; *ending && (at = strcasestr(at, ending)); at++)
    if (at[bytes] == '\0' || at[bytes] == ' ') return true;
  return false;
}

static int unknown_format(const char *name, const char *ending, neap_error *err) {
  const char *names[NEAP_ARRAY_LEN(formats)];
  char known[160] = "";
  size_t used = 0;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(formats); i++) {
    names[i] = formats[i]->is.name;
    used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", names[i]);
  }
  if (!name) return neap__fail(err, NEAP_EINVAL, "no format ends files with '%s'; tell one of %s", ending, known);
  const char *near = neap__nearest(name, names, NEAP_ARRAY_LEN(names));
  if (near) return neap__fail(err, NEAP_EINVAL, "unknown format '%s'; did you mean '%s'?", name, near);
  return neap__fail(err, NEAP_EINVAL, "unknown format '%s'; expected one of %s", name, known);
}

/* By name, else by ending. */
static int find_format(const char *name, const char *path, const neap__format **out, neap_error *err) {
  char ending[64];
  ending_of(path, ending, sizeof(ending));
  for (size_t i = 0; i < NEAP_ARRAY_LEN(formats); i++) {
    *out = formats[i];
    if (name ? strcasecmp(name, formats[i]->is.name) == 0 : has_ending(formats[i], ending)) return 0;
  }
  return unknown_format(name, ending, err);
}

int neap__trace_format_find(const char *name, const char *path, const neap__trace_format **out, neap_error *err) {
  const neap__format *format = NULL;
  int rc = find_format(name, path, &format, err);
  if (rc == 0) *out = &format->is;
  return rc;
}

/* --- a load in progress ------------------------------------------------------------------------------------------- */

int neap__load_fail(neap__load *load, int code, const char *fmt, ...) {
  char text[NEAP_ERROR_BYTES];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  uint64_t number = neap__source_number(load->source);
  if (number == 0) return neap__fail(load->err, code, "%s", text);
  return neap__fail(load->err, code, "%s %llu: %s", load->unit, (unsigned long long)number, text);
}

int neap__load_line(neap__load *load, char **line, size_t *bytes) {
  neap_error why = {0};
  int rc = neap__source_line(load->source, line, bytes, &why);
  return rc < 0 ? neap__load_fail(load, rc, "%s", why.text) : rc;
}

int neap__load_record(neap__load *load, size_t bytes, const uint8_t **record) {
  neap_error why = {0};
  int rc = neap__source_record(load->source, bytes, record, &why);
  return rc < 0 ? neap__load_fail(load, rc, "%s", why.text) : rc;
}

int neap__load_chunk(neap__load *load, uint64_t hash, uint64_t bytes) {
  if (load->count == load->room) {
    uint32_t room = load->room ? 2 * load->room : 1024;
    uint64_t *hashes = realloc(load->hashes, room * sizeof(*hashes));
    if (hashes) load->hashes = hashes;
    uint32_t *units = realloc(load->units, room * sizeof(*units));
    if (units) load->units = units;
    if (!hashes || !units) return neap__load_fail(load, NEAP_ENOMEM, "out of memory for %u chunks", room);
    load->room = room;
  }
  load->hashes[load->count] = hash;
  load->units[load->count++] = (uint32_t)NEAP_MIN((bytes + 1023) / 1024, UINT32_MAX);
  return 0;
}

static void say_progress(neap__load *load, bool done) {
  if (!load->options->progress) return;
  uint64_t at = neap__source_done(load->source);
  if (!done && at - load->progress_at < PROGRESS_BYTES) return;
  load->progress_at = at;
  load->options->progress(load->options->ctx, at, neap__source_total(load->source));
}

int neap__load_end(neap__load *load, const neap__load_request *request) {
  neap__trace *trace = load->trace;
  if (trace->request_count == load->times_room) {
    uint32_t room = load->times_room ? 2 * load->times_room : 1024;
    uint64_t *times = realloc(load->times_us, room * sizeof(*times));
    if (!times) return neap__load_fail(load, NEAP_ENOMEM, "out of memory");
    load->times_us = times;
    load->times_room = room;
  }
  load->times_us[trace->request_count] = request->time_us;
  int rc =
      neap__trace_append(trace, request->tenant, request->session, load->hashes, request->sized ? load->units : NULL,
                         load->count, request->chained, request->output_tokens);
  load->count = 0;
  if (rc == NEAP_ENOMEM) return neap__load_fail(load, rc, "out of memory for the trace");
  if (rc == NEAP_ELIMIT) return neap__load_fail(load, rc, "more than 2^32 - 2 requests or distinct chunks");
  if (rc != 0) return neap__load_fail(load, rc, "a size, where the requests before had none, or the other way round");
  say_progress(load, false);
  uint64_t most = load->options->requests_max;
  return most && trace->request_count >= most ? 1 : 0;
}

/* Times since the earliest. */
static int settle_times(neap__load *load) {
  neap__trace *trace = load->trace;
  trace->began_us = trace->request_count ? UINT64_MAX : 0;
  for (uint32_t i = 0; i < trace->request_count; i++) trace->began_us = NEAP_MIN(trace->began_us, load->times_us[i]);
  for (uint32_t i = 0; i < trace->request_count; i++) {
    uint64_t ms = (load->times_us[i] - trace->began_us) / 1000;
    if (ms > UINT32_MAX)
      return neap__fail(load->err, NEAP_EINVAL,
                        "request %u is %llu days after the earliest one; expected a trace of at most 49 days", i + 1,
                        (unsigned long long)(ms / 86400000));
    trace->requests[i].time_ms = (uint32_t)ms;
  }
  return 0;
}

/* --- which format ------------------------------------------------------------------------------------------------- */

bool neap__head_has(const char *head, size_t have, const char *const *fields) {
  const char *end = memchr(head, '\n', have);
  size_t bytes = end ? (size_t)(end - head) : have;
  if (bytes == 0 || *head != '{') return false;
  for (; *fields; fields++)
    if (!memmem(head, bytes, *fields, strlen(*fields))) return false;
  return true;
}

static int tell_format(neap__load *load, const char *path, const neap__format **out) {
  const char *head = NULL;
  size_t have = 0;
  neap_error why = {0};
  int rc = neap__source_peek(load->source, HEAD_BYTES, &head, &have, load->err);
  if (rc != 0) return rc;
  if (have == 0) return neap__fail(load->err, NEAP_EINVAL, "is empty; expected a trace");
  for (size_t i = 0; i < NEAP_ARRAY_LEN(formats); i++) {
    *out = formats[i];
    if (formats[i]->told(head, have)) return 0;
  }
  if (find_format(NULL, path, out, &why) == 0) return 0;
  return neap__fail(load->err, NEAP_EINVAL, "looks like no trace, and %s", why.text);
}

/* --- load, save --------------------------------------------------------------------------------------------------- */

/* The file name without folders and endings: "mooncake" of "/traces/mooncake.jsonl.xz". */
static neap__trace *new_trace(const char *path, const char *format) {
  char name[256];
  const char *slash = strrchr(path, '/');
  snprintf(name, sizeof(name), "%s", slash ? slash + 1 : path);
  char *dot = strchr(name + (*name == '.'), '.');
  if (dot) *dot = '\0';
  return neap__trace_new(name, format);
}

static int load_file(neap__load *load, const char *path) {
  const neap__format *format = NULL;
  int rc = load->options->format ? find_format(load->options->format, path, &format, load->err) : 0;
  if (rc == 0) rc = neap__source_open(path, &load->source, load->err);
  if (rc == 0 && !format) rc = tell_format(load, path, &format);
  if (rc != 0) return rc;
  load->unit = format->unit;
  load->trace = new_trace(path, format->is.name);
  if (!load->trace) return neap__fail(load->err, NEAP_ENOMEM, "out of memory");
  rc = format->read(load);
  if (rc < 0) return rc;
  if (load->trace->request_count == 0)
    return neap__fail(load->err, NEAP_EINVAL, load->trace->cut ? "ends within its first block" : "has no request");
  say_progress(load, true);
  return settle_times(load);
}

int neap__trace_load(const char *path, const neap__trace_options *options, neap__trace **out, neap_error *err) {
  static const neap__trace_options none;
  neap_error why = {0};
  neap__load load = {.options = options ? options : &none, .err = &why, .unit = "line"};
  int rc = load_file(&load, path);
  neap__source_close(load.source);
  free(load.hashes);
  free(load.units);
  free(load.times_us);
  if (rc != 0) {
    neap__trace_free(load.trace);
    return neap__fail(err, rc, "%s: %s", path, why.text);
  }
  *out = load.trace;
  return 0;
}

int neap__trace_save(const neap__trace *trace, const char *path, const neap__trace_options *options, neap_error *err) {
  const neap__format *format = NULL;
  neap__sink *sink = NULL;
  int rc = find_format(options ? options->format : NULL, path, &format, err);
  if (rc != 0) return rc;
  if (trace->units && !format->is.sizes)
    return neap__fail(err, NEAP_ENOTSUP,
                      "%s has no place for sizes, which the trace has; csv, oracleGeneral and neap do",
                      format->is.name);
  rc = neap__sink_open(path, &sink, err);
  if (rc != 0) return rc;
  rc = format->write(trace, sink, err);
  int closed = neap__sink_close(sink, rc == 0, rc == 0 ? err : NULL);
  return rc != 0 ? rc : closed;
}
