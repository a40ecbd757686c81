/* SPDX-License-Identifier: MIT
 *
 * serve/table.h - a bounded hash table of records that are also in order of use.
 *
 * The record type starts with a neap__entry. A record that is removed keeps its memory, and what it holds, for the
 * next one that is added, so a warm table allocates nothing. One thread at a time. */
#pragma once
#include "base/base.h"

typedef struct neap__entry {
  struct neap__entry *next_in_bucket, *older, *newer;
  uint64_t id, tag; /* together the key */
  uint64_t used_ns;
} neap__entry;

typedef struct neap__table {
  neap__entry **buckets;
  neap__entry *oldest, *newest;
  neap__entry *spare; /* linked by next_in_bucket */
  uint32_t mask, count, max;
  size_t entry_bytes;
  void (*destroy)(neap__entry *entry); /* frees what a record holds; may be NULL */
} neap__table;

/* 0 or NEAP_ENOMEM. */
int neap__table_open(neap__table *table, uint32_t max, size_t entry_bytes, void (*destroy)(neap__entry *entry));
void neap__table_close(neap__table *table);

neap__entry *neap__table_find(const neap__table *table, uint64_t id, uint64_t tag);
/* A record for a key that is not there, newest in order; members behind the entry are zero or as the last user left
 * them. NULL: the table is full, or there is no memory. */
neap__entry *neap__table_add(neap__table *table, uint64_t id, uint64_t tag, uint64_t now_ns);
void neap__table_use(neap__table *table, neap__entry *entry, uint64_t now_ns); /* makes it the newest */
void neap__table_remove(neap__table *table, neap__entry *entry);
