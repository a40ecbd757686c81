/* SPDX-License-Identifier: MIT
 *
 * index.c - key -> place of its record, in memory: 60 bytes per object in pages that never move, found through linear
 * hashing (W. Litwin, "Linear hashing: a new tool for file and table addressing", 1980), which grows by one bucket per
 * insertion, so no insertion pays for all. Model, salt, rank and group are interned: objects share them.
 * Not locked: the caller holds ls->lock. */
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define BUCKETS_PER_PAGE 4096u
#define BUCKETS_FIRST 1024u
#define OBJECTS_PER_BUCKET 2u
#define SPACES_FIRST 64u

neap__ls_entry *neap__ls_entry_at(const neap__ls_index *ix, uint32_t id) {
  return &ix->pages[(id - 1) / NEAP__LS_PAGE][(id - 1) % NEAP__LS_PAGE];
}

/* The finalizer of MurmurHash3 (A. Appleby, public domain). */
static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 33)) * UINT64_C(0xff51afd7ed558ccd);
  x = (x ^ (x >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
  return x ^ (x >> 33);
}

/* --- spaces ---------------------------------------------------------------------------------------------------- */

static uint32_t space_hash(const neap_object_key *key) {
  uint64_t h = mix((uint64_t)key->rank << 32 | key->group);
  for (const char *c = key->model; *c; c++) h = (h ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
  h = mix(h);
  for (const char *c = key->salt; *c; c++) h = (h ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
  return (uint32_t)mix(h);
}

static uint32_t space_find(const neap__ls_index *ix, const neap_object_key *key) {
  uint32_t id = ix->space_buckets[space_hash(key) & ix->space_mask];
  for (; id; id = ix->spaces[id].next) {
    const neap__ls_space *s = &ix->spaces[id];
    if (s->rank == key->rank && s->group == key->group && strcmp(s->model, key->model) == 0 &&
        strcmp(s->salt, key->salt) == 0)
      return id;
  }
  return 0;
}

static neap_object_key space_key(const neap__ls_space *s) {
  return (neap_object_key){.model = s->model, .salt = s->salt, .rank = s->rank, .group = s->group};
}

static void space_link(neap__ls_index *ix, uint32_t id) {
  neap_object_key key = space_key(&ix->spaces[id]);
  uint32_t *head = &ix->space_buckets[space_hash(&key) & ix->space_mask];
  ix->spaces[id].next = *head;
  *head = id;
}

static bool spaces_grow(neap__ls_index *ix) {
  uint32_t cap = ix->spaces_cap * 2;
  neap__ls_space *spaces = reallocarray(ix->spaces, cap, sizeof(*spaces));
  if (!spaces) return false;
  ix->spaces = spaces;
  uint32_t *buckets = calloc(cap, sizeof(*buckets));
  if (!buckets) return false;
  ix->spaces_cap = cap;
  free(ix->space_buckets);
  ix->space_buckets = buckets;
  ix->space_mask = cap - 1;
  for (uint32_t id = 1; id <= ix->spaces_top; id++)
    if (ix->spaces[id].model) space_link(ix, id);
  return true;
}

static uint32_t space_add(neap__ls_index *ix, const neap_object_key *key) {
  size_t model = strlen(key->model) + 1, salt = strlen(key->salt) + 1;
  if (!ix->spaces_free && ix->spaces_top + 1 == ix->spaces_cap && !spaces_grow(ix)) return 0;
  char *text = malloc(model + salt);
  if (!text) return 0;
  memcpy(text, key->model, model);
  memcpy(text + model, key->salt, salt);
  uint32_t id = ix->spaces_free ? ix->spaces_free : ++ix->spaces_top;
  if (ix->spaces_free) ix->spaces_free = ix->spaces[id].next;
  ix->spaces[id] = (neap__ls_space){.model = text, .salt = text + model, .rank = key->rank, .group = key->group};
  space_link(ix, id);
  ix->spaces_count++;
  return id;
}

void neap__ls_space_ref(neap__ls_index *ix, uint32_t space) { ix->spaces[space].refs++; }

void neap__ls_space_unref(neap__ls_index *ix, uint32_t space) {
  neap__ls_space *s = &ix->spaces[space];
  if (--s->refs) return;
  neap_object_key key = space_key(s);
  uint32_t *at = &ix->space_buckets[space_hash(&key) & ix->space_mask];
  while (*at != space) at = &ix->spaces[*at].next;
  *at = s->next;
  free(s->model);
  *s = (neap__ls_space){.next = ix->spaces_free};
  ix->spaces_free = space;
  ix->spaces_count--;
}

/* --- entries --------------------------------------------------------------------------------------------------- */

static uint32_t entry_hash(const uint8_t hash[NEAP_HASH_BYTES], uint32_t space) {
  uint64_t words[2];
  memcpy(words, hash, sizeof(words));
  return (uint32_t)mix(words[0] ^ mix(words[1] + space));
}

static uint32_t *bucket_at(const neap__ls_index *ix, uint32_t bucket) {
  return &ix->buckets[bucket / BUCKETS_PER_PAGE][bucket % BUCKETS_PER_PAGE];
}

static uint32_t *bucket_of(const neap__ls_index *ix, const uint8_t hash[NEAP_HASH_BYTES], uint32_t space) {
  uint32_t h = entry_hash(hash, space), bucket = h & ix->mask;
  if (bucket < ix->split) bucket = h & (2 * ix->mask + 1);
  return bucket_at(ix, bucket);
}

/* Makes room for one more pointer in an array of pages. */
static bool page_room(void *array, uint32_t count, uint32_t *cap) {
  void **pages;
  if (count < *cap) return true;
  uint32_t more = *cap ? *cap * 2 : 16;
  memcpy(&pages, array, sizeof(pages));
  pages = reallocarray(pages, more, sizeof(*pages));
  if (!pages) return false;
  memcpy(array, &pages, sizeof(pages));
  *cap = more;
  return true;
}

static bool bucket_page_add(neap__ls_index *ix) {
  if (!page_room(&ix->buckets, ix->bucket_pages, &ix->bucket_cap)) return false;
  uint32_t *page = calloc(BUCKETS_PER_PAGE, sizeof(*page));
  if (page) ix->buckets[ix->bucket_pages++] = page;
  return page != NULL;
}

/* One bucket more: the one at `split` shares its entries with it. Without memory the chains just get longer. */
static void buckets_grow(neap__ls_index *ix) {
  uint32_t count = ix->mask + 1 + ix->split;
  if (ix->count <= count * OBJECTS_PER_BUCKET || count > UINT32_MAX / 4) return;
  if (count == ix->bucket_pages * BUCKETS_PER_PAGE && !bucket_page_add(ix)) return;
  uint32_t *from = bucket_at(ix, ix->split), *to = bucket_at(ix, count), id = *from;
  *from = *to = 0;
  for (uint32_t next; id; id = next) {
    neap__ls_entry *entry = neap__ls_entry_at(ix, id);
    next = entry->next;
    uint32_t *head = entry_hash(entry->hash, entry->space) & (ix->mask + 1) ? to : from;
    entry->next = *head;
    *head = id;
  }
  if (++ix->split <= ix->mask) return;
  ix->mask = 2 * ix->mask + 1;
  ix->split = 0;
}

uint32_t neap__ls_index_find(const neap__ls_index *ix, const neap_object_key *key) {
  uint32_t space = space_find(ix, key);
  if (!space) return 0;
  uint32_t id = *bucket_of(ix, key->hash, space);
  for (; id; id = neap__ls_entry_at(ix, id)->next) {
    const neap__ls_entry *entry = neap__ls_entry_at(ix, id);
    if (entry->space == space && memcmp(entry->hash, key->hash, NEAP_HASH_BYTES) == 0) return id;
  }
  return 0;
}

static uint32_t entry_take(neap__ls_index *ix) {
  uint32_t id = ix->free;
  if (id) {
    ix->free = neap__ls_entry_at(ix, id)->next;
    return id;
  }
  if (ix->top == UINT32_MAX) return 0;
  if (ix->top == ix->pages_count * NEAP__LS_PAGE) {
    if (!page_room(&ix->pages, ix->pages_count, &ix->pages_cap)) return 0;
    neap__ls_entry *page = calloc(NEAP__LS_PAGE, sizeof(*page));
    if (!page) return 0;
    ix->pages[ix->pages_count++] = page;
  }
  return ++ix->top;
}

uint32_t neap__ls_index_add(neap__ls_index *ix, const neap_object_key *key) {
  uint32_t space = space_find(ix, key), id;
  if (!space) space = space_add(ix, key);
  if (!space) return 0;
  ix->spaces[space].refs++;
  id = entry_take(ix);
  if (!id) {
    neap__ls_space_unref(ix, space);
    return 0;
  }
  neap__ls_entry *entry = neap__ls_entry_at(ix, id);
  uint32_t *head = bucket_of(ix, key->hash, space);
  *entry = (neap__ls_entry){.space = space, .state = NEAP__LS_PENDING, .next = *head};
  memcpy(entry->hash, key->hash, NEAP_HASH_BYTES);
  *head = id;
  ix->count++;
  buckets_grow(ix);
  return id;
}

void neap__ls_index_remove(neap__ls_index *ix, uint32_t id) {
  neap__ls_entry *entry = neap__ls_entry_at(ix, id);
  uint32_t *at = bucket_of(ix, entry->hash, entry->space);
  while (*at != id) at = &neap__ls_entry_at(ix, *at)->next;
  *at = entry->next;
  neap__ls_space_unref(ix, entry->space);
  *entry = (neap__ls_entry){.state = NEAP__LS_FREE, .next = ix->free};
  ix->free = id;
  ix->count--;
}

neap_object_key neap__ls_index_key(const neap__ls_index *ix, const neap__ls_entry *entry) {
  neap_object_key key = space_key(&ix->spaces[entry->space]);
  memcpy(key.hash, entry->hash, NEAP_HASH_BYTES);
  return key;
}

uint64_t neap__ls_index_memory(const neap__ls_index *ix) {
  return (uint64_t)ix->pages_count * NEAP__LS_PAGE * sizeof(neap__ls_entry) +
         (uint64_t)ix->bucket_pages * BUCKETS_PER_PAGE * sizeof(uint32_t) +
         (uint64_t)ix->spaces_cap * (sizeof(neap__ls_space) + sizeof(uint32_t));
}

/* --- open, close ----------------------------------------------------------------------------------------------- */

int neap__ls_index_open(neap__ls_index *ix) {
  *ix = (neap__ls_index){.mask = BUCKETS_FIRST - 1, .spaces_cap = SPACES_FIRST, .space_mask = SPACES_FIRST - 1};
  ix->spaces = calloc(SPACES_FIRST, sizeof(*ix->spaces));
  ix->space_buckets = calloc(SPACES_FIRST, sizeof(*ix->space_buckets));
  return ix->spaces && ix->space_buckets && bucket_page_add(ix) ? 0 : NEAP_ENOMEM;
}

void neap__ls_index_close(neap__ls_index *ix) {
  for (uint32_t i = 0; i < ix->pages_count; i++) free(ix->pages[i]);
  for (uint32_t i = 0; i < ix->bucket_pages; i++) free(ix->buckets[i]);
  for (uint32_t i = 1; ix->spaces && i <= ix->spaces_top; i++) free(ix->spaces[i].model);
  free(ix->pages);
  free(ix->buckets);
  free(ix->spaces);
  free(ix->space_buckets);
}
