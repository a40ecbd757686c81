/* SPDX-License-Identifier: MIT
 *
 * log.h - what the files of the built-in type "log" share: objects in large segment files that are only appended to.
 *
 *   NNNNNNNN.seg   one segment: a header block, then records, then (once sealed) a footer that ends the file
 *   NNNNNNNN.new   a segment that is being made; left behind by a crash, removed at open
 *   neap.lock      locked (flock) by the process that has the directory
 *
 * Everything in a segment starts at a multiple of 4096: a record is one block of header (key, lengths, checksums) and
 * the payload from the next block on, so a payload is read with O_DIRECT straight into the caller's buffer.
 *
 *   ops.c       the operations of the contract          io.c, uring.c  reads, writes and syncs that do not block
 *   append.c    records -> groups -> one write each      format.c       bytes of headers, footers, tombstones
 *   index.c     key -> place, in memory                  recover.c      segments -> index, at open
 *   segment.c   files: make, seal, drop                  keeper.c       the thread that does so: capacity, compaction
 *
 * One mutex (ls->lock) guards index, segments, queues and counters. It is held for short steps only: never across a
 * system call that may wait, never across host->done. */
#pragma once
#include <neap/adapter.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "../common/failure.h"

#define NEAP__LS_BLOCK 4096u
#define NEAP__LS_SEGMENTS_MAX 65535u                 /* a slot is 16 bits of an entry */
#define NEAP__LS_BYTES_MAX UINT64_C(4294963200)      /* of an object: its length is 32 bits of an entry */
#define NEAP__LS_TOMBS_PER_RECORD 480u               /* what fits into a header block */
#define NEAP__LS_TOMB_RESERVE (16u * NEAP__LS_BLOCK) /* the end of a segment is kept for removals */

static inline uint64_t neap__ls_up(uint64_t bytes) {
  return (bytes + NEAP__LS_BLOCK - 1) & ~(uint64_t)(NEAP__LS_BLOCK - 1);
}
/* What an object of that many bytes takes in a segment. */
static inline uint64_t neap__ls_record_bytes(uint64_t payload) { return NEAP__LS_BLOCK + neap__ls_up(payload); }

/* --- index.c: key -> place. Not locked by itself. -------------------------------------------------------------- */

enum { NEAP__LS_FREE = 0, NEAP__LS_PENDING = 1, NEAP__LS_LIVE = 2 }; /* state of an entry */

/* 60 bytes; with its share of the buckets (2 to 4) one object costs at most 64. */
typedef struct neap__ls_entry {
  uint8_t hash[NEAP_HASH_BYTES];
  uint32_t space; /* interned model, salt, rank and group */
  uint32_t block; /* of the record's header, counted in 4096 bytes */
  uint32_t bytes, crc;
  uint32_t used_s; /* unix seconds of the last load, or of the store */
  uint32_t next;   /* in its bucket, or in the list of free entries */
  uint16_t segment;
  uint8_t state;
  uint8_t hot; /* loaded since it was written */
} neap__ls_entry;

typedef struct neap__ls_space {
  char *model, *salt; /* one allocation, at model; NULL: free */
  uint32_t rank, group;
  uint32_t refs, next;
} neap__ls_space;

typedef struct neap__ls_index {
  neap__ls_entry **pages; /* of NEAP__LS_PAGE entries; ids start at 1 */
  uint32_t pages_count, pages_cap;
  uint32_t count, top, free; /* live and pending; the highest id; the first free id */
  uint32_t **buckets;        /* linear hashing: mask + 1 + split buckets, in pages */
  uint32_t bucket_pages, bucket_cap;
  uint32_t mask, split;
  neap__ls_space *spaces; /* 1.. */
  uint32_t spaces_top, spaces_cap, spaces_free, spaces_count;
  uint32_t *space_buckets, space_mask;
} neap__ls_index;
#define NEAP__LS_PAGE 4096u

int neap__ls_index_open(neap__ls_index *ix);
void neap__ls_index_close(neap__ls_index *ix);
neap__ls_entry *neap__ls_entry_at(const neap__ls_index *ix, uint32_t id);
/* The id of an entry, 0 if there is none. */
uint32_t neap__ls_index_find(const neap__ls_index *ix, const neap_object_key *key);
/* Adds an entry (state PENDING) for a key that is not there. Its id, or 0: out of memory. */
uint32_t neap__ls_index_add(neap__ls_index *ix, const neap_object_key *key);
void neap__ls_index_remove(neap__ls_index *ix, uint32_t id);
/* The key of an entry; its strings live as long as the space has a reference. */
neap_object_key neap__ls_index_key(const neap__ls_index *ix, const neap__ls_entry *entry);
void neap__ls_space_ref(neap__ls_index *ix, uint32_t space);
void neap__ls_space_unref(neap__ls_index *ix, uint32_t space);
uint64_t neap__ls_index_memory(const neap__ls_index *ix); /* bytes allocated */

/* --- io.c, uring.c: requests that end by a callback on another thread ------------------------------------------- */

typedef enum neap__ls_io_kind { NEAP__LS_READ, NEAP__LS_WRITE, NEAP__LS_SYNC, NEAP__LS_FLUSH } neap__ls_io_kind;

/* Owned by its maker until done(req, error): 0, an errno value, or ENODATA for a read past the end of the file. */
typedef struct neap__ls_req {
  struct neap__ls_req *next;
  void (*done)(struct neap__ls_req *req, int error);
  struct iovec *iov; /* changed by the transfer */
  uint32_t iov_count;
  neap__ls_io_kind kind;
  int fd;
  bool direct;            /* fd is open with O_DIRECT */
  uint64_t offset, bytes; /* bytes: of a FLUSH */
} neap__ls_req;

typedef struct neap__ls_io neap__ls_io;
typedef struct neap__ls_uring neap__ls_uring;

/* want: "auto", "uring" or "threads". */
int neap__ls_io_open(const neap_host *host, const char *want, neap__ls_io **out, neap_error *err);
void neap__ls_io_close(neap__ls_io *io); /* nothing is under way */
bool neap__ls_io_is_uring(const neap__ls_io *io);
/* Takes a chain of requests, linked by next. Each one is done exactly once; where no worker is to be had, with EAGAIN
 * on this thread. */
void neap__ls_io_submit(neap__ls_io *io, neap__ls_req *chain);
/* Moves a request forward by what a system call returned. True: finished, with *error; false: go on. */
bool neap__ls_req_step(neap__ls_req *req, int64_t result, int *error);
int neap__ls_uring_open(neap__ls_uring **out); /* 0 or an errno value */
void neap__ls_uring_submit(neap__ls_uring *ring, neap__ls_req *chain);
void neap__ls_uring_close(neap__ls_uring *ring);

/* --- the store ------------------------------------------------------------------------------------------------- */

typedef enum neap__ls_durability { NEAP__LS_NONE, NEAP__LS_WRITTEN, NEAP__LS_FSYNC } neap__ls_durability;

/* A record that no longer counts, told by its place. */
typedef struct neap__ls_tomb {
  uint32_t number, block;
} neap__ls_tomb;

typedef struct neap__ls_tombs {
  neap__ls_tomb *at;
  uint32_t count, cap;
} neap__ls_tombs;

typedef enum neap__ls_segment_state {
  NEAP__LS_ACTIVE, /* appended to, or the next one to be */
  NEAP__LS_FULL,   /* waits for its writes, then for the keeper to seal it */
  NEAP__LS_SEALED,
  NEAP__LS_DROPPED, /* unlinked; freed when the last reader left */
} neap__ls_segment_state;

struct neap__ls_record;
typedef struct neap__ls_segment {
  neap__ls_req sync;      /* first: the one sync that may be under way, */
  struct neap__ls *store; /* and what it needs */
  struct neap__ls_record *in_sync;
  uint32_t number; /* of its file; never used twice while a tombstone may name it */
  uint32_t slot;   /* in ls->segments */
  uint64_t salt;   /* tells its records from payload bytes that look like records */
  int fd, direct_fd;
  uint32_t refs, writes;
  uint64_t end, limit, file_bytes; /* next free byte; where records stop; what the file takes on disk */
  uint64_t live_bytes;             /* of records that the index names */
  uint32_t live_count;
  neap__ls_segment_state state;
  neap__ls_tombs tombs;                             /* in this segment */
  struct neap__ls_record *unsynced, **unsynced_end; /* written, waiting for a sync */
  bool syncing, dirty;
  bool unsafe;     /* a sync failed: what is not synced yet never will be */
  bool touched;    /* an object was used since the footer was written */
  bool left_alone; /* could not be compacted: not tried again */
} neap__ls_segment;

typedef struct neap__ls_counters {
  uint64_t stores, loads, removes, corrupt, evicted_segments, evicted_objects, reinserted, compacted_segments,
      moved_bytes, written_bytes, read_bytes, writes, syncs, failed_writes;
} neap__ls_counters;

typedef struct neap__ls {
  const neap_host *host;
  char *base_path;
  int dir_fd, lock_fd;
  bool direct;
  uint64_t segment_bytes;
  neap__ls_io *io;

  pthread_mutex_t lock;
  pthread_cond_t wake; /* the keeper */
  uint64_t max_bytes, min_free_bytes;
  neap__ls_durability durability;
  neap__ls_index index;
  neap__ls_segment *segments[NEAP__LS_SEGMENTS_MAX];
  uint32_t slots_top;   /* slots in use lie below */
  uint32_t number_next; /* of the keeper alone, after open */
  uint64_t disk_bytes;  /* of all segments */
  uint64_t live_bytes;  /* payload bytes that the index names */
  neap__ls_segment *active, *spare;
  struct neap__ls_record *queue, **queue_end; /* records without a place */
  uint32_t groups;                            /* writes under way */
  struct neap__ls_storing *pending;           /* stores under way, for those that store the same key */
  neap__ls_counters counters;
  neap__ls_tomb moving; /* the record that the keeper writes anew; number 0: none */
  void *moving_waiter;  /* the removal of that object, which ends when its copy is dead as well */
  bool closing, need_segment;

  pthread_t keeper;
  bool keeper_started;
  uint64_t last_sync_ns;
  neap__failures failures;
} neap__ls;

extern const neap_adapter neap__ls_adapter;

/* log.c: failed logs it (failure.h) and returns the NEAP_ code of errno_value. */
int neap__ls_failed(neap__ls *ls, const char *what, const char *name, int errno_value);
int neap__ls_code(int errno_value);
void neap__ls_say(neap__ls *ls, neap_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* --- ops.c ----------------------------------------------------------------------------------------------------- */

void neap__ls_store(void *self, neap_op *op);
void neap__ls_lookup(void *self, neap_op *op);
void neap__ls_load(void *self, neap_op *op);
void neap__ls_remove(void *self, neap_op *op);
void neap__ls_list(void *self, neap_op *op);
/* One of the things that a removal waits for has ended. */
void neap__ls_remove_finish(void *arg, int code);

/* --- append.c -------------------------------------------------------------------------------------------------- */

/* A record on its way to the disk. The maker owns it from finish on, which is called without the lock on any thread;
 * until then buffers stay. segment and block are set when it was written. */
typedef struct neap__ls_record {
  struct neap__ls_record *next;
  void (*finish)(neap__ls *ls, struct neap__ls_record *record, int code);
  uint8_t *header; /* one aligned block, and one more for the tail of the payload */
  const void *data;
  uint64_t bytes;
  uint32_t crc;
  bool aligned; /* data may be written with O_DIRECT */
  bool no_wait; /* fails with NEAP_ENOSPC where it would have to wait for a segment */
  bool tombs;   /* a removal: may use the reserve */
  neap__ls_segment *segment;
  uint32_t block;
} neap__ls_record;

/* Fills in the header of an object; replaces: a record that this one takes the place of (number 0: none). */
int neap__ls_record_init(neap__ls *ls, neap__ls_record *record, const neap_object_key *key, const void *data,
                         uint64_t bytes, uint32_t crc, neap__ls_tomb replaces);
void neap__ls_record_free(neap__ls_record *record);
void neap__ls_append(neap__ls *ls, neap__ls_record *record);
/* Gives places to queued records and starts writes. Call without the lock. */
void neap__ls_pump(neap__ls *ls);
/* No segment can be made: what waits for one fails. Call without the lock. */
void neap__ls_fail_queue(neap__ls *ls, int code);
/* Writes tombstones; finish(arg, code) once. Tombs are copied. */
void neap__ls_append_tombs(neap__ls *ls, const neap__ls_tomb *tombs, uint32_t count, bool no_wait,
                           void (*finish)(void *arg, int code), void *arg);
/* The same, and waits; for threads of our own. */
int neap__ls_append_tombs_wait(neap__ls *ls, const neap__ls_tomb *tombs, uint32_t count);

/* --- segment.c: with the lock held, where not said otherwise --------------------------------------------------- */

void neap__ls_segment_name(uint32_t number, const char *suffix, char name[24]);
/* Makes the file of a new segment; durable: its name survives a power failure. No lock held. 0 or a NEAP_ code. */
int neap__ls_segment_make(neap__ls *ls, uint32_t number, uint64_t bytes, bool durable, neap__ls_segment **out,
                          int *errno_value);
neap__ls_segment *neap__ls_segment_new(uint32_t number);
bool neap__ls_segment_add(neap__ls *ls, neap__ls_segment *segment);
neap__ls_segment *neap__ls_segment_find(neap__ls *ls, uint32_t number);
void neap__ls_segment_unref(neap__ls *ls, neap__ls_segment *segment);
void neap__ls_segment_free(neap__ls_segment *segment);
int neap__ls_segment_open_direct(neap__ls *ls, neap__ls_segment *segment, const char *name);
bool neap__ls_tombs_add(neap__ls_tombs *tombs, neap__ls_tomb tomb);
/* Takes an entry out of the index and its record off the books; the place it had. */
neap__ls_tomb neap__ls_forget(neap__ls *ls, uint32_t id);
/* No lock held: writes the footer and cuts the file to size. */
int neap__ls_segment_seal(neap__ls *ls, neap__ls_segment *segment);
/* No lock held: forgets its objects, carries its tombstones over, unlinks the file. */
void neap__ls_segment_drop(neap__ls *ls, neap__ls_segment *segment);

/* --- keeper.c -------------------------------------------------------------------------------------------------- */

int neap__ls_keeper_start(neap__ls *ls);
void neap__ls_keeper_stop(neap__ls *ls); /* seals what is open, and anew what was used */
void neap__ls_keeper_wake(neap__ls *ls); /* with the lock held */

/* A buffer that O_DIRECT can fill: whole blocks. NULL: out of memory. */
void *neap__ls_buffer(uint64_t bytes);

/* --- recover.c ------------------------------------------------------------------------------------------------- */

/* Fills the index from the directory; no other thread runs yet. */
int neap__ls_recover(neap__ls *ls, neap_error *err);
