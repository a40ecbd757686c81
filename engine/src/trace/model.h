/* SPDX-License-Identifier: MIT
 *
 * trace/model.h - what neap's recordings know about the requests so far, and one request coded against it, both ways.
 *
 * A request is the deepest chunk of it that is known and how many new ones follow: the chunks above are the known one's
 * parents. Known chunks are named by how long ago prompts ended or branched there, those of the same session first.
 * Memory: 64 bytes per chunk, at most. One thread at a time. Not here: bytes and blocks (coder.h, record.h). */
#pragma once
#include "policy/lineage.h"
#include "trace/coder.h"

#define NEAP__REQUEST_CHUNKS_MAX (1u << 20)
#define NEAP__TENANT_BYTES_MAX 255u

/* A request as it is recorded. units: sizes in KiB, NULL for none; what was read says 0 where the chunk was known. */
typedef struct neap__model_request {
  uint64_t time_us, session;
  const char *tenant;
  const uint64_t *hashes;
  const uint32_t *units;
  uint32_t chunks, output_tokens;
  bool chained;
} neap__model_request;

typedef struct neap__model neap__model;

/* salt (NULL: none) is for writing, and stays the caller's: NEAP_HASH_BYTES by which hashes are changed beyond
 * recognition before they are written. NULL: no memory. */
neap__model *neap__model_new(const uint8_t *salt);
void neap__model_free(neap__model *model);
/* Forgets everything; times are told from time_us on. 0 or NEAP_ENOMEM. */
int neap__model_reset(neap__model *model, uint64_t time_us);
/* True if it should be reset now: it knows that many chunks, or many tenants. */
bool neap__model_full(const neap__model *model, uint32_t chunks_max);
/* References so far, and how many of them were to chunks that were known. */
void neap__model_count(const neap__model *model, uint64_t *references, uint64_t *repeated);

/* Writes a request. At most NEAP__REQUEST_CHUNKS_MAX chunks; longer tenant names are cut. 0, NEAP_ENOMEM, NEAP_ELIMIT;
 * after an error the model must be reset. */
int neap__model_write(neap__model *model, neap__coder *coder, const neap__model_request *request);

/* A hash that tells nothing about the other without the salt: BLAKE3(salt || hash), cut to 64 bits. Any thread. */
uint64_t neap__trace_salt(uint64_t hash, const uint8_t salt[NEAP_HASH_BYTES]);

/* Reads the next one; its arrays are the model's until the next call. 0, NEAP_ENOMEM, or NEAP_ECORRUPT: what was
 * written cannot have been this. */
int neap__model_read(neap__model *model, neap__coder *coder, neap__model_request *request);
