/* SPDX-License-Identifier: MIT
 *
 * Built-in type "log": what a start finds in a directory that somebody or something has damaged. Each test changes
 * bytes of a closed store and opens it again: never a crash, never a wrong byte, and no more lost than was damaged. */
#include "unit/log_rig.h"

#include <errno.h>
#include <fcntl.h>

#include "../adapters/log/format.h"

#define COUNT 6u
#define BYTES 10000u /* three blocks of payload, the last one in part */
#define RECORD (4u * 4096u)

static void path_of(const rig *r, const char *name, char path[600]) { snprintf(path, 600, "%s/%s", r->dir, name); }

static off_t size_of(const rig *r, const char *name) {
  char path[600];
  struct stat st;
  path_of(r, name, path);
  assert_int_equal(stat(path, &st), 0);
  return st.st_size;
}

static void flip(const rig *r, const char *name, off_t at) {
  char path[600];
  uint8_t byte;
  path_of(r, name, path);
  int fd = open(path, O_RDWR);
  assert_true(fd >= 0);
  assert_int_equal(pread(fd, &byte, 1, at), 1);
  byte ^= 0x10;
  assert_int_equal(pwrite(fd, &byte, 1, at), 1);
  close(fd);
}

static void cut(const rig *r, const char *name, off_t bytes) {
  char path[600];
  path_of(r, name, path);
  assert_int_equal(truncate(path, bytes), 0);
}

static void append(const rig *r, const char *name, const void *data, size_t bytes) {
  char path[600];
  path_of(r, name, path);
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, data, bytes), bytes);
  close(fd);
}

/* Makes a closed store of COUNT objects in 00000001.seg; its copy is kept as 00000001.bak below the directory. */
static void make_sample(rig *r) {
  for (uint64_t n = 0; n < COUNT; n++) assert_int_equal(rig_store(r, n, BYTES, NULL), 0);
  rig_close(r);
  assert_int_equal(rig_files(r, ".seg"), 1);
}

static uint8_t *read_sample(const rig *r, size_t *bytes) {
  char path[600];
  path_of(r, "00000001.seg", path);
  *bytes = (size_t)size_of(r, "00000001.seg");
  uint8_t *data = malloc(*bytes);
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  assert_int_equal(fread(data, 1, *bytes, f), *bytes);
  fclose(f);
  return data;
}

/* The directory holds nothing but these bytes as the first segment. */
static void put_sample(const rig *r, const uint8_t *data, size_t bytes) {
  char path[600];
  DIR *d = opendir(r->dir);
  for (struct dirent *e; (e = readdir(d)) != NULL;)
    if (e->d_name[0] != '.') unlinkat(dirfd(d), e->d_name, 0);
  closedir(d);
  path_of(r, "00000001.seg", path);
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, bytes, f), bytes);
  fclose(f);
}

/* Opens, and counts the objects that are there and right; a wrong one fails the test. */
static unsigned survivors(rig *r) {
  unsigned there = 0;
  assert_int_equal(rig_open(r, ""), 0);
  for (uint64_t n = 0; n < COUNT; n++) {
    int rc = rig_load(r, n, BYTES);
    assert_true(rc == 0 || rc == NEAP_ENOENT || rc == NEAP_ECORRUPT);
    there += rc == 0;
  }
  return there;
}

/* --- cut off --------------------------------------------------------------------------------------------------- */

static void a_tail_torn_at_any_byte_of_the_last_header_costs_the_last_object_only(void **state) {
  rig *r = *state;
  size_t bytes;
  make_sample(r);
  uint8_t *sample = read_sample(r, &bytes);
  size_t last = 4096 + (COUNT - 1) * RECORD;
  size_t header = sizeof(neap__ls_record_header) + strlen("demo/tiny");
  for (size_t at = last; at <= last + header + 1; at++) {
    put_sample(r, sample, at);
    assert_int_equal(survivors(r), COUNT - 1);
    assert_int_equal(rig_lookup(r, COUNT - 1), NEAP_ENOENT);
    rig_close(r);
  }
  free(sample);
}

static void a_tail_torn_in_the_last_payload_costs_the_last_object_only(void **state) {
  rig *r = *state;
  size_t bytes;
  make_sample(r);
  uint8_t *sample = read_sample(r, &bytes);
  size_t last = 4096 + (COUNT - 1) * RECORD, payload = last + 4096;
  for (size_t at = payload; at < payload + BYTES; at += 997) {
    put_sample(r, sample, at);
    assert_int_equal(survivors(r), COUNT - 1);
    assert_int_equal(rig_store(r, COUNT - 1, BYTES, NULL), 0); /* the place is usable */
    rig_reopen(r, "");
    assert_int_equal(rig_load(r, COUNT - 1, BYTES), 0);
    rig_close(r);
  }
  put_sample(r, sample, payload + BYTES); /* the padding alone is missing */
  assert_int_equal(survivors(r), COUNT);
  free(sample);
}

/* As a kill leaves it: the file has its full length, what was not written reads as zeros. */
static void a_tail_of_zeros_costs_the_last_object_only(void **state) {
  rig *r = *state;
  size_t bytes;
  make_sample(r);
  uint8_t *sample = read_sample(r, &bytes);
  size_t last = 4096 + (COUNT - 1) * RECORD, payload = last + 4096;
  for (size_t at = last + 1; at < payload + BYTES; at += 1013) {
    uint8_t *copy = calloc(1, 1u << 20);
    memcpy(copy, sample, at);
    put_sample(r, copy, 1u << 20);
    free(copy);
    assert_int_equal(survivors(r), COUNT - 1);
    rig_close(r);
  }
  free(sample);
}

static void a_file_cut_anywhere_yields_whole_objects_or_none(void **state) {
  rig *r = *state;
  size_t bytes;
  make_sample(r);
  uint8_t *sample = read_sample(r, &bytes);
  for (size_t at = 0; at < bytes; at += 3001) {
    put_sample(r, sample, at);
    unsigned whole = at < 4096 ? 0 : (unsigned)((at - 4096) / RECORD);
    unsigned there = survivors(r);
    assert_in_range(there, whole < COUNT ? whole : COUNT, whole + 1);
    rig_close(r);
  }
  free(sample);
}

/* --- flipped bits ---------------------------------------------------------------------------------------------- */

static void a_bit_flipped_in_a_payload_is_corrupt_once_then_absent_then_storable(void **state) {
  rig *r = *state;
  make_sample(r);
  flip(r, "00000001.seg", 4096 + 2 * RECORD + 4096 + 5000);
  assert_int_equal(rig_open(r, ""), 0);
  assert_int_equal(rig_lookup(r, 2), 0);
  assert_int_equal(rig_load(r, 2, BYTES), NEAP_ECORRUPT);
  assert_true(test_host_logged(r->host, "failed its checksum"));
  assert_int_equal((int)rig_status(r, "corrupt"), 1);
  assert_int_equal(rig_load(r, 2, BYTES), NEAP_ENOENT);
  rig_reopen(r, "");
  assert_int_equal(rig_lookup(r, 2), NEAP_ENOENT); /* the quarantine outlives the process */
  assert_int_equal(rig_store(r, 2, BYTES, NULL), 0);
  assert_int_equal(rig_load(r, 2, BYTES), 0);
  for (uint64_t n = 0; n < COUNT; n++) assert_int_equal(rig_load(r, n, BYTES), 0);
}

static void a_bit_flipped_anywhere_costs_one_object_at_most(void **state) {
  rig *r = *state;
  size_t bytes;
  make_sample(r);
  uint8_t *sample = read_sample(r, &bytes);
  for (size_t at = 0; at < bytes; at += at < 8192 ? 37 : 1009) {
    sample[at] ^= 4;
    put_sample(r, sample, bytes);
    sample[at] ^= 4;
    assert_true(survivors(r) >= COUNT - 1);
    rig_close(r);
  }
  free(sample);
}

static void a_damaged_record_in_the_middle_does_not_hide_those_behind_it(void **state) {
  rig *r = *state;
  make_sample(r);
  cut(r, "00000001.seg", 4096 + COUNT * RECORD); /* no footer */
  flip(r, "00000001.seg", 4096 + 1 * RECORD + 20);
  assert_int_equal(survivors(r), COUNT - 1);
  assert_int_equal(rig_lookup(r, 1), NEAP_ENOENT);
}

/* --- footers --------------------------------------------------------------------------------------------------- */

static void a_missing_or_foreign_footer_is_made_up_by_reading_the_records(void **state) {
  rig *r = *state;
  size_t bytes;
  make_sample(r);
  uint8_t *sample = read_sample(r, &bytes);
  size_t end = 4096 + COUNT * RECORD;
  put_sample(r, sample, end);
  assert_int_equal(survivors(r), COUNT);
  rig_close(r);
  for (size_t at = end; at < bytes; at += 61) { /* any damage to it */
    sample[at] ^= 0x80;
    put_sample(r, sample, bytes);
    sample[at] ^= 0x80;
    assert_int_equal(survivors(r), COUNT);
    rig_close(r);
  }
  /* The footer of another segment: right in itself, but not of this file. */
  put_sample(r, sample, end);
  uint8_t *other = malloc(bytes - end);
  memcpy(other, sample + end, bytes - end);
  neap__ls_trailer trailer;
  memcpy(&trailer, other + (bytes - end) - sizeof(trailer), sizeof(trailer));
  trailer.salt ^= 1;
  trailer.crc = test_host_table(r->host)->crc32c(0, &trailer, offsetof(neap__ls_trailer, crc));
  memcpy(other + (bytes - end) - sizeof(trailer), &trailer, sizeof(trailer));
  append(r, "00000001.seg", other, bytes - end);
  assert_int_equal(survivors(r), COUNT);
  free(other);
  free(sample);
}

static void a_file_that_grew_behind_its_footer_is_cut_back(void **state) {
  rig *r = *state;
  make_sample(r);
  uint8_t junk[5000];
  memset(junk, 0xa5, sizeof(junk));
  append(r, "00000001.seg", junk, sizeof(junk));
  assert_int_equal(survivors(r), COUNT);
  rig_reopen(r, "");
  assert_int_equal(rig_load(r, 0, BYTES), 0);
}

static void removals_in_a_segment_without_footer_still_count(void **state) {
  rig *r = *state;
  for (uint64_t n = 0; n < COUNT; n++) assert_int_equal(rig_store(r, n, BYTES, NULL), 0);
  assert_int_equal(rig_delete(r, 3), 0);
  assert_int_equal(rig_store(r, 1, 200, NULL), 0); /* replaces by length */
  rig_close(r);
  cut(r, "00000001.seg", size_of(r, "00000001.seg") - 1);
  assert_int_equal(rig_open(r, ""), 0);
  assert_int_equal(rig_lookup(r, 3), NEAP_ENOENT);
  assert_int_equal(rig_load(r, 1, 200), 0);
  assert_int_equal(rig_load(r, 0, BYTES), 0);
}

/* --- what is not ours ------------------------------------------------------------------------------------------ */

static void foreign_files_are_left_alone_and_named_once(void **state) {
  rig *r = *state;
  make_sample(r);
  uint8_t junk[9000];
  char path[600];
  memset(junk, 0x33, sizeof(junk));
  append(r, "notes.txt", junk, 100);
  append(r, "00000007.seg", junk, sizeof(junk)); /* our name, not our bytes */
  append(r, "123.seg", junk, 10);
  append(r, "00000009.new", junk, 10); /* a segment that was being made */
  path_of(r, "00000008.seg", path);
  assert_int_equal(mkdir(path, 0755), 0);
  assert_int_equal(survivors(r), COUNT);
  assert_true(test_host_logged(r->host, "4 files in"));
  assert_true(test_host_logged(r->host, "notes.txt"));
  assert_true(test_host_logged(r->host, "00000007.seg"));
  for (uint64_t n = 100; n < 200; n++) assert_int_equal(rig_store(r, n, 60000, NULL), 0);
  rig_close(r);
  assert_int_equal(size_of(r, "notes.txt"), 100);
  assert_int_equal(size_of(r, "00000007.seg"), sizeof(junk));
  assert_int_equal(size_of(r, "123.seg"), 10);
  assert_int_equal(rig_files(r, ".new"), 0);
  rig_remove_tree(path);
}

static void a_directory_in_use_is_refused_by_name(void **state) {
  rig *r = *state;
  rig other = {.host = r->host};
  snprintf(other.dir, sizeof(other.dir), "%s", r->dir);
  assert_int_equal(rig_open(&other, ""), NEAP_EBUSY);
  assert_non_null(strstr(other.err.text, r->dir));
  assert_int_equal(rig_store(r, 1, BYTES, NULL), 0);
  assert_int_equal(rig_load(r, 1, BYTES), 0);
}

static void a_path_that_is_no_directory_is_refused_by_name(void **state) {
  rig *r = *state;
  append(r, "file", "x", 1);
  rig other = {.host = r->host};
  snprintf(other.dir, sizeof(other.dir), "%.240s/file", r->dir);
  assert_true(rig_open(&other, "") < 0);
  assert_non_null(strstr(other.err.text, "/file"));
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      T(a_tail_torn_at_any_byte_of_the_last_header_costs_the_last_object_only),
      T(a_tail_torn_in_the_last_payload_costs_the_last_object_only),
      T(a_tail_of_zeros_costs_the_last_object_only),
      T(a_file_cut_anywhere_yields_whole_objects_or_none),
      T(a_bit_flipped_in_a_payload_is_corrupt_once_then_absent_then_storable),
      T(a_bit_flipped_anywhere_costs_one_object_at_most),
      T(a_damaged_record_in_the_middle_does_not_hide_those_behind_it),
      T(a_missing_or_foreign_footer_is_made_up_by_reading_the_records),
      T(a_file_that_grew_behind_its_footer_is_cut_back),
      T(removals_in_a_segment_without_footer_still_count),
      T(foreign_files_are_left_alone_and_named_once),
      T(a_directory_in_use_is_refused_by_name),
      T(a_path_that_is_no_directory_is_refused_by_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
