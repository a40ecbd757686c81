/* SPDX-License-Identifier: MIT
 *
 * l2/catalogue.h - what a tier believes its store holds: size, checksum, tenant and recency of each object.
 *
 * The store itself is the truth about presence; the catalogue is what makes usage, eviction order and verification
 * possible without asking it. It heals: a miss forgets an entry, a hit on an unknown key adds one.
 *
 * Entries found by a listing at start have no space number yet, for a space needs a layout that no file name tells.
 * So entries are known by an id: a neap__key whose `space` is the catalogue's own number of the model name. A
 * recovered object that nobody ever asks for can thus be named, and evicted, like any other.
 *
 * Memory: 88 bytes per entry plus 4 per bucket, at most 1 Mi entries (92 MiB) for one tier, grown by doubling, and
 * while a listing runs another 64 bytes for each object found;
 * model names at most 1024 x 512 bytes; two numbers per tenant (1 MiB, untouched pages cost nothing). A policy has its
 * own memory (ARC: at most 52 bytes per entry and ghost).
 *
 * Not thread-safe: the tier's lock guards it. Not here: what to do about a victim, I/O. */
#pragma once
#include <neap/policy.h>

#include "chunk/names.h"

typedef struct neap__catalogue neap__catalogue;

typedef struct neap__item {
  neap__key id;
  uint64_t bytes; /* in the store */
  uint64_t seq;   /* of the last put; see neap__catalogue_forget */
  uint32_t crc;   /* CRC-32C of the object, if has_crc */
  uint32_t locks;
  uint32_t chain, newer, older; /* positions */
  bool has_crc, leaving;        /* leaving: a remove is under way */
  bool tracked, proposed;       /* the policy knows it; has named it as a victim */
} neap__item;

_Static_assert(sizeof(neap__item) == 88, "the memory figure above");

/* One object of a listing. */
typedef struct neap__found {
  neap__key id;
  uint64_t bytes;
  int64_t used_unix_s;
} neap__found;

int neap__catalogue_open(neap__names *names, uint32_t items_max, neap__catalogue **out);
void neap__catalogue_close(neap__catalogue *catalogue);

/* The id of an engine key; space must be a number that names know. NEAP_ELIMIT when the model table is full. */
int neap__catalogue_id(neap__catalogue *catalogue, const neap__key *key, neap__key *id);
/* The id of an outside key, interning model and salt. 0 or NEAP_ELIMIT. */
int neap__catalogue_id_of(neap__catalogue *catalogue, const neap_object_key *key, neap__key *id);
/* The outside view of an id; strings live as long as the catalogue and the names. */
neap_object_key neap__catalogue_name(neap__catalogue *catalogue, const neap__key *id);

/* The entry, valid until the next put, adopt or forget; NULL if unknown. */
neap__item *neap__catalogue_find(neap__catalogue *catalogue, const neap__key *id);

/* Remembers an object as the most recently used. An object known before keeps its checksum unless crc is given (not
 * NULL). A full catalogue forgets its oldest entry. NULL: no memory, or full of locked entries. */
neap__item *neap__catalogue_put(neap__catalogue *catalogue, const neap__key *id, uint64_t bytes, const uint32_t *crc,
                                uint64_t seq);
/* Forgets an entry unless it was put after `seq`: a remove that raced with a newer store must not hide it. */
void neap__catalogue_forget(neap__catalogue *catalogue, const neap__key *id, uint64_t seq);
void neap__catalogue_touch(neap__catalogue *catalogue, neap__item *item); /* was used: the most recent */
void neap__catalogue_defer(neap__catalogue *catalogue, neap__item *item); /* was not, but others shall go first */
void neap__catalogue_leave(neap__catalogue *catalogue, neap__item *item, bool leaving);

/* Orders a listing for adopt: last used first. Needs no lock. */
void neap__found_sort(neap__found *found, uint32_t count);
/* Makes place for as many entries more, so that adopting them does not move the table. A hint. */
void neap__catalogue_reserve(neap__catalogue *catalogue, uint32_t count);
/* Adds a sorted listing, or the next part of one, as older than everything here; known ids are left alone. Returns how
 * many were taken: fewer than count when the catalogue is full. */
uint32_t neap__catalogue_adopt(neap__catalogue *catalogue, const neap__found *found, uint32_t count);

/* Victims come from this policy from now on, with the positions of entries as its slots. Before the first entry. It
 * hears of entries from neap__catalogue_teach on. 0 or the policy's error. */
int neap__catalogue_follow(neap__catalogue *catalogue, const neap_policy *policy, neap_error *err);
/* Tells the policy, if there is one, of what is there, oldest first, at most max entries; once a listing is adopted.
 * True when it knows all; then it hears of what happens. */
bool neap__catalogue_teach(neap__catalogue *catalogue, uint32_t max);

/* Marks entries as leaving, oldest first or as the policy says, until `bytes` are covered or max are chosen; locked and
 * leaving ones are passed over. With fair, tenants that use less than an equal share are spared as long as others
 * suffice. Returns how many ids were written. */
uint32_t neap__catalogue_victims(neap__catalogue *catalogue, uint64_t bytes, uint32_t max, bool fair, neap__key *ids);

uint32_t neap__catalogue_count(const neap__catalogue *catalogue);
uint64_t neap__catalogue_bytes(const neap__catalogue *catalogue);
uint64_t neap__catalogue_leaving(const neap__catalogue *catalogue); /* bytes of entries that are leaving */
uint64_t neap__catalogue_tenant_bytes(const neap__catalogue *catalogue, uint32_t tenant);
