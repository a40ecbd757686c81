/* SPDX-License-Identifier: MIT
 *
 * bench/bench_log.c - what the log store makes of a disk, beside the disk itself and other stores, in one run.
 *
 *   bench_log DIR [MIB] [ROUNDS] [DEPTH]     stores and loads MIB MiB of objects of 64 KiB, 1 MiB and 4 MiB
 *   bench_log DIR reopen COUNT               time to open a store of COUNT objects, after close and after kill -9
 *
 * raw is one preallocated file written and read in order with O_DIRECT at the same depth. Each round runs every
 * candidate once, so that a disk which changes its mind does so for all; medians and the spread (least, most) are told.
 * A store phase ends when its bytes are on the disk (fdatasync or the store's own sync); what was written is dropped
 * from the page cache before it is read. Peers are built where their headers are found. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef BENCH_LMDB
#include <lmdb.h>
#endif
#ifdef BENCH_ROCKSDB
#include <rocksdb/c.h>
#endif

#include "../adapters/log/log.h"
#include "base/base.h"
#include "support/test_host.h"

#define ROUNDS_MAX 32
#define DEPTH_MAX 64u

static const char *base;
static uint32_t depth = 16;
static uint64_t total_bytes, object_bytes;
static uint32_t count;
static uint8_t *buffers; /* depth objects, 4096-aligned */

static _Noreturn void die(const char *what) {
  fprintf(stderr, "bench_log: %s: %s\n", what, strerror(errno));
  exit(2);
}

static void clear(void) {
  char command[600];
  snprintf(command, sizeof(command), "rm -rf '%s/store' && mkdir -p '%s/store'", base, base);
  if (system(command) != 0) die(base);
}

/* Writes everything back and drops it from the page cache. */
static void forget(void) {
  char command[600];
  sync();
  snprintf(command, sizeof(command), "for f in '%s'/store/* ; do dd if=\"$f\" iflag=nocache count=0 status=none; done",
           base);
  if (system(command) != 0) die("forget");
}

static double seconds_since(uint64_t from) { return (double)(neap__now_ns() - from) / 1e9; }
static neap_object_key key_of(uint32_t i) {
  neap_object_key key = {.model = "bench/model", .salt = "", .rank = 1};
  uint64_t words[4] = {i * UINT64_C(0x9e3779b97f4a7c15), i, ~(uint64_t)i, i ^ UINT64_C(0x5555)};
  memcpy(key.hash, words, sizeof(words));
  return key;
}

/* --- threads that take the next object, for stores that block -------------------------------------------------- */

typedef struct crew {
  bool (*one)(void *of, uint32_t i, uint8_t *buffer);
  void *of;
  atomic_uint next, failed, worker;
} crew;

static void *crew_work(void *arg) {
  crew *c = arg;
  uint8_t *buffer = buffers + atomic_fetch_add(&c->worker, 1) * object_bytes;
  for (uint32_t i; (i = atomic_fetch_add(&c->next, 1)) < count;)
    if (!c->one(c->of, i, buffer)) atomic_fetch_add(&c->failed, 1);
  return NULL;
}

static void crew_run(bool (*one)(void *of, uint32_t i, uint8_t *buffer), void *of) {
  crew c = {.one = one, .of = of};
  pthread_t threads[DEPTH_MAX];
  for (uint32_t i = 0; i < depth; i++)
    if (pthread_create(&threads[i], NULL, crew_work, &c) != 0) die("thread");
  for (uint32_t i = 0; i < depth; i++) pthread_join(threads[i], NULL);
  if (atomic_load(&c.failed)) die("a transfer failed");
}

/* --- raw ------------------------------------------------------------------------------------------------------- */

static bool raw_write(void *of, uint32_t i, uint8_t *buffer) {
  return pwrite(*(int *)of, buffer, object_bytes, (off_t)(i * object_bytes)) == (ssize_t)object_bytes;
}
static bool raw_read(void *of, uint32_t i, uint8_t *buffer) {
  return pread(*(int *)of, buffer, object_bytes, (off_t)(i * object_bytes)) == (ssize_t)object_bytes;
}

static void raw(double *store_s, double *load_s) {
  char path[600];
  snprintf(path, sizeof(path), "%s/store/raw", base);
  int fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0644);
  if (fd < 0 || fallocate(fd, 0, 0, (off_t)total_bytes) != 0) die(path);
  uint64_t from = neap__now_ns();
  crew_run(raw_write, &fd);
  if (fdatasync(fd) != 0) die(path);
  *store_s = seconds_since(from);
  from = neap__now_ns();
  crew_run(raw_read, &fd);
  *load_s = seconds_since(from);
  close(fd);
}

/* --- log ------------------------------------------------------------------------------------------------------- */

static void drive(void *self, neap_op_kind kind, test_host *host) {
  test_op *ops[DEPTH_MAX] = {0};
  for (uint32_t i = 0; i < count + depth; i++) {
    uint32_t lane = i % depth;
    if (ops[lane]) {
      test_op_wait(ops[lane]);
      if (ops[lane]->objects[0].result != 0) die(neap_err_name(ops[lane]->objects[0].result));
    }
    ops[lane] = NULL;
    if (i >= count) continue;
    ops[lane] = test_op_new(host, kind, 1);
    ops[lane]->objects[0] =
        (neap_object){.key = key_of(i), .data = buffers + lane * object_bytes, .bytes = object_bytes};
    test_op_submit(&neap__ls_adapter, self, ops[lane]);
  }
}

static void *log_open(test_host *host, const char *more) {
  char params[800];
  neap_error err = {0};
  void *self = NULL;
  snprintf(params, sizeof(params), "{\"base_path\":\"%s/store\"%s}", base, more);
  if (neap__ls_adapter.open(&neap__ls_adapter, test_host_table(host), params, &self, &err) != 0) die(err.text);
  return self;
}

static void log_store(const char *more, double *store_s, double *load_s) {
  test_host *host = test_host_open(depth);
  void *self = log_open(host, more);
  uint64_t from = neap__now_ns();
  drive(self, NEAP_OP_STORE, host);
  neap__ls_adapter.close(self);
  *store_s = seconds_since(from);
  forget();
  self = log_open(host, more);
  from = neap__now_ns();
  drive(self, NEAP_OP_LOAD, host);
  *load_s = seconds_since(from);
  neap__ls_adapter.close(self);
  test_host_close(host);
}

static void log_buffered(double *s, double *l) { log_store("", s, l); }
static void log_direct(double *s, double *l) { log_store(",\"use_odirect\":true", s, l); }
static void log_threads(double *s, double *l) { log_store(",\"use_odirect\":true,\"io\":\"threads\"", s, l); }

/* --- peers ----------------------------------------------------------------------------------------------------- */

#ifdef BENCH_LMDB
static bool lmdb_put(MDB_env *env, uint32_t i, uint8_t *buffer, bool put) {
  MDB_txn *txn;
  MDB_dbi dbi;
  neap_object_key key = key_of(i);
  MDB_val k = {32, key.hash}, v = {object_bytes, buffer};
  if (mdb_txn_begin(env, NULL, put ? 0 : MDB_RDONLY, &txn) || mdb_dbi_open(txn, NULL, 0, &dbi)) return false;
  if ((put ? mdb_put(txn, dbi, &k, &v, 0) : mdb_get(txn, dbi, &k, &v)) != 0) return false;
  if (!put) memcpy(buffer, v.mv_data, object_bytes);
  return put ? mdb_txn_commit(txn) == 0 : (mdb_txn_abort(txn), true);
}
static bool lmdb_store(void *env, uint32_t i, uint8_t *buffer) { return lmdb_put(env, i, buffer, true); }
static bool lmdb_load(void *env, uint32_t i, uint8_t *buffer) { return lmdb_put(env, i, buffer, false); }

static MDB_env *lmdb_open(void) {
  char path[600];
  MDB_env *env;
  snprintf(path, sizeof(path), "%s/store", base);
  if (mdb_env_create(&env) || mdb_env_set_mapsize(env, total_bytes * 2 + (256u << 20)) ||
      mdb_env_set_maxreaders(env, 256) || mdb_env_open(env, path, MDB_NOSYNC | MDB_NORDAHEAD, 0644))
    die("lmdb");
  return env;
}

static void lmdb(double *store_s, double *load_s) {
  uint64_t from = neap__now_ns();
  MDB_env *env = lmdb_open();
  crew_run(lmdb_store, env);
  mdb_env_sync(env, 1);
  *store_s = seconds_since(from);
  mdb_env_close(env);
  forget();
  env = lmdb_open();
  from = neap__now_ns();
  crew_run(lmdb_load, env);
  *load_s = seconds_since(from);
  mdb_env_close(env);
}
#endif

#ifdef BENCH_ROCKSDB
typedef struct rocks {
  rocksdb_options_t *options;
  rocksdb_writeoptions_t *write;
  rocksdb_readoptions_t *read;
  rocksdb_t *db;
} rocks;

static bool rocks_store(void *of, uint32_t i, uint8_t *buffer) {
  rocks *r = of;
  char *err = NULL;
  neap_object_key key = key_of(i);
  rocksdb_put(r->db, r->write, (char *)key.hash, 32, (char *)buffer, object_bytes, &err);
  return err == NULL;
}
static bool rocks_load(void *of, uint32_t i, uint8_t *buffer) {
  rocks *r = of;
  char *err = NULL;
  neap_object_key key = key_of(i);
  rocksdb_pinnableslice_t *v = rocksdb_get_pinned(r->db, r->read, (char *)key.hash, 32, &err);
  size_t bytes = 0;
  const char *data = v ? rocksdb_pinnableslice_value(v, &bytes) : NULL;
  if (data && bytes == object_bytes) memcpy(buffer, data, bytes);
  if (v) rocksdb_pinnableslice_destroy(v);
  return data && bytes == object_bytes && !err;
}

static void rocks_open(rocks *r) {
  char path[600], *err = NULL;
  snprintf(path, sizeof(path), "%s/store", base);
  r->options = rocksdb_options_create();
  r->write = rocksdb_writeoptions_create();
  r->read = rocksdb_readoptions_create();
  rocksdb_options_set_create_if_missing(r->options, 1);
  rocksdb_options_set_enable_blob_files(r->options, 1);
  rocksdb_options_set_min_blob_size(r->options, 4096);
  rocksdb_options_set_blob_file_size(r->options, 256u << 20);
  rocksdb_options_set_compression(r->options, rocksdb_no_compression);
  rocksdb_options_set_write_buffer_size(r->options, 64u << 20);
  rocksdb_options_increase_parallelism(r->options, 4);
  rocksdb_writeoptions_disable_WAL(r->write, 1);
  r->db = rocksdb_open(r->options, path, &err);
  if (err) die(err);
}

static void rocks_close(rocks *r) {
  rocksdb_close(r->db);
  rocksdb_options_destroy(r->options);
  rocksdb_writeoptions_destroy(r->write);
  rocksdb_readoptions_destroy(r->read);
}

/* Without its write-ahead log, and flushed at the end: each payload is written once, as by the others. */
static void rocksdb(double *store_s, double *load_s) {
  rocks r;
  char *err = NULL;
  uint64_t from = neap__now_ns();
  rocks_open(&r);
  crew_run(rocks_store, &r);
  rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
  rocksdb_flush(r.db, flush, &err);
  rocksdb_flushoptions_destroy(flush);
  if (err) die(err);
  rocks_close(&r);
  *store_s = seconds_since(from);
  forget();
  rocks_open(&r);
  from = neap__now_ns();
  crew_run(rocks_load, &r);
  *load_s = seconds_since(from);
  rocks_close(&r);
}
#endif

/* --- rounds ---------------------------------------------------------------------------------------------------- */

static const struct candidate {
  const char *name;
  void (*run)(double *store_s, double *load_s);
} candidates[] = {
    {"raw O_DIRECT", raw},
    {"log O_DIRECT", log_direct},
    {"log O_DIRECT threads", log_threads},
    {"log", log_buffered},
#ifdef BENCH_ROCKSDB
    {"RocksDB BlobDB", rocksdb},
#endif
#ifdef BENCH_LMDB
    {"LMDB", lmdb},
#endif
};
#define CANDIDATES (sizeof(candidates) / sizeof(candidates[0]))

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, int n) {
  qsort(values, (size_t)n, sizeof(*values), by_size);
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void measure(int rounds) {
  static double store[CANDIDATES][ROUNDS_MAX], load[CANDIDATES][ROUNDS_MAX];
  double raw_store = 0, raw_load = 0;
  count = (uint32_t)(total_bytes / object_bytes);
  for (int round = 0; round < rounds; round++) {
    for (size_t c = 0; c < CANDIDATES; c++) {
      double s = 1, l = 1;
      clear();
      candidates[c].run(&s, &l);
      store[c][round] = (double)total_bytes / s / 1e9;
      load[c][round] = (double)total_bytes / l / 1e9;
      clear();
      sync();
    }
  }
  for (size_t c = 0; c < CANDIDATES; c++) {
    double s = median(store[c], rounds), l = median(load[c], rounds);
    if (c == 0) raw_store = s, raw_load = l;
    printf("%5llu KiB  %-21s store %.2f GB/s (%.2f-%.2f) %.2f of raw   load %.2f GB/s (%.2f-%.2f) %.2f of raw\n",
           (unsigned long long)object_bytes >> 10, candidates[c].name, s, store[c][0], store[c][rounds - 1],
           s / raw_store, l, load[c][0], load[c][rounds - 1], l / raw_load);
  }
}

/* --- reopen ---------------------------------------------------------------------------------------------------- */

static void reopen_time(const char *when) {
  test_host *host = test_host_open(2);
  forget();
  uint64_t from = neap__now_ns();
  void *self = log_open(host, "");
  double cold = seconds_since(from);
  neap__ls_adapter.close(self);
  from = neap__now_ns();
  self = log_open(host, "");
  double warm = seconds_since(from);
  char status[2048] = "";
  neap__ls_adapter.status(self, status, sizeof(status));
  neap__ls_adapter.close(self);
  test_host_close(host);
  printf("reopen %u objects %s: %.3f s, again %.3f s\n%s\n", count, when, cold, warm, status);
}

static void fill(bool leave_open) {
  pid_t pid = fork();
  if (pid == 0) {
    test_host *host = test_host_open(2);
    void *self = log_open(host, "");
    drive(self, NEAP_OP_STORE, host);
    if (!leave_open) neap__ls_adapter.close(self);
    _exit(0); /* as abrupt as a kill, for the store */
  }
  int status = 0;
  if (waitpid(pid, &status, 0) != pid || status != 0) die("the process that fills the store failed");
}

int main(int argc, char **argv) {
  if (argc < 2 || argc > 5) {
    fprintf(stderr, "usage: bench_log DIR [MIB] [ROUNDS] [DEPTH] | bench_log DIR reopen COUNT\n");
    return 2;
  }
  base = argv[1];
  bool reopen = argc == 4 && strcmp(argv[2], "reopen") == 0;
  if (argc > 4) depth = (uint32_t)strtoul(argv[4], NULL, 10);
  if (depth < 1 || depth > DEPTH_MAX) die("DEPTH: expected 1 to 64");
  buffers = aligned_alloc(4096, (size_t)depth * (4u << 20));
  if (!buffers) die("memory");
  for (size_t i = 0; i < (size_t)depth * (4u << 20); i++) buffers[i] = (uint8_t)(i * 2654435761u >> 13);
  if (reopen) {
    count = (uint32_t)strtoul(argv[3], NULL, 10);
    object_bytes = 4096;
    clear();
    fill(false);
    reopen_time("after close");
    clear();
    fill(true);
    reopen_time("after an end without close");
    clear();
    return 0;
  }
  uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 1024;
  int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 5;
  if (mib < 4 || rounds < 1 || rounds > ROUNDS_MAX) die("MIB: expected 4 or more; ROUNDS: 1 to 32");
  total_bytes = mib << 20;
  for (object_bytes = 64 << 10; object_bytes <= 4 << 20; object_bytes *= object_bytes < 1 << 20 ? 16 : 4)
    measure(rounds);
  clear();
  return 0;
}
