/* SPDX-License-Identifier: MIT
 *
 * recover.c - from the directory to the index, at open. One thread, nothing else runs.
 *
 * A sealed segment is known by its footer. Another one (the last, after a kill; one whose end was cut off or grown) is
 * read record by record: a header counts if its checksum, salt and offset are right, a payload if its checksum is; what
 * does not count is stepped over in blocks, so one damaged record costs itself and not those behind it. What lies
 * behind the last whole record is cut off when the segment is sealed or appended to. Segments are read in the order of
 * their numbers: of two records with one key the later counts. Then tombstones take away what they name.
 *
 * A file that is none of ours is not touched; the log names it once. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"

#define CHUNK (1u << 20)
#define FOOTER_BYTES_MAX (UINT64_C(1) << 32)

typedef struct recovery {
  neap__ls *ls;
  neap_error *err;
  neap__ls_tombs tombs;
  uint32_t *numbers, numbers_count, numbers_cap;
  char foreign[400];
  uint32_t foreign_count;
  uint8_t *chunk; /* CHUNK bytes */
  uint64_t scanned, cut, objects;
} recovery;

/* --- files ----------------------------------------------------------------------------------------------------- */

/* Whether name is 8 digits and .suffix; the number. */
static bool is_ours(const char *name, const char *suffix, uint32_t *number) {
  if (strspn(name, "0123456789") != 8 || name[8] != '.' || strcmp(name + 9, suffix) != 0) return false;
  *number = (uint32_t)strtoul(name, NULL, 10);
  return true;
}

static void foreign(recovery *r, const char *name) {
  size_t used = strlen(r->foreign);
  r->foreign_count++;
  if (used + strlen(name) + 3 < sizeof(r->foreign))
    snprintf(r->foreign + used, sizeof(r->foreign) - used, "%s%s", used ? ", " : "", name);
}

static bool note_number(recovery *r, uint32_t number) {
  if (r->numbers_count == r->numbers_cap) {
    uint32_t cap = r->numbers_cap ? r->numbers_cap * 2 : 64;
    uint32_t *numbers = reallocarray(r->numbers, cap, sizeof(*numbers));
    if (!numbers) return false;
    r->numbers = numbers;
    r->numbers_cap = cap;
  }
  r->numbers[r->numbers_count++] = number;
  if (number >= r->ls->number_next) r->ls->number_next = number + 1;
  return true;
}

static int by_number(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static int list_directory(recovery *r) {
  int fd = openat(r->ls->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
  bool memory = true;
  if (!dir) {
    if (fd >= 0) close(fd);
    return neap__ls_failed(r->ls, "cannot list", r->ls->base_path, errno);
  }
  for (struct dirent *e; memory && (e = readdir(dir)) != NULL;) {
    uint32_t number;
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, "neap.lock") == 0) continue;
    if (is_ours(e->d_name, "seg", &number))
      memory = note_number(r, number);
    else if (!is_ours(e->d_name, "new", &number) || unlinkat(r->ls->dir_fd, e->d_name, 0) != 0)
      foreign(r, e->d_name);
  }
  closedir(dir);
  if (r->numbers_count) qsort(r->numbers, r->numbers_count, sizeof(*r->numbers), by_number);
  return memory ? 0 : NEAP_ENOMEM;
}

static bool read_at(int fd, void *data, uint64_t bytes, uint64_t offset) {
  uint8_t *at = data;
  while (bytes) {
    ssize_t n = pread(fd, at, bytes < (1u << 30) ? bytes : 1u << 30, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    offset += (uint64_t)n;
    bytes -= (uint64_t)n;
  }
  return true;
}

/* --- objects --------------------------------------------------------------------------------------------------- */

static bool add_object(recovery *r, neap__ls_segment *segment, const neap_object_key *key, uint32_t block,
                       uint64_t bytes, uint32_t crc, uint32_t used_s) {
  neap__ls *ls = r->ls;
  uint32_t id = neap__ls_index_find(&ls->index, key);
  if (id) neap__ls_forget(ls, id);
  id = neap__ls_index_add(&ls->index, key);
  if (!id) return false;
  neap__ls_entry *entry = neap__ls_entry_at(&ls->index, id);
  entry->segment = (uint16_t)segment->slot;
  entry->block = block;
  entry->bytes = (uint32_t)bytes;
  entry->crc = crc;
  entry->used_s = used_s;
  entry->state = NEAP__LS_LIVE;
  segment->live_bytes += neap__ls_record_bytes(bytes);
  segment->live_count++;
  ls->live_bytes += bytes;
  return true;
}

static bool add_tomb(recovery *r, neap__ls_segment *segment, neap__ls_tomb tomb) {
  return neap__ls_tombs_add(&segment->tombs, tomb) && neap__ls_tombs_add(&r->tombs, tomb);
}

static bool add_footer(recovery *r, neap__ls_segment *segment, const neap__ls_footer *footer) {
  bool memory = true;
  for (uint32_t i = 0; i < footer->entries_count && memory; i++) {
    neap__ls_footer_entry e;
    memcpy(&e, footer->entries + i * sizeof(e), sizeof(e));
    uint64_t end = (uint64_t)e.block * NEAP__LS_BLOCK + neap__ls_record_bytes(e.bytes);
    if (e.space >= footer->spaces_count || e.block == 0 || end > segment->end) continue;
    neap_object_key key = footer->spaces[e.space];
    memcpy(key.hash, e.hash, NEAP_HASH_BYTES);
    memory = add_object(r, segment, &key, e.block, e.bytes, e.crc, e.used_s);
  }
  for (uint32_t i = 0; i < footer->tombs_count && memory; i++) {
    neap__ls_tomb tomb;
    memcpy(&tomb, footer->tombs + i * sizeof(tomb), sizeof(tomb));
    memory = add_tomb(r, segment, tomb);
  }
  return memory;
}

/* 1: the segment is known; 0: it has no good footer; or NEAP_ENOMEM. */
static int read_footer(recovery *r, neap__ls_segment *segment, uint64_t file_bytes) {
  neap__ls_trailer trailer;
  neap__ls_footer footer;
  if (file_bytes < NEAP__LS_BLOCK * 2 ||
      !read_at(segment->fd, &trailer, sizeof(trailer), file_bytes - sizeof(trailer)) ||
      !neap__ls_trailer_ok(r->ls->host, &trailer, segment->number, file_bytes) || trailer.bytes > FOOTER_BYTES_MAX ||
      (segment->salt && segment->salt != trailer.salt))
    return 0;
  uint8_t *bytes = malloc(trailer.bytes + 1);
  if (!bytes) return NEAP_ENOMEM;
  int rc = 0;
  if (read_at(segment->fd, bytes, trailer.bytes, trailer.offset) &&
      neap__ls_footer_read(r->ls->host, &trailer, bytes, &footer)) {
    segment->salt = trailer.salt;
    segment->end = trailer.offset;
    rc = add_footer(r, segment, &footer) ? 1 : NEAP_ENOMEM;
    free(footer.spaces);
  }
  free(bytes);
  return rc;
}

/* --- record by record ------------------------------------------------------------------------------------------ */

static bool payload_ok(recovery *r, const neap__ls_segment *segment, const neap__ls_record_header *h, uint64_t offset) {
  uint32_t crc = 0;
  offset += NEAP__LS_BLOCK;
  for (uint64_t left = h->payload_bytes; left;) {
    uint64_t n = left < CHUNK ? left : CHUNK;
    if (!read_at(segment->fd, r->chunk, n, offset)) return false;
    crc = r->ls->host->crc32c(crc, r->chunk, n);
    offset += n;
    left -= n;
  }
  return crc == h->payload_crc;
}

static bool add_record(recovery *r, neap__ls_segment *segment, const uint8_t *block, const neap__ls_record_header *h,
                       uint64_t offset) {
  char strings[NEAP_KEY_TEXT_MAX];
  bool memory = true;
  if (h->type == NEAP__LS_OBJECT) {
    neap_object_key key = neap__ls_record_key(block, strings);
    memory = add_object(r, segment, &key, (uint32_t)(offset / NEAP__LS_BLOCK), h->payload_bytes, h->payload_crc,
                        h->written_s);
    if (memory && h->replaces.number) memory = add_tomb(r, segment, h->replaces);
  }
  for (uint32_t i = 0; i < h->tombs && memory && h->type == NEAP__LS_TOMBSTONES; i++) {
    neap__ls_tomb tomb;
    memcpy(&tomb, block + sizeof(*h) + i * sizeof(tomb), sizeof(tomb));
    memory = add_tomb(r, segment, tomb);
  }
  return memory;
}

/* The next place that may hold a record: what was never written is skipped at once. */
static uint64_t next_place(const neap__ls_segment *segment, uint64_t offset, uint64_t file_bytes) {
  offset += NEAP__LS_BLOCK;
  off_t data = lseek(segment->fd, (off_t)offset, SEEK_DATA);
  if (data < 0) return errno == ENXIO ? file_bytes : offset;
  uint64_t at = (uint64_t)data & ~(uint64_t)(NEAP__LS_BLOCK - 1);
  return at > offset ? at : offset;
}

static bool scan(recovery *r, neap__ls_segment *segment, uint64_t file_bytes) {
  uint8_t block[NEAP__LS_BLOCK];
  neap__ls_record_header h;
  segment->end = NEAP__LS_BLOCK;
  for (uint64_t at = NEAP__LS_BLOCK; at + NEAP__LS_BLOCK <= file_bytes;) {
    uint64_t salt = segment->salt;
    bool good =
        read_at(segment->fd, block, sizeof(block), at) && neap__ls_record_header_ok(r->ls->host, block, &salt, at);
    memcpy(&h, block, sizeof(h));
    good = good && h.payload_bytes <= file_bytes - at - NEAP__LS_BLOCK && payload_ok(r, segment, &h, at);
    if (!good) {
      at = next_place(segment, at, file_bytes);
      continue;
    }
    segment->salt = salt;
    if (!add_record(r, segment, block, &h, at)) return false;
    at += neap__ls_record_bytes(h.payload_bytes);
    segment->end = at;
  }
  r->scanned++;
  return true;
}

/* --- segments -------------------------------------------------------------------------------------------------- */

/* Goes on behind the last record of the last segment. False: it stays as it is. */
static bool continue_segment(neap__ls *ls, neap__ls_segment *segment) {
  uint8_t block[NEAP__LS_BLOCK] = {0};
  neap__ls_segment_header header;
  if (segment->end > ls->segment_bytes / 4 * 3 || segment->end + 2 * NEAP__LS_TOMB_RESERVE > ls->segment_bytes)
    return false;
  neap__ls_segment_header_make(ls->host, &header, segment->number, segment->salt, 0);
  memcpy(block, &header, sizeof(header));
  /* Cut first: what lay behind the last record must read as zeros. */
  if (ftruncate(segment->fd, (off_t)segment->end) != 0) return false;
  if (fallocate(segment->fd, 0, 0, (off_t)ls->segment_bytes) != 0 &&
      ((errno != EOPNOTSUPP && errno != ENOSYS) || ftruncate(segment->fd, (off_t)ls->segment_bytes) != 0))
    return false;
  if (pwrite(segment->fd, block, sizeof(block), 0) != (ssize_t)sizeof(block)) return false;
  ls->disk_bytes -= segment->file_bytes;
  segment->limit = segment->file_bytes = ls->segment_bytes;
  ls->disk_bytes += segment->file_bytes;
  segment->state = NEAP__LS_ACTIVE;
  ls->active = segment;
  return true;
}

/* Opens one file. *out stays NULL for one that is not ours, or is empty. */
static int open_segment(recovery *r, uint32_t number, neap__ls_segment **out) {
  neap__ls *ls = r->ls;
  char name[24];
  struct stat st;
  neap__ls_segment_header header;
  neap__ls_segment_name(number, "seg", name);
  neap__ls_segment *segment = neap__ls_segment_new(number);
  if (!segment) return NEAP_ENOMEM;
  segment->fd = openat(ls->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (segment->fd < 0 || fstat(segment->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    foreign(r, name);
    neap__ls_segment_free(segment);
    return 0;
  }
  uint64_t bytes = (uint64_t)st.st_size;
  bool ours = bytes >= sizeof(header) && read_at(segment->fd, &header, sizeof(header), 0) &&
              neap__ls_segment_header_ok(ls->host, &header, number);
  if (ours) segment->salt = header.salt;
  segment->file_bytes = segment->limit = bytes;
  if (!neap__ls_segment_add(ls, segment)) {
    neap__ls_segment_free(segment);
    return NEAP_ELIMIT;
  }
  int rc = read_footer(r, segment, bytes);
  segment->state = rc == 1 ? NEAP__LS_SEALED : NEAP__LS_FULL;
  if (rc == 0 && !scan(r, segment, bytes)) rc = NEAP_ENOMEM;
  bool empty = segment->live_count == 0 && segment->tombs.count == 0;
  if (rc >= 0 && empty && (ours || segment->end > NEAP__LS_BLOCK))
    unlinkat(ls->dir_fd, name, 0);
  else if (rc >= 0 && empty)
    foreign(r, name);
  else if (rc >= 0)
    rc = neap__ls_segment_open_direct(ls, segment, name) ? NEAP_EIO : 0;
  if (rc < 0 || !empty) {
    *out = rc < 0 ? NULL : segment;
    return rc;
  }
  ls->disk_bytes -= segment->file_bytes;
  neap__ls_segment_unref(ls, segment);
  return 0;
}

static int by_place(const void *a, const void *b) {
  const neap__ls_tomb *x = a, *y = b;
  if (x->number != y->number) return x->number < y->number ? -1 : 1;
  return (x->block > y->block) - (x->block < y->block);
}

static void apply_tombs(recovery *r) {
  neap__ls *ls = r->ls;
  if (!r->tombs.count) return;
  qsort(r->tombs.at, r->tombs.count, sizeof(*r->tombs.at), by_place);
  for (uint32_t id = 1; id <= ls->index.top; id++) {
    const neap__ls_entry *entry = neap__ls_entry_at(&ls->index, id);
    if (entry->state != NEAP__LS_LIVE) continue;
    neap__ls_tomb place = {ls->segments[entry->segment]->number, entry->block};
    if (bsearch(&place, r->tombs.at, r->tombs.count, sizeof(place), by_place)) neap__ls_forget(ls, id);
  }
}

int neap__ls_recover(neap__ls *ls, neap_error *err) {
  recovery r = {.ls = ls, .err = err, .chunk = malloc(CHUNK)};
  neap__ls_segment *last = NULL;
  ls->number_next = 1;
  int rc = r.chunk ? list_directory(&r) : NEAP_ENOMEM;
  for (uint32_t i = 0; i < r.numbers_count && rc == 0; i++) {
    neap__ls_segment *segment = NULL;
    rc = open_segment(&r, r.numbers[i], &segment);
    if (segment) last = segment;
  }
  if (rc == 0) {
    apply_tombs(&r);
    if (last) continue_segment(ls, last);
  } else {
    snprintf(err->text, sizeof(err->text), "base_path: cannot read the segments of %.300s: %s", ls->base_path,
             neap_strerror(rc));
  }
  if (r.foreign_count)
    neap__ls_say(ls, NEAP_WARNING, "%u files in %.200s are not of this store and are left alone: %s%s", r.foreign_count,
                 ls->base_path, r.foreign, r.foreign_count > 1 && strlen(r.foreign) > 300 ? ", ..." : "");
  free(r.chunk);
  free(r.numbers);
  free(r.tombs.at);
  return rc;
}
