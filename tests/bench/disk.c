/* SPDX-License-Identifier: MIT
 *
 * bench/disk.c - the disk's floor: files of equal size written or read with O_DIRECT by 16 threads, nothing else.
 *
 *   disk write DIR COUNT BYTES   writes that many files and prints {"gb_s":...}
 *   disk read DIR                reads all files of DIR and prints the same
 *   disk forget DIR              drops all files of DIR from the page cache */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 16, ALIGN = 4096, MAX_BYTES = 64 << 20 };

static char mode;
static int dir_fd;
static char **names;
static size_t count, bytes;
static atomic_size_t next, moved;

static _Noreturn void die(const char *what) {
  fprintf(stderr, "disk: %s: %s\n", what, strerror(errno));
  exit(2);
}

static void one(const char *name, void *buffer) {
  int flags = mode == 'w' ? O_WRONLY | O_CREAT | O_EXCL | O_DIRECT : mode == 'r' ? O_RDONLY | O_DIRECT : O_RDONLY;
  int fd = openat(dir_fd, name, flags, 0644);
  if (fd < 0) die(name);
  ssize_t done = 0;
  if (mode == 'w') done = write(fd, buffer, bytes);
  else if (mode == 'r') done = read(fd, buffer, MAX_BYTES);
  else if (fdatasync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) die(name);
  if (done < 0 || (mode == 'w' && (size_t)done != bytes)) die(name);
  atomic_fetch_add(&moved, (size_t)done);
  close(fd);
}

static void *work(void *unused) {
  (void)unused;
  void *buffer = aligned_alloc(ALIGN, MAX_BYTES);
  if (!buffer) die("memory");
  memset(buffer, 1, bytes ? bytes : 1);
  for (size_t i; (i = atomic_fetch_add(&next, 1)) < count;) one(names[i], buffer);
  free(buffer);
  return NULL;
}

static void list(const char *path, size_t wanted) {
  names = calloc(1 << 20, sizeof *names);
  for (; count < wanted; count++)
    if (asprintf(&names[count], "disk-%zu.data", count) < 0) die("memory");
  DIR *dir = wanted ? NULL : opendir(path);
  for (struct dirent *entry; dir && (entry = readdir(dir)) && count < 1 << 20;)
    if (strstr(entry->d_name, ".data")) names[count++] = strdup(entry->d_name);
  if (dir) closedir(dir);
}

int main(int argc, char **argv) {
  mode = argc > 2 ? argv[1][0] : 0;
  if (!mode || !strchr("wrf", mode) || argc != (mode == 'w' ? 5 : 3)) {
    fprintf(stderr, "usage: disk write DIR COUNT BYTES | disk read DIR | disk forget DIR\n");
    return 2;
  }
  if (mode == 'w') bytes = strtoul(argv[4], NULL, 10);
  if (bytes % ALIGN || bytes > MAX_BYTES) die("BYTES: expected a multiple of 4096 up to 64 MiB");
  if ((dir_fd = open(argv[2], O_RDONLY | O_DIRECTORY)) < 0) die(argv[2]);
  list(argv[2], mode == 'w' ? strtoul(argv[3], NULL, 10) : 0);
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, NULL);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  clock_gettime(CLOCK_MONOTONIC, &to);
  double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
  printf("{\"files\":%zu,\"gb_s\":%.3f}\n", count, (double)moved / seconds / 1e9);
  return 0;
}
