/* SPDX-License-Identifier: MIT
 *
 * trace/csv.c - one request for one object a line, with the columns that the first line or the caller names:
 *
 *   time (seconds), time_ms, time_us   when; without it all are at 0
 *   key       the object: a number below 2^64, or any other text; needed
 *   size      bytes
 *   tenant, session, op, output_tokens
 *   -         passed over
 *
 * Fields may be quoted (RFC 4180), but a line end ends the request. What `op` deletes is left out; everything else
 * counts as a request. No prefixes: a trace that has them is written chunk by chunk, head of each prompt first. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "trace/format.h"
#include "trace/scan.h"

#define COLUMNS_MAX 64u

typedef enum column { TIME_S, TIME_MS, TIME_US, KEY, SIZE, TENANT, SESSION, OP, OUTPUT, SKIP } column;

static const struct name {
  const char *name;
  column column;
} names[] = {{"time", TIME_S},
             {"time_ms", TIME_MS},
             {"time_us", TIME_US},
             {"key", KEY},
             {"size", SIZE},
             {"tenant", TENANT},
             {"session", SESSION},
             {"op", OP},
             {"output_tokens", OUTPUT},
             {"-", SKIP},
             {"timestamp", TIME_S},
             {"id", KEY},
             {"obj_id", KEY},
             {"object", KEY},
             {"obj_size", SIZE},
             {"bytes", SIZE}};

static const char *const reads[] = {"get",     "gets",   "read",    "lookup", "set",  "put",  "write", "add",
                                    "replace", "append", "prepend", "cas",    "incr", "decr", "touch"};
static const char *const deletes[] = {"delete", "del", "remove"};

typedef struct layout {
  column at[COLUMNS_MAX];
  uint32_t count;
  bool sized;
} layout;

/* The next field of a line, unquoted in place; NULL if a quote is not closed. *rest: what follows, NULL at the end. */
static char *take_field(char **rest) {
  char *text = *rest, *from = text + 1, *to = text, *end = text;
  if (*text != '"') {
    end += strcspn(text, ",");
    for (to = end; to > text && (to[-1] == ' ' || to[-1] == '\t');) to--;
    text += strspn(text, " \t");
    to = NEAP_MAX(to, text);
  } else {
    while (*from != '"' || from[1] == '"') {
      if (!*from) return NULL;
      from += *from == '"';
      *to++ = *from++;
    }
    end = from + 1;
    if (*end && *end != ',') return NULL;
  }
  *rest = *end ? end + 1 : NULL;
  *to = '\0';
  return text;
}

static int find_column(const char *name, column *out) {
  for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
    if (strcasecmp(name, names[i].name) != 0) continue;
    *out = names[i].column;
    return 0;
  }
  return NEAP_EINVAL;
}

static int unknown_column(const char *name, neap_error *err) {
  const char *known[NEAP_ARRAY_LEN(names)];
  for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) known[i] = names[i].name;
  const char *near = neap__nearest(name, known, NEAP_ARRAY_LEN(known));
  if (near) return neap__fail(err, NEAP_EINVAL, "unknown column '%.40s'; did you mean '%s'?", name, near);
  return neap__fail(err, NEAP_EINVAL,
                    "unknown column '%.40s'; expected time, time_ms, time_us, key, size, tenant, session, op, "
                    "output_tokens, or in the columns that you tell '-' for one to pass over",
                    name);
}

/* The columns that a line names; the line is changed. */
static int parse_layout(char *line, layout *out, neap_error *err) {
  uint32_t seen = 0;
  *out = (layout){.count = 0};
  for (char *rest = line; rest;) {
    const char *name = take_field(&rest);
    column c = SKIP;
    if (!name) return neap__fail(err, NEAP_EINVAL, "a quote is not closed");
    if (find_column(name, &c) != 0) return unknown_column(name, err);
    if (out->count == COLUMNS_MAX) return neap__fail(err, NEAP_EINVAL, "more than %u columns", COLUMNS_MAX);
    uint32_t bits = c <= TIME_US ? 7u : 1u << c; /* one time is enough */
    if (c != SKIP && seen & bits) return neap__fail(err, NEAP_EINVAL, "column '%.40s' is there twice", name);
    seen |= bits;
    out->sized |= c == SIZE;
    out->at[out->count++] = c;
  }
  if (!(seen & 1u << KEY))
    return neap__fail(err, NEAP_EINVAL, "no column 'key'; expected columns such as time,key,size");
  return 0;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

typedef struct row {
  neap__load_request request;
  uint64_t key, bytes;
  bool deletes;
} row;

static bool is_one_of(const char *word, const char *const *list, size_t count) {
  size_t i = 0;
  while (i < count && strcasecmp(word, list[i]) != 0) i++;
  return i < count;
}

static int bad_field(neap__load *load, const char *name, const char *text, const char *expected) {
  return neap__load_fail(load, NEAP_EINVAL, "%s is '%.40s'; expected %s", name, text, expected);
}

static int parse_key(neap__load *load, const char *text, uint64_t *key) {
  static const char expected[] = "a number from 0 to 18446744073709551615, or a text";
  size_t bytes = strlen(text);
  int rc = neap__text_u64(text, bytes, key);
  if (rc == NEAP_ELIMIT || bytes == 0) return bad_field(load, "key", text, expected);
  if (*text == '-' && bytes > 1 && strspn(text + 1, "0123456789") == bytes - 1)
    return bad_field(load, "key", text, expected);
  if (rc != 0) *key = neap__hash64(text, bytes, 0);
  return 0;
}

static int parse_field(neap__load *load, column c, const char *text, row *r) {
  static const uint64_t units[] = {1000000, 1000, 1};
  static const char *const time_names[] = {"time", "time_ms", "time_us"};
  size_t bytes = strlen(text);
  uint64_t value = 0;
  switch (c) {
    case TIME_S:
    case TIME_MS:
    case TIME_US:
      if (neap__text_time(text, bytes, units[c], &r->request.time_us) == 0) return 0;
      return bad_field(load, time_names[c], text, "a number that is not negative (at most 2^63 microseconds)");
    case KEY: return parse_key(load, text, &r->key);
    case SIZE:
      if (neap__text_u64(text, bytes, &r->bytes) == 0) return 0;
      return bad_field(load, "size", text, "a number of bytes");
    case TENANT: r->request.tenant = text; return 0;
    case SESSION:
      if (bytes > 0 && neap__text_u64(text, bytes, &r->request.session) != 0)
        r->request.session = neap__hash64(text, bytes, 0);
      return 0;
    case OP:
      r->deletes = is_one_of(text, deletes, NEAP_ARRAY_LEN(deletes));
      if (r->deletes || is_one_of(text, reads, NEAP_ARRAY_LEN(reads))) return 0;
      return bad_field(load, "op", text, "get, set, delete or another operation of memcached");
    case OUTPUT:
      if (neap__text_u64(text, bytes, &value) != 0 || value > UINT32_MAX)
        return bad_field(load, "output_tokens", text, "an integer from 0 to 4294967295");
      r->request.output_tokens = (uint32_t)value;
      return 0;
    default: return 0;
  }
}

/* 0, 1 (as many as were asked for), or an error. */
static int read_row(neap__load *load, const layout *columns, char *line) {
  row r = {.request.sized = columns->sized};
  uint32_t count = 0;
  for (char *rest = line; rest; count++) {
    const char *text = take_field(&rest);
    if (!text) return neap__load_fail(load, NEAP_EINVAL, "a quote is not closed, or followed by something");
    int rc = count < columns->count ? parse_field(load, columns->at[count], text, &r) : 0;
    if (rc != 0) return rc;
  }
  if (count != columns->count)
    return neap__load_fail(load, NEAP_EINVAL, "has %u fields; expected %u", count, columns->count);
  if (r.deletes) return 0;
  int rc = neap__load_chunk(load, r.key, r.bytes);
  return rc == 0 ? neap__load_end(load, &r.request) : rc;
}

/* With columns told, a first line that has words where numbers belong is a header. */
static bool is_header(const layout *columns, const char *line) {
  char copy[512];
  size_t bytes = strlen(line);
  if (bytes >= sizeof(copy)) return false;
  memcpy(copy, line, bytes + 1);
  char *rest = copy;
  for (uint32_t i = 0; i < columns->count && rest; i++) {
    const char *text = take_field(&rest);
    if (!text) return false;
    column c = columns->at[i];
    if ((c <= TIME_US || c == SIZE || c == OUTPUT) && strspn(text, "-0123456789") == 0 && *text) return true;
  }
  return false;
}

static int told_columns(neap__load *load, layout *columns) {
  neap_error why = {0};
  char *copy = strdup(load->options->columns);
  int rc = copy ? parse_layout(copy, columns, &why) : NEAP_ENOMEM;
  free(copy);
  return rc == 0 ? 0 : neap__fail(load->err, rc, "columns: %s", rc == NEAP_ENOMEM ? "out of memory" : why.text);
}

static int read_csv(neap__load *load) {
  layout columns = {0};
  neap_error why = {0};
  char *line = NULL;
  size_t bytes = 0;
  bool first = true, told = load->options->columns != NULL;
  int rc = told ? told_columns(load, &columns) : 0;
  while (rc == 0 && (rc = neap__load_line(load, &line, &bytes)) == 1) {
    if (first && bytes >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) line += 3; /* a mark of UTF-8 */
    rc = 0;
    if (strspn(line, " \t") == strlen(line)) continue;
    if (first && !told) {
      rc = parse_layout(line, &columns, &why);
      if (rc != 0) return neap__load_fail(load, rc, "%s", why.text);
    } else if (!first || !is_header(&columns, line)) {
      rc = read_row(load, &columns, line);
    }
    first = false;
  }
  return rc;
}

static bool told_csv(const char *head, size_t have) {
  layout columns;
  char line[512];
  const char *end = memchr(head, '\n', have);
  size_t bytes = end ? (size_t)(end - head) : have;
  if (bytes >= sizeof(line) || memchr(head, '\0', bytes)) return false;
  memcpy(line, head, bytes);
  line[bytes] = '\0';
  line[strcspn(line, "\r")] = '\0';
  size_t mark = strncmp(line, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
  return parse_layout(line + mark, &columns, NULL) == 0;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static void write_text(neap__sink *sink, const char *text) {
  if (!strpbrk(text, ",\"\r\n") && *text != ' ') {
    neap__sink_write(sink, text, strlen(text));
    return;
  }
  neap__sink_write(sink, "\"", 1);
  for (; *text; text++) {
    if (*text == '"') neap__sink_write(sink, "\"", 1);
    neap__sink_write(sink, *text == '\n' || *text == '\r' ? " " : text, 1);
  }
  neap__sink_write(sink, "\"", 1);
}

static int write_csv(const neap__trace *trace, neap__sink *sink, neap_error *err) {
  bool tenants = trace->tenant_count > 1 || *trace->tenants[0], sessions = false;
  (void)err;
  for (uint32_t i = 0; i < trace->request_count && !sessions; i++) sessions = trace->requests[i].session != 0;
  neap__sink_printf(sink, "time_ms,key%s%s%s\n", trace->units ? ",size" : "", tenants ? ",tenant" : "",
                    sessions ? ",session" : "");
  for (uint32_t i = 0; i < trace->request_count && !neap__sink_failed(sink); i++) {
    const neap__trace_request *r = &trace->requests[i];
    for (uint64_t at = r->first; at < r->first + r->chunks; at++) {
      uint32_t number = trace->chunk[at];
      uint64_t us = trace->began_us + r->time_ms * 1000ull;
      neap__sink_printf(sink, "%llu.%03llu,%llu", (unsigned long long)(us / 1000), (unsigned long long)(us % 1000),
                        (unsigned long long)trace->lineage.hash[number]);
      if (trace->units) neap__sink_printf(sink, ",%llu", trace->units[number] * 1024ull);
      if (tenants) neap__sink_write(sink, ",", 1);
      if (tenants) write_text(sink, trace->tenants[r->tenant]);
      if (sessions) neap__sink_printf(sink, ",%llu", (unsigned long long)r->session);
      neap__sink_write(sink, "\n", 1);
    }
  }
  return 0;
}

const neap__format neap__format_csv = {
    {"csv", "lines of time, key, size, tenant, session, op; the first names the columns", false, true, true},
    "line",
    ".csv",
    told_csv,
    read_csv,
    write_csv};
