/* SPDX-License-Identifier: MIT
 *
 * serve/request.h - the two maps that clients send: the key of a lookup or transfer, and a worker's registration.
 *
 * Decoding is as strict as LMCache's own (kinds must match, required fields must be there) and as tolerant (unknown
 * fields are passed over, optional ones have defaults, the order is free). Texts and tokens point into the frame.
 * Any thread. */
#pragma once
#include "serve/reader.h"

#define NEAP_WORLD_MAX 255u                    /* LMCache's kv_rank holds eight bits of it */
#define NEAP_SESSION_TAG "lmcache.tag.session" /* in request_configs: a request's session, for policies */

typedef struct neap__ipc_key {
  neap__text model, request_id, salt;
  neap__text session; /* the value of NEAP_SESSION_TAG, empty if not sent */
  neap__token_list tokens;
  uint64_t start, end; /* token range */
  uint32_t world_size; /* 1 .. NEAP_WORLD_MAX */
  uint32_t worker_id;  /* below world_size; 0 when all_workers */
  uint32_t readers;    /* num_kv_readers, 0 if not sent */
  bool all_workers;    /* worker_id is nil */
} neap__ipc_key;

typedef struct neap__registration {
  uint64_t instance_id;
  neap__text model, dtype;
  uint32_t world_size;
  uint64_t block_size, layers, hidden, slots; /* slots 0: as many as a chunk has tokens */
  bool one_plane;
} neap__registration;

/* The key in one frame, which must hold nothing else. On failure NEAP_EINVAL, err names the field; request_id is set
 * if it was reached, else empty. */
int neap__ipc_key_read(neap__reader frame, neap__ipc_key *key, neap_error *err);

int neap__registration_read(neap__reader frame, neap__registration *registration, neap_error *err);

/* Chunks of the key's range. 0, or NEAP_EINVAL when the range is reversed, not on chunk borders or longer than the
 * token list. first and count are chunks. */
int neap__ipc_key_chunks(const neap__ipc_key *key, uint32_t chunk_tokens, uint32_t *first, uint32_t *count,
                         neap_error *err);
