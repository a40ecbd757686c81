/* SPDX-License-Identifier: MIT
 *
 * segment.c - the files: make, seal, drop. What blocks runs on the keeper's thread, or at open.
 *
 * A new segment is made under another name and renamed when its header is in it. It has its full length from the start
 * where the file system can (fallocate): a full disk shows here and not in the middle of a record, and writes that do
 * not lengthen the file need not wait for each other. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "format.h"

void neap__ls_segment_name(uint32_t number, const char *suffix, char name[24]) {
  snprintf(name, 24, "%08u.%s", number, suffix);
}

neap__ls_segment *neap__ls_segment_new(uint32_t number) {
  neap__ls_segment *segment = calloc(1, sizeof(*segment));
  if (!segment) return NULL;
  segment->number = number;
  segment->fd = segment->direct_fd = -1;
  segment->refs = 1;
  segment->unsynced_end = &segment->unsynced;
  return segment;
}

void neap__ls_segment_free(neap__ls_segment *segment) {
  if (!segment) return;
  if (segment->fd >= 0) close(segment->fd);
  if (segment->direct_fd >= 0) close(segment->direct_fd);
  free(segment->tombs.at);
  free(segment);
}

void neap__ls_segment_unref(neap__ls *ls, neap__ls_segment *segment) {
  if (--segment->refs) return;
  ls->segments[segment->slot] = NULL;
  while (ls->slots_top && !ls->segments[ls->slots_top - 1]) ls->slots_top--;
  neap__ls_segment_free(segment);
}

bool neap__ls_segment_add(neap__ls *ls, neap__ls_segment *segment) {
  uint32_t slot = 0;
  while (slot < NEAP__LS_SEGMENTS_MAX && ls->segments[slot]) slot++;
  if (slot == NEAP__LS_SEGMENTS_MAX) return false;
  ls->segments[slot] = segment;
  segment->slot = slot;
  if (slot >= ls->slots_top) ls->slots_top = slot + 1;
  ls->disk_bytes += segment->file_bytes;
  return true;
}

neap__ls_segment *neap__ls_segment_find(neap__ls *ls, uint32_t number) {
  for (uint32_t slot = 0; slot < ls->slots_top; slot++) {
    neap__ls_segment *segment = ls->segments[slot];
    if (segment && segment->number == number && segment->state != NEAP__LS_DROPPED) return segment;
  }
  return NULL;
}

bool neap__ls_tombs_add(neap__ls_tombs *tombs, neap__ls_tomb tomb) {
  if (tombs->count == tombs->cap) {
    uint32_t cap = tombs->cap ? tombs->cap * 2 : 16;
    neap__ls_tomb *at = reallocarray(tombs->at, cap, sizeof(*at));
    if (!at) return false;
    tombs->at = at;
    tombs->cap = cap;
  }
  tombs->at[tombs->count++] = tomb;
  return true;
}

neap__ls_tomb neap__ls_forget(neap__ls *ls, uint32_t id) {
  neap__ls_entry *entry = neap__ls_entry_at(&ls->index, id);
  neap__ls_segment *segment = ls->segments[entry->segment];
  neap__ls_tomb tomb = {segment->number, entry->block};
  segment->live_bytes -= neap__ls_record_bytes(entry->bytes);
  segment->live_count--;
  ls->live_bytes -= entry->bytes;
  if (segment->state == NEAP__LS_SEALED && segment->live_bytes < segment->file_bytes / 3) neap__ls_keeper_wake(ls);
  neap__ls_index_remove(&ls->index, id);
  return tomb;
}

/* --- make ------------------------------------------------------------------------------------------------------ */

int neap__ls_segment_open_direct(neap__ls *ls, neap__ls_segment *segment, const char *name) {
  if (!ls->direct) return 0;
  segment->direct_fd = openat(ls->dir_fd, name, O_RDWR | O_CLOEXEC | O_DIRECT);
  return segment->direct_fd < 0 ? errno : 0;
}

static int fill_new(neap__ls *ls, neap__ls_segment *segment, const char *name, uint64_t bytes) {
  neap__ls_segment_header header;
  uint8_t block[NEAP__LS_BLOCK] = {0};
  segment->fd = openat(ls->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (segment->fd < 0) return errno;
  if (fallocate(segment->fd, 0, 0, (off_t)bytes) != 0) {
    if (errno != EOPNOTSUPP && errno != ENOSYS) return errno;
    if (ftruncate(segment->fd, (off_t)bytes) != 0) return errno;
  }
  while (segment->salt == 0)
    if (getrandom(&segment->salt, sizeof(segment->salt), 0) != (ssize_t)sizeof(segment->salt)) return EIO;
  neap__ls_segment_header_make(ls->host, &header, segment->number, segment->salt, (uint64_t)time(NULL));
  memcpy(block, &header, sizeof(header));
  ssize_t n = pwrite(segment->fd, block, sizeof(block), 0);
  if (n != (ssize_t)sizeof(block)) return n < 0 ? errno : ENOSPC;
  segment->end = NEAP__LS_BLOCK;
  segment->limit = segment->file_bytes = bytes;
  return neap__ls_segment_open_direct(ls, segment, name);
}

/* Header and name are on the disk before the first record that is promised to be. */
static int publish(neap__ls *ls, neap__ls_segment *segment, const char *temp, const char *name, bool durable) {
  if (durable && fdatasync(segment->fd) != 0) return errno;
  if (renameat2(ls->dir_fd, temp, ls->dir_fd, name, RENAME_NOREPLACE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) return errno;
    if (renameat(ls->dir_fd, temp, ls->dir_fd, name) != 0) return errno;
  }
  if (!durable || fsync(ls->dir_fd) == 0) return 0;
  int error = errno;
  unlinkat(ls->dir_fd, name, 0); /* its number is given again */
  return error;
}

int neap__ls_segment_make(neap__ls *ls, uint32_t number, uint64_t bytes, bool durable, neap__ls_segment **out,
                          int *errno_value) {
  char temp[24], name[24];
  neap__ls_segment_name(number, "new", temp);
  neap__ls_segment_name(number, "seg", name);
  neap__ls_segment *segment = neap__ls_segment_new(number);
  if (!segment) return *errno_value = ENOMEM, NEAP_ENOMEM;
  *errno_value = fill_new(ls, segment, temp, bytes);
  if (*errno_value == 0) *errno_value = publish(ls, segment, temp, name, durable);
  if (*errno_value == 0) {
    *out = segment;
    return 0;
  }
  unlinkat(ls->dir_fd, temp, 0);
  neap__ls_segment_free(segment);
  return neap__ls_code(*errno_value);
}

/* --- seal ------------------------------------------------------------------------------------------------------ */

static int write_all(int fd, const uint8_t *data, uint64_t bytes, uint64_t offset) {
  while (bytes) {
    ssize_t n = pwrite(fd, data, bytes < (1u << 30) ? bytes : 1u << 30, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENOSPC;
    data += n;
    offset += (uint64_t)n;
    bytes -= (uint64_t)n;
  }
  return 0;
}

/* The footer says that records are whole, so they are on the disk before it is. Sealing a sealed segment again brings
 * the times of last use in its footer up to date. A footer that could not be written is
 * no loss: the next open reads the records themselves. */
int neap__ls_segment_seal(neap__ls *ls, neap__ls_segment *segment) {
  uint64_t bytes = 0;
  bool again = segment->state == NEAP__LS_SEALED; /* its records are on the disk */
  int rc = !again && fdatasync(segment->fd) != 0 ? errno : 0;
  uint8_t *footer = NULL;
  if (rc == 0) {
    pthread_mutex_lock(&ls->lock);
    segment->dirty = false;
    pthread_mutex_unlock(&ls->lock);
    footer = neap__ls_footer_make(ls, segment, &bytes);
    rc = footer ? 0 : ENOMEM;
  }
  if (rc == 0) rc = ftruncate(segment->fd, (off_t)segment->end) != 0 ? errno : 0;
  if (rc == 0) rc = write_all(segment->fd, footer, bytes, segment->end);
  if (rc == 0 && !again && fdatasync(segment->fd) != 0) rc = errno;
  free(footer);
  pthread_mutex_lock(&ls->lock);
  if (rc == 0) {
    ls->disk_bytes -= segment->file_bytes;
    segment->file_bytes = segment->end + bytes;
    ls->disk_bytes += segment->file_bytes;
  }
  segment->state = NEAP__LS_SEALED;
  segment->touched = false;
  pthread_mutex_unlock(&ls->lock);
  return rc ? neap__ls_failed(ls, "cannot seal a segment in", ls->base_path, rc) : 0;
}

/* --- drop ------------------------------------------------------------------------------------------------------ */

/* Tombstones of this segment whose target is still there live on in the active one. Lock held. */
static uint32_t tombs_to_carry(neap__ls *ls, neap__ls_segment *segment) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < segment->tombs.count; i++) {
    neap__ls_tomb tomb = segment->tombs.at[i];
    if (tomb.number != segment->number && neap__ls_segment_find(ls, tomb.number)) segment->tombs.at[kept++] = tomb;
  }
  return segment->tombs.count = kept;
}

/* Forgets the objects of a segment, a page of entries at a time. */
static void forget_all(neap__ls *ls, neap__ls_segment *segment) {
  for (uint32_t first = 1;; first += NEAP__LS_PAGE) {
    pthread_mutex_lock(&ls->lock);
    uint32_t top = ls->index.top;
    for (uint32_t id = first; id <= top && id < first + NEAP__LS_PAGE && segment->live_count; id++) {
      const neap__ls_entry *entry = neap__ls_entry_at(&ls->index, id);
      if (entry->state != NEAP__LS_LIVE || entry->segment != segment->slot) continue;
      neap_object_key key = neap__ls_index_key(&ls->index, entry);
      if (NEAP_HAS(ls->host, neap_host, gone)) ls->host->gone(ls->host->engine, &key, 1);
      neap__ls_forget(ls, id);
      ls->counters.evicted_objects++;
    }
    bool more = segment->live_count && first + NEAP__LS_PAGE <= top;
    pthread_mutex_unlock(&ls->lock);
    if (!more) return;
  }
}

void neap__ls_segment_drop(neap__ls *ls, neap__ls_segment *segment) {
  char name[24];
  forget_all(ls, segment);
  pthread_mutex_lock(&ls->lock);
  segment->state = NEAP__LS_DROPPED;
  uint32_t carry = tombs_to_carry(ls, segment);
  neap__ls_tombs tombs = segment->tombs;
  segment->tombs = (neap__ls_tombs){0};
  pthread_mutex_unlock(&ls->lock);
  if (carry && neap__ls_append_tombs_wait(ls, tombs.at, carry) != 0)
    neap__ls_say(ls, NEAP_WARNING,
                 "%u removals of %s could not be carried over; these objects may come back at the "
                 "next start",
                 carry, ls->base_path);
  free(tombs.at);
  neap__ls_segment_name(segment->number, "seg", name);
  if (unlinkat(ls->dir_fd, name, 0) != 0 && errno != ENOENT) neap__ls_failed(ls, "cannot remove", name, errno);
  pthread_mutex_lock(&ls->lock);
  ls->disk_bytes -= segment->file_bytes;
  neap__ls_segment_unref(ls, segment);
  pthread_mutex_unlock(&ls->lock);
}
