/* SPDX-License-Identifier: MIT
 *
 * bench/redis.c - redis CLIENT WHERE BYTES COUNT BATCH: stores COUNT values of BYTES bytes in a Redis and loads them
 * again, BATCH at a time, and prints gigabytes per second as JSON. CLIENT is "hiredis", one connection with pipelines,
 * or "neap", the Lua store behind the adapter interface that the engine uses. WHERE is a unix socket or a port of
 * loopback. Every loaded byte is compared. It empties the database first. */
#include <hiredis/hiredis.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/adapter_driver.h"

#define KEY "demo/tiny@01000100@0@%064x"
#define KEY_BYTES 128
#define BATCH_MAX 256
#define GROUND_BYTES 4096

enum { STORE, LOAD };

typedef struct job {
  redisContext *redis;
  test_driver *neap;
  uint8_t *data; /* COUNT values one after the other */
  size_t bytes, count, batch;
} job;

static void fail(const char *what) {
  fprintf(stderr, "redis: %s\n", what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Values differ from each other and from themselves at other places. */
static void fill(uint8_t *value, size_t bytes, size_t n) {
  uint64_t x = 0x9e3779b97f4a7c15u * (n + 1);
  for (size_t i = 0; i + 8 <= bytes; i += 8) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    memcpy(value + i, &x, 8);
  }
}

static bool right(const job *j, size_t n, uint8_t *ground) {
  fill(ground, j->bytes, n);
  return memcmp(ground, j->data + n * j->bytes, j->bytes) == 0;
}

static void hiredis_send(job *j, int kind, size_t n) {
  char key[KEY_BYTES];
  int key_bytes = snprintf(key, sizeof key, KEY, (unsigned)n);
  const char *words[] = {kind == STORE ? "SET" : "GET", key, (const char *)j->data + n * j->bytes, "NX"};
  size_t lengths[] = {3, (size_t)key_bytes, j->bytes, 2};
  redisAppendCommandArgv(j->redis, kind == STORE ? 4 : 2, words, lengths);
}

static void hiredis_batch(job *j, int kind, size_t first) {
  for (size_t i = 0; i < j->batch; i++) hiredis_send(j, kind, first + i);
  for (size_t i = 0; i < j->batch; i++) {
    void *got = NULL;
    if (redisGetReply(j->redis, &got) != REDIS_OK) fail(j->redis->errstr);
    const redisReply *reply = got;
    bool fits =
        kind == STORE ? reply->type == REDIS_REPLY_STATUS : reply->type == REDIS_REPLY_STRING && reply->len == j->bytes;
    if (!fits) fail(reply->str ? reply->str : "an unexpected reply");
    if (kind == LOAD) memcpy(j->data + (first + i) * j->bytes, reply->str, j->bytes);
    freeReplyObject(got);
  }
}

static void neap_batch(job *j, int kind, size_t first) {
  test_op *op = test_driver_op(j->neap, kind == STORE ? NEAP_OP_STORE : NEAP_OP_LOAD, (uint32_t)j->batch, 0);
  for (size_t i = 0; i < j->batch; i++) {
    char key[KEY_BYTES];
    snprintf(key, sizeof key, KEY, (unsigned)(first + i));
    test_driver_object(j->neap, op, (uint32_t)i, key, j->data + (first + i) * j->bytes, j->bytes);
  }
  test_driver_submit(j->neap, op);
  test_driver_wait(op);
  for (uint32_t i = 0; i < j->batch; i++) {
    if (strcmp(test_driver_result(op, i), "NEAP_OK") != 0) fail(test_driver_result(op, i));
  }
}

/* Gigabytes per second. */
static double measure(job *j, int kind) {
  double start = now();
  for (size_t first = 0; first + j->batch <= j->count; first += j->batch) {
    if (j->neap) {
      neap_batch(j, kind, first);
    } else {
      hiredis_batch(j, kind, first);
    }
  }
  return (double)(j->count / j->batch * j->batch * j->bytes) / (now() - start) / 1e9;
}

static void open_neap(job *j, const char *where, bool unix_socket) {
  char config[512], dirs[512], lua[512], err[512];
  const char *source = getenv("NEAP_SOURCE");
  snprintf(config, sizeof config, "{\"type\":\"redis\",\"%s\":%s%s%s}", unix_socket ? "path" : "port",
           unix_socket ? "\"" : "", where, unix_socket ? "\"" : "");
  snprintf(dirs, sizeof dirs, "%s/adapters", source ? source : ".");
  snprintf(lua, sizeof lua, "%s/lua", source ? source : ".");
  j->neap = test_driver_open_config(lua, config, dirs, err, sizeof err);
  if (!j->neap) fail(err);
}

int main(int argc, char **argv) {
  if (argc != 6) fail("usage: redis neap|hiredis SOCKET|PORT BYTES COUNT BATCH");
  bool unix_socket = argv[2][0] == '/', neap = strcmp(argv[1], "neap") == 0;
  job j = {.bytes = strtoull(argv[3], NULL, 10), .count = strtoull(argv[4], NULL, 10)};
  j.batch = strtoull(argv[5], NULL, 10);
  if (j.batch == 0 || j.batch > BATCH_MAX || j.bytes < 8 || j.bytes % 8 || j.count < j.batch) fail("bad numbers");
  j.redis = unix_socket ? redisConnectUnix(argv[2]) : redisConnect("127.0.0.1", (int)strtol(argv[2], NULL, 10));
  if (!j.redis || j.redis->err) fail(j.redis ? j.redis->errstr : "out of memory");
  freeReplyObject(redisCommand(j.redis, "FLUSHALL SYNC"));
  if (neap) open_neap(&j, argv[2], unix_socket);
  j.data = aligned_alloc(GROUND_BYTES, (j.count * j.bytes + GROUND_BYTES - 1) / GROUND_BYTES * GROUND_BYTES);
  uint8_t *ground = malloc(j.bytes);
  if (!j.data || !ground) fail("out of memory");
  for (size_t n = 0; n < j.count; n++) fill(j.data + n * j.bytes, j.bytes, n);

  double store = measure(&j, STORE);
  memset(j.data, 0, j.count * j.bytes);
  double load = measure(&j, LOAD);
  size_t wrong = 0, used = j.count / j.batch * j.batch;
  for (size_t n = 0; n < used; n++) wrong += !right(&j, n, ground);
  printf("{\"store_gb_s\":%.4f,\"load_gb_s\":%.4f,\"wrong\":%zu}\n", store, load, wrong);
  if (neap) wrong += test_driver_close(j.neap);
  redisFree(j.redis);
  free(ground);
  free(j.data);
  return wrong ? 1 : 0;
}
