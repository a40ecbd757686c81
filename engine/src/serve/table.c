/* SPDX-License-Identifier: MIT
 *
 * serve/table.c - see table.h. Chained buckets, twice as many as records at most: chains stay about one long. */
#include "serve/table.h"

#include <stdlib.h>

int neap__table_open(neap__table *table, uint32_t max, size_t entry_bytes, void (*destroy)(neap__entry *entry)) {
  uint32_t buckets = 2;
  while (buckets < 2 * max) buckets *= 2;
  *table = (neap__table){.mask = buckets - 1, .max = max, .entry_bytes = entry_bytes, .destroy = destroy};
  table->buckets = calloc(buckets, sizeof(*table->buckets));
  return table->buckets ? 0 : NEAP_ENOMEM;
}

static void free_entry(neap__table *table, neap__entry *entry) {
  if (table->destroy) table->destroy(entry);
  free(entry);
}

void neap__table_close(neap__table *table) {
  while (table->oldest) neap__table_remove(table, table->oldest);
  while (table->spare) {
    neap__entry *entry = table->spare;
    table->spare = entry->next_in_bucket;
    free_entry(table, entry);
  }
  free(table->buckets);
  table->buckets = NULL;
}

/* Ids and tags are hashes or random numbers already; one multiplication mixes the pair. */
static neap__entry **bucket_of(const neap__table *table, uint64_t id, uint64_t tag) {
  uint64_t h = (id ^ tag * 0x9e3779b97f4a7c15u) * 0xd6e8feb86659fd93u;
  return &table->buckets[(h >> 32) & table->mask];
}

neap__entry *neap__table_find(const neap__table *table, uint64_t id, uint64_t tag) {
  neap__entry *entry = *bucket_of(table, id, tag);
  while (entry && (entry->id != id || entry->tag != tag)) entry = entry->next_in_bucket;
  return entry;
}

static void link_newest(neap__table *table, neap__entry *entry) {
  entry->older = table->newest;
  entry->newer = NULL;
  if (table->newest)
    table->newest->newer = entry;
  else
    table->oldest = entry;
  table->newest = entry;
}

static void unlink_order(neap__table *table, neap__entry *entry) {
  if (entry->older)
    entry->older->newer = entry->newer;
  else
    table->oldest = entry->newer;
  if (entry->newer)
    entry->newer->older = entry->older;
  else
    table->newest = entry->older;
}

neap__entry *neap__table_add(neap__table *table, uint64_t id, uint64_t tag, uint64_t now_ns) {
  if (table->count >= table->max) return NULL;
  neap__entry *entry = table->spare;
  if (entry)
    table->spare = entry->next_in_bucket;
  else
    entry = calloc(1, table->entry_bytes);
  if (!entry) return NULL;
  neap__entry **bucket = bucket_of(table, id, tag);
  entry->id = id;
  entry->tag = tag;
  entry->used_ns = now_ns;
  entry->next_in_bucket = *bucket;
  *bucket = entry;
  link_newest(table, entry);
  table->count++;
  return entry;
}

void neap__table_use(neap__table *table, neap__entry *entry, uint64_t now_ns) {
  entry->used_ns = now_ns;
  if (table->newest == entry) return;
  unlink_order(table, entry);
  link_newest(table, entry);
}

void neap__table_remove(neap__table *table, neap__entry *entry) {
  neap__entry **link = bucket_of(table, entry->id, entry->tag);
  while (*link != entry) link = &(*link)->next_in_bucket;
  *link = entry->next_in_bucket;
  unlink_order(table, entry);
  entry->next_in_bucket = table->spare;
  table->spare = entry;
  table->count--;
}
