/* SPDX-License-Identifier: MIT
 *
 * envelope.c - the header of an encoded object and its CRC; see codec.h. Stateless. */
#include <string.h>

#include "codec.h"

#define VERSION 1u
#define CRC_AT 16u

static const uint8_t magic[4] = {'n', 'e', 'a', 'p'};

static void put(uint8_t *out, uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *in, unsigned bytes) {
  uint64_t value = 0;
  for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)in[i] << (8 * i);
  return value;
}

void neap__envelope_write(uint8_t *header, const neap__envelope *envelope) {
  memcpy(header, magic, sizeof magic);
  header[4] = envelope->codec;
  header[5] = VERSION;
  header[6] = envelope->flags;
  header[7] = 0;
  put(header + 8, envelope->bytes, 8);
  put(header + CRC_AT, envelope->check, 4);
  put(header + 20, envelope->key_id, 4);
}

int neap__envelope_read(const uint8_t *in, uint64_t in_bytes, uint8_t codec, uint64_t bytes, neap__envelope *out) {
  if (in_bytes < NEAP_ENVELOPE_HEADER || memcmp(in, magic, sizeof magic) != 0) return NEAP_ECORRUPT;
  if (in[4] != codec || in[5] != VERSION || in[7] != 0) return NEAP_ECORRUPT;
  *out = (neap__envelope){.codec = in[4],
                          .flags = in[6],
                          .check = (uint32_t)get(in + CRC_AT, 4),
                          .key_id = (uint32_t)get(in + 20, 4),
                          .bytes = get(in + 8, 8)};
  return out->bytes == bytes && !(out->flags & ~NEAP_ENVELOPE_RAW) ? 0 : NEAP_ECORRUPT;
}

size_t neap__identity(const neap_object_key *key, uint8_t out[NEAP_IDENTITY_MAX]) {
  size_t model = strnlen(key->model, NEAP_MODEL_BYTES_MAX), salt = strnlen(key->salt, NEAP_SALT_BYTES_MAX);
  uint8_t *at = out;
  memcpy(at, key->hash, NEAP_HASH_BYTES);
  at += NEAP_HASH_BYTES;
  put(at, key->rank, 4);
  put(at + 4, key->group, 4);
  at += 8;
  memcpy(at, key->model, model);
  at[model] = 0;
  at += model + 1;
  memcpy(at, key->salt, salt);
  at[salt] = 0;
  return (size_t)(at + salt + 1 - out);
}

static uint32_t crc_of(const neap_host *host, const neap_object_key *key, const uint8_t *in, uint64_t in_bytes) {
  uint8_t identity[NEAP_IDENTITY_MAX], header[NEAP_ENVELOPE_HEADER];
  uint32_t crc = host->crc32c(0, identity, neap__identity(key, identity));
  memcpy(header, in, sizeof header);
  put(header + CRC_AT, 0, 4);
  crc = host->crc32c(crc, header, sizeof header);
  return host->crc32c(crc, in + sizeof header, in_bytes - sizeof header);
}

void neap__envelope_sign(const neap_host *host, const neap_object_key *key, uint8_t *in, uint64_t in_bytes) {
  put(in + CRC_AT, crc_of(host, key, in, in_bytes), 4);
}

bool neap__envelope_signed(const neap_host *host, const neap_object_key *key, const uint8_t *in, uint64_t in_bytes) {
  return get(in + CRC_AT, 4) == crc_of(host, key, in, in_bytes);
}
