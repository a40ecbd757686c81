/* SPDX-License-Identifier: MIT
 *
 * A tier over the built-in type "fs": damage on the disk, and what a restart finds there. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../adapters/fs/fs.h"
#include "support/tier_probe.h"

static char dir[256], params[400];

static int setup_fs(void **state) {
  if (probe_setup(state) != 0) return -1;
  probe_engine *e = *state;
  const char *tmp = getenv("TMPDIR");
  snprintf(dir, sizeof(dir), "%s/neap-tier-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(dir)) return -1;
  snprintf(params, sizeof(params), "{\"base_path\":\"%s\"}", dir);
  e->config.adapter = &neap__fs_adapter;
  e->config.params_json = params;
  return 0;
}

static void close_tier(probe_engine *e) {
  neap__tier_close(e->tier, 30000);
  e->tier = NULL;
}

static const char *path_of(uint32_t n) {
  static char path[600];
  snprintf(path, sizeof(path), "%s/demo-SEP-tiny@0x%08x@0@%02x%062x%s.data", dir, PROBE_RANK, n, 0,
           n & 1 ? "@tenant" : "");
  return path;
}

static int teardown_fs(void **state) {
  for (uint32_t n = 0; n < 100; n++) unlink(path_of(n));
  int rc = rmdir(dir); /* nothing but objects was left */
  return probe_teardown(state) || rc ? -1 : 0;
}

static bool on_disk(uint32_t n) { return access(path_of(n), F_OK) == 0; }

static void a_flipped_bit_on_disk_is_a_miss_and_the_file_goes(void **state) {
  probe_engine *e = *state;
  probe_open_tier(e);
  assert_int_equal(probe_store(e, 1), 0);
  int fd = open(path_of(1), O_RDWR);
  uint8_t byte;
  assert_int_equal(pread(fd, &byte, 1, 77), 1);
  byte ^= 0x10;
  assert_int_equal(pwrite(fd, &byte, 1, 77), 1);
  close(fd);
  assert_int_equal(probe_load(e, 1), NEAP_ECORRUPT);
  probe_drain(e);
  assert_false(on_disk(1));
  assert_int_equal(probe_stats(e).quarantined, 1);
  assert_int_equal(probe_stats(e).used_bytes, 0);
  assert_int_equal(probe_store(e, 1), 0);
  assert_int_equal(probe_load(e, 1), 0);
  close_tier(e);
}

static void a_file_cut_short_is_no_hit_and_goes(void **state) {
  probe_engine *e = *state;
  probe_open_tier(e);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 4), 0);
  assert_int_equal(truncate(path_of(2), 10), 0);
  assert_int_equal(probe_lookup(e, 2), NEAP_ECORRUPT);
  assert_int_equal(truncate(path_of(3), PROBE_BYTES + 1), 0);
  assert_int_equal(probe_load(e, 3), NEAP_ECORRUPT);
  probe_drain(e);
  assert_false(on_disk(2));
  assert_false(on_disk(3));
  assert_int_equal(probe_stats(e).used_bytes, 2 * PROBE_BYTES);
  close_tier(e);
}

static void a_restart_keeps_usage_per_tenant_and_evicts_the_longest_unused_files(void **state) {
  probe_engine *e = *state;
  probe_open_tier(e);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 0, 7), 0);
  close_tier(e);
  const uint32_t by_age[7] = {3, 6, 0, 5, 1, 4, 2};
  for (uint32_t i = 0; i < 7; i++) {
    struct timespec at[2] = {{.tv_sec = 1000000 + i}, {.tv_sec = 1000000 + i}};
    assert_int_equal(utimensat(AT_FDCWD, path_of(by_age[i]), at, 0), 0);
  }
  probe_open_bounded(e, "LRU");
  probe_drain(e);
  assert_int_equal(probe_stats(e).used_bytes, 7 * PROBE_BYTES);
  assert_int_equal(neap__tier_tenant_bytes(e->tier, e->tenant), 3 * PROBE_BYTES);
  assert_int_equal(probe_load(e, 3), 0); /* used: no longer the oldest, also after the next restart */
  close_tier(e);

  probe_open_bounded(e, "LRU");
  probe_drain(e);
  assert_int_equal(probe_run(e, NEAP_OP_STORE, 10, 3), 0); /* 10 of 10: three of the old ones leave */
  probe_drain(e);
  for (uint32_t n = 0; n < 7; n++) assert_int_equal(on_disk(n), n != 6 && n != 0 && n != 5);
  assert_int_equal(probe_stats(e).used_bytes, 7 * PROBE_BYTES);
  close_tier(e);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_flipped_bit_on_disk_is_a_miss_and_the_file_goes, setup_fs, teardown_fs),
      cmocka_unit_test_setup_teardown(a_file_cut_short_is_no_hit_and_goes, setup_fs, teardown_fs),
      cmocka_unit_test_setup_teardown(a_restart_keeps_usage_per_tenant_and_evicts_the_longest_unused_files, setup_fs,
                                      teardown_fs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
