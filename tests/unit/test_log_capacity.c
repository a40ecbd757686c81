/* SPDX-License-Identifier: MIT
 *
 * Built-in type "log": bounded disks. Own capacity by whole segments, compaction of what was removed, the guard of the
 * file system, and a file system that is full. */
#include "unit/log_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>

#define BYTES 60000u
#define PATIENCE_S 20

/* Waits for what the keeper does on its own thread. */
#define await(condition)                                    \
  do {                                                      \
    time_t until = time(NULL) + PATIENCE_S;                 \
    while (!(condition) && time(NULL) < until) usleep(500); \
    assert_true(condition);                                 \
  } while (0)

/* 8 segments of 1 MiB. */
static const char small[] = ",\"max_gb\":0.0078125";
static const double small_bytes = 8 << 20;

static void the_oldest_segments_go_and_the_bound_holds(void **state) {
  rig *r = *state;
  rig_reopen(r, small);
  for (uint64_t n = 0; n < 400; n++) {
    assert_int_equal(rig_store(r, n, BYTES, NULL), 0);
    assert_true(rig_status(r, "disk_bytes") <= small_bytes);
  }
  assert_int_equal(rig_lookup(r, 0), NEAP_ENOENT);
  for (uint64_t n = 360; n < 400; n++) assert_int_equal(rig_load(r, n, BYTES), 0);
  assert_true(rig_status(r, "evicted_segments") > 5);
  rig_reopen(r, small);
  for (uint64_t n = 360; n < 400; n++) assert_int_equal(rig_load(r, n, BYTES), 0);
  assert_true(rig_status(r, "disk_bytes") <= small_bytes);
}

static void what_is_used_again_and_again_stays(void **state) {
  rig *r = *state;
  rig_reopen(r, small);
  assert_int_equal(rig_store(r, 7, BYTES, NULL), 0);
  for (uint64_t n = 100; n < 500; n++) {
    assert_int_equal(rig_store(r, n, BYTES, NULL), 0);
    if (n % 4 == 0) assert_int_equal(rig_load(r, 7, BYTES), 0);
  }
  assert_int_equal(rig_load(r, 7, BYTES), 0);
  assert_int_equal(rig_lookup(r, 100), NEAP_ENOENT);
  assert_true(rig_status(r, "reinserted_objects") > 0);
  rig_reopen(r, small);
  assert_int_equal(rig_load(r, 7, BYTES), 0);
}

static void a_moved_object_that_is_removed_stays_removed(void **state) {
  rig *r = *state;
  rig_reopen(r, small);
  assert_int_equal(rig_store(r, 7, BYTES, NULL), 0);
  uint64_t n = 100;
  for (; n < 1000 && rig_status(r, "reinserted_objects") < 1; n++) {
    assert_int_equal(rig_store(r, n, BYTES, NULL), 0);
    assert_int_equal(rig_load(r, 7, BYTES), 0);
  }
  assert_int_equal(rig_delete(r, 7), 0);
  rig_reopen(r, small);
  assert_int_equal(rig_lookup(r, 7), NEAP_ENOENT);
}

static void segments_that_are_mostly_removed_are_given_back(void **state) {
  rig *r = *state;
  for (uint64_t n = 0; n < 200; n++) assert_int_equal(rig_store(r, n, BYTES, NULL), 0);
  double before = rig_status(r, "disk_bytes");
  for (uint64_t n = 0; n < 200; n++)
    if (n % 10) assert_int_equal(rig_delete(r, n), 0);
  await(rig_status(r, "disk_bytes") < before / 2);
  for (int round = 0; round < 2; round++) {
    for (uint64_t n = 0; n < 200; n++) assert_int_equal(rig_load(r, n, BYTES), n % 10 ? NEAP_ENOENT : 0);
    rig_reopen(r, "");
  }
}

static void a_capacity_that_is_lowered_while_it_runs_is_kept(void **state) {
  rig *r = *state;
  char params[600];
  for (uint64_t n = 0; n < 300; n++) assert_int_equal(rig_store(r, n, BYTES, NULL), 0);
  assert_true(rig_status(r, "disk_bytes") > small_bytes);
  snprintf(params, sizeof(params), "{\"base_path\":\"%s\"%s,\"durability\":\"flush\"}", r->dir, small);
  assert_int_equal(neap__ls_adapter.reconfigure(r->self, params, &r->err), 0);
  await(rig_status(r, "disk_bytes") <= small_bytes);
  assert_int_equal(rig_load(r, 299, BYTES), 0);
  snprintf(params, sizeof(params), "{\"base_path\":\"%s\",\"max_gb\":0.001}", r->dir);
  assert_int_equal(neap__ls_adapter.reconfigure(r->self, params, &r->err), NEAP_EINVAL);
  assert_non_null(strstr(r->err.text, "max_gb"));
  assert_int_equal(rig_store(r, 1000, BYTES, NULL), 0);
}

static void an_object_that_can_never_fit_costs_no_other(void **state) {
  rig *r = *state;
  rig_reopen(r, small);
  for (uint64_t n = 0; n < 20; n++) assert_int_equal(rig_store(r, n, BYTES, NULL), 0);
  double objects = rig_status(r, "objects");
  assert_int_equal(rig_store(r, 1000, 2 * small_bytes, NULL), NEAP_ENOSPC);
  assert_int_equal(rig_store(r, 1001, small_bytes - 65536, NULL), NEAP_ENOSPC); /* beside the segment in use */
  assert_int_equal((int)rig_status(r, "objects"), (int)objects);
  assert_int_equal((int)rig_status(r, "evicted_segments"), 0);
  assert_int_equal(rig_store(r, 1002, BYTES, NULL), 0);
}

static void a_guard_that_the_file_system_cannot_keep_refuses_stores(void **state) {
  rig *r = *state;
  rig_reopen(r, ",\"min_free_gb\":1e9");
  assert_int_equal(rig_store(r, 1, BYTES, NULL), NEAP_ENOSPC);
  assert_int_equal(rig_lookup(r, 1), NEAP_ENOENT);
  char params[600];
  snprintf(params, sizeof(params), "{\"base_path\":\"%s\",\"min_free_gb\":0}", r->dir);
  assert_int_equal(neap__ls_adapter.reconfigure(r->self, params, &r->err), 0);
  assert_int_equal(rig_store(r, 1, BYTES, NULL), 0);
}

/* --- many at once ---------------------------------------------------------------------------------------------- */

typedef struct worker {
  rig *r;
  uint64_t seed;
  int wrong;
} worker;

/* Objects of which the length follows from the number: whatever is loaded must be whole and right. */
static void *work(void *arg) {
  worker *w = arg;
  for (int i = 0; i < 250; i++) {
    w->seed = w->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t n = (w->seed >> 40) % 150, bytes = 1 + n * 977 % BYTES;
    int what = (int)(w->seed >> 33) % 8;
    int rc = what < 4 ? rig_store(w->r, n, bytes, NULL) : what < 7 ? rig_load(w->r, n, bytes) : rig_delete(w->r, n);
    if (rc != 0 && rc != NEAP_ENOENT) w->wrong = rc;
  }
  return NULL;
}

static void threads_that_store_load_and_remove_at_the_bound_never_see_a_wrong_byte(void **state) {
  rig *r = *state;
  rig_reopen(r, ",\"max_gb\":0.00390625,\"use_odirect\":true"); /* 4 MiB for about as many */
  pthread_t threads[6];
  worker workers[6];
  for (uint64_t i = 0; i < 6; i++) {
    workers[i] = (worker){.r = r, .seed = i};
    assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
  }
  test_op *op = test_op_new(r->host, NEAP_OP_LIST, 0);
  test_op_run(&neap__ls_adapter, r->self, op);
  assert_int_equal(op->op.list_result, 0);
  for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 6; i++) assert_int_equal(workers[i].wrong, 0);
  assert_true(rig_status(r, "disk_bytes") <= 4 << 20);
  double objects = rig_status(r, "objects"), corrupt = rig_status(r, "corrupt");
  assert_int_equal((int)corrupt, 0);
  rig_reopen(r, "");
  /* Nothing that was removed comes back; the keeper may have evicted a segment before the close. */
  assert_in_range((int)rig_status(r, "objects"), 1, (int)objects);
  for (uint64_t n = 0; n < 150; n++) assert_true(rig_load(r, n, 1 + n * 977 % BYTES) <= 0);
}

/* --- full ------------------------------------------------------------------------------------------------------ */

#define CHECK(condition) \
  if (!(condition)) return __LINE__ % 250 + 1
#define SKIPPED 255

/* In a process and a mount namespace of its own. 0, SKIPPED, or where it failed. */
static int fill_disk(rig *r) {
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
      mount("tmpfs", r->dir, "tmpfs", 0, "size=6m") != 0)
    return SKIPPED;
  char path[400];
  r->host = test_host_open(2);
  CHECK(rig_open(r, "") == 0);
  for (uint64_t n = 0; n < 300; n++) CHECK(rig_store(r, n, BYTES, NULL) == 0); /* the oldest make room */
  CHECK(rig_load(r, 299, BYTES) == 0);
  CHECK(rig_lookup(r, 0) == NEAP_ENOENT);
  /* Somebody else takes the rest: nothing of ours is left to give. */
  snprintf(path, sizeof(path), "%.300s/ballast", r->dir);
  int fd = open(path, O_WRONLY | O_CREAT, 0600);
  char block[65536] = {1};
  uint64_t n = 1000;
  int rc = 0;
  for (; rc == 0 && n < 1400; n++) {
    while (write(fd, block, sizeof(block)) > 0) continue;
    rc = rig_store(r, n, BYTES, NULL);
  }
  CHECK(rc == NEAP_ENOSPC);
  CHECK(rig_lookup(r, n - 1) == NEAP_ENOENT);
  CHECK(test_host_logged(r->host, "No space left on device"));
  close(fd);
  CHECK(unlink(path) == 0);
  CHECK(rig_store(r, n - 1, BYTES, NULL) == 0);
  rig_close(r);
  CHECK(rig_open(r, "") == 0);
  CHECK(rig_load(r, n - 1, BYTES) == 0);
  rig_close(r);
  CHECK(test_host_close(r->host) == 0);
  return 0;
}

static void a_full_file_system_is_enospc_after_the_last_segment_and_recovers(void **state) {
  rig *r = *state;
  rig_close(r);
  assert_int_equal(test_host_close(r->host), 0); /* no thread of ours while we fork */
  pid_t pid = fork();
  if (pid == 0) _exit(fill_disk(r));
  int status = -1;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  r->host = test_host_open(1);
  assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == SKIPPED) {
    print_message("skipped: this user may not mount a tmpfs\n");
    skip();
  }
  assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      T(the_oldest_segments_go_and_the_bound_holds),
      T(what_is_used_again_and_again_stays),
      T(a_moved_object_that_is_removed_stays_removed),
      T(segments_that_are_mostly_removed_are_given_back),
      T(a_capacity_that_is_lowered_while_it_runs_is_kept),
      T(an_object_that_can_never_fit_costs_no_other),
      T(a_guard_that_the_file_system_cannot_keep_refuses_stores),
      T(threads_that_store_load_and_remove_at_the_bound_never_see_a_wrong_byte),
      T(a_full_file_system_is_enospc_after_the_last_segment_and_recovers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
