/* SPDX-License-Identifier: MIT
 *
 * compress.c - the type "compress": objects as zstd frames in any store that tells the size of what it holds.
 *
 *   {"type": "compress", "level": 3, "inner": {"type": "fs", ...}}
 *
 * An object that does not become smaller is kept as it is. Contexts are kept for the next object, one for each worker
 * that was busy at once. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "codec.h"

#define CONTEXTS_MAX 64u

typedef struct context {
  ZSTD_CCtx *compress;
  ZSTD_DCtx *decompress;
} context;

typedef struct compressor {
  const neap_host *host;
  int level;
  pthread_mutex_t lock;
  context *idle[CONTEXTS_MAX];
  uint32_t idle_count;
} compressor;

static void context_free(context *c) {
  if (!c) return;
  ZSTD_freeCCtx(c->compress);
  ZSTD_freeDCtx(c->decompress);
  free(c);
}

static context *context_take(compressor *z) {
  pthread_mutex_lock(&z->lock);
  context *c = z->idle_count ? z->idle[--z->idle_count] : NULL;
  pthread_mutex_unlock(&z->lock);
  if (c) return c;
  c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->compress = ZSTD_createCCtx();
  c->decompress = ZSTD_createDCtx();
  if (c->compress && c->decompress) return c;
  context_free(c);
  return NULL;
}

static void context_give(compressor *z, context *c) {
  pthread_mutex_lock(&z->lock);
  bool kept = z->idle_count < CONTEXTS_MAX;
  if (kept) z->idle[z->idle_count++] = c;
  pthread_mutex_unlock(&z->lock);
  if (!kept) context_free(c);
}

static int codec_open(const cJSON *params, const neap_host *host, void **self, neap_error *err) {
  compressor *z = calloc(1, sizeof *z);
  if (!z) {
    snprintf(err->text, sizeof err->text, "out of memory");
    return NEAP_ENOMEM;
  }
  z->host = host;
  z->level = (int)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(params, "level"));
  pthread_mutex_init(&z->lock, NULL);
  *self = z;
  return 0;
}

static void codec_close(void *self) {
  compressor *z = self;
  while (z->idle_count) context_free(z->idle[--z->idle_count]);
  pthread_mutex_destroy(&z->lock);
  free(z);
}

static int64_t encode(void *self, const neap_object_key *key, const void *data, uint64_t bytes, uint8_t *out) {
  compressor *z = self;
  uint8_t *body = out + NEAP_ENVELOPE_HEADER;
  neap__envelope envelope = {.codec = NEAP_CODEC_COMPRESS, .bytes = bytes};
  context *c = context_take(z);
  if (!c) return NEAP_ENOMEM;
  size_t packed = bytes ? ZSTD_compressCCtx(c->compress, body, bytes, data, bytes, z->level) : 0;
  context_give(z, c);
  if (ZSTD_isError(packed) || packed >= bytes) { /* it had room for less than the object only */
    envelope.flags = NEAP_ENVELOPE_RAW;
    packed = bytes;
    if (bytes) memcpy(body, data, bytes);
  }
  neap__envelope_write(out, &envelope);
  neap__envelope_sign(z->host, key, out, packed + NEAP_ENVELOPE_HEADER);
  return (int64_t)(packed + NEAP_ENVELOPE_HEADER);
}

static int decode(void *self, const neap_object_key *key, const uint8_t *in, uint64_t in_bytes, void *data,
                  uint64_t bytes) {
  compressor *z = self;
  neap__envelope envelope;
  int rc = neap__envelope_read(in, in_bytes, NEAP_CODEC_COMPRESS, bytes, &envelope);
  if (rc || !neap__envelope_signed(z->host, key, in, in_bytes)) return NEAP_ECORRUPT;
  const uint8_t *body = in + NEAP_ENVELOPE_HEADER;
  uint64_t packed = in_bytes - NEAP_ENVELOPE_HEADER;
  if (envelope.flags & NEAP_ENVELOPE_RAW) {
    if (packed != bytes) return NEAP_ECORRUPT;
    if (bytes) memcpy(data, body, bytes);
    return 0;
  }
  context *c = context_take(z);
  if (!c) return NEAP_ENOMEM;
  size_t unpacked = ZSTD_decompressDCtx(c->decompress, data, bytes, body, packed);
  context_give(z, c);
  return !ZSTD_isError(unpacked) && unpacked == bytes ? 0 : NEAP_ECORRUPT;
}

static const neap__codec compress = {
    .table = {NEAP_ADAPTER_INIT("compress", "1.0"),
              .schema_json = "{\"level\":{\"type\":\"integer\",\"min\":-50,\"max\":22,\"default\":3,"
                             "\"doc\":\"zstd's: more is smaller and slower\"}," NEAP_WRAP_SCHEMA "}",
              NEAP_WRAP_FUNCTIONS},
    .overhead = NEAP_ENVELOPE_HEADER,
    .open = codec_open,
    .close = codec_close,
    .encode = encode,
    .decode = decode,
};

NEAP_CODEC_BUILTIN(compress)
