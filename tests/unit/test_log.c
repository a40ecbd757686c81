/* SPDX-License-Identifier: MIT
 *
 * Built-in type "log": what its operations promise while it runs. */
#include "unit/log_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>

/* --- round trip ------------------------------------------------------------------------------------------------ */

static const char *const modes[] = {",\"io\":\"threads\"",
                                    ",\"io\":\"auto\"",
                                    ",\"io\":\"threads\",\"use_odirect\":true",
                                    ",\"io\":\"auto\",\"use_odirect\":true",
                                    ",\"durability\":\"flush\"",
                                    ",\"durability\":\"fsync\",\"io\":\"threads\"",
                                    ",\"durability\":\"fsync\""};

static void what_was_stored_is_loaded_and_removed_in_each_mode(void **state) {
  static const uint64_t lengths[] = {1, 4095, 4096, 4097, RIG_BYTES, 65536};
  rig *r = *state;
  for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
    rig_reopen(r, modes[m]);
    for (uint64_t i = 0; i < 6; i++) {
      uint64_t n = 100 * m + i, stored = 7;
      assert_int_equal(rig_lookup(r, n), NEAP_ENOENT);
      assert_int_equal(rig_load(r, n, lengths[i]), NEAP_ENOENT);
      assert_int_equal(rig_store(r, n, lengths[i], &stored), 0);
      assert_int_equal(stored, lengths[i]);
      assert_int_equal(rig_store(r, n, lengths[i], &stored), 0);
      assert_int_equal(stored, 0);
      assert_int_equal(rig_lookup(r, n), 0);
      assert_int_equal(rig_load(r, n, lengths[i]), 0);
    }
    assert_int_equal(rig_delete(r, 100 * m), 0);
    assert_int_equal(rig_delete(r, 100 * m), NEAP_ENOENT);
    assert_int_equal(rig_load(r, 100 * m, 1), NEAP_ENOENT);
  }
}

static void what_was_stored_and_removed_survives_a_restart(void **state) {
  rig *r = *state;
  for (uint64_t n = 0; n < 40; n++) assert_int_equal(rig_store(r, n, RIG_BYTES, NULL), 0);
  for (uint64_t n = 0; n < 40; n += 3) assert_int_equal(rig_delete(r, n), 0);
  for (int round = 0; round < 3; round++) {
    rig_reopen(r, "");
    for (uint64_t n = 0; n < 40; n++) assert_int_equal(rig_load(r, n, RIG_BYTES), n % 3 ? 0 : NEAP_ENOENT);
  }
  assert_int_equal(rig_store(r, 0, RIG_BYTES, NULL), 0);
  rig_reopen(r, "");
  assert_int_equal(rig_load(r, 0, RIG_BYTES), 0);
}

static void an_object_larger_than_a_segment_gets_one_of_its_own(void **state) {
  rig *r = *state;
  assert_int_equal(rig_store(r, 1, 5u << 20, NULL), 0);
  assert_int_equal(rig_store(r, 2, 100, NULL), 0);
  assert_int_equal(rig_load(r, 1, 5u << 20), 0);
  rig_reopen(r, "");
  assert_int_equal(rig_load(r, 1, 5u << 20), 0);
  assert_int_equal(rig_load(r, 2, 100), 0);
}

static void an_object_of_no_bytes_is_an_object(void **state) {
  rig *r = *state;
  assert_int_equal(rig_store(r, 1, 0, NULL), 0);
  assert_int_equal(rig_load(r, 1, 0), 0);
  rig_reopen(r, "");
  assert_int_equal(rig_load(r, 1, 0), 0);
}

static void another_length_is_corrupt_and_the_next_store_of_it_replaces(void **state) {
  rig *r = *state;
  assert_int_equal(rig_store(r, 1, RIG_BYTES, NULL), 0);
  assert_int_equal(rig_load(r, 1, RIG_BYTES - 1), NEAP_ECORRUPT);
  assert_int_equal(test_lookup(r->host, &neap__ls_adapter, r->self, test_key(1), 5), NEAP_ECORRUPT);
  assert_int_equal(rig_load(r, 1, RIG_BYTES), 0);
  uint64_t stored;
  assert_int_equal(rig_store(r, 1, 500, &stored), 0);
  assert_int_equal(stored, 500);
  assert_int_equal(rig_load(r, 1, 500), 0);
  rig_reopen(r, "");
  assert_int_equal(rig_load(r, 1, 500), 0);
}

static void keys_that_differ_in_one_part_are_different(void **state) {
  rig *r = *state;
  neap_object_key keys[5];
  for (int i = 0; i < 5; i++) keys[i] = test_key(1);
  keys[1].model = "demo/other";
  keys[2].salt = "tenant";
  keys[3].rank = 7;
  keys[4].group = 3;
  uint8_t data[64];
  for (int round = 0; round < 2; round++) {
    for (uint64_t i = 0; i < 5; i++) {
      test_fill(data, sizeof(data), i);
      uint64_t stored;
      assert_int_equal(test_store(r->host, &neap__ls_adapter, r->self, keys[i], data, sizeof(data), &stored), 0);
      assert_int_equal(stored, round ? 0 : sizeof(data));
    }
    for (uint64_t i = 0; i < 5; i++) {
      assert_int_equal(test_load(r->host, &neap__ls_adapter, r->self, keys[i], data, sizeof(data)), 0);
      assert_true(test_filled(data, sizeof(data), i));
    }
    rig_reopen(r, "");
  }
}

/* --- batches and concurrency ----------------------------------------------------------------------------------- */

static void of_stores_of_one_key_at_once_exactly_one_is_counted(void **state) {
  rig *r = *state;
  enum { COUNT = 16 };
  uint8_t *data = malloc(RIG_BYTES);
  test_fill(data, RIG_BYTES, 9);
  for (int round = 0; round < 20; round++) {
    test_op *ops[COUNT];
    uint64_t added = 0;
    for (int i = 0; i < COUNT; i++) {
      ops[i] = test_op_new(r->host, NEAP_OP_STORE, 1);
      ops[i]->objects[0] = (neap_object){.key = test_key(9), .data = data, .bytes = RIG_BYTES, .result = NEAP_EIO};
    }
    for (int i = 0; i < COUNT; i++) test_op_submit(&neap__ls_adapter, r->self, ops[i]);
    for (int i = 0; i < COUNT; i++) {
      test_op_wait(ops[i]);
      assert_int_equal(ops[i]->objects[0].result, 0);
      added += ops[i]->objects[0].stored_bytes;
    }
    assert_int_equal(added, RIG_BYTES);
    assert_int_equal(rig_load(r, 9, RIG_BYTES), 0);
    assert_int_equal(rig_delete(r, 9), 0);
  }
  free(data);
}

static void a_batch_gets_a_result_for_each_object(void **state) {
  rig *r = *state;
  enum { COUNT = 200 };
  for (size_t m = 0; m < 4; m++) {
    rig_reopen(r, modes[m]);
    uint8_t *data = aligned_alloc(4096, COUNT * 8192);
    test_op *op = test_op_new(r->host, NEAP_OP_STORE, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
      test_fill(data + i * 8192, 8192, 1000 * m + i);
      op->objects[i] = (neap_object){.key = test_key(1000 * m + i), .data = data + i * 8192, .bytes = 8192 - i};
    }
    test_op_run(&neap__ls_adapter, r->self, op);
    for (uint32_t i = 0; i < COUNT; i++) assert_int_equal(op->objects[i].result, 0);
    memset(data, 0, COUNT * 8192);
    op = test_op_new(r->host, NEAP_OP_LOAD, COUNT + 1);
    for (uint32_t i = 0; i <= COUNT; i++)
      op->objects[i] =
          (neap_object){.key = test_key(1000 * m + i), .data = data + (i % COUNT) * 8192, .bytes = 8192 - i};
    test_op_run(&neap__ls_adapter, r->self, op);
    for (uint32_t i = 0; i <= COUNT; i++) assert_int_equal(op->objects[i].result, i < COUNT ? 0 : NEAP_ENOENT);
    for (uint32_t i = 0; i < COUNT; i++) assert_true(test_filled(data + i * 8192, 8192 - i, 1000 * m + i));
    free(data);
  }
}

static void a_pool_that_refuses_fails_the_objects_and_ends_the_operation(void **state) {
  rig *r = *state;
  rig_reopen(r, ",\"io\":\"threads\"");
  assert_int_equal(rig_store(r, 2, 100, NULL), 0);
  test_host_refuse_work(r->host, true);
  assert_int_equal(rig_store(r, 1, 100, NULL), NEAP_ELIMIT);
  int rc = 0;
  for (int i = 0; i < 10000 && rc == 0; i++)
    rc = rig_load(r, 2, 100); /* a worker that is about to leave may serve it */
  assert_int_equal(rc, NEAP_ELIMIT);
  assert_int_equal(rig_lookup(r, 2), 0);
  test_op *op = test_op_new(r->host, NEAP_OP_LIST, 0);
  test_op_run(&neap__ls_adapter, r->self, op);
  assert_int_equal(op->op.list_result, NEAP_ELIMIT);
  test_host_refuse_work(r->host, false);
  assert_int_equal(rig_lookup(r, 1), NEAP_ENOENT);
  assert_int_equal(rig_store(r, 1, 100, NULL), 0);
  assert_int_equal(rig_load(r, 2, 100), 0);
}

static void a_listing_tells_each_object_once_with_bytes_and_last_use(void **state) {
  rig *r = *state;
  enum { COUNT = 700 };
  for (uint64_t n = 0; n < COUNT; n++) assert_int_equal(rig_store(r, n, 10 + n, NULL), 0);
  assert_int_equal(rig_delete(r, 5), 0);
  test_op *op = test_op_new(r->host, NEAP_OP_LIST, 0);
  test_op_run(&neap__ls_adapter, r->self, op);
  assert_int_equal(op->op.list_result, 0);
  assert_int_equal(op->entries_count, COUNT - 1);
  uint8_t seen[COUNT] = {0};
  for (uint32_t i = 0; i < op->entries_count; i++) {
    const neap_list_entry *e = &op->entries[i].entry;
    uint64_t n = (uint64_t)e->key.hash[0] | (uint64_t)e->key.hash[1] << 8;
    assert_true(n < COUNT && n != 5 && !seen[n]++);
    assert_int_equal(e->bytes, 10 + n);
    assert_string_equal(e->key.model, "demo/tiny");
    assert_true(e->used_unix_s > 1700000000);
  }
  op = test_op_new(r->host, NEAP_OP_LIST, 0);
  op->entries_stop = 3;
  test_op_run(&neap__ls_adapter, r->self, op);
  assert_int_equal(op->entries_count, 3);
}

/* --- disks that fail ------------------------------------------------------------------------------------------- */

/* The segment in use becomes a device that fails; the descriptor of the file that it was. */
static int exchange(rig *r, const char *device, int *target) {
  neap__ls *ls = r->self;
  pthread_mutex_lock(&ls->lock);
  *target = ls->active->fd;
  pthread_mutex_unlock(&ls->lock);
  int file = dup(*target), fd = open(device, O_RDWR);
  assert_true(file >= 0 && fd >= 0);
  assert_int_equal(dup2(fd, *target), *target);
  close(fd);
  return file;
}

static void give_back(int file, int target) {
  assert_int_equal(dup2(file, target), target);
  close(file);
}

static void a_write_that_fails_is_not_visible_now_or_later_and_the_store_goes_on(void **state) {
  rig *r = *state;
  int target;
  /* More than a third of a segment: it is not moved, which would read from the device. */
  for (uint64_t n = 10; n < 16; n++) assert_int_equal(rig_store(r, n, RIG_BYTES, NULL), 0);
  int file = exchange(r, "/dev/full", &target);
  uint64_t stored = 9;
  assert_int_equal(rig_store(r, 2, RIG_BYTES, &stored), NEAP_ENOSPC);
  assert_int_equal(stored, 0);
  assert_int_equal(rig_lookup(r, 2), NEAP_ENOENT);
  assert_true(test_host_logged(r->host, "No space left on device"));
  assert_true(rig_status(r, "failed_writes") > 0);
  give_back(file, target);
  assert_int_equal(rig_store(r, 3, RIG_BYTES, NULL), 0); /* in another segment */
  for (int round = 0; round < 2; round++) {
    for (uint64_t n = 10; n < 16; n++) assert_int_equal(rig_load(r, n, RIG_BYTES), 0);
    assert_int_equal(rig_lookup(r, 2), NEAP_ENOENT);
    assert_int_equal(rig_load(r, 3, RIG_BYTES), 0);
    rig_reopen(r, "");
  }
  assert_int_equal(rig_store(r, 2, RIG_BYTES, NULL), 0);
}

static void a_sync_that_fails_is_a_store_that_failed(void **state) {
  rig *r = *state;
  int target;
  rig_reopen(r, ",\"durability\":\"fsync\"");
  for (uint64_t n = 10; n < 16; n++) assert_int_equal(rig_store(r, n, RIG_BYTES, NULL), 0);
  int file = exchange(r, "/dev/null", &target); /* takes every write and cannot be synced */
  assert_int_equal(rig_store(r, 2, RIG_BYTES, NULL), NEAP_EIO);
  assert_int_equal(rig_lookup(r, 2), NEAP_ENOENT);
  give_back(file, target);
  assert_int_equal(rig_store(r, 2, RIG_BYTES, NULL), 0);
  rig_reopen(r, "");
  for (uint64_t n = 10; n < 16; n++) assert_int_equal(rig_load(r, n, RIG_BYTES), 0);
  assert_int_equal(rig_load(r, 2, RIG_BYTES), 0);
}

/* A disk that loses what was written to it, says so once, and is well again. */
static struct outage {
  rig *r;
  neap_host host;
  void (*log)(void *engine, neap_log_level level, const char *text);
  test_op *second;
  int file, target;
  bool over;
} outage;

/* Called between the failed sync and whatever follows it: another store is written to the lost disk meanwhile. */
static void log_in_outage(void *engine, neap_log_level level, const char *text) {
  outage.log(engine, level, text);
  if (outage.over || !strstr(text, "cannot sync a segment")) return;
  neap__ls *ls = outage.r->self;
  outage.over = true;
  test_op_submit(&neap__ls_adapter, ls, outage.second);
  for (bool written = false; !written;) {
    pthread_mutex_lock(&ls->lock);
    written = ls->active->unsynced != NULL;
    pthread_mutex_unlock(&ls->lock);
    sched_yield();
  }
  give_back(outage.file, outage.target);
}

static void what_was_written_when_a_sync_failed_is_not_acknowledged_by_a_later_one(void **state) {
  rig *r = *state;
  uint8_t *data = aligned_alloc(4096, 73728);
  rig_close(r);
  outage = (struct outage){.r = r, .host = *test_host_table(r->host), .second = test_op_new(r->host, NEAP_OP_STORE, 1)};
  outage.log = outage.host.log;
  outage.host.log = log_in_outage;
  outage.second->objects[0] = (neap_object){.key = test_key(3), .data = data, .bytes = RIG_BYTES, .result = NEAP_EIO};
  test_fill(data, RIG_BYTES, 3);
  char params[400];
  snprintf(params, sizeof(params), "{\"base_path\":\"%s\",\"durability\":\"fsync\"}", r->dir);
  assert_int_equal(neap__ls_adapter.open(&neap__ls_adapter, &outage.host, params, &r->self, &r->err), 0);
  assert_int_equal(rig_store(r, 1, RIG_BYTES, NULL), 0);
  outage.file = exchange(r, "/dev/null", &outage.target);
  assert_int_equal(rig_store(r, 2, RIG_BYTES, NULL), NEAP_EIO);
  test_op_wait(outage.second);
  assert_int_equal(outage.second->objects[0].result, NEAP_EIO);
  assert_int_equal(rig_lookup(r, 3), NEAP_ENOENT);
  assert_int_equal(rig_store(r, 3, RIG_BYTES, NULL), 0); /* in another segment */
  rig_reopen(r, "");
  assert_int_equal(rig_load(r, 1, RIG_BYTES), 0);
  assert_int_equal(rig_lookup(r, 2), NEAP_ENOENT);
  assert_int_equal(rig_load(r, 3, RIG_BYTES), 0);
  free(data);
}

/* --- names on the disk ----------------------------------------------------------------------------------------- */

static ino_t synced[64]; /* directories, in order */
static atomic_uint synced_count;
static atomic_bool sync_fails;

/* Takes the place of the C library's for this program. */
int fsync(int fd) {
  struct stat st;
  if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) synced[atomic_fetch_add(&synced_count, 1) % 64] = st.st_ino;
  if (!atomic_load(&sync_fails)) return (int)syscall(SYS_fsync, fd);
  errno = EIO;
  return -1;
}

static bool was_synced(const char *dir, uint32_t since) {
  struct stat st;
  assert_int_equal(stat(dir, &st), 0);
  for (uint32_t i = since; i < atomic_load(&synced_count); i++)
    if (synced[i % 64] == st.st_ino) return true;
  return false;
}

static void the_names_of_segments_are_on_the_disk_before_a_store_is_promised_to_be(void **state) {
  rig *r = *state;
  char params[400], parent[256];
  assert_int_equal(rig_store(r, 1, RIG_BYTES, NULL), 0);
  uint32_t before = atomic_load(&synced_count);
  snprintf(params, sizeof(params), "{\"base_path\":\"%s\",\"durability\":\"fsync\"}", r->dir);
  assert_int_equal(neap__ls_adapter.reconfigure(r->self, params, &r->err), 0);
  assert_true(was_synced(r->dir, before)); /* the segment in use was made without that */
  rig_reopen(r, "");
  before = atomic_load(&synced_count);
  rig_reopen(r, ",\"durability\":\"fsync\"");
  assert_true(was_synced(r->dir, before)); /* it goes on */
  rig_close(r);
  before = atomic_load(&synced_count);
  snprintf(parent, sizeof(parent), "%s", r->dir);
  snprintf(r->dir + strlen(r->dir), 16, "/new");
  assert_int_equal(rig_open(r, ",\"durability\":\"fsync\""), 0);
  assert_true(was_synced(parent, before));
  rig_close(r);
  snprintf(r->dir, sizeof(r->dir), "%s", parent);
}

static void a_directory_that_cannot_be_synced_fails_stores_until_it_can(void **state) {
  rig *r = *state;
  rig_reopen(r, ",\"durability\":\"fsync\"");
  atomic_store(&sync_fails, true);
  assert_int_equal(rig_store(r, 1, RIG_BYTES, NULL), NEAP_EIO);
  atomic_store(&sync_fails, false);
  assert_int_equal(rig_store(r, 1, RIG_BYTES, NULL), 0);
  rig_reopen(r, "");
  assert_int_equal(rig_load(r, 1, RIG_BYTES), 0);
}

static void wrong_parameters_are_named(void **state) {
  rig *r = *state;
  rig_close(r);
  assert_int_equal(rig_open(r, ",\"max_gb\":0.001"), NEAP_EINVAL);
  assert_non_null(strstr(r->err.text, "max_gb"));
  rig other = {.host = r->host};
  assert_int_equal(rig_open(&other, ""), NEAP_EINVAL);
  assert_non_null(strstr(other.err.text, "base_path"));
}

static int64_t used_of(rig *r, uint64_t n) {
  test_op *op = test_op_new(r->host, NEAP_OP_LIST, 0);
  test_op_run(&neap__ls_adapter, r->self, op);
  for (uint32_t i = 0; i < op->entries_count; i++)
    if (op->entries[i].entry.key.hash[0] == n) return op->entries[i].entry.used_unix_s;
  return -1;
}

static void the_last_use_outlives_a_restart(void **state) {
  rig *r = *state;
  for (uint64_t n = 0; n < 60; n++) assert_int_equal(rig_store(r, n, RIG_BYTES, NULL), 0);
  rig_reopen(r, "");
  neap__ls *ls = r->self;
  pthread_mutex_lock(&ls->lock);
  for (uint32_t id = 1; id <= ls->index.top; id++) neap__ls_entry_at(&ls->index, id)->used_s = 1000 + id;
  pthread_mutex_unlock(&ls->lock);
  assert_int_equal(rig_load(r, 3, RIG_BYTES), 0);
  int64_t before = used_of(r, 4), used = used_of(r, 3);
  assert_true(before < 2000 && used > 1700000000);
  rig_reopen(r, "");
  assert_int_equal(used_of(r, 4), before);
  assert_int_equal(used_of(r, 3), used);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      T(what_was_stored_is_loaded_and_removed_in_each_mode),
      T(what_was_stored_and_removed_survives_a_restart),
      T(an_object_larger_than_a_segment_gets_one_of_its_own),
      T(an_object_of_no_bytes_is_an_object),
      T(another_length_is_corrupt_and_the_next_store_of_it_replaces),
      T(keys_that_differ_in_one_part_are_different),
      T(of_stores_of_one_key_at_once_exactly_one_is_counted),
      T(a_batch_gets_a_result_for_each_object),
      T(a_pool_that_refuses_fails_the_objects_and_ends_the_operation),
      T(the_last_use_outlives_a_restart),
      T(a_write_that_fails_is_not_visible_now_or_later_and_the_store_goes_on),
      T(a_sync_that_fails_is_a_store_that_failed),
      T(what_was_written_when_a_sync_failed_is_not_acknowledged_by_a_later_one),
      T(the_names_of_segments_are_on_the_disk_before_a_store_is_promised_to_be),
      T(a_directory_that_cannot_be_synced_fails_stores_until_it_can),
      T(wrong_parameters_are_named),
      T(a_listing_tells_each_object_once_with_bytes_and_last_use),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
