/* SPDX-License-Identifier: MIT
 *
 * What the framework costs around an adapter that does nothing: microseconds for each object of operations of 16,
 * from submit to release, for a native adapter and for Lua ones without and with batch forms. Objects are of 64 bytes,
 * so that nothing is about bytes; several operations are under way, as when flows store and fetch. One line of JSON per
 * adapter and kind: median, least and most of the rounds, and the processor time of all threads in the median round,
 * which a machine that is busy with other things stretches less. Arguments: LUA_DIR BENCH_DIR [rounds] [depth]. */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "chunk/names.h"
#include "l2/tier.h"
#include "script/script.h"

#define BATCH 16u
#define BYTES 64u
#define TASKS 4096u /* of a round */
#define ROUNDS_MAX 1000u
#define DEPTH_MAX 64u

static void must(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "bench_tier: %s\n", what);
  exit(1);
}

/* --- the native adapter --------------------------------------------------------------------------------------- */

static int null_open(const neap_adapter *adapter, const neap_host *host, const char *params, void **self,
                     neap_error *err) {
  (void)adapter, (void)params, (void)err;
  *(const neap_host **)self = host;
  return 0;
}

static void null_yes(void *self, neap_op *op) {
  const neap_host *host = self;
  for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = 0;
  host->done(host->engine, op);
}

static void null_close(void *self) { (void)self; }

static const neap_adapter null_adapter = {NEAP_ADAPTER_INIT("null", "1"),
                                          .open = null_open,
                                          .store = null_yes,
                                          .lookup = null_yes,
                                          .load = null_yes,
                                          .close = null_close};
NEAP_ADAPTER_BUILTIN(null_adapter)

/* --- a round -------------------------------------------------------------------------------------------------- */

typedef struct bench {
  neap__loop *loop;
  neap__pool *pool;
  neap__names *names;
  neap__tier *tier;
  neap_op_kind kind;
  uint32_t space, depth, left, under_way, first;
  bool failed;
  sem_t over;
  uint8_t data[BATCH * BYTES];
} bench;

static void submit_next(bench *b);

static void on_done(neap__task *task) {
  bench *b = task->ctx;
  for (uint32_t i = 0; i < BATCH; i++) b->failed |= task->op.objects[i].result != 0;
}

static void on_release(neap__task *task) {
  bench *b = task->ctx;
  neap__task_free(task);
  b->under_way--;
  submit_next(b);
  if (!b->left && !b->under_way) sem_post(&b->over);
}

static void submit_next(bench *b) {
  if (!b->left) return;
  neap__task *task = neap__task_new(b->kind, BATCH);
  must(task != NULL, "out of memory");
  uint32_t number = b->first + --b->left;
  for (uint32_t i = 0; i < BATCH; i++) {
    uint64_t hash = (number * BATCH + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    task->keys[i] = (neap__key){.space = b->space, .rank = neap__rank(1, 0)};
    memcpy(task->keys[i].hash, &hash, sizeof(hash));
    task->op.objects[i].bytes = BYTES;
    if (b->kind != NEAP_OP_LOOKUP) task->op.objects[i].data = b->data + i * BYTES;
  }
  task->ctx = b;
  task->done = on_done;
  task->release = on_release;
  b->under_way++;
  must(neap__tier_submit(b->tier, task, 0) == 0, "a task was refused");
}

static void begin(void *arg) {
  bench *b = arg;
  b->left = TASKS;
  for (uint32_t i = 0; i < b->depth; i++) submit_next(b);
}

typedef struct cost {
  double wall_us, cpu_us; /* of an object */
} cost;

static double cpu_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
  return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

static cost round_cost(bench *b) {
  uint64_t start = neap__now_ns();
  double cpu = cpu_ns();
  neap__loop_call(b->loop, begin, b);
  sem_wait(&b->over);
  double objects = TASKS * BATCH;
  return (cost){(double)(neap__now_ns() - start) / 1e3 / objects, (cpu_ns() - cpu) / 1e3 / objects};
}

static int ascending(const void *a, const void *b) {
  double x = ((const cost *)a)->wall_us, y = ((const cost *)b)->wall_us;
  return (x > y) - (x < y);
}

static void measure(bench *b, const char *adapter, neap_op_kind kind, uint32_t rounds) {
  static const char *const kinds[] = {"store", "lookup", "load"};
  static cost costs[ROUNDS_MAX];
  b->kind = kind;
  b->first = 0;
  round_cost(b); /* nobody's first time counts */
  for (uint32_t i = 0; i < rounds; i++) {
    if (kind == NEAP_OP_STORE) b->first = i * TASKS % (16 * TASKS);
    costs[i] = round_cost(b);
  }
  must(!b->failed, "an object failed");
  qsort(costs, rounds, sizeof(*costs), ascending);
  printf(
      "{\"bench\":\"tier\",\"adapter\":\"%s\",\"kind\":\"%s\",\"batch\":%u,\"depth\":%u,\"us_per_object\":%.3f,"
      "\"least\":%.3f,\"most\":%.3f,\"cpu_us\":%.3f}\n",
      adapter, kinds[kind], BATCH, b->depth, costs[rounds / 2].wall_us, costs[0].wall_us, costs[rounds - 1].wall_us,
      costs[rounds / 2].cpu_us);
}

static void measure_adapter(bench *b, const char *name, const char *json, const char *dir, uint32_t rounds) {
  neap__tier_config config;
  neap__tier_env env = {.loop = b->loop, .pool = b->pool, .names = b->names};
  neap_error err = {""};
  must(neap__tier_config_parse(json, 0, dir, &config, &err) == 0, err.text);
  must(neap__tier_open(&config, &env, &b->tier, &err) == 0, err.text);
  for (int kind = NEAP_OP_STORE; kind <= NEAP_OP_LOAD; kind++) measure(b, name, (neap_op_kind)kind, rounds);
  must(neap__tier_close(b->tier, 30000), "the tier did not close");
  neap__tier_config_free(&config);
}

int main(int argc, char **argv) {
  must(argc > 2, "expected the directories of lua and of null.lua");
  uint32_t rounds = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 15;
  bench *b = calloc(1, sizeof(*b));
  must(b != NULL && rounds > 0 && rounds <= ROUNDS_MAX, "expected 1 to 1000 rounds");
  b->depth = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 8;
  must(b->depth > 0 && b->depth <= DEPTH_MAX, "expected a depth of 1 to 64");
  void *memory = mmap(NULL, neap__names_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  neap__layout layout;
  const uint64_t shape[1] = {BYTES / 2};
  neap_error err = {""};
  sem_init(&b->over, 0, 0);
  neap__log_set_level(NEAP_WARNING);
  must(memory != MAP_FAILED && neap__loop_open("bench", &b->loop) == 0 && neap__pool_open(2, 1024, &b->pool) == 0 &&
           neap__names_open(memory, &b->names, &err) == 0 &&
           neap__layout_init(&layout, shape, 1, "bfloat16", 16, &err) == 0 &&
           neap__names_space(b->names, "bench/null", 10, &layout, &b->space) == 0,
       "the engine's parts did not open");
  neap__lua_setup(argv[1]);
  neap__registry_add_loader(&neap__lua_loader);
  measure_adapter(b, "native", "{\"type\":\"null\"}", argv[2], rounds);
  measure_adapter(b, "lua", "{\"type\":\"plugin\",\"module_path\":\"null\",\"class_name\":\"Single\"}", argv[2],
                  rounds);
  measure_adapter(b, "lua, batch forms", "{\"type\":\"plugin\",\"module_path\":\"null\",\"class_name\":\"Batch\"}",
                  argv[2], rounds);
  neap__pool_close(b->pool);
  neap__loop_close(b->loop);
  neap__names_close(b->names);
  munmap(memory, neap__names_bytes());
  sem_destroy(&b->over);
  free(b);
  return 0;
}
