/* SPDX-License-Identifier: MIT
 *
 * l1/segment.h - the two shared segments that outlive the process: the pool (object bytes, nothing else) and, beside
 * it, the metadata (who is what, where and whose). Here: their layout, creation, take-over and removal.
 *
 *   metadata:  header | names | annex | leases[leases_max] | slots[slots_max]
 *
 * The metadata file is locked (flock) by the server that owns it, so a second server of one name is refused and a
 * killed one lets go by dying. Everything after the header is written in place; each record has one word that is
 * written last and makes the rest of the record count. */
#pragma once
#include <stdatomic.h>

#include "chunk/key.h"
#include "l1/l1.h"

#define NEAP_SHARDS 32u /* a check holds all their locks, and ThreadSanitizer follows no more than 64 */

/* State of a slot, low byte of its word. */
enum { NEAP_SLOT_FREE = 0, NEAP_SLOT_STAGED = 1, NEAP_SLOT_RESIDENT = 2, NEAP_SLOT_DOOMED = 3 };
#define NEAP_SLOT_TEMPORARY 0x100u /* flag bit of the word */
#define NEAP_SLOT_SHARD_AT 10u     /* bits 10 .. 15 of the word: the shard, so that it is known before locking it */
#define NEAP_SLOT_SHARD 0xfc00u

/* One object. word = generation << 16 | shard << 10 | flags | state. All other fields are written before the word says
 * STAGED and only stamp and fingerprint change later. seal covers what identifies and locates the bytes. */
typedef struct neap__slot {
  _Atomic uint64_t word;
  neap__key key;
  uint64_t offset, bytes;
  _Atomic uint64_t stamp; /* recency: larger is more recent; staged: position in its request */
  uint32_t fingerprint;   /* of the bytes, set at commit */
  uint32_t seal;
  uint32_t writer; /* staged: lease record of the writer */
  uint32_t reserved;
} neap__slot;
_Static_assert(sizeof(neap__slot) == 96, "part of the segment's format");

/* One lease. word = generation << 32 | flags << 16 | readers; readers == 0: unused. */
typedef struct neap__lease_record {
  _Atomic uint64_t word;
  uint64_t owner_id, owner_tag;
  _Atomic uint64_t place; /* slot's generation << 32 | slot */
  uint32_t request;
  uint32_t next; /* free list, meaningless after a restart */
} neap__lease_record;
_Static_assert(sizeof(neap__lease_record) == 40, "part of the segment's format");
#define NEAP_LEASE_WRITE 0x80u /* flag: the writer of a staged object; the other flag bits are the owner's kind */

typedef struct neap__meta_header {
  char magic[8];
  uint32_t format, align_bytes, chunk_tokens, slots_max, leases_max, annex_bytes;
  uint64_t pool_bytes, pool_inode;
  uint64_t names_at, annex_at, leases_at, slots_at, total_bytes;
  uint32_t seal;                             /* CRC-32C of all above */
  _Atomic uint32_t ready;                    /* written last when the segment is new */
  _Atomic uint64_t stamp;                    /* last recency given out */
  _Atomic uint32_t slots_high;               /* slots at or above were never used */
  _Atomic uint32_t leases_high[NEAP_SHARDS]; /* likewise, per shard's range of leases */
} neap__meta_header;

typedef struct neap__segment {
  uint8_t *pool, *meta;
  uint64_t pool_bytes, meta_bytes;
  int meta_fd; /* holds the lock; -1 when unnamed */
  char name[256];
  neap__meta_header *header;
  neap__lease_record *leases;
  neap__slot *slots;
  bool took_over;
} neap__segment;

/* Opens both segments; report->removed says why earlier ones were replaced. slots: as neap__l1_slots. */
int neap__segment_open(const neap__l1_config *config, uint32_t slots, neap__segment *segment, neap__l1_report *report,
                       neap_error *err);
/* Throws away what was taken over and starts afresh (the content turned out to be implausible). */
int neap__segment_renew(const neap__l1_config *config, uint32_t slots, neap__segment *segment, neap_error *err);
/* Removes the names; what is mapped stays mapped. */
void neap__segment_unlink(const neap__segment *segment);
void neap__segment_close(neap__segment *segment, bool keep);
