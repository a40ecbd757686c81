/* SPDX-License-Identifier: MIT
 *
 * checksum.c - the type "checksum": a CRC-32C that stays with each object, in any store.
 *
 *   {"type": "checksum", "inner": {"type": "redis", ...}}
 *
 * `"checksum": "crc32c"` beside the parameters of any type does the same. */
#include <string.h>

#include "codec.h"

static int codec_open(const cJSON *params, const neap_host *host, void **self, neap_error *err) {
  (void)params, (void)err;
  *self = (void *)(uintptr_t)host; /* all there is to know; never written to */
  return 0;
}

static void codec_close(void *self) { (void)self; }

static int64_t encode(void *self, const neap_object_key *key, const void *data, uint64_t bytes, uint8_t *out) {
  neap__envelope envelope = {.codec = NEAP_CODEC_CHECKSUM, .bytes = bytes};
  neap__envelope_write(out, &envelope);
  if (bytes) memcpy(out + NEAP_ENVELOPE_HEADER, data, bytes);
  neap__envelope_sign(self, key, out, bytes + NEAP_ENVELOPE_HEADER);
  return (int64_t)(bytes + NEAP_ENVELOPE_HEADER);
}

static int decode(void *self, const neap_object_key *key, const uint8_t *in, uint64_t in_bytes, void *data,
                  uint64_t bytes) {
  neap__envelope envelope;
  int rc = neap__envelope_read(in, in_bytes, NEAP_CODEC_CHECKSUM, bytes, &envelope);
  if (rc || in_bytes != bytes + NEAP_ENVELOPE_HEADER || !neap__envelope_signed(self, key, in, in_bytes)) {
    return NEAP_ECORRUPT;
  }
  if (bytes) memcpy(data, in + NEAP_ENVELOPE_HEADER, bytes);
  return 0;
}

static const neap__codec checksum = {
    .table = {NEAP_ADAPTER_INIT("checksum", "1.0"), .schema_json = "{" NEAP_WRAP_SCHEMA "}", NEAP_WRAP_FUNCTIONS},
    .overhead = NEAP_ENVELOPE_HEADER,
    .fixed = true,
    .open = codec_open,
    .close = codec_close,
    .encode = encode,
    .decode = decode,
};

NEAP_CODEC_BUILTIN(checksum)
