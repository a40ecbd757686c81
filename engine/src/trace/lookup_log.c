/* SPDX-License-Identifier: MIT
 *
 * trace/lookup_log.c - the lookup-hash log of `lmcache server --lookup-hash-log-dir` (LMCache 0.5), one lookup a line:
 *
 *   {"timestamp": 1711929600.12, "request_id": "...", "model_name": "...", "chunk_size": 256, "seq_len": 1024,
 *    "dtypes": [...], "shapes": [...], "chunk_hashes": ["0x3a...", ...]}
 *
 * A chunk is the hash with the model, for the hash does not know the model; hashes of more than 64 bits are hashed once
 * more. Models, tensors and request ids are not kept. */
#include <stdlib.h>
#include <string.h>

#include "trace/format.h"
#include "trace/scan.h"

typedef struct lookup {
  uint64_t time_us, chunk_tokens, model;
  bool timed, hashed;
} lookup;

/* "0x3a", also with a sign: Python's hex(). */
static int parse_hash(const char *text, uint64_t *hash) {
  const char *digits = text + (*text == '-');
  if (strncmp(digits, "0x", 2) != 0) return NEAP_EINVAL;
  digits += 2;
  size_t count = strspn(digits, "0123456789abcdefABCDEF");
  if (count == 0 || digits[count]) return NEAP_EINVAL;
  *hash = count <= 16 && *text != '-' ? strtoull(digits, NULL, 16) : neap__hash64(text, strlen(text), 0);
  return 0;
}

static int read_hashes(neap__load *load, neap__scan *scan) {
  const char *text = NULL;
  uint64_t hash = 0;
  int rc = neap__scan_array(scan);
  while (rc == 0 && (rc = neap__scan_element(scan)) == 1) {
    rc = neap__scan_text(scan, &text);
    if (rc == 0 && parse_hash(text, &hash) != 0)
      rc = neap__load_fail(load, NEAP_EINVAL, "chunk_hashes[%lld] is \"%.40s\"; expected a hash such as \"0x3a07\"",
                           (long long)scan->element, text);
    if (rc == 0) rc = neap__load_chunk(load, hash, 0);
  }
  return rc;
}

static int read_field(neap__load *load, neap__scan *scan, lookup *l) {
  const char *text = NULL;
  int rc = 0;
  if (strcmp(scan->field, "timestamp") == 0) {
    l->timed = true;
    return neap__scan_time(scan, 1000000, &l->time_us);
  }
  if (strcmp(scan->field, "chunk_hashes") == 0) {
    if (l->hashed) return neap__load_fail(load, NEAP_EINVAL, "chunk_hashes is there twice");
    l->hashed = true;
    return read_hashes(load, scan);
  }
  if (strcmp(scan->field, "chunk_size") == 0) return neap__scan_u64(scan, UINT32_MAX, &l->chunk_tokens);
  if (strcmp(scan->field, "model_name") != 0) return neap__scan_skip(scan);
  rc = neap__scan_text(scan, &text);
  if (rc == 0) l->model = neap__hash64(text, strlen(text), 1);
  return rc;
}

static int read_line(neap__load *load, char *text, lookup *l) {
  neap_error why = {0};
  neap__scan scan;
  int rc = neap__scan_open(&scan, text, &why);
  while (rc == 0 && (rc = neap__scan_field(&scan)) == 1) rc = read_field(load, &scan, l);
  if (rc != 0) return *why.text ? neap__load_fail(load, rc, "%s", why.text) : rc;
  if (l->timed && l->hashed) return 0;
  return neap__load_fail(load, NEAP_EINVAL, "has no field %s; expected timestamp and chunk_hashes",
                         l->timed ? "chunk_hashes" : "timestamp");
}

static int read_log(neap__load *load) {
  neap__trace *trace = load->trace;
  uint64_t first_model = 0;
  char *text = NULL;
  size_t bytes = 0;
  int rc;
  while ((rc = neap__load_line(load, &text, &bytes)) == 1) {
    lookup l = {0};
    if (strspn(text, " \t") == bytes) continue;
    rc = read_line(load, text, &l);
    if (rc != 0) return rc;
    bool first = trace->request_count == 0;
    if (first) first_model = l.model;
    for (uint32_t i = 0; i < load->count && l.model != first_model; i++)
      load->hashes[i] = neap__hash64(&load->hashes[i], sizeof(load->hashes[i]), l.model);
    if (first || trace->chunk_tokens != l.chunk_tokens) trace->chunk_tokens = first ? (uint32_t)l.chunk_tokens : 0;
    const neap__load_request request = {.time_us = l.time_us, .chained = true};
    rc = neap__load_end(load, &request);
    if (rc != 0) break;
  }
  return rc;
}

static bool told_log(const char *head, size_t have) {
  static const char *const fields[] = {"\"timestamp\"", "\"chunk_hashes\"", NULL};
  return neap__head_has(head, have, fields);
}

static int write_log(const neap__trace *trace, neap__sink *sink, neap_error *err) {
  (void)err;
  if (trace->units) return neap__fail(err, NEAP_ENOTSUP, "the trace has sizes, for which lmcache-lookup has no field");
  for (uint32_t i = 0; i < trace->request_count && !neap__sink_failed(sink); i++) {
    const neap__trace_request *r = &trace->requests[i];
    uint64_t us = trace->began_us + r->time_ms * 1000ull;
    neap__sink_printf(sink,
                      "{\"timestamp\": %llu.%06llu, \"request_id\": \"%u\", \"model_name\": \"\", \"chunk_size\": %u, "
                      "\"seq_len\": %llu, \"dtypes\": [], \"shapes\": [], \"chunk_hashes\": [",
                      (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000), i, trace->chunk_tokens,
                      (unsigned long long)r->chunks * trace->chunk_tokens);
    for (uint32_t c = 0; c < r->chunks; c++)
      neap__sink_printf(sink, c ? ", \"0x%016llx\"" : "\"0x%016llx\"",
                        (unsigned long long)trace->lineage.hash[trace->chunk[r->first + c]]);
    neap__sink_printf(sink, "]}\n");
  }
  return 0;
}

const neap__format neap__format_lookup = {
    {"lmcache-lookup", "JSONL of lmcache server --lookup-hash-log-dir", true, false, false},
    "line",
    "",
    told_log,
    read_log,
    write_log};
