/* SPDX-License-Identifier: MIT
 *
 * bench/prompt.h - the load generator's prompts as they travel: keys and the layout of their chunks. */
#pragma once
#include "wire.h"
#include <stdlib.h>

enum { MAX_CHUNKS = 1024, TOKEN_BYTES = 5, CHUNK_FRAME = CHUNK_TOKENS * TOKEN_BYTES };

typedef struct prompt {
  uint64_t number; /* two of them share no chunk */
  uint32_t chunks;
  char request_id[48];
} prompt;

static uint8_t *token_frames; /* the tokens of MAX_CHUNKS chunks, encoded; the first of each is the prompt's number */

static inline uint64_t mix(uint64_t x) { /* splitmix64's finalizer */
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

static inline void encode_tokens(void) {
  token_frames = malloc((size_t)MAX_CHUNKS * CHUNK_FRAME);
  writer w = {token_frames};
  for (uint64_t i = 0; i < (uint64_t)MAX_CHUNKS * CHUNK_TOKENS; i++) {
    put_byte(&w, 0xce);
    put_big_endian(&w, mix(i) % 128000, 4);
  }
}

static inline void put_key(writer *w, const prompt *p, bool all_workers, int64_t from, int64_t to) {
  put_map(w, 10);
  put_text_entry(w, "model_name", "bench/model");
  put_uint_entry(w, "world_size", 1);
  put_text(w, "worker_id");
  if (all_workers) put_nil(w);
  else put_uint(w, 0);
  put_text(w, "token_ids");
  put_array(w, p->chunks * CHUNK_TOKENS);
  for (uint32_t i = 0; i < p->chunks; i++) {
    writer number = {w->at + 1};
    put_bytes(w, token_frames + (size_t)i * CHUNK_FRAME, CHUNK_FRAME);
    put_big_endian(&number, p->number, 4);
  }
  put_uint_entry(w, "start", (uint64_t)from * CHUNK_TOKENS);
  put_uint_entry(w, "end", (uint64_t)to * CHUNK_TOKENS);
  put_text_entry(w, "request_id", p->request_id);
  put_text_entry(w, "cache_salt", "");
  put_text(w, "request_configs");
  put_nil(w);
  put_uint_entry(w, "num_kv_readers", 1);
}

static inline void put_layout(writer *w, uint64_t instance, uint64_t chunk_bytes) {
  put_map(w, 9);
  put_uint_entry(w, "instance_id", instance);
  put_text_entry(w, "model_name", "bench/model");
  put_uint_entry(w, "world_size", 1);
  put_uint_entry(w, "block_size", 16);
  put_uint_entry(w, "num_layers", 1);
  put_uint_entry(w, "hidden_dim_size", chunk_bytes / (2 * CHUNK_TOKENS));
  put_text_entry(w, "dtype_str", "bfloat16");
  put_text(w, "use_mla");
  put_bool(w, true);
  put_uint_entry(w, "num_physical_slots", CHUNK_TOKENS);
}
