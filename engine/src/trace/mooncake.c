/* SPDX-License-Identifier: MIT
 *
 * trace/mooncake.c - the JSONL of Mooncake's traces (Qin et al., FAST '25), one request a line:
 *
 *   {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}
 *
 * An id stands for a block of tokens and everything before it. "agent" is the same with "suite" (here: the tenant) and
 * "session", ordered by these, and with times in microseconds instead of milliseconds. Other fields are passed over. */
#include <stdlib.h>
#include <string.h>

#include "trace/format.h"
#include "trace/scan.h"

enum { TIMESTAMP, INPUT, OUTPUT, IDS, SUITE, SESSION, FIELDS };
static const char *const names[FIELDS] = {"timestamp", "input_length", "output_length", "hash_ids", "suite", "session"};
#define NEEDED (1u << TIMESTAMP | 1u << IDS)

/* Which size of block agrees with all lengths: n blocks are more than (n - 1) * size tokens and at most n * size. */
typedef struct blocks {
  uint64_t least, most;
} blocks;

static void narrow(blocks *b, uint64_t tokens, uint64_t count) {
  if (count == 0) return;
  b->least = NEAP_MAX(b->least, (tokens + count - 1) / count);
  if (count > 1 && tokens > 0) b->most = NEAP_MIN(b->most, (tokens - 1) / (count - 1));
}

/* The size that is left, or the power of two if one is; 0 if lengths contradict each other or leave it open. */
static uint32_t block_tokens(const blocks *b) {
  if (b->least == 0 || b->least > b->most) return 0;
  if (b->least == b->most && b->most <= UINT32_MAX) return (uint32_t)b->least;
  for (uint64_t size = 1; size <= UINT32_MAX; size *= 2)
    if (size >= b->least) return size <= b->most && 2 * size > b->most ? (uint32_t)size : 0;
  return 0;
}

static int read_ids(neap__load *load, neap__scan *scan) {
  int rc = neap__scan_array(scan);
  while (rc == 0 && (rc = neap__scan_element(scan)) == 1) {
    uint64_t id = 0;
    rc = neap__scan_u64(scan, UINT64_MAX, &id);
    if (rc == 0) rc = neap__load_chunk(load, id, 0);
  }
  return rc;
}

typedef struct line {
  neap__load_request request;
  uint64_t input_tokens;
  uint32_t seen;
} line;

static int read_value(neap__load *load, neap__scan *scan, size_t field, uint64_t unit_us, line *l) {
  uint64_t output = 0;
  int rc = 0;
  switch (field) {
    case TIMESTAMP: return neap__scan_time(scan, unit_us, &l->request.time_us);
    case INPUT: return neap__scan_u64(scan, UINT32_MAX, &l->input_tokens);
    case IDS: return read_ids(load, scan);
    case SUITE: return neap__scan_text(scan, &l->request.tenant);
    case SESSION: return neap__scan_u64(scan, UINT64_MAX, &l->request.session);
    default: rc = neap__scan_u64(scan, UINT32_MAX, &output); l->request.output_tokens = (uint32_t)output;
  }
  return rc;
}

static int read_line(neap__load *load, char *text, uint64_t unit_us, line *l) {
  neap_error why = {0};
  neap__scan scan;
  int rc = neap__scan_open(&scan, text, &why);
  while (rc == 0 && (rc = neap__scan_field(&scan)) == 1) {
    size_t field = 0;
    while (field < FIELDS && strcmp(scan.field, names[field]) != 0) field++;
    if (field == FIELDS) {
      rc = neap__scan_skip(&scan);
      continue;
    }
    if (l->seen & 1u << field) return neap__load_fail(load, NEAP_EINVAL, "%s is there twice", names[field]);
    l->seen |= 1u << field;
    rc = read_value(load, &scan, field, unit_us, l);
  }
  if (rc != 0) return *why.text ? neap__load_fail(load, rc, "%s", why.text) : rc;
  for (size_t field = 0; field < FIELDS; field++)
    if (NEEDED & ~l->seen & 1u << field)
      return neap__load_fail(load, NEAP_EINVAL, "has no field %s; expected timestamp and hash_ids", names[field]);
  return 0;
}

static int read_trace(neap__load *load, uint64_t unit_us) {
  blocks b = {0, UINT64_MAX};
  char *text = NULL;
  size_t bytes = 0;
  int rc;
  while ((rc = neap__load_line(load, &text, &bytes)) == 1) {
    line l = {.request.chained = true};
    if (strspn(text, " \t") == bytes) continue;
    rc = read_line(load, text, unit_us, &l);
    if (rc != 0) return rc;
    narrow(&b, l.input_tokens, load->count);
    rc = neap__load_end(load, &l.request);
    if (rc != 0) break;
  }
  load->trace->chunk_tokens = rc >= 0 ? block_tokens(&b) : 0;
  return rc;
}

static int read_mooncake(neap__load *load) { return read_trace(load, 1000); }
static int read_agent(neap__load *load) { return read_trace(load, 1); }

static bool told_mooncake(const char *head, size_t have) {
  static const char *const fields[] = {"\"timestamp\"", "\"hash_ids\"", NULL};
  return neap__head_has(head, have, fields);
}

static bool told_agent(const char *head, size_t have) {
  static const char *const fields[] = {"\"timestamp\"", "\"suite\"", "\"session\"", NULL};
  return neap__head_has(head, have, fields);
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static void write_text(neap__sink *sink, const char *text) {
  neap__sink_write(sink, "\"", 1);
  for (; *text; text++) {
    if ((unsigned char)*text < 0x20)
      neap__sink_printf(sink, "\\u%04x", *text);
    else
      neap__sink_printf(sink, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
  }
  neap__sink_write(sink, "\"", 1);
}

static void write_request(const neap__trace *trace, const neap__trace_request *r, bool agent, neap__sink *sink) {
  uint64_t ms = r->time_ms + (agent ? 0 : trace->began_us / 1000);
  neap__sink_printf(sink, "{\"timestamp\": %llu, ", (unsigned long long)(agent ? trace->began_us + ms * 1000 : ms));
  if (agent) {
    neap__sink_printf(sink, "\"suite\": ");
    write_text(sink, trace->tenants[r->tenant]);
    neap__sink_printf(sink, ", \"session\": %llu, ", (unsigned long long)r->session);
  }
  uint64_t tokens = (uint64_t)r->chunks * trace->chunk_tokens; /* 0: not told */
  neap__sink_printf(sink, "\"input_length\": %llu, \"output_length\": %u, \"hash_ids\": [",
                    (unsigned long long)NEAP_MIN(tokens, UINT32_MAX), r->output_tokens);
  for (uint32_t i = 0; i < r->chunks; i++)
    neap__sink_printf(sink, i ? ", %llu" : "%llu", (unsigned long long)trace->lineage.hash[trace->chunk[r->first + i]]);
  neap__sink_printf(sink, "]}\n");
}

static int write_trace(const neap__trace *trace, bool agent, neap__sink *sink) {
  for (uint32_t i = 0; i < trace->request_count && !neap__sink_failed(sink); i++)
    write_request(trace, &trace->requests[i], agent, sink);
  return 0;
}

static int write_mooncake(const neap__trace *trace, neap__sink *sink, neap_error *err) {
  (void)err;
  return write_trace(trace, false, sink);
}

static int write_agent(const neap__trace *trace, neap__sink *sink, neap_error *err) {
  (void)err;
  return write_trace(trace, true, sink);
}

const neap__format neap__format_mooncake = {
    {"mooncake", "JSONL of Mooncake's traces: timestamp (ms), input_length, output_length, hash_ids", true, false,
     false},
    "line",
    ".jsonl",
    told_mooncake,
    read_mooncake,
    write_mooncake};
const neap__format neap__format_agent = {
    {"agent", "Mooncake's JSONL with suite (the tenant) and session; timestamp in microseconds", true, true, false},
    "line",
    "",
    told_agent,
    read_agent,
    write_agent};
