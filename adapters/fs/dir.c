/* SPDX-License-Identifier: MIT
 *
 * dir.c - the directory of a store: made and tried out at open, swept of what dead writers left, listed.
 *
 * open runs on the thread that opens the engine, list on a worker thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "fs.h"

#define FOREIGN_TEMP_AGE_S 600 /* LMCache's temporary files carry no lock: one this old has no writer any more */

/* --- open ----------------------------------------------------------------------------------------------------- */

static int refuse(neap_error *err, int code, const char *path, const char *what, int errno_value) {
  snprintf(err->text, sizeof(err->text), "base_path: '%.300s': %s: %s", path, what, strerror(errno_value));
  return code;
}

/* Makes path and what is missing above it. 0 or an errno. */
static int make_dirs(const char *path) {
  char part[4096];
  size_t n = strlen(path);
  if (n >= sizeof(part)) return ENAMETOOLONG;
  memcpy(part, path, n + 1);
  for (size_t i = 1; i <= n; i++) {
    if (part[i] != '/' && part[i] != 0) continue;
    char end = part[i];
    part[i] = 0;
    if (mkdir(part, 0755) != 0 && errno != EEXIST && !(end && (errno == EACCES || errno == EROFS))) return errno;
    part[i] = end;
  }
  return 0;
}

/* Creates a file the way a store does: the one honest answer to whether stores will work. */
static int try_out(neap__fs *fs, bool want_odirect, neap_error *err) {
  char name[64];
  int fd = neap__fs_temp(fs, name);
  if (fd < 0) return refuse(err, NEAP_EPERM, fs->base_path, "cannot create files", errno);
  if (want_odirect) {
    void *block = aligned_alloc(NEAP_FS_ALIGN, NEAP_FS_ALIGN);
    if (block) memset(block, 0, NEAP_FS_ALIGN);
    fs->odirect = block && neap__fs_direct(fd, true) && pwrite(fd, block, NEAP_FS_ALIGN, 0) == NEAP_FS_ALIGN;
    free(block);
    if (!fs->odirect)
      fs->host->log(fs->host->engine, NEAP_WARNING, "use_odirect: this file system refuses it; the page cache is used");
  }
  unlinkat(fs->tmp_fd, name, 0);
  close(fd);
  return 0;
}

/* --- sweeping ------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *name, size_t n, const char *end) {
  size_t m = strlen(end);
  return n > m && memcmp(name + n - m, end, m) == 0;
}

/* A temporary file of LMCache: the final name with .tmp for .data, or the final name itself in its own directory. */
static bool is_foreign_temp(neap__fs *fs, const char *name, size_t n) {
  char final[NEAP_KEY_TEXT_MAX], strings[NEAP_KEY_TEXT_MAX];
  neap_object_key key;
  if (n + 2 > sizeof(final)) return false;
  memcpy(final, name, n + 1);
  if (ends_with(name, n, ".tmp"))
    memcpy(final + n - 4, ".data", 6);
  else if (!fs->tmp_path)
    return false;
  return fs->host->key_parse(final, NEAP_KEY_FILE, &key, strings, sizeof(strings)) == 0;
}

static bool sweep_one(neap__fs *fs, const char *name) {
  size_t n = strlen(name);
  bool own = strncmp(name, "neap-", 5) == 0 && ends_with(name, n, ".tmp");
  if (!own && !is_foreign_temp(fs, name, n)) return false;
  int fd = openat(fs->tmp_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  struct stat st;
  bool dead = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  if (dead && own)
    dead = flock(fd, LOCK_EX | LOCK_NB) == 0; /* held until it is unlinked: see neap__fs_temp */
  else if (dead)
    dead = st.st_mtim.tv_sec + FOREIGN_TEMP_AGE_S < time(NULL);
  if (dead) dead = unlinkat(fs->tmp_fd, name, 0) == 0;
  close(fd);
  return dead;
}

/* A stream of its own: the offset of a shared descriptor would be shared too. */
static DIR *stream_of(int dir_fd) {
  int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir && fd >= 0) close(fd);
  return dir;
}

static void sweep(neap__fs *fs) {
  DIR *dir = stream_of(fs->tmp_fd);
  if (!dir) return;
  unsigned count = 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) count += sweep_one(fs, entry->d_name);
  closedir(dir);
  if (!count) return;
  char line[96];
  snprintf(line, sizeof(line), "removed %u unfinished files of earlier processes", count);
  fs->host->log(fs->host->engine, NEAP_INFO, line);
}

int neap__fs_dirs_open(neap__fs *fs, bool want_odirect, neap_error *err) {
  struct stat base, tmp;
  int rc = make_dirs(fs->base_path);
  if (rc) return refuse(err, NEAP_EPERM, fs->base_path, "cannot create the directory", rc);
  fs->dir_fd = fs->tmp_fd = open(fs->base_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fs->dir_fd < 0) return refuse(err, NEAP_EPERM, fs->base_path, "cannot open the directory", errno);
  if (fs->tmp_path) {
    if (mkdirat(fs->dir_fd, fs->tmp_path, 0755) != 0 && errno != EEXIST)
      return refuse(err, NEAP_EPERM, fs->base_path, "cannot create relative_tmp_dir", errno);
    fs->tmp_fd = openat(fs->dir_fd, fs->tmp_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fs->tmp_fd < 0) return refuse(err, NEAP_EPERM, fs->base_path, "cannot open relative_tmp_dir", errno);
    if (fstat(fs->dir_fd, &base) != 0 || fstat(fs->tmp_fd, &tmp) != 0 || base.st_dev != tmp.st_dev)
      return refuse(err, NEAP_EINVAL, fs->base_path, "relative_tmp_dir must be on the same file system", EXDEV);
  }
  rc = try_out(fs, want_odirect, err);
  if (rc == 0) sweep(fs);
  return rc;
}

/* --- listing -------------------------------------------------------------------------------------------------- */

void neap__fs_list(neap__fs *fs, neap_op *op) {
  char strings[NEAP_KEY_TEXT_MAX];
  op->list_result = NEAP_ENOTSUP;
  if (!fs->recover) return;
  DIR *dir = stream_of(fs->dir_fd);
  if (!dir) {
    op->list_result = neap__fs_failed(fs, "cannot list", fs->base_path, errno);
    return;
  }
  for (struct dirent *entry; (errno = 0, entry = readdir(dir)) != NULL;) {
    neap_list_entry item;
    struct stat st;
    if (fs->host->key_parse(entry->d_name, NEAP_KEY_FILE, &item.key, strings, sizeof(strings)) != 0) continue;
    if (fstatat(fs->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) continue;
    item.bytes = (uint64_t)st.st_size;
    item.used_unix_s = st.st_mtim.tv_sec;
    errno = 0;
    if (op->sink(op, &item) != 0) break;
  }
  op->list_result = errno ? neap__fs_failed(fs, "cannot list", fs->base_path, errno) : 0;
  closedir(dir);
}
