/* SPDX-License-Identifier: MIT
 *
 * trace/neap.c - neap's own recordings as a format of trace.h: headers and reading here, writing is record.c's. */
#include <stdlib.h>
#include <string.h>

#include "trace/block.h"
#include "trace/format.h"
#include "trace/record.h"

#define VERSION 1u

/* --- headers ------------------------------------------------------------------------------------------------------ */

static void put32(uint8_t *to, uint32_t value) {
  for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t get32(const uint8_t *from) {
  return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

void neap__file_header_write(uint8_t *to, uint32_t chunk_tokens, bool salted) {
  memcpy(to, NEAP__FILE_MAGIC, 8);
  put32(to + 8, VERSION);
  put32(to + 12, chunk_tokens);
  put32(to + 16, salted);
  put32(to + 20, neap__crc32c(0, to, 20));
}

int neap__file_header_read(const uint8_t *from, uint32_t *chunk_tokens, bool *salted, neap_error *err) {
  if (memcmp(from, NEAP__FILE_MAGIC, 8) != 0) return neap__fail(err, NEAP_EINVAL, "is no recording of neap's");
  if (get32(from + 20) != neap__crc32c(0, from, 20))
    return neap__fail(err, NEAP_EINVAL, "the header of the recording is damaged");
  if (get32(from + 8) != VERSION)
    return neap__fail(err, NEAP_EINVAL, "is a recording of version %u; expected %u", get32(from + 8), VERSION);
  *chunk_tokens = get32(from + 12);
  *salted = get32(from + 16) & 1;
  return 0;
}

static uint32_t block_crc(const uint8_t *block, uint32_t bytes) {
  return neap__crc32c(neap__crc32c(0, block, 24), block + NEAP__BLOCK_HEADER_BYTES, bytes);
}

void neap__block_seal(uint8_t *block, const neap__block_header *header) {
  put32(block, header->bytes);
  put32(block + 4, header->requests);
  put32(block + 8, header->references);
  put32(block + 12, header->anew);
  put32(block + 16, (uint32_t)header->time_us);
  put32(block + 20, (uint32_t)(header->time_us >> 32));
  put32(block + 24, block_crc(block, header->bytes));
}

int neap__block_header_read(const uint8_t *from, neap__block_header *header) {
  header->bytes = get32(from);
  header->requests = get32(from + 4);
  header->references = get32(from + 8);
  header->anew = get32(from + 12) & 1;
  header->time_us = get32(from + 16) | (uint64_t)get32(from + 20) << 32;
  return header->bytes > NEAP__BLOCK_BYTES_MAX || header->requests == 0 ||
                 header->requests > NEAP__BLOCK_REQUESTS_MAX || header->references > NEAP__BLOCK_REFERENCES_MAX
             ? NEAP_EINVAL
             : 0;
}

bool neap__block_is_whole(const uint8_t *block, const neap__block_header *header) {
  return get32(block + 24) == block_crc(block, header->bytes);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

typedef struct reading {
  neap__model *model;
  neap__coder *coder;
  bool begun;
} reading;

/* 0, 1 (as many as were asked for), or an error. */
static int read_request(neap__load *load, const neap__model_request *r) {
  const neap__load_request request = {r->time_us, r->session,       r->tenant,
                                      r->chained, r->units != NULL, r->output_tokens};
  int rc = 0;
  for (uint32_t i = 0; i < r->chunks && rc == 0; i++)
    rc = neap__load_chunk(load, r->hashes[i], r->units ? (uint64_t)r->units[i] * 1024 : 0);
  return rc == 0 ? neap__load_end(load, &request) : rc;
}

static int read_block(neap__load *load, reading *state, const uint8_t *payload, const neap__block_header *header) {
  uint64_t references = 0;
  int rc = 0;
  if (header->anew) {
    neap__coder_reset(state->coder);
    rc = neap__model_reset(state->model, header->time_us);
    state->begun = true;
  } else if (!state->begun) {
    return neap__load_fail(load, NEAP_EINVAL, "goes on from a block that is not there");
  }
  neap__coder_read(state->coder, payload, header->bytes);
  for (uint32_t i = 0; i < header->requests && rc == 0; i++) {
    neap__model_request r;
    rc = neap__model_read(state->model, state->coder, &r);
    references += r.chunks;
    if (rc == NEAP_ENOMEM) return neap__load_fail(load, rc, "out of memory");
    if (rc != 0 || references > header->references)
      return neap__load_fail(load, NEAP_EINVAL, "request %u makes no sense; expected what neap records", i + 1);
    rc = read_request(load, &r);
  }
  if (rc == 0 && references != header->references)
    return neap__load_fail(load, NEAP_EINVAL, "has %llu references; expected %u", (unsigned long long)references,
                           header->references);
  return rc;
}

/* The next block, whole: 1, 0 at the end (also where the file was cut), or an error. */
static int next_block(neap__load *load, const uint8_t **block, neap__block_header *header) {
  const char *data = NULL;
  size_t have = 0;
  int rc = neap__source_peek(load->source, NEAP__BLOCK_HEADER_BYTES, &data, &have, load->err);
  if (rc != 0) return rc;
  load->trace->cut = have > 0 && have < NEAP__BLOCK_HEADER_BYTES;
  if (have < NEAP__BLOCK_HEADER_BYTES) return 0;
  bool sane = neap__block_header_read((const uint8_t *)data, header) == 0;
  size_t bytes = NEAP__BLOCK_HEADER_BYTES + (sane ? header->bytes : 0);
  rc = neap__source_peek(load->source, bytes + 1, &data, &have, load->err);
  if (rc != 0) return rc;
  load->trace->cut = sane && have < bytes;
  if (load->trace->cut) return 0;
  if (!sane || !neap__block_is_whole((const uint8_t *)data, header)) {
    load->trace->cut = sane && have == bytes; /* the last one, half written */
    if (load->trace->cut) return 0;
    neap__load_record(load, NEAP__BLOCK_HEADER_BYTES, block);
    return neap__load_fail(load, NEAP_EINVAL, "is damaged: %s",
                           sane ? "its checksum is another" : "its lengths cannot be");
  }
  return neap__load_record(load, bytes, block);
}

static int read_neap(neap__load *load) {
  const char *head = NULL;
  size_t have = 0;
  int rc = neap__source_peek(load->source, NEAP__FILE_HEADER_BYTES, &head, &have, load->err);
  if (rc != 0) return rc;
  if (have < NEAP__FILE_HEADER_BYTES)
    return neap__fail(load->err, NEAP_EINVAL, "ends after %zu bytes; expected a recording of neap's", have);
  rc = neap__file_header_read((const uint8_t *)head, &load->trace->chunk_tokens, &load->trace->salted, load->err);
  if (rc != 0) return rc;
  neap__source_skip(load->source, NEAP__FILE_HEADER_BYTES);
  reading state = {neap__model_new(NULL), neap__coder_new(true), false};
  const uint8_t *block = NULL;
  neap__block_header header;
  rc = state.model && state.coder ? 0 : neap__load_fail(load, NEAP_ENOMEM, "out of memory");
  while (rc == 0 && (rc = next_block(load, &block, &header)) == 1)
    rc = read_block(load, &state, block + NEAP__BLOCK_HEADER_BYTES, &header);
  neap__model_free(state.model);
  neap__coder_free(state.coder);
  return rc;
}

static bool told_neap(const char *head, size_t have) { return have >= 8 && memcmp(head, NEAP__FILE_MAGIC, 8) == 0; }

/* --- writing ------------------------------------------------------------------------------------------------------ */

static int append_request(const neap__trace *trace, const neap__trace_request *r, uint64_t *hashes, uint32_t *units,
                          neap__record *record) {
  neap__model_request request = {trace->began_us + r->time_ms * 1000ull,
                                 r->session,
                                 trace->tenants[r->tenant],
                                 hashes,
                                 trace->units ? units : NULL,
                                 r->chunks,
                                 r->output_tokens,
                                 r->chunks <= 1};
  for (uint32_t i = 0; i < r->chunks; i++) {
    uint32_t number = trace->chunk[r->first + i];
    hashes[i] = trace->lineage.hash[number];
    if (trace->units) units[i] = trace->units[number];
    request.chained |= trace->lineage.parent[number] != NEAP__NO_CHUNK;
  }
  return neap__record_append(record, &request);
}

static int write_neap(const neap__trace *trace, neap__sink *sink, neap_error *err) {
  const neap__record_options how = {.chunk_tokens = trace->chunk_tokens, .salted = trace->salted};
  neap__record *record = NULL;
  uint32_t most = 1;
  for (uint32_t i = 0; i < trace->request_count; i++) most = NEAP_MAX(most, trace->requests[i].chunks);
  uint64_t *hashes = malloc(most * sizeof(*hashes));
  uint32_t *units = malloc(most * sizeof(*units));
  int rc = hashes && units ? neap__record_open(&how, &record, err) : neap__fail(err, NEAP_ENOMEM, "out of memory");
  for (uint32_t i = 0; i < trace->request_count && rc == 0; i++) {
    rc = append_request(trace, &trace->requests[i], hashes, units, record);
    if (rc == NEAP_ELIMIT)
      rc = neap__fail(err, NEAP_ENOTSUP, "request %u has %u chunks; a recording holds at most %u", i + 1,
                      trace->requests[i].chunks, NEAP__REQUEST_CHUNKS_MAX);
    else if (rc != 0)
      neap__fail(err, rc, "out of memory");
  }
  if (rc == 0 && (rc = neap__record_write(record, sink)) != 0) neap__fail(err, rc, "out of memory");
  neap__record_close(record);
  free(hashes);
  free(units);
  return rc;
}

const neap__format neap__format_neap = {
    {"neap", "a recording of neap's: compact, with a checksum for each block", true, true, true},
    "block",
    ".neap",
    told_neap,
    read_neap,
    write_neap};
