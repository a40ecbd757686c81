/* SPDX-License-Identifier: MIT
 *
 * serve/prompt.h - a token list and the hashes of its whole chunks, kept because the same list comes again.
 *
 * A request sends its whole list with every operation, now and then with more tokens at the end. The raw bytes of the
 * list are kept and compared: what they have in common with the new list is not decoded or hashed again. One thread
 * at a time. */
#pragma once
#include "serve/reader.h"

typedef struct neap__prompt {
  uint8_t *raw; /* msgpack elements of the longest list seen */
  size_t raw_bytes, raw_cap;
  size_t whole_bytes; /* of raw: its whole chunks */
  uint8_t (*hashes)[NEAP_HASH_BYTES];
  uint32_t chunks; /* hashes known */
  uint32_t hashes_cap;
} neap__prompt;

/* Makes hashes[0 .. chunks) those of this list, or of its whole chunks if it has fewer. 0, or NEAP_ENOMEM (the prompt
 * is then empty). */
int neap__prompt_read(neap__prompt *prompt, const neap__token_list *tokens, uint32_t chunk_tokens, uint32_t chunks);

void neap__prompt_forget(neap__prompt *prompt); /* empty again, the memory stays */
void neap__prompt_free(neap__prompt *prompt);
size_t neap__prompt_bytes(const neap__prompt *prompt); /* memory held */
