/* SPDX-License-Identifier: MIT
 *
 * file.c - one object, one file: write and publish, read and verify, look, remove. Blocking; worker threads only.
 *
 * A store writes a temporary file of its own and publishes it with a rename that does not replace (or link, where the
 * file system cannot), so of several writers of one key, in whatever process, exactly one file stays and the others
 * find it there. A file of another length than asked for is not this object: a miss to readers, replaced by a store. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "fs.h"

#define IO_BYTES_MAX (UINT64_C(1) << 30) /* of one system call: read and write stop at 2 GiB */
#define TRIES_MAX 8
#define TOUCH_AFTER_S 60

static const char trailer_magic[4] = {'n', 'C', 'R', 'C'};

static void trailer_make(neap__fs *fs, const neap_object *object, uint8_t trailer[NEAP_FS_TRAILER_BYTES]) {
  uint32_t crc = fs->host->crc32c(0, object->data, object->bytes);
  memcpy(trailer, trailer_magic, 4);
  for (int i = 0; i < 4; i++) trailer[4 + i] = (uint8_t)(crc >> (8 * i));
}

/* A name too long for the file system cannot be there; the key itself is always printable. */
static int file_name(neap__fs *fs, const neap_object *object, char name[NEAP_KEY_TEXT_MAX]) {
  int n = fs->host->key_format(&object->key, NEAP_KEY_FILE, name, NEAP_KEY_TEXT_MAX);
  return n < 0 ? n : 0;
}

static bool length_fits(const neap__fs *fs, const struct stat *st, uint64_t bytes) {
  if (!S_ISREG(st->st_mode)) return false;
  uint64_t size = (uint64_t)st->st_size;
  return size == bytes + NEAP_FS_TRAILER_BYTES || (!fs->checksum && size == bytes);
}

bool neap__fs_direct(int fd, bool on) {
  int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

/* How many of the buffer's first bytes may bypass the page cache; says once that some may not at all. */
static uint64_t direct_bytes(neap__fs *fs, const neap_object *object) {
  if (!fs->odirect) return 0;
  if ((uintptr_t)object->data % NEAP_FS_ALIGN == 0) return object->bytes - object->bytes % NEAP_FS_ALIGN;
  if (!atomic_exchange(&fs->unaligned_told, true))
    fs->host->log(fs->host->engine, NEAP_WARNING,
                  "use_odirect: objects whose address is no multiple of 4096 go through the page cache");
  return 0;
}

/* --- temporary files ------------------------------------------------------------------------------------------ */

int neap__fs_temp(neap__fs *fs, char name[64]) {
  for (int i = 0; i < TRIES_MAX; i++) {
    uint64_t n = atomic_fetch_add(&fs->temp_next, 1);
    /* The opening time keeps apart processes of one number: in containers, or after a restart. */
    snprintf(name, 64, "neap-%ld-%llx-%llx.tmp", (long)getpid(), (unsigned long long)fs->opened_ns,
             (unsigned long long)n);
    int fd = openat(fs->tmp_fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) return -1;
    struct stat st;
    /* A starting process may have taken the file for a leftover between open and lock: then another name. */
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0) return fd;
    unlinkat(fs->tmp_fd, name, 0);
    close(fd);
  }
  errno = EAGAIN;
  return -1;
}

static bool write_all(int fd, const void *data, uint64_t bytes, uint64_t offset) {
  const char *at = data;
  while (bytes) {
    ssize_t n = pwrite(fd, at, bytes < IO_BYTES_MAX ? bytes : IO_BYTES_MAX, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = ENOSPC;
    if (n <= 0) return false;
    at += n;
    offset += (uint64_t)n;
    bytes -= (uint64_t)n;
  }
  return true;
}

/* Reads exactly `bytes`; 0, an errno, or -1 at a premature end. `first` limits the first call, 0 = no limit. */
static int read_all(int fd, void *data, uint64_t bytes, uint64_t offset, uint64_t first) {
  char *at = data;
  while (bytes) {
    uint64_t want = bytes < IO_BYTES_MAX ? bytes : IO_BYTES_MAX;
    if (first && first < want) want = first;
    first = 0;
    ssize_t n = pread(fd, at, want, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return -1;
    at += n;
    offset += (uint64_t)n;
    bytes -= (uint64_t)n;
  }
  return 0;
}

/* --- store ---------------------------------------------------------------------------------------------------- */

/* The aligned part past the page cache, what is left of the object and the trailer through it. */
static bool write_object(neap__fs *fs, int fd, const neap_object *object) {
  uint64_t direct = direct_bytes(fs, object);
  if (direct && !(neap__fs_direct(fd, true) && write_all(fd, object->data, direct, 0) && neap__fs_direct(fd, false)))
    return false;
  if (!write_all(fd, (const char *)object->data + direct, object->bytes - direct, direct)) return false;
  if (!fs->checksum) return true;
  uint8_t trailer[NEAP_FS_TRAILER_BYTES];
  trailer_make(fs, object, trailer);
  return write_all(fd, trailer, sizeof(trailer), object->bytes);
}

/* Gives the temporary file its final name unless that is taken. 0 or -1 with errno. */
static int publish(neap__fs *fs, const char *temp, const char *name) {
  if (renameat2(fs->tmp_fd, temp, fs->dir_fd, name, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) return -1;
  if (linkat(fs->tmp_fd, temp, fs->dir_fd, name, 0) != 0) return -1;
  unlinkat(fs->tmp_fd, temp, 0);
  return 0;
}

/* Whether the object is there already. A file of another length is taken away: it would be a miss for ever. */
static bool there_already(neap__fs *fs, const char *name, uint64_t bytes) {
  struct stat st;
  if (fstatat(fs->dir_fd, name, &st, 0) != 0) return false;
  if (length_fits(fs, &st, bytes)) return true;
  unlinkat(fs->dir_fd, name, 0);
  return false;
}

void neap__fs_store(neap__fs *fs, neap_object *object) {
  char name[NEAP_KEY_TEXT_MAX], temp[64];
  object->stored_bytes = 0;
  object->result = file_name(fs, object, name);
  if (object->result || there_already(fs, name, object->bytes)) return;
  if (!neap__fs_room(fs, object->bytes)) {
    object->result = neap__fs_failed(fs, "min_free_gb leaves no room for", name, ENOSPC);
    return;
  }

  int fd = neap__fs_temp(fs, temp);
  if (fd < 0) {
    object->result = neap__fs_failed(fs, "cannot create a temporary file for", name, errno);
    return;
  }
  bool published = false, known = false;
  if (write_object(fs, fd, object)) {
    for (int i = 0; i < TRIES_MAX && !published && !known; i++) {
      published = publish(fs, temp, name) == 0;
      if (!published && errno != EEXIST) break;
      known = !published && there_already(fs, name, object->bytes);
    }
  }
  if (published) {
    object->stored_bytes = object->bytes + (fs->checksum ? NEAP_FS_TRAILER_BYTES : 0);
  } else if (!known) {
    object->result = neap__fs_failed(fs, "cannot store", name, errno);
  }
  if (!published) unlinkat(fs->tmp_fd, temp, 0);
  close(fd);
}

/* --- load, lookup, remove ------------------------------------------------------------------------------------- */

/* The modification time is the record of use that outlives the process: recovery orders by it. Once a minute is exact
 * enough for that and keeps a hot file from rewriting its inode at each load. A directory of others may refuse. */
static void touch(int fd, const struct stat *st) {
  if (st->st_mtim.tv_sec + TOUCH_AFTER_S < time(NULL)) (void)futimens(fd, NULL);
}

/* As read_all. Without O_DIRECT the kernel is told that all of the file is wanted, and the first read is small, if so
 * configured: it returns while the rest is on its way. */
static int read_payload(neap__fs *fs, int fd, const neap_object *object) {
  uint64_t direct = direct_bytes(fs, object);
  if (!direct) {
    if (fs->read_ahead) (void)posix_fadvise(fd, 0, (off_t)object->bytes, POSIX_FADV_WILLNEED);
    return read_all(fd, object->data, object->bytes, 0, fs->read_ahead);
  }
  if (!neap__fs_direct(fd, true)) return errno;
  int rc = read_all(fd, object->data, direct, 0, 0);
  if (rc) return rc;
  if (!neap__fs_direct(fd, false)) return errno;
  return read_all(fd, (char *)object->data + direct, object->bytes - direct, direct, 0);
}

static int read_object(neap__fs *fs, int fd, const struct stat *st, const char *name, neap_object *object) {
  int rc = read_payload(fs, fd, object);
  uint8_t trailer[NEAP_FS_TRAILER_BYTES], expected[NEAP_FS_TRAILER_BYTES];
  bool has_trailer = (uint64_t)st->st_size == object->bytes + NEAP_FS_TRAILER_BYTES;
  if (rc == 0 && has_trailer) {
    rc = read_all(fd, trailer, sizeof(trailer), object->bytes, 0);
    trailer_make(fs, object, expected);
    if (rc == 0 && memcmp(trailer, expected, sizeof(trailer)) != 0) return NEAP_ECORRUPT;
  }
  if (rc < 0) return NEAP_ECORRUPT; /* became shorter while it was read */
  return rc ? neap__fs_failed(fs, "cannot load", name, rc) : 0;
}

void neap__fs_load(neap__fs *fs, neap_object *object) {
  char name[NEAP_KEY_TEXT_MAX];
  struct stat st;
  object->result = file_name(fs, object, name);
  if (object->result) return;
  int fd = openat(fs->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* it may be a pipe */
  if (fd < 0) {
    bool absent = errno == ENOENT || errno == ENAMETOOLONG;
    object->result = absent ? NEAP_ENOENT : neap__fs_failed(fs, "cannot load", name, errno);
    return;
  }
  if (fstat(fd, &st) != 0)
    object->result = neap__fs_failed(fs, "cannot load", name, errno);
  else if (!length_fits(fs, &st, object->bytes))
    object->result = NEAP_ECORRUPT;
  else
    object->result = read_object(fs, fd, &st, name, object);
  if (object->result == 0) touch(fd, &st);
  close(fd);
}

void neap__fs_lookup(neap__fs *fs, neap_object *object) {
  char name[NEAP_KEY_TEXT_MAX];
  struct stat st;
  object->result = file_name(fs, object, name);
  if (object->result) return;
  if (fstatat(fs->dir_fd, name, &st, 0) != 0) {
    bool absent = errno == ENOENT || errno == ENAMETOOLONG;
    object->result = absent ? NEAP_ENOENT : neap__fs_failed(fs, "cannot look up", name, errno);
  } else if (object->bytes && !length_fits(fs, &st, object->bytes)) {
    object->result = NEAP_ECORRUPT;
  } else {
    object->stored_bytes = object->bytes ? object->bytes : (uint64_t)st.st_size;
  }
}

void neap__fs_remove(neap__fs *fs, neap_object *object) {
  char name[NEAP_KEY_TEXT_MAX];
  object->result = file_name(fs, object, name);
  if (object->result) return;
  if (unlinkat(fs->dir_fd, name, 0) == 0) {
    neap__fs_room_grew(fs);
    return;
  }
  bool absent = errno == ENOENT || errno == ENAMETOOLONG;
  object->result = absent ? NEAP_ENOENT : neap__fs_failed(fs, "cannot remove", name, errno);
}
