/* SPDX-License-Identifier: MIT
 *
 * codec.h - adapters that keep objects in another form in an inner adapter: checksum, compress, seal.
 *
 *   store: encode on a worker --> inner store          load: (inner lookup -->) inner load --> decode on a worker
 *
 * One mechanism (wrap.c) and one small file for each codec. Each object is kept as one envelope:
 *
 *   0  "neap"   4 codec   5 version (1)   6 flags   7 zero   8 length of the object   16 CRC-32C   20 key id   24 body
 *
 * integers little-endian. The CRC is over what identifies the object, the header with a CRC of zero, and the body, so
 * that an object of another key is as wrong as a flipped bit; `seal` has a mark of its key there, for its tag covers
 * all that. */
#pragma once
#include <cjson/cJSON.h>
#include <neap/adapter.h>
#include <stdbool.h>

#define NEAP_ENVELOPE_HEADER 24u
#define NEAP_ENVELOPE_RAW 1u /* flag: the body is the object as it was */

enum { NEAP_CODEC_CHECKSUM = 1, NEAP_CODEC_COMPRESS = 2, NEAP_CODEC_SEAL = 3 };

/* What an envelope says of itself. */
typedef struct neap__envelope {
  uint8_t codec, flags;
  uint32_t check, key_id; /* check: what stands in the place of the CRC */
  uint64_t bytes;         /* of the object */
} neap__envelope;

/* One codec. Its functions are called from many threads at once.
 * overhead  bytes that an envelope has beyond the object, at most; fixed: always
 * open      params: the checked parameters of the adapter. Fills err.
 * encode    writes the envelope into out, which has room for bytes + overhead; returns its length or an error
 * decode    fills data with exactly `bytes` bytes; NEAP_ECORRUPT for anything but what encode wrote for this key;
 *           NEAP_EPERM for what a secret that is not here has sealed */
typedef struct neap__codec {
  neap_adapter table; /* first: how open finds the codec */
  uint32_t overhead;
  bool fixed;
  int (*open)(const cJSON *params, const neap_host *host, void **self, neap_error *err);
  void (*close)(void *self);
  int64_t (*encode)(void *self, const neap_object_key *key, const void *data, uint64_t bytes, uint8_t *out);
  int (*decode)(void *self, const neap_object_key *key, const uint8_t *in, uint64_t in_bytes, void *data,
                uint64_t bytes);
} neap__codec;

/* What NEAP_ADAPTER_BUILTIN does for a table alone. */
#define NEAP_CODEC_BUILTIN(codec)                                        \
  __attribute__((constructor)) static void neap_register_##codec(void) { \
    if (neap_adapter_register(&codec.table) != 0) __builtin_trap();      \
  }

/* wrap.c: the functions of a codec's adapter table. */
int neap__wrap_open(const neap_adapter *table, const neap_host *host, const char *params_json, void **self,
                    neap_error *err);
void neap__wrap_move(void *self, neap_op *op); /* store, load */
void neap__wrap_ask(void *self, neap_op *op);  /* lookup, remove, list */
void neap__wrap_cancel(void *self, neap_op *op);
int neap__wrap_status(void *self, char *json, size_t cap);
void neap__wrap_close(void *self);
#define NEAP_WRAP_FUNCTIONS                                                                                   \
  .open = neap__wrap_open, .store = neap__wrap_move, .lookup = neap__wrap_ask, .load = neap__wrap_move,       \
  .remove = neap__wrap_ask, .list = neap__wrap_ask, .cancel = neap__wrap_cancel, .status = neap__wrap_status, \
  .close = neap__wrap_close
#define NEAP_WRAP_SCHEMA                                                                                             \
  "\"inner\":{\"type\":\"object\",\"required\":true,\"doc\":\"configuration of the store that keeps the objects\"}," \
  "\"buffer_mb\":{\"type\":\"integer\",\"min\":1,\"max\":65536,\"default\":256,"                                     \
  "\"doc\":\"MiB of encoded objects on their way at once\"}"

/* envelope.c. header has NEAP_ENVELOPE_HEADER bytes. */
void neap__envelope_write(uint8_t *header, const neap__envelope *envelope);
/* 0, or NEAP_ECORRUPT for what is no envelope of this codec or holds an object of another length. */
int neap__envelope_read(const uint8_t *in, uint64_t in_bytes, uint8_t codec, uint64_t bytes, neap__envelope *out);
/* What identifies an object, as bytes that are the same in every process. Returns their number. */
#define NEAP_IDENTITY_MAX (NEAP_HASH_BYTES + 8u + NEAP_MODEL_BYTES_MAX + NEAP_SALT_BYTES_MAX + 2u)
size_t neap__identity(const neap_object_key *key, uint8_t out[NEAP_IDENTITY_MAX]);
/* Puts the CRC into an envelope, or tells whether it is right. */
void neap__envelope_sign(const neap_host *host, const neap_object_key *key, uint8_t *in, uint64_t in_bytes);
bool neap__envelope_signed(const neap_host *host, const neap_object_key *key, const uint8_t *in, uint64_t in_bytes);

/* sizes.c: lengths of envelopes, by key, of the objects that were last seen; bounded. Any thread. */
typedef struct neap__sizes neap__sizes;
neap__sizes *neap__sizes_open(void);
void neap__sizes_close(neap__sizes *sizes);
void neap__sizes_put(neap__sizes *sizes, const neap_object_key *key, uint64_t bytes); /* 0: forget */
uint64_t neap__sizes_get(neap__sizes *sizes, const neap_object_key *key);             /* 0: not known */
