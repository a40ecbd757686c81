/* SPDX-License-Identifier: MIT
 *
 * trace/record.c - see record.h. Blocks do not change once they are ended and are counted, so that saving writes them
 * without the lock. */
#include "trace/record.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace/block.h"

#define SEGMENTS 8u            /* blocks that begin anew come this often within the bound */
#define BLOCK_BYTES (4u << 10) /* what a file that is cut loses at most, beside 28 bytes of header each */
#define CHUNKS_MAX (1u << 26)

typedef struct block {
  struct block *next;
  uint32_t holders; /* the recording, and who saves; under the lock */
  uint32_t requests;
  bool anew;
  size_t bytes;
  uint8_t data[]; /* header and payload */
} block;

struct neap__record {
  pthread_mutex_t lock;
  neap__model *model;
  neap__coder *coder;
  uint64_t bytes_max, segment_bytes, bytes, begun_us, in_segment;
  uint32_t chunk_tokens, chunks_max, requests, references; /* of the open block */
  bool salted, has_salt, anew;                             /* anew: the open block begins anew */
  uint8_t salt[NEAP_HASH_BYTES];
  block *first, **end;
  neap__record_stats stats;
};

/* --- life --------------------------------------------------------------------------------------------------------- */

int neap__record_open(const neap__record_options *options, neap__record **out, neap_error *err) {
  if (options->bytes_max && options->bytes_max < NEAP__RECORD_BYTES_MIN)
    return neap__fail(err, NEAP_EINVAL, "a bound of %" PRIu64 " bytes; expected 0 or at least %u", options->bytes_max,
                      NEAP__RECORD_BYTES_MIN);
  neap__record *record = calloc(1, sizeof(*record));
  if (!record) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  pthread_mutex_init(&record->lock, NULL);
  record->bytes_max = options->bytes_max;
  record->segment_bytes = options->bytes_max ? options->bytes_max / SEGMENTS : UINT64_MAX;
  record->chunks_max = (uint32_t)NEAP_MIN(record->segment_bytes / sizeof(uint64_t), CHUNKS_MAX);
  record->chunk_tokens = options->chunk_tokens;
  record->salted = options->salted || options->salt;
  record->has_salt = options->salt != NULL;
  if (options->salt) memcpy(record->salt, options->salt, sizeof(record->salt));
  record->anew = true;
  record->end = &record->first;
  record->model = neap__model_new(record->has_salt ? record->salt : NULL);
  record->coder = neap__coder_new(false);
  if (!record->model || !record->coder) {
    neap__record_close(record);
    return neap__fail(err, NEAP_ENOMEM, "out of memory");
  }
  *out = record;
  return 0;
}

static void release(block *b) {
  if (--b->holders == 0) free(b);
}

void neap__record_close(neap__record *record) {
  if (!record) return;
  for (block *b = record->first, *next; b; b = next) {
    next = b->next;
    release(b);
  }
  neap__model_free(record->model);
  neap__coder_free(record->coder);
  pthread_mutex_destroy(&record->lock);
  free(record);
}

/* --- blocks; under the lock --------------------------------------------------------------------------------------- */

/* The next block knows nothing of those before. */
static void begin_anew(neap__record *record) {
  record->anew = true;
  record->in_segment = 0;
}

/* The oldest blocks up to the next that begins anew, until what is left is within the bound. */
static void drop_oldest(neap__record *record) {
  while (record->bytes_max && record->bytes > record->bytes_max && record->first) {
    do {
      block *b = record->first;
      record->first = b->next;
      record->bytes -= b->bytes;
      record->stats.requests -= b->requests;
      record->stats.dropped += b->requests;
      record->stats.blocks--;
      release(b);
    } while (record->first && !record->first->anew);
  }
  if (record->first) return;
  record->end = &record->first;
  begin_anew(record);
}

static void lose_block(neap__record *record) {
  record->stats.lost += record->requests;
  record->requests = record->references = 0;
  begin_anew(record);
}

static int end_block(neap__record *record) {
  size_t bytes = 0;
  if (record->requests == 0) return 0;
  const uint8_t *payload = neap__coder_end(record->coder, &bytes);
  block *b = payload ? malloc(sizeof(*b) + NEAP__BLOCK_HEADER_BYTES + bytes) : NULL;
  if (!b) {
    lose_block(record);
    return NEAP_ENOMEM;
  }
  *b = (block){NULL, 1, record->requests, record->anew, NEAP__BLOCK_HEADER_BYTES + bytes};
  const neap__block_header header = {(uint32_t)bytes, record->requests, record->references, record->anew,
                                     record->anew ? record->begun_us : 0};
  memcpy(b->data + NEAP__BLOCK_HEADER_BYTES, payload, bytes);
  neap__block_seal(b->data, &header);
  *record->end = b;
  record->end = &b->next;
  record->bytes += b->bytes;
  record->in_segment += b->bytes;
  record->stats.requests += b->requests;
  record->stats.blocks++;
  record->requests = record->references = 0;
  record->anew = false;
  if (record->in_segment >= record->segment_bytes || neap__model_full(record->model, record->chunks_max))
    begin_anew(record);
  drop_oldest(record);
  return 0;
}

static int begin_block(neap__record *record, uint64_t time_us) {
  neap__coder_begin(record->coder);
  if (!record->anew) return 0;
  record->begun_us = time_us;
  neap__coder_reset(record->coder);
  return neap__model_reset(record->model, time_us);
}

static bool block_is_full(const neap__record *record) {
  return neap__coder_bytes(record->coder) >= NEAP_MIN(BLOCK_BYTES, record->segment_bytes / 4) ||
         record->requests >= NEAP__BLOCK_REQUESTS_MAX ||
         record->references >= NEAP__BLOCK_REFERENCES_MAX - NEAP__REQUEST_CHUNKS_MAX ||
         neap__model_full(record->model, record->chunks_max);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* The tenant under a name that tells nothing: 16 hexadecimal digits. */
static void salt_tenant(const neap__record *record, const char *tenant, char text[17]) {
  uint64_t hash = neap__hash64(tenant, strlen(tenant), 0);
  *text = '\0';
  if (*tenant) snprintf(text, 17, "%016" PRIx64, neap__trace_salt(hash, record->salt));
}

static int append(neap__record *record, const neap__model_request *request) {
  if (request->chunks > NEAP__REQUEST_CHUNKS_MAX) {
    record->stats.lost++;
    return NEAP_ELIMIT;
  }
  int rc = record->requests == 0 ? begin_block(record, request->time_us) : 0;
  if (rc == 0) rc = neap__model_write(record->model, record->coder, request);
  record->requests++;
  record->references += request->chunks;
  if (rc != 0) {
    lose_block(record); /* the model is not what a reader would have */
    return rc;
  }
  return block_is_full(record) ? end_block(record) : 0;
}

int neap__record_append(neap__record *record, const neap__model_request *request) {
  neap__model_request r = *request;
  char tenant[17];
  if (!r.tenant) r.tenant = "";
  if (record->has_salt) {
    salt_tenant(record, r.tenant, tenant);
    r.tenant = tenant;
    if (r.session) r.session = neap__trace_salt(r.session, record->salt);
  }
  pthread_mutex_lock(&record->lock);
  int rc = append(record, &r);
  pthread_mutex_unlock(&record->lock);
  return rc;
}

int neap__record_flush(neap__record *record) {
  pthread_mutex_lock(&record->lock);
  int rc = end_block(record);
  pthread_mutex_unlock(&record->lock);
  return rc;
}

/* --- saving ------------------------------------------------------------------------------------------------------- */

/* The blocks there are, each held; NULL if memory ran out. */
static block **hold_blocks(neap__record *record, uint64_t *count) {
  block **held = malloc((record->stats.blocks + 1) * sizeof(block *));
  *count = 0;
  for (block *b = record->first; held && b; b = b->next) {
    b->holders++;
    held[(*count)++] = b;
  }
  return held;
}

int neap__record_write(neap__record *record, neap__sink *sink) {
  uint8_t header[NEAP__FILE_HEADER_BYTES];
  uint64_t count = 0;
  pthread_mutex_lock(&record->lock);
  int rc = end_block(record);
  block **held = rc == 0 ? hold_blocks(record, &count) : NULL;
  pthread_mutex_unlock(&record->lock);
  if (!held) return NEAP_ENOMEM;
  neap__file_header_write(header, record->chunk_tokens, record->salted);
  neap__sink_write(sink, header, sizeof(header));
  for (uint64_t i = 0; i < count; i++) neap__sink_write(sink, held[i]->data, held[i]->bytes);
  pthread_mutex_lock(&record->lock);
  for (uint64_t i = 0; i < count; i++) release(held[i]);
  pthread_mutex_unlock(&record->lock);
  free(held);
  return 0;
}

int neap__record_save(neap__record *record, const char *path, neap_error *err) {
  neap__sink *sink = NULL;
  int rc = neap__sink_open(path, &sink, err);
  if (rc != 0) return rc;
  rc = neap__record_write(record, sink);
  if (rc != 0) neap__fail(err, rc, "out of memory");
  int closed = neap__sink_close(sink, rc == 0, rc == 0 ? err : NULL);
  return rc != 0 ? rc : closed;
}

void neap__record_stats_get(neap__record *record, neap__record_stats *out) {
  pthread_mutex_lock(&record->lock);
  *out = record->stats;
  out->requests += record->requests;
  out->bytes = record->bytes + (record->requests ? neap__coder_bytes(record->coder) : 0);
  neap__model_count(record->model, &out->references, &out->repeated);
  memcpy(out->spent_bits, neap__coder_spent(record->coder), sizeof(out->spent_bits));
  pthread_mutex_unlock(&record->lock);
}
