/* SPDX-License-Identifier: MIT
 *
 * trace/oracle.c - libCacheSim's oracleGeneral: 24 bytes per request to one object, little endian and packed:
 *
 *   u32 time in seconds, u64 object, u32 size in bytes, i64 number of the request that asks for it next (none: -1)
 *
 * No prefixes, tenants or sessions: a trace that has them is written chunk by chunk, head of each prompt first. */
#include <stdlib.h>
#include <string.h>

#include "trace/format.h"

#define RECORD_BYTES 24u
#define TOLD_BY 64u /* records */

static uint64_t get(const uint8_t *from, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; i++) value |= (uint64_t)from[i] << 8 * i;
  return value;
}

static void put(uint8_t *to, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) to[i] = (uint8_t)(value >> 8 * i);
}

/* A trace whose objects all are of size 1 has sizes only because the format has a field for them. */
static int read_oracle(neap__load *load) {
  const uint8_t *record = NULL;
  bool sized = false;
  int rc;
  while ((rc = neap__load_record(load, RECORD_BYTES, &record)) == 1) {
    const neap__load_request request = {.time_us = get(record, 4) * 1000000, .sized = true};
    uint64_t bytes = get(record + 12, 4);
    sized |= bytes > 1;
    rc = neap__load_chunk(load, get(record + 4, 8), bytes);
    if (rc == 0) rc = neap__load_end(load, &request);
    if (rc != 0) break;
  }
  if (!sized) {
    free(load->trace->units);
    load->trace->units = NULL;
  }
  return rc;
}

/* There is no magic number, but the next request for an object comes later, and within 2^40 requests. */
static bool told_oracle(const char *head, size_t have) {
  const uint8_t *next = (const uint8_t *)head + 16;
  if (have < RECORD_BYTES) return false;
  for (uint64_t i = 0; i < NEAP_MIN(have / RECORD_BYTES, TOLD_BY); i++, next += RECORD_BYTES) {
    int64_t at = (int64_t)get(next, 8);
    bool later = at > (int64_t)i && (at < 1ll << 40 || at == INT64_MAX), none = at == -1 || at == -2;
    if (!later && !none) return false;
  }
  return true;
}

/* Each reference is known to its chunk's reference before only when it comes: from the back. */
static int64_t *find_next(const neap__trace *trace) {
  int64_t *next = malloc((trace->references + 1) * sizeof(*next));
  int64_t *latest = malloc((trace->lineage.count + 1ull) * sizeof(*latest));
  if (next && latest) {
    memset(latest, 0xff, trace->lineage.count * sizeof(*latest));
    for (uint64_t i = trace->references; i > 0; i--) {
      next[i - 1] = latest[trace->chunk[i - 1]];
      latest[trace->chunk[i - 1]] = (int64_t)(i - 1);
    }
  } else {
    free(next);
    next = NULL;
  }
  free(latest);
  return next;
}

static int write_oracle(const neap__trace *trace, neap__sink *sink, neap_error *err) {
  uint64_t latest = trace->began_us / 1000000 + UINT32_MAX / 1000;
  if (latest > UINT32_MAX)
    return neap__fail(err, NEAP_ENOTSUP, "the trace begins at second %llu; oracleGeneral has 32 bits for times",
                      (unsigned long long)(trace->began_us / 1000000));
  int64_t *next = find_next(trace);
  if (!next) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  for (uint32_t i = 0; i < trace->request_count && !neap__sink_failed(sink); i++) {
    const neap__trace_request *r = &trace->requests[i];
    for (uint64_t at = r->first; at < r->first + r->chunks; at++) {
      uint8_t record[RECORD_BYTES];
      uint64_t bytes = trace->units ? trace->units[trace->chunk[at]] * 1024ull : 1;
      put(record, (trace->began_us + r->time_ms * 1000ull) / 1000000, 4);
      put(record + 4, trace->lineage.hash[trace->chunk[at]], 8);
      put(record + 12, NEAP_MIN(bytes, UINT32_MAX), 4);
      put(record + 16, (uint64_t)next[at], 8);
      neap__sink_write(sink, record, sizeof(record));
    }
  }
  free(next);
  return 0;
}

const neap__format neap__format_oracle = {
    {"oracleGeneral", "libCacheSim's binary records: time (s), object, size, next request", false, false, true},
    "record",
    ".oraclegeneral .bin",
    told_oracle,
    read_oracle,
    write_oracle};
