/* SPDX-License-Identifier: MIT
 *
 * flow/known.c - see known.h. A ring of keys, and chains through it by hash. */
#include "flow/known.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

typedef struct entry {
  neap__key key;
  uint32_t next;
} entry;

struct neap__known {
  neap__stream *stream;
  entry *entry;     /* [NEAP_KNOWN_MAX]; NULL until something is noted */
  uint32_t *bucket; /* [NEAP_KNOWN_MAX] first of a chain */
  uint32_t next, count;
};

static uint64_t prefix_of(const neap__key *key) {
  uint64_t prefix;
  memcpy(&prefix, key->hash, sizeof(prefix));
  return prefix;
}

static uint32_t *bucket_of(const neap__known *k, uint64_t prefix) {
  return &k->bucket[(prefix * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (NEAP_KNOWN_MAX - 1)];
}

static bool is_ready(neap__known *k) {
  if (k->entry) return true;
  k->entry = malloc(NEAP_KNOWN_MAX * sizeof(*k->entry));
  k->bucket = malloc(NEAP_KNOWN_MAX * sizeof(*k->bucket));
  if (k->entry && k->bucket) {
    memset(k->bucket, 0xff, NEAP_KNOWN_MAX * sizeof(*k->bucket));
    return true;
  }
  free(k->entry);
  free(k->bucket);
  k->entry = NULL;
  k->bucket = NULL;
  return false;
}

/* The place of the oldest, which is forgotten. */
static uint32_t take(neap__known *k) {
  uint32_t at = k->next;
  k->next = (at + 1) % NEAP_KNOWN_MAX;
  if (k->count < NEAP_KNOWN_MAX) {
    k->count++;
    return at;
  }
  uint32_t *from = bucket_of(k, prefix_of(&k->entry[at].key));
  while (*from != at) from = &k->entry[*from].next;
  *from = k->entry[at].next;
  return at;
}

void neap__known_note(neap__known *k, const neap__key *key) {
  if (!(neap__stream_wants(k->stream) & NEAP__HAS_PREDICT) || !is_ready(k)) return;
  uint32_t *bucket = bucket_of(k, prefix_of(key));
  for (uint32_t at = *bucket; at != NONE; at = k->entry[at].next)
    if (memcmp(&k->entry[at].key, key, sizeof(*key)) == 0) return;
  uint32_t at = take(k);
  k->entry[at] = (entry){.key = *key, .next = *bucket};
  *bucket = at;
}

uint32_t neap__known_find(const neap__known *k, uint32_t h1, uint32_t h2, neap__key *out, uint32_t max) {
  const uint32_t words[2] = {h1, h2};
  uint32_t found = 0;
  uint64_t prefix;
  memcpy(&prefix, words, sizeof(prefix));
  if (!k->entry) return 0;
  for (uint32_t at = *bucket_of(k, prefix); at != NONE && found < max; at = k->entry[at].next)
    if (prefix_of(&k->entry[at].key) == prefix) out[found++] = k->entry[at].key;
  return found;
}

int neap__known_open(neap__stream *stream, neap__known **out) {
  *out = calloc(1, sizeof(**out));
  if (!*out) return NEAP_ENOMEM;
  (*out)->stream = stream;
  return 0;
}

void neap__known_close(neap__known *k) {
  if (!k) return;
  free(k->entry);
  free(k->bucket);
  free(k);
}
