/* SPDX-License-Identifier: MIT
 *
 * room.c - the disk guard: stores stop before the file system is full, for the sake of whatever else lives there.
 *
 * statfs is asked at most once in ROOM_MAX_AGE_NS; in between, what stores have taken since is counted. So others that
 * fill the disk at the same time are noticed within that time. Worker threads. */
#include <sys/statvfs.h>

#include "fs.h"

#define ROOM_MAX_AGE_NS UINT64_C(200000000)
#define GUARD_BYTES (UINT64_C(1) << 30) /* kept free by default, or GUARD_PART of a small file system */
#define GUARD_PART 20u

/* Bytes that may still be taken, by what the file system says now; as much as there is if it says nothing. */
static uint64_t ask(const neap__fs *fs) {
  struct statvfs st;
  if (fstatvfs(fs->dir_fd, &st) != 0) return UINT64_MAX;
  uint64_t unit = st.f_frsize, all = st.f_blocks * unit, left = st.f_bavail * unit;
  uint64_t keep = fs->keep_free;
  if (keep == NEAP_FS_KEEP_DEFAULT) keep = all / GUARD_PART < GUARD_BYTES ? all / GUARD_PART : GUARD_BYTES;
  return left > keep ? left - keep : 0;
}

bool neap__fs_room(neap__fs *fs, uint64_t bytes) {
  if (!fs->keep_free) return true;
  uint64_t now = fs->host->now_ns(fs->host->engine);
  pthread_mutex_lock(&fs->room_lock);
  if (!fs->room_asked_ns || now - fs->room_asked_ns > ROOM_MAX_AGE_NS) {
    fs->room = ask(fs);
    fs->room_asked_ns = now;
  }
  bool fits = fs->room >= bytes;
  if (fits && fs->room != UINT64_MAX) fs->room -= bytes;
  pthread_mutex_unlock(&fs->room_lock);
  return fits;
}

void neap__fs_room_grew(neap__fs *fs) {
  pthread_mutex_lock(&fs->room_lock);
  fs->room_asked_ns = 0;
  pthread_mutex_unlock(&fs->room_lock);
}
