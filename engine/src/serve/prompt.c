/* SPDX-License-Identifier: MIT
 *
 * serve/prompt.c - see prompt.h. Lists are compared as bytes, not by a hash of them: two lists that differ can never
 * be taken for each other. An element's bytes tell its length, so equal bytes are equal tokens. */
#include "serve/prompt.h"

#include <stdlib.h>
#include <string.h>

#include "chunk/tokens.h"

void neap__prompt_forget(neap__prompt *prompt) {
  prompt->raw_bytes = 0;
  prompt->whole_bytes = 0;
  prompt->chunks = 0;
}

void neap__prompt_free(neap__prompt *prompt) {
  free(prompt->raw);
  free(prompt->hashes);
  *prompt = (neap__prompt){0};
}

size_t neap__prompt_bytes(const neap__prompt *prompt) {
  return prompt->raw_cap + (size_t)prompt->hashes_cap * NEAP_HASH_BYTES;
}

/* Room for a list of so many bytes and chunks. */
static int prompt_reserve(neap__prompt *prompt, size_t bytes, uint32_t chunks) {
  if (bytes > prompt->raw_cap) {
    size_t cap = bytes + bytes / 4;
    uint8_t *raw = realloc(prompt->raw, cap);
    if (!raw) return NEAP_ENOMEM;
    prompt->raw = raw;
    prompt->raw_cap = cap;
  }
  if (chunks > prompt->hashes_cap) {
    uint32_t cap = chunks + chunks / 4;
    void *hashes = realloc(prompt->hashes, (size_t)cap * NEAP_HASH_BYTES);
    if (!hashes) return NEAP_ENOMEM;
    prompt->hashes = hashes;
    prompt->hashes_cap = cap;
  }
  return 0;
}

/* Hashes the chunks of `tokens` from chunk prompt->chunks up to `chunks`; chunk by chunk, so that the decoded tokens
 * stay in the nearest cache. */
static void prompt_hash(neap__prompt *prompt, const neap__token_list *tokens, uint32_t chunk_tokens, uint32_t chunks) {
  uint32_t decoded[NEAP_CHUNK_TOKENS_MAX];
  const uint8_t *at = tokens->at + prompt->whole_bytes;
  for (uint32_t i = prompt->chunks; i < chunks; i++) {
    at = neap__tokens_decode(at, chunk_tokens, decoded);
    neap__chain(neap__chain_at(prompt->hashes, (int64_t)i - 1), decoded, chunk_tokens, 1, prompt->hashes + i);
  }
  prompt->chunks = chunks;
  prompt->whole_bytes = (size_t)(at - tokens->at);
}

int neap__prompt_read(neap__prompt *prompt, const neap__token_list *tokens, uint32_t chunk_tokens, uint32_t chunks) {
  NEAP_ASSERT(chunk_tokens >= 1 && chunk_tokens <= NEAP_CHUNK_TOKENS_MAX);
  size_t common = NEAP_MIN(prompt->raw_bytes, tokens->bytes);
  if (common > 0 && memcmp(prompt->raw, tokens->at, common) != 0) {
    neap__prompt_forget(prompt);
    common = 0;
  }
  if (tokens->bytes > common) { /* more than the same list or its beginning */
    if (prompt_reserve(prompt, tokens->bytes, tokens->count / chunk_tokens)) {
      neap__prompt_forget(prompt);
      return NEAP_ENOMEM;
    }
    memcpy(prompt->raw + common, tokens->at + common, tokens->bytes - common);
    prompt->raw_bytes = tokens->bytes;
  }
  chunks = NEAP_MIN(chunks, tokens->count / chunk_tokens);
  if (chunks > prompt->chunks) prompt_hash(prompt, tokens, chunk_tokens, chunks);
  return 0;
}
