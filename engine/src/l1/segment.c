/* SPDX-License-Identifier: MIT
 *
 * l1/segment.c - see segment.h. Runs only while L1 is opened and closed, on the caller's thread. */
#include "l1/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char meta_magic[8] = "NEAP-L1";
#define META_FORMAT 1u
#define META_END ".meta"
#define HUGE_PAGE (2ull << 20)
#define LEASES_LEAST 65536u /* many requests share the head of a prompt, and its leases share a shard */

static uint64_t round_up(uint64_t v, uint64_t to) { return (v + to - 1) / to * to; }

static void header_fill(neap__meta_header *h, const neap__l1_config *config, uint32_t slots, uint64_t pool_inode) {
  memset(h, 0, sizeof *h);
  memcpy(h->magic, meta_magic, sizeof h->magic);
  h->format = META_FORMAT;
  h->align_bytes = config->align_bytes;
  h->chunk_tokens = config->chunk_tokens;
  h->slots_max = slots;
  h->leases_max = (uint32_t)round_up(NEAP_MAX((uint64_t)slots * 2, LEASES_LEAST), NEAP_SHARDS);
  h->annex_bytes = NEAP_L1_ANNEX_BYTES;
  h->pool_bytes = config->pool_bytes;
  h->pool_inode = pool_inode;
  h->names_at = round_up(sizeof *h, 4096);
  h->annex_at = h->names_at + neap__names_bytes();
  h->leases_at = h->annex_at + h->annex_bytes;
  h->slots_at = round_up(h->leases_at + (uint64_t)h->leases_max * sizeof(neap__lease_record), 4096);
  h->total_bytes = round_up(h->slots_at + (uint64_t)slots * sizeof(neap__slot), 4096);
  h->seal = neap__crc32c(0, h, offsetof(neap__meta_header, seal));
}

static void point_into(neap__segment *s) {
  s->header = (neap__meta_header *)s->meta;
  s->leases = (neap__lease_record *)(s->meta + s->header->leases_at);
  s->slots = (neap__slot *)(s->meta + s->header->slots_at);
}

static int map_shared(int fd, uint64_t bytes, uint8_t **out, const char *what, neap_error *err) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS | MAP_NORESERVE : 0), fd, 0);
  if (p == MAP_FAILED)
    return neap__fail(err, NEAP_ENOMEM, "cannot map %llu bytes for the %s: %s", (unsigned long long)bytes, what,
                      strerror(errno));
  *out = p;
  return 0;
}

/* --- pages and room ------------------------------------------------------------------------------------------- */

static long read_number(const char *path) {
  long value = -1;
  FILE *f = fopen(path, "re");
  if (!f) return -1;
  if (fscanf(f, "%ld", &value) != 1) value = -1;
  fclose(f);
  return value;
}

static int check_huge_pages(const neap__l1_config *config, bool named, neap_error *err) {
  if (named) {
    char text[128] = "";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
    if (f) {
      if (!fgets(text, sizeof text, f)) text[0] = 0;
      fclose(f);
    }
    if (text[0] && !strstr(text, "[never]") && !strstr(text, "[deny]")) return 0;
    return neap__fail(err, NEAP_ENOSPC,
                      "l1-use-hugepages: shared memory of this kernel has no huge pages (shmem_enabled is \"%.*s\"); "
                      "expected advise or always in /sys/kernel/mm/transparent_hugepage/shmem_enabled",
                      (int)strcspn(text, "\n"), text);
  }
  long need = (long)(round_up(config->pool_bytes, HUGE_PAGE) / HUGE_PAGE);
  long have = read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  if (have >= need) return 0;
  return neap__fail(err, NEAP_ENOSPC,
                    "l1-use-hugepages: %ld huge pages of 2 MiB are needed and %ld are free; expected "
                    "`sysctl vm.nr_hugepages=%ld` or more",
                    need, have < 0 ? 0 : have, need);
}

static int check_room(int fd, uint64_t need, neap_error *err) {
  struct statvfs fs;
  if (fstatvfs(fd, &fs) != 0) return 0;
  uint64_t have = (uint64_t)fs.f_bavail * fs.f_frsize;
  if (fs.f_blocks == 0 || have >= need) return 0; /* a tmpfs without a limit counts no blocks */
  return neap__fail(err, NEAP_ENOSPC, "l1-size-gb: the pool needs %.2f GiB of shared memory and %.2f GiB are free",
                    (double)need / 1073741824.0, (double)have / 1073741824.0);
}

/* --- a pool nobody can name ----------------------------------------------------------------------------------- */

static int open_private(const neap__l1_config *config, uint32_t slots, neap__segment *s, neap_error *err) {
  int rc = config->hugepages ? check_huge_pages(config, false, err) : 0;
  if (rc) return rc;
  uint64_t pool_bytes = config->hugepages ? round_up(config->pool_bytes, HUGE_PAGE) : config->pool_bytes;
  int fd = memfd_create("neap-l1", MFD_CLOEXEC | (config->hugepages ? MFD_HUGETLB : 0));
  if (fd < 0 || ftruncate(fd, (off_t)pool_bytes) != 0)
    rc = neap__fail(err, NEAP_EIO, "cannot create a private pool: %s", strerror(errno));
  else
    rc = map_shared(fd, pool_bytes, &s->pool, "pool", err);
  if (fd >= 0) close(fd);
  if (rc) return rc;
  s->pool_bytes = pool_bytes;
  neap__meta_header header;
  header_fill(&header, config, slots, 0);
  rc = map_shared(-1, header.total_bytes, &s->meta, "metadata", err);
  if (rc) return rc;
  s->meta_bytes = header.total_bytes;
  memcpy(s->meta, &header, sizeof header);
  point_into(s);
  return 0;
}

/* --- named segments ------------------------------------------------------------------------------------------- */

/* A pool called like another pool's metadata would be taken for it. */
static bool name_usable(const char *name) {
  size_t length = strlen(name), end = sizeof META_END - 1;
  if (length > 240 || name[0] == '.' || strpbrk(name, "/\\")) return false;
  return length < end || strcmp(name + length - end, META_END) != 0;
}

static void meta_name(const neap__segment *s, char *out, size_t cap) { snprintf(out, cap, "/%s" META_END, s->name); }
static void pool_name(const neap__segment *s, char *out, size_t cap) { snprintf(out, cap, "/%s", s->name); }

/* Opens and locks the metadata file, making sure that the file locked is the one the name still stands for. */
static int lock_meta(neap__segment *s, neap_error *err) {
  char path[300];
  meta_name(s, path, sizeof path);
  for (int attempt = 0; attempt < 100; attempt++) {
    int fd = shm_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return neap__fail(err, NEAP_EIO, "shm-name: cannot open %s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      int code = errno == EWOULDBLOCK ? NEAP_EBUSY : NEAP_EIO;
      close(fd);
      return neap__fail(err, code, "shm-name: \"%s\" is in use by another running server; expected a name of its own",
                        s->name);
    }
    struct stat mine, named;
    int again = shm_open(path, O_RDWR | O_CLOEXEC, 0600);
    bool same = again >= 0 && fstat(fd, &mine) == 0 && fstat(again, &named) == 0 && mine.st_ino == named.st_ino;
    if (again >= 0) close(again);
    if (same) {
      s->meta_fd = fd;
      return 0;
    }
    close(fd); /* its owner removed it between open and lock */
  }
  return neap__fail(err, NEAP_EBUSY, "shm-name: \"%s\" keeps being removed by another server", s->name);
}

static int create_named(const neap__l1_config *config, uint32_t slots, neap__segment *s, neap_error *err) {
  char path[300];
  pool_name(s, path, sizeof path);
  shm_unlink(path);
  int fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return neap__fail(err, NEAP_EIO, "shm-name: cannot create %s: %s", path, strerror(errno));
  struct stat st;
  int rc = check_room(fd, config->pool_bytes, err);
  if (!rc && (ftruncate(fd, (off_t)config->pool_bytes) != 0 || fstat(fd, &st) != 0))
    rc = neap__fail(err, NEAP_EIO, "cannot size %s: %s", path, strerror(errno));
  if (!rc) rc = map_shared(fd, config->pool_bytes, &s->pool, "pool", err);
  close(fd);
  if (rc) {
    shm_unlink(path);
    return rc;
  }
  s->pool_bytes = config->pool_bytes;
  neap__meta_header header;
  header_fill(&header, config, slots, st.st_ino);
  if (ftruncate(s->meta_fd, 0) != 0 || ftruncate(s->meta_fd, (off_t)header.total_bytes) != 0)
    return neap__fail(err, NEAP_EIO, "cannot size the metadata of %s: %s", path, strerror(errno));
  rc = map_shared(s->meta_fd, header.total_bytes, &s->meta, "metadata", err);
  if (rc) return rc;
  s->meta_bytes = header.total_bytes;
  memcpy(s->meta, &header, sizeof header);
  point_into(s);
  atomic_store(&s->header->ready, 1);
  return 0;
}

/* Why a header that was found cannot be used, or NULL. */
static const char *header_fault(const neap__meta_header *found, const neap__meta_header *want) {
  size_t sealed = offsetof(neap__meta_header, seal);
  if (memcmp(found->magic, want->magic, sizeof want->magic) != 0 || found->seal != neap__crc32c(0, found, sealed))
    return "its metadata header was damaged";
  if (memcmp(found, want, sealed) != 0) return "it had another size or layout";
  if (!atomic_load(&found->ready)) return "it was unfinished";
  if (atomic_load(&found->slots_high) > want->slots_max) return "its metadata header was damaged";
  for (uint32_t i = 0; i < NEAP_SHARDS; i++)
    if (atomic_load(&found->leases_high[i]) > want->leases_max / NEAP_SHARDS) return "its metadata header was damaged";
  return NULL;
}

/* Maps what an earlier process left, if it is what this one wants; else says in `why` what is wrong with it ("" when
 * there was nothing). An error means that it could not be looked at: it stays as it is. */
static int adopt_pair(const neap__l1_config *config, uint32_t slots, int pool_fd, neap__segment *s, char *why,
                      size_t cap, neap_error *err) {
  struct stat meta_st, pool_st;
  neap__meta_header want;
  bool pool_there = pool_fd >= 0 && fstat(pool_fd, &pool_st) == 0;
  why[0] = 0;
  if (fstat(s->meta_fd, &meta_st) != 0 || meta_st.st_size == 0) {
    if (pool_there) snprintf(why, cap, "it had no metadata");
    return 0;
  }
  if (!pool_there) {
    snprintf(why, cap, "its pool was gone");
    return 0;
  }
  header_fill(&want, config, slots, pool_st.st_ino);
  if ((uint64_t)pool_st.st_size != config->pool_bytes || (uint64_t)meta_st.st_size != want.total_bytes) {
    snprintf(why, cap, "it had another size or layout (%lld bytes of pool, %llu wanted)", (long long)pool_st.st_size,
             (unsigned long long)config->pool_bytes);
    return 0;
  }
  int rc = map_shared(s->meta_fd, want.total_bytes, &s->meta, "metadata", err);
  if (rc) return rc;
  s->meta_bytes = want.total_bytes;
  const char *fault = header_fault((neap__meta_header *)s->meta, &want);
  if (fault) {
    snprintf(why, cap, "%s", fault);
    return 0;
  }
  rc = map_shared(pool_fd, config->pool_bytes, &s->pool, "pool", err);
  if (rc) return rc;
  s->pool_bytes = config->pool_bytes;
  point_into(s);
  s->took_over = true;
  return 0;
}

static int adopt_named(const neap__l1_config *config, uint32_t slots, neap__segment *s, neap__l1_report *report,
                       neap_error *err) {
  char path[300];
  pool_name(s, path, sizeof path);
  int pool_fd = shm_open(path, O_RDWR | O_CLOEXEC, 0600);
  int rc = adopt_pair(config, slots, pool_fd, s, report->removed, sizeof report->removed, err);
  if (pool_fd >= 0) close(pool_fd);
  return rc;
}

static void unmap(neap__segment *s) {
  if (s->pool) munmap(s->pool, s->pool_bytes);
  if (s->meta) munmap(s->meta, s->meta_bytes);
  s->pool = s->meta = NULL;
  s->took_over = false;
}

static void advise_huge(neap__segment *s, const neap__l1_config *config) {
  if (config->hugepages && s->name[0]) madvise(s->pool, s->pool_bytes, MADV_HUGEPAGE);
}

int neap__segment_open(const neap__l1_config *config, uint32_t slots, neap__segment *s, neap__l1_report *report,
                       neap_error *err) {
  memset(s, 0, sizeof *s);
  s->meta_fd = -1;
  if (!config->shm_name || !config->shm_name[0]) {
    int rc = open_private(config, slots, s, err);
    if (rc) unmap(s);
    return rc;
  }
  if (!name_usable(config->shm_name))
    return neap__fail(err, NEAP_EINVAL,
                      "shm-name: \"%.300s\"; expected at most 240 characters without '/' and '\\', not beginning "
                      "with '.' and not ending in \"" META_END "\"",
                      config->shm_name);
  snprintf(s->name, sizeof s->name, "%s", config->shm_name);
  int rc = config->hugepages ? check_huge_pages(config, true, err) : 0;
  if (!rc) rc = lock_meta(s, err);
  if (rc) return rc;
  rc = adopt_named(config, slots, s, report, err);
  bool replace = !rc && !s->took_over;
  if (replace) {
    unmap(s);
    rc = create_named(config, slots, s, err);
  }
  if (rc)
    neap__segment_close(s, !replace);
  else
    advise_huge(s, config);
  return rc;
}

int neap__segment_renew(const neap__l1_config *config, uint32_t slots, neap__segment *s, neap_error *err) {
  unmap(s);
  int rc = create_named(config, slots, s, err);
  if (!rc) advise_huge(s, config);
  return rc;
}

void neap__segment_unlink(const neap__segment *s) {
  if (!s->name[0] || s->meta_fd < 0) return;
  char path[300];
  pool_name(s, path, sizeof path);
  shm_unlink(path);
  meta_name(s, path, sizeof path);
  shm_unlink(path);
}

void neap__segment_close(neap__segment *s, bool keep) {
  unmap(s);
  if (!keep) neap__segment_unlink(s);
  if (s->meta_fd >= 0) close(s->meta_fd);
  s->meta_fd = -1;
}
