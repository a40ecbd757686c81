/* SPDX-License-Identifier: MIT
 *
 * fs.h - what the files of the built-in type "fs" share: one directory with one file per object.
 *
 *   MODEL@0xRRRRRRRR@G@HASH[@SALT].data   the object's bytes and nothing else: LMCache's fs adapter reads and writes
 *                                         the same files. With "checksum":"crc32" 8 bytes follow, which LMCache 0.5.6
 *                                         ignores (it reads the length it expects)
 *   neap-PID-TIME-N.tmp                   a store under way: locked (flock) by its writer until it is published
 *
 * Promises: a file appears under its final name complete or not at all, and never replaces another of right length. No
 * fsync: after a power failure a file may be short (refused by its length) or, without checksum, hold wrong bytes. */
#pragma once
#include <neap/adapter.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "../common/failure.h"

#define NEAP_FS_ALIGN 4096u      /* of buffer and length for O_DIRECT; tried out at open */
#define NEAP_FS_KEEP_DEFAULT UINT64_MAX
#define NEAP_FS_TRAILER_BYTES 8u /* "nCRC", then the CRC-32C of the object, little-endian */

typedef struct neap__fs {
  const neap_host *host;
  char *base_path, *tmp_path; /* tmp_path NULL: temporary files lie beside the final ones */
  int dir_fd, tmp_fd;
  uint64_t read_ahead;
  bool odirect, recover, checksum;
  uint64_t opened_ns;
  atomic_uint_fast64_t temp_next;
  atomic_bool unaligned_told;
  uint64_t keep_free; /* bytes of the file system that stores leave free; 0 = none */
  pthread_mutex_t room_lock;
  uint64_t room, room_asked_ns;
  neap__failures failures;
} neap__fs;

extern const neap_adapter neap__fs_adapter;

/* fs.c: logs it (failure.h). Returns the NEAP_ code of errno_value. Any thread. */
int neap__fs_failed(neap__fs *fs, const char *what, const char *name, int errno_value);

/* dir.c: opens, makes and checks the directories of a new store; removes temporary files of dead writers. */
int neap__fs_dirs_open(neap__fs *fs, bool want_odirect, neap_error *err);
void neap__fs_list(neap__fs *fs, neap_op *op);

/* room.c: whether a file of so many bytes may be written; if so they count as taken. Any thread. */
bool neap__fs_room(neap__fs *fs, uint64_t bytes);
void neap__fs_room_grew(neap__fs *fs);

/* file.c: one object each, blocking, on a worker thread. They set object->result and stored_bytes. */
void neap__fs_store(neap__fs *fs, neap_object *object);
void neap__fs_load(neap__fs *fs, neap_object *object);
void neap__fs_lookup(neap__fs *fs, neap_object *object);
void neap__fs_remove(neap__fs *fs, neap_object *object);
/* A new temporary file, locked; its name in name[64]. A descriptor or -1 with errno. */
int neap__fs_temp(neap__fs *fs, char name[64]);
/* Turns O_DIRECT on or off; false if the file system refuses. */
bool neap__fs_direct(int fd, bool on);
