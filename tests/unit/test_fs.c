/* SPDX-License-Identifier: MIT
 *
 * Built-in type "fs": what lies in the directory, and what a reader gets when something else lies there. */
#include "../adapters/fs/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/test_host.h"

#define BYTES 70000u
#define PAGES 8192u
#define BYTES_ODD 5000u

typedef struct store {
  char dir[256];
  test_host *host;
  void *self;
  neap_error err;
} store;

static int open_with(store *s, const char *more) {
  char params[1024];
  snprintf(params, sizeof(params), "{\"base_path\":\"%s\"%s}", s->dir, more);
  return neap__fs_adapter.open(&neap__fs_adapter, test_host_table(s->host), params, &s->self, &s->err);
}

static void close_it(store *s) {
  if (s->self) neap__fs_adapter.close(s->self);
  s->self = NULL;
}

static void reopen(store *s, const char *more) {
  close_it(s);
  assert_int_equal(open_with(s, more), 0);
}

static int setup(void **state) {
  store *s = calloc(1, sizeof(*s));
  const char *tmp = getenv("TMPDIR");
  snprintf(s->dir, sizeof(s->dir), "%s/neap-fs-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(s->dir)) return -1;
  s->host = test_host_open(4);
  *state = s;
  return open_with(s, "");
}

static void remove_tree(const char *dir) {
  DIR *d = opendir(dir);
  if (!d) return;
  char path[1024];
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
    if (unlink(path) != 0) remove_tree(path);
  }
  closedir(d);
  rmdir(dir);
}

static int teardown(void **state) {
  store *s = *state;
  close_it(s);
  uint32_t astray = test_host_close(s->host);
  remove_tree(s->dir);
  free(s);
  return astray ? -1 : 0;
}

static const char *path_of(store *s, const neap_object_key *key) {
  static char path[NEAP_KEY_TEXT_MAX + 300];
  char name[NEAP_KEY_TEXT_MAX];
  assert_true(test_host_table(s->host)->key_format(key, NEAP_KEY_FILE, name, sizeof(name)) > 0);
  snprintf(path, sizeof(path), "%s/%s", s->dir, name);
  return path;
}

static void write_file(const char *path, const void *data, size_t bytes) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, bytes, f), bytes);
  assert_int_equal(fclose(f), 0);
}

static size_t read_file(const char *path, void *data, size_t cap) {
  FILE *f = fopen(path, "rb");
  if (!f) return SIZE_MAX;
  size_t n = fread(data, 1, cap, f);
  fclose(f);
  return n;
}

/* Files in dir; those with the given suffix if it is not NULL. */
static unsigned count_files(const char *dir, const char *suffix) {
  DIR *d = opendir(dir);
  unsigned n = 0;
  for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
    size_t len = strlen(e->d_name), end = suffix ? strlen(suffix) : 0;
    if (e->d_name[0] != '.' && len >= end && (!suffix || strcmp(e->d_name + len - end, suffix) == 0)) n++;
  }
  if (d) closedir(d);
  return n;
}

static int store_n(store *s, uint64_t n, uint64_t *stored) {
  static _Thread_local uint8_t data[BYTES];
  test_fill(data, BYTES, n);
  return test_store(s->host, &neap__fs_adapter, s->self, test_key(n), data, BYTES, stored);
}

static int load_n(store *s, uint64_t n, uint8_t *data) {
  return test_load(s->host, &neap__fs_adapter, s->self, test_key(n), data, BYTES);
}

static int lookup_n(store *s, uint64_t n) {
  return test_lookup(s->host, &neap__fs_adapter, s->self, test_key(n), BYTES);
}

static uint8_t buffer[BYTES + 64];

/* --- round trip and names ------------------------------------------------------------------------------------- */

static void what_was_stored_is_loaded_and_removed(void **state) {
  store *s = *state;
  uint64_t stored = 7;
  assert_int_equal(lookup_n(s, 1), NEAP_ENOENT);
  assert_int_equal(load_n(s, 1, buffer), NEAP_ENOENT);
  assert_int_equal(store_n(s, 1, &stored), 0);
  assert_int_equal(stored, BYTES);
  assert_int_equal(store_n(s, 1, &stored), 0);
  assert_int_equal(stored, 0);
  assert_int_equal(lookup_n(s, 1), 0);
  assert_int_equal(load_n(s, 1, buffer), 0);
  assert_true(test_filled(buffer, BYTES, 1));
  assert_int_equal(test_remove(s->host, &neap__fs_adapter, s->self, test_key(1)), 0);
  assert_int_equal(test_remove(s->host, &neap__fs_adapter, s->self, test_key(1)), NEAP_ENOENT);
  assert_int_equal(lookup_n(s, 1), NEAP_ENOENT);
}

static void a_file_has_lmcaches_name_and_the_bytes_alone(void **state) {
  store *s = *state;
  neap_object_key key = {.model = "demo/tiny-llama", .salt = "tenantA", .rank = 0x01000100, .group = 10};
  for (int i = 0; i < NEAP_HASH_BYTES; i++) key.hash[i] = (uint8_t)(i * 7);
  test_fill(buffer, 1000, 3);
  assert_int_equal(test_store(s->host, &neap__fs_adapter, s->self, key, buffer, 1000, NULL), 0);
  key.salt = "";
  key.group = 0;
  assert_int_equal(test_store(s->host, &neap__fs_adapter, s->self, key, buffer, 1000, NULL), 0);

  char path[600], hash[] = "00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9";
  uint8_t seen[2000];
  snprintf(path, sizeof(path), "%s/demo-SEP-tiny-llama@0x01000100@a@%s@tenantA.data", s->dir, hash);
  assert_int_equal(read_file(path, seen, sizeof(seen)), 1000);
  assert_memory_equal(seen, buffer, 1000);
  snprintf(path, sizeof(path), "%s/demo-SEP-tiny-llama@0x01000100@0@%s.data", s->dir, hash);
  assert_int_equal(read_file(path, seen, sizeof(seen)), 1000);
  assert_int_equal(count_files(s->dir, NULL), 2);
}

static void a_batch_gets_a_result_for_each_object(void **state) {
  store *s = *state;
  enum { COUNT = 40 };
  uint8_t *data = calloc(COUNT, BYTES);
  assert_int_equal(store_n(s, 3, NULL), 0);
  test_op *op = test_op_new(s->host, NEAP_OP_LOAD, COUNT);
  for (uint32_t i = 0; i < COUNT; i++)
    op->objects[i] = (neap_object){.key = test_key(i), .data = data + i * BYTES, .bytes = BYTES, .result = NEAP_EIO};
  test_op_run(&neap__fs_adapter, s->self, op);
  for (uint32_t i = 0; i < COUNT; i++) assert_int_equal(op->objects[i].result, i == 3 ? 0 : NEAP_ENOENT);
  assert_true(test_filled(data + 3 * BYTES, BYTES, 3));
  free(data);
}

static void a_pool_that_refuses_fails_the_objects_and_ends_the_operation(void **state) {
  store *s = *state;
  test_host_refuse_work(s->host, true);
  assert_int_equal(store_n(s, 1, NULL), NEAP_ELIMIT);
  test_host_refuse_work(s->host, false);
  assert_int_equal(store_n(s, 1, NULL), 0);
}

/* --- damage --------------------------------------------------------------------------------------------------- */

static void a_file_of_another_length_is_corrupt_and_the_next_store_repairs_it(void **state) {
  store *s = *state;
  const size_t lengths[] = {0, BYTES - 1, BYTES + 1, BYTES + 8};
  for (size_t i = 0; i < 4; i++) {
    neap_object_key key = test_key(20 + i);
    memset(buffer, 0x5a, sizeof(buffer));
    write_file(path_of(s, &key), buffer, lengths[i]);
    assert_int_equal(load_n(s, 20 + i, buffer), NEAP_ECORRUPT);
    if (lengths[i] == BYTES + 8) continue; /* could be one with a checksum: told apart by reading */
    assert_int_equal(lookup_n(s, 20 + i), NEAP_ECORRUPT);
    assert_int_equal(store_n(s, 20 + i, NULL), 0);
    assert_int_equal(load_n(s, 20 + i, buffer), 0);
    assert_true(test_filled(buffer, BYTES, 20 + i));
  }
}

static void a_checksum_is_written_verified_and_optional_to_readers(void **state) {
  store *s = *state;
  uint8_t file[BYTES + 64];
  uint64_t stored;
  reopen(s, ",\"checksum\":\"crc32\"");
  assert_int_equal(store_n(s, 5, &stored), 0);
  assert_int_equal(stored, BYTES + 8);
  neap_object_key key = test_key(5);
  assert_int_equal(read_file(path_of(s, &key), file, sizeof(file)), BYTES + 8);
  assert_true(test_filled(file, BYTES, 5));
  uint32_t crc = test_host_table(s->host)->crc32c(0, file, BYTES);
  const uint8_t trailer[8] = {
      'n', 'C', 'R', 'C', (uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16), (uint8_t)(crc >> 24)};
  assert_memory_equal(file + BYTES, trailer, 8);
  assert_int_equal(lookup_n(s, 5), 0);
  assert_int_equal(load_n(s, 5, buffer), 0);

  reopen(s, "");
  assert_int_equal(load_n(s, 5, buffer), 0);
  assert_int_equal(store_n(s, 5, &stored), 0);
  assert_int_equal(stored, 0);

  file[100] ^= 1;
  write_file(path_of(s, &key), file, BYTES + 8);
  assert_int_equal(load_n(s, 5, buffer), NEAP_ECORRUPT);
  reopen(s, ",\"checksum\":\"crc32\"");
  assert_int_equal(load_n(s, 5, buffer), NEAP_ECORRUPT);
}

static void with_checksums_a_file_without_one_is_corrupt_and_stored_anew(void **state) {
  store *s = *state;
  uint64_t stored;
  assert_int_equal(store_n(s, 6, NULL), 0);
  reopen(s, ",\"checksum\":\"crc32\"");
  assert_int_equal(lookup_n(s, 6), NEAP_ECORRUPT);
  assert_int_equal(load_n(s, 6, buffer), NEAP_ECORRUPT);
  assert_int_equal(store_n(s, 6, &stored), 0);
  assert_int_equal(stored, BYTES + 8);
  assert_int_equal(load_n(s, 6, buffer), 0);
}

/* --- concurrent writers --------------------------------------------------------------------------------------- */

/* Four stores of key 0 under way at once, each with its own content; returns the bytes added. */
static uint64_t four_stores(store *s, uint64_t first) {
  uint8_t *data = calloc(4, BYTES);
  test_op *ops[4];
  uint64_t added = 0;
  for (uint32_t i = 0; i < 4; i++) {
    test_fill(data + i * BYTES, BYTES, first + i);
    ops[i] = test_op_new(s->host, NEAP_OP_STORE, 1);
    ops[i]->objects[0] =
        (neap_object){.key = test_key(0), .data = data + i * BYTES, .bytes = BYTES, .result = NEAP_EIO};
  }
  for (uint32_t i = 0; i < 4; i++) test_op_submit(&neap__fs_adapter, s->self, ops[i]);
  for (uint32_t i = 0; i < 4; i++) {
    test_op_wait(ops[i]);
    added += ops[i]->objects[0].result == 0 ? ops[i]->objects[0].stored_bytes : 1000000;
  }
  free(data);
  return added;
}

static bool holds_one_of(store *s, uint64_t candidates) {
  if (load_n(s, 0, buffer) != 0) return false;
  for (uint64_t i = 0; i < candidates; i++)
    if (test_filled(buffer, BYTES, i)) return true;
  return false;
}

static void of_four_stores_of_one_key_by_threads_exactly_one_file_stays(void **state) {
  store *s = *state;
  for (int round = 0; round < 20; round++) {
    assert_int_equal(four_stores(s, 0), BYTES);
    assert_true(holds_one_of(s, 4));
    assert_int_equal(count_files(s->dir, NULL), 1);
    assert_int_equal(test_remove(s->host, &neap__fs_adapter, s->self, test_key(0)), 0);
  }
}

/* A writer process: opens the directory, waits for the gate, stores; writes the bytes it added to out. */
static void writer(const store *s, uint64_t first, int gate, int out) {
  store mine = {.host = test_host_open(4)};
  snprintf(mine.dir, sizeof(mine.dir), "%s", s->dir);
  char byte;
  uint64_t added = 1;
  if (open_with(&mine, "") == 0 && read(gate, &byte, 1) == 0) added = four_stores(&mine, first);
  ssize_t n = write(out, &added, sizeof(added));
  _exit(n == sizeof(added) ? 0 : 1);
}

static void of_stores_of_one_key_by_processes_exactly_one_file_stays(void **state) {
  store *s = *state;
  close_it(s);
  assert_int_equal(test_host_close(s->host), 0); /* no thread of ours while we fork */
  int gate[2], out[2];
  assert_int_equal(pipe(gate), 0);
  assert_int_equal(pipe(out), 0);
  pid_t pids[4];
  for (uint64_t i = 0; i < 4; i++) {
    pids[i] = fork();
    if (pids[i] == 0) {
      close(gate[1]);
      writer(s, 4 * i, gate[0], out[1]);
    }
  }
  close(gate[0]);
  close(gate[1]); /* opens for all at once */
  uint64_t added = 0, one;
  for (int i = 0; i < 4; i++) {
    int status = -1;
    assert_int_equal(read(out[0], &one, sizeof(one)), sizeof(one));
    added += one;
    assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
    assert_int_equal(status, 0);
  }
  close(out[0]);
  close(out[1]);
  s->host = test_host_open(4);
  assert_int_equal(open_with(s, ""), 0);
  assert_int_equal(added, BYTES);
  assert_true(holds_one_of(s, 16));
  assert_int_equal(count_files(s->dir, NULL), 1);
}

/* --- full and forbidden --------------------------------------------------------------------------------------- */

/* In a process of its own: returns 0, 77 if it cannot be tried here, or the number of the step that failed. */
static int fill_disk(store *s, bool mounted) {
  if (mounted) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", s->dir, "tmpfs", 0, "size=192k") != 0)
      return 77;
  }
  s->host = test_host_open(2);
  if (open_with(s, ",\"min_free_gb\":0") != 0) return 1;
  if (!mounted) {
    struct rlimit limit = {BYTES / 2, BYTES / 2};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 77;
  }
  int rc = 0;
  for (uint64_t n = 0; n < 4 && rc == 0; n++) rc = store_n(s, n, NULL);
  if (rc != NEAP_ENOSPC) return 2;
  if (store_n(s, 9, NULL) != NEAP_ENOSPC || lookup_n(s, 9) != NEAP_ENOENT) return 3;
  if (count_files(s->dir, ".tmp") != 0) return 4;
  if (!test_host_logged(s->host, mounted ? "No space left on device" : "File too large")) return 5;
  if (mounted && (test_remove(s->host, &neap__fs_adapter, s->self, test_key(0)) != 0 || store_n(s, 9, NULL) != 0))
    return 6;
  close_it(s);
  return test_host_close(s->host) ? 7 : 0;
}

static void expect_full(store *s, bool mounted) {
  close_it(s);
  assert_int_equal(test_host_close(s->host), 0);
  pid_t pid = fork();
  if (pid == 0) _exit(fill_disk(s, mounted));
  int status = -1;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  s->host = test_host_open(1);
  assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) {
    print_message("skipped: this user may not mount a tmpfs or limit file sizes\n");
    skip();
  }
  assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_full_file_system_is_enospc_leaves_nothing_and_recovers(void **state) { expect_full(*state, true); }
static void a_file_size_limit_is_enospc_and_leaves_nothing(void **state) { expect_full(*state, false); }

static void the_disk_guard_refuses_stores_and_lets_loads_go_on(void **state) {
  store *s = *state;
  assert_int_equal(store_n(s, 1, NULL), 0);
  reopen(s, ",\"min_free_gb\":100000000");
  assert_int_equal(store_n(s, 2, NULL), NEAP_ENOSPC);
  assert_int_equal(lookup_n(s, 2), NEAP_ENOENT);
  assert_true(test_host_logged(s->host, "min_free_gb leaves no room for"));
  assert_int_equal(store_n(s, 1, NULL), 0); /* there already: takes no room */
  assert_int_equal(load_n(s, 1, buffer), 0);
  assert_true(test_filled(buffer, BYTES, 1));
}

static void a_directory_that_cannot_be_written_is_refused_with_the_reason(void **state) {
  store *s = *state;
  close_it(s);
  char file[400], inside[500];
  snprintf(file, sizeof(file), "%s/file", s->dir);
  write_file(file, "x", 1);
  store other = {.host = s->host};
  snprintf(inside, sizeof(inside), "%s/below", file);
  snprintf(other.dir, sizeof(other.dir), "%.250s", inside);
  assert_int_equal(open_with(&other, ""), NEAP_EPERM);
  assert_non_null(strstr(other.err.text, "Not a directory"));
  if (geteuid() == 0) {
    print_message("skipped in part: root may write to any directory\n");
    return;
  }
  assert_int_equal(chmod(s->dir, 0555), 0);
  int rc = open_with(s, "");
  chmod(s->dir, 0755);
  assert_int_equal(rc, NEAP_EPERM);
  assert_non_null(strstr(s->err.text, "Permission denied"));
}

static void parameters_that_climb_out_are_refused(void **state) {
  store *s = *state;
  close_it(s);
  assert_int_equal(open_with(s, ",\"relative_tmp_dir\":\"../x\""), NEAP_EINVAL);
  assert_non_null(strstr(s->err.text, "Invalid relative_tmp_dir: ../x"));
  assert_int_equal(open_with(s, ",\"relative_tmp_dir\":\"/x\""), NEAP_EINVAL);
  assert_int_equal(open_with(s, ",\"relative_tmp_dir\":\"a/..\""), NEAP_EINVAL);
  assert_int_equal(
      neap__fs_adapter.open(&neap__fs_adapter, test_host_table(s->host), "{\"base_path\":\"\"}", &s->self, &s->err),
      NEAP_EINVAL);
  assert_non_null(strstr(s->err.text, "base_path must be a non-empty string"));
}

/* --- directory ------------------------------------------------------------------------------------------------ */

static void missing_directories_are_made_and_temporary_files_kept_apart(void **state) {
  store *s = *state;
  close_it(s);
  char top[256], tmp[300];
  snprintf(top, sizeof(top), "%s", s->dir);
  snprintf(s->dir, sizeof(s->dir), "%.200s/a/b", top);
  assert_int_equal(open_with(s, ",\"relative_tmp_dir\":\"part\",\"read_ahead_size\":4096"), 0);
  assert_true(test_host_logged(s->host, "Initialized FSL2Adapter with base_path="));
  assert_int_equal(store_n(s, 1, NULL), 0);
  assert_int_equal(load_n(s, 1, buffer), 0);
  assert_true(test_filled(buffer, BYTES, 1));
  snprintf(tmp, sizeof(tmp), "%s/part", s->dir);
  assert_int_equal(count_files(tmp, NULL), 0);
  close_it(s);
  snprintf(s->dir, sizeof(s->dir), "%s", top);
}

static void unfinished_files_of_dead_writers_are_removed_at_start(void **state) {
  store *s = *state;
  char own[600], live[600], old[NEAP_KEY_TEXT_MAX + 300], fresh[NEAP_KEY_TEXT_MAX + 300], other[600];
  neap_object_key a = test_key(1), b = test_key(2);
  snprintf(own, sizeof(own), "%s/neap-1-2-3.tmp", s->dir);
  snprintf(other, sizeof(other), "%s/notes.tmp", s->dir);
  snprintf(old, sizeof(old), "%s", path_of(s, &a));
  memcpy(strrchr(old, '.'), ".tmp", 5);
  snprintf(fresh, sizeof(fresh), "%s", path_of(s, &b));
  memcpy(strrchr(fresh, '.'), ".tmp", 5);
  write_file(own, "x", 1);
  write_file(other, "x", 1);
  write_file(old, "x", 1);
  write_file(fresh, "x", 1);
  struct timespec long_ago[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
  assert_int_equal(utimensat(AT_FDCWD, old, long_ago, 0), 0);
  char name[64];
  int fd = neap__fs_temp(s->self, name); /* a writer that lives */
  assert_true(fd >= 0);
  snprintf(live, sizeof(live), "%s/%s", s->dir, name);

  void *first = s->self;
  s->self = NULL;
  assert_int_equal(open_with(s, ""), 0);
  assert_int_equal(access(own, F_OK), -1);
  assert_int_equal(access(old, F_OK), -1);
  assert_int_equal(access(fresh, F_OK), 0);
  assert_int_equal(access(other, F_OK), 0);
  assert_int_equal(access(live, F_OK), 0);
  close(fd);
  neap__fs_adapter.close(first);
}

static void a_listing_yields_keys_sizes_and_times_of_objects_alone(void **state) {
  store *s = *state;
  char path[600];
  for (uint64_t n = 0; n < 5; n++) {
    assert_int_equal(store_n(s, n, NULL), 0);
    neap_object_key key = test_key(n);
    struct timespec at[2] = {{.tv_sec = 5000 + (time_t)n}, {.tv_sec = 5000 + (time_t)n}};
    assert_int_equal(utimensat(AT_FDCWD, path_of(s, &key), at, 0), 0);
  }
  snprintf(path, sizeof(path), "%s/README.data", s->dir);
  write_file(path, "x", 1);
  test_op *op = test_op_new(s->host, NEAP_OP_LIST, 0);
  test_op_run(&neap__fs_adapter, s->self, op);
  assert_int_equal(op->op.list_result, 0);
  assert_int_equal(op->entries_count, 5);
  for (uint32_t i = 0; i < 5; i++) {
    uint64_t n = (uint64_t)(op->entries[i].entry.used_unix_s - 5000);
    neap_object_key key = test_key(n);
    assert_true(n < 5);
    assert_memory_equal(op->entries[i].entry.key.hash, key.hash, NEAP_HASH_BYTES);
    assert_string_equal(op->entries[i].model, key.model);
    assert_int_equal(op->entries[i].entry.bytes, BYTES);
  }
  reopen(s, ",\"recover_on_start\":false");
  op = test_op_new(s->host, NEAP_OP_LIST, 0);
  test_op_run(&neap__fs_adapter, s->self, op);
  assert_int_equal(op->op.list_result, NEAP_ENOTSUP);
}

static void a_load_renews_the_time_of_use_of_an_old_file(void **state) {
  store *s = *state;
  struct stat st;
  neap_object_key key = test_key(1);
  struct timespec at[2] = {{.tv_sec = 5000}, {.tv_sec = 5000}};
  assert_int_equal(store_n(s, 1, NULL), 0);
  assert_int_equal(utimensat(AT_FDCWD, path_of(s, &key), at, 0), 0);
  assert_int_equal(lookup_n(s, 1), 0);
  assert_int_equal(stat(path_of(s, &key), &st), 0);
  assert_int_equal(st.st_mtim.tv_sec, 5000);
  assert_int_equal(load_n(s, 1, buffer), 0);
  assert_int_equal(stat(path_of(s, &key), &st), 0);
  assert_true(st.st_mtim.tv_sec > 1000000);
}

static void odirect_round_trips_aligned_and_unaligned_objects(void **state) {
  store *s = *state;
  reopen(s, ",\"use_odirect\":true,\"checksum\":\"crc32\"");
  uint8_t *pages = aligned_alloc(PAGES, PAGES);
  test_fill(pages, PAGES, 11);
  assert_int_equal(test_store(s->host, &neap__fs_adapter, s->self, test_key(11), pages, PAGES, NULL), 0);
  memset(pages, 0, PAGES);
  assert_int_equal(test_load(s->host, &neap__fs_adapter, s->self, test_key(11), pages, PAGES), 0);
  assert_true(test_filled(pages, PAGES, 11));
  for (uint64_t bytes = PAGES - 4097; bytes < PAGES; bytes += 1365) { /* an aligned part, and a tail */
    test_fill(pages, bytes, bytes);
    assert_int_equal(test_store(s->host, &neap__fs_adapter, s->self, test_key(bytes), pages, bytes, NULL), 0);
    memset(pages, 0, PAGES);
    assert_int_equal(test_load(s->host, &neap__fs_adapter, s->self, test_key(bytes), pages, bytes), 0);
    assert_true(test_filled(pages, bytes, bytes));
    assert_int_equal(pages[bytes], 0);
  }
  test_fill(pages + 1, BYTES_ODD, 12);
  assert_int_equal(test_store(s->host, &neap__fs_adapter, s->self, test_key(12), pages + 1, BYTES_ODD, NULL), 0);
  assert_int_equal(test_load(s->host, &neap__fs_adapter, s->self, test_key(12), pages + 1, BYTES_ODD), 0);
  assert_true(test_filled(pages + 1, BYTES_ODD, 12));
  assert_true(test_host_logged(s->host, "use_odirect:"));
  free(pages);
}

static void status_has_lmcaches_fields(void **state) {
  store *s = *state;
  char json[512], expected[512];
  snprintf(expected, sizeof(expected),
           "{\"is_healthy\":true,\"type\":\"FSL2Adapter\",\"base_path\":\"%s\",\"use_odirect\":false,"
           "\"event_loop_alive\":true}",
           s->dir);
  assert_int_equal(neap__fs_adapter.status(s->self, json, sizeof(json)), strlen(expected));
  assert_string_equal(json, expected);
  assert_int_equal(neap__fs_adapter.status(s->self, json, 10), NEAP_ELIMIT);
  assert_int_equal(rmdir(s->dir), 0);
  assert_true(neap__fs_adapter.status(s->self, json, sizeof(json)) > 0);
  assert_non_null(strstr(json, "\"is_healthy\":false"));
}

static void a_name_that_is_too_long_is_refused_for_stores_and_a_miss_for_others(void **state) {
  store *s = *state;
  char model[NEAP_MODEL_BYTES_MAX + 1], data[100] = "";
  neap_object_key key = test_key(1);
  memset(model, 'm', NEAP_MODEL_BYTES_MAX);
  model[NEAP_MODEL_BYTES_MAX] = 0;
  key.model = model;
  assert_int_equal(test_store(s->host, &neap__fs_adapter, s->self, key, data, sizeof(data), NULL), NEAP_EINVAL);
  assert_int_equal(test_lookup(s->host, &neap__fs_adapter, s->self, key, sizeof(data)), NEAP_ENOENT);
  assert_int_equal(test_load(s->host, &neap__fs_adapter, s->self, key, data, sizeof(data)), NEAP_ENOENT);
  assert_int_equal(test_remove(s->host, &neap__fs_adapter, s->self, key), NEAP_ENOENT);
}

static void a_pipe_in_the_place_of_a_file_does_not_hold_a_worker(void **state) {
  store *s = *state;
  char name[NEAP_KEY_TEXT_MAX], path[NEAP_KEY_TEXT_MAX + 300], data[100];
  neap_object_key key = test_key(1);
  assert_true(test_host_table(s->host)->key_format(&key, NEAP_KEY_FILE, name, sizeof(name)) > 0);
  snprintf(path, sizeof(path), "%s/%s", s->dir, name);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(test_load(s->host, &neap__fs_adapter, s->self, key, data, sizeof(data)), NEAP_ECORRUPT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      T(what_was_stored_is_loaded_and_removed),
      T(a_file_has_lmcaches_name_and_the_bytes_alone),
      T(a_batch_gets_a_result_for_each_object),
      T(a_pool_that_refuses_fails_the_objects_and_ends_the_operation),
      T(a_file_of_another_length_is_corrupt_and_the_next_store_repairs_it),
      T(a_checksum_is_written_verified_and_optional_to_readers),
      T(with_checksums_a_file_without_one_is_corrupt_and_stored_anew),
      T(of_four_stores_of_one_key_by_threads_exactly_one_file_stays),
      T(of_stores_of_one_key_by_processes_exactly_one_file_stays),
      T(a_full_file_system_is_enospc_leaves_nothing_and_recovers),
      T(a_file_size_limit_is_enospc_and_leaves_nothing),
      T(the_disk_guard_refuses_stores_and_lets_loads_go_on),
      T(a_directory_that_cannot_be_written_is_refused_with_the_reason),
      T(parameters_that_climb_out_are_refused),
      T(missing_directories_are_made_and_temporary_files_kept_apart),
      T(unfinished_files_of_dead_writers_are_removed_at_start),
      T(a_listing_yields_keys_sizes_and_times_of_objects_alone),
      T(a_load_renews_the_time_of_use_of_an_old_file),
      T(odirect_round_trips_aligned_and_unaligned_objects),
      T(a_name_that_is_too_long_is_refused_for_stores_and_a_miss_for_others),
      T(a_pipe_in_the_place_of_a_file_does_not_hold_a_worker),
      T(status_has_lmcaches_fields),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
