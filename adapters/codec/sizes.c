/* SPDX-License-Identifier: MIT
 *
 * sizes.c - a small memory of envelope lengths; see codec.h.
 *
 * One place per value of a few bits of the key's hash, so a newer object takes the place of an older one. What it says
 * is a guess that the load finds out: another length there is asked for anew. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

#define PLACES 65536u /* 1 MiB in all */

typedef struct place {
  uint64_t tag, bytes;
} place;

struct neap__sizes {
  pthread_mutex_t lock;
  place places[PLACES];
};

neap__sizes *neap__sizes_open(void) {
  neap__sizes *sizes = calloc(1, sizeof *sizes);
  if (sizes) pthread_mutex_init(&sizes->lock, NULL);
  return sizes;
}

void neap__sizes_close(neap__sizes *sizes) {
  if (!sizes) return;
  pthread_mutex_destroy(&sizes->lock);
  free(sizes);
}

/* FNV-1a (Fowler, Noll and Vo) over all that tells objects apart; never 0. */
static uint64_t tag_of(const neap_object_key *key) {
  uint8_t identity[NEAP_IDENTITY_MAX];
  size_t bytes = neap__identity(key, identity);
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < bytes; i++) hash = (hash ^ identity[i]) * UINT64_C(0x100000001b3);
  return hash | 1;
}

static place *place_of(neap__sizes *sizes, uint64_t tag) { return &sizes->places[(tag >> 40) % PLACES]; }

void neap__sizes_put(neap__sizes *sizes, const neap_object_key *key, uint64_t bytes) {
  uint64_t tag = tag_of(key);
  pthread_mutex_lock(&sizes->lock);
  place *at = place_of(sizes, tag);
  if (bytes) {
    *at = (place){tag, bytes};
  } else if (at->tag == tag) {
    *at = (place){0, 0};
  }
  pthread_mutex_unlock(&sizes->lock);
}

uint64_t neap__sizes_get(neap__sizes *sizes, const neap_object_key *key) {
  uint64_t tag = tag_of(key);
  pthread_mutex_lock(&sizes->lock);
  const place *at = place_of(sizes, tag);
  uint64_t bytes = at->tag == tag ? at->bytes : 0;
  pthread_mutex_unlock(&sizes->lock);
  return bytes;
}
