/* SPDX-License-Identifier: MIT
 *
 * chunk/names.h - dense numbers for spaces (model name + chunk layout) and tenants (cache salts).
 *
 * The tables live in memory that the caller provides (the metadata segment of L1, so that numbers survive a restart)
 * and only grow: a number keeps its meaning and a string its address until the table is closed. Readers take no lock.
 * A full table is NEAP_ELIMIT, never an overwrite. */
#pragma once
#include "base/base.h"
#include "chunk/key.h"

/* Shape of one object: what one worker stores for one chunk. dtype is torch's name ("bfloat16").
 * bytes = product(shape) * itemsize, the logical length. */
typedef struct neap__layout {
  uint32_t dims; /* 1 .. 4 */
  uint32_t chunk_tokens;
  uint64_t shape[4]; /* unused entries 0 */
  uint64_t bytes;
  char dtype[32]; /* NUL-padded */
} neap__layout;

/* Fills dims, shape, bytes. Returns 0, or NEAP_EINVAL (unknown dtype, zero or absurd dimension, overflow) with err. */
int neap__layout_init(neap__layout *layout, const uint64_t *shape, uint32_t dims, const char *dtype,
                      uint32_t chunk_tokens, neap_error *err);
bool neap__layout_equal(const neap__layout *a, const neap__layout *b);

#define NEAP_SPACES_MAX 256u
#define NEAP_TENANTS_MAX 65536u

typedef struct neap__names neap__names;

/* Bytes that the tables need; a multiple of 4096. Untouched pages cost nothing. */
size_t neap__names_bytes(void);

/* Opens the tables over memory (neap__names_bytes() bytes, zeroed when fresh, or as an earlier process left it).
 * Returns 0, or NEAP_ECORRUPT with err if the content is not plausible, or NEAP_ENOMEM. */
int neap__names_open(void *memory, neap__names **out, neap_error *err);
void neap__names_close(neap__names *names);

/* The number of (model, layout), added if new. Model as checked by neap__model_check. 0, NEAP_ELIMIT. Any thread. */
int neap__names_space(neap__names *names, const char *model, size_t model_bytes, const neap__layout *layout,
                      uint32_t *space);
/* The number of salt, added if new ("" is always 0). 0, NEAP_ELIMIT. Any thread. */
int neap__names_tenant(neap__names *names, const char *salt, size_t salt_bytes, uint32_t *tenant);
/* The number of salt if it is known, else NEAP_ENOENT. Any thread. */
int neap__names_tenant_find(neap__names *names, const char *salt, size_t salt_bytes, uint32_t *tenant);

uint32_t neap__names_spaces(neap__names *names); /* how many there are: numbers 0 .. n-1 */
uint32_t neap__names_tenants(neap__names *names);
const char *neap__names_model(neap__names *names, uint32_t space); /* NUL-terminated */
const neap__layout *neap__names_layout(neap__names *names, uint32_t space);
const char *neap__names_salt(neap__names *names, uint32_t tenant); /* NUL-terminated */
/* True if space is the first of its model name: only that one may use L2, whose names do not tell layouts apart. */
bool neap__names_primary(neap__names *names, uint32_t space);

/* The outside view of a key; its strings stay valid until the names are closed. */
neap_object_key neap__names_object_key(neap__names *names, const neap__key *key);
