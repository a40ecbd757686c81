/* SPDX-License-Identifier: MIT
 *
 * neap/types.h - the words that neap.h (hosts), adapter.h (stores) and policy.h (policies) share:
 * error codes, error text, object keys and the description of L1 memory. It declares no service.
 */
#ifndef NEAP_TYPES_H
#define NEAP_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NEAP_EXPORT __attribute__((visibility("default")))

/* Every call that can fail returns 0 or one of these negative codes. One list makes the enum, the name
 * (neap_err_name) and the sentence (neap_strerror). Codes are append-only: a number never changes its meaning. */
#define NEAP_ERR_MAP(XX)                                          \
  XX(EINVAL, -1, "invalid argument")                              \
  XX(ENOMEM, -2, "out of memory")                                 \
  XX(ENOENT, -3, "no such object")                                \
  XX(EEXIST, -4, "object is already there")                       \
  XX(ESTALE, -5, "lease is no longer valid")                      \
  XX(EBUSY, -6, "object is pinned or being written")              \
  XX(ENOSPC, -7, "no space left")                                 \
  XX(EIO, -8, "input/output error")                               \
  XX(ECORRUPT, -9, "stored bytes failed verification")            \
  XX(ETIMEDOUT, -10, "deadline exceeded")                         \
  XX(ECANCELED, -11, "operation canceled")                        \
  XX(ELIMIT, -12, "a configured bound was reached")               \
  XX(EABI, -13, "plugin was built for another interface version") \
  XX(ENOTSUP, -14, "operation not supported")                     \
  XX(ESCRIPT, -15, "script raised an error")                      \
  XX(ECLOSED, -16, "already closed")                              \
  XX(EPERM, -17, "not permitted")

typedef enum neap_err {
  NEAP_OK = 0,
#define XX(name, code, text) NEAP_##name = (code),
  NEAP_ERR_MAP(XX)
#undef XX
} neap_err;

/* What went wrong, for a person: the field, the value and what was expected. The caller owns it; a function that
 * returns 0 leaves it as it was; the first failure wins. Always NUL-terminated. */
#define NEAP_ERROR_BYTES 512
typedef struct neap_error {
  char text[NEAP_ERROR_BYTES];
} neap_error;

#define NEAP_HASH_BYTES 32
#define NEAP_MODEL_BYTES_MAX 511 /* without the NUL */
#define NEAP_SALT_BYTES_MAX 128  /* without the NUL */

/* Identity of one stored object: one chunk of tokens, as computed by one rank of one model, for one tenant.
 * hash   chained BLAKE3 of the chunk's tokens and everything before them
 * model  model name, NUL-terminated, without '@'
 * salt   tenant ("cache salt"), NUL-terminated, "" for the default tenant; without '@' '/' '\\'
 * rank   world_size<<24 | worker<<16 | local_world_size<<8 | local_worker (LMCache's kv_rank)
 * group  object group, 0 for full attention
 * The two strings are interned by the engine and stay valid until the engine is closed. */
typedef struct neap_object_key {
  const char *model;
  const char *salt;
  uint8_t hash[NEAP_HASH_BYTES];
  uint32_t rank;
  uint32_t group;
} neap_object_key;

/* The two text forms of a key. Printing and parsing are exact inverses of each other.
 * NATIVE  MODEL@RRRRRRRR@G@HASH[@SALT]                     (Redis, S3; rank as 8 hex digits)
 * FILE    MODEL@0xRRRRRRRR@G@HASH[@SALT].data              ('/' in MODEL written as "-SEP-") */
typedef enum neap_key_form { NEAP_KEY_NATIVE = 0, NEAP_KEY_FILE = 1 } neap_key_form;

#define NEAP_KEY_TEXT_MAX 1536 /* room for either form, NUL included */

/* The first level as one mapping, for stores that register memory (fixed buffers, RDMA).
 * base and bytes stay valid and at the same address until the adapter is closed. */
typedef struct neap_memory {
  void *base;
  uint64_t bytes;
  uint32_t align_bytes;
  const char *shm_name; /* "" when the mapping has no name */
} neap_memory;

/* The sentence / the name ("NEAP_EIO") of an error code; never NULL. Any thread. */
NEAP_EXPORT const char *neap_strerror(int code);
NEAP_EXPORT const char *neap_err_name(int code);

#ifdef __cplusplus
}
#endif
#endif
