/* SPDX-License-Identifier: MIT
 *
 * kit/bench.c - see bench.h. */
#include "kit/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/json.h"
#include "kit/floor.h"

#define WORKERS 16u
#define ROUNDS_MAX 64u
#define ROUNDS_MIN 3u
#define ROUND_BYTES_MAX (UINT64_C(192) << 20)
#define ROUND_BYTES_MIN (UINT64_C(8) << 20)
#define ROUND_BYTES_PER_S (UINT64_C(48) << 20) /* so that a short measurement has several rounds, too */
#define FLOOR_PART 3u                          /* of a round's bytes, for each limit */
#define OPS_MAX (1u << 18)                     /* of which latency is remembered, per direction */
#define MEMORY_BYTES_MAX (UINT64_C(4) << 30)

typedef struct series {
  double rates[ROUNDS_MAX];
  uint32_t rounds;
  double *latencies_us; /* OPS_MAX; NULL for a limit */
  uint32_t count;
} series;

typedef struct bench {
  const neap__kit_options *options;
  neap__bench_load load;
  neap__bench_result *result;
  neap_error *err;
  neap__tier_config config;
  neap__kit_host *host;
  void *self;
  bool is_open;
  uint8_t *memory; /* depth * batch sources, then as many targets */
  uint64_t memory_bytes, stride;
  neap__kit_op **ops[3]; /* by neap_op_kind: store, -, load */
  uint64_t *started_ns;  /* by slot */
  char disk[1024];       /* directory of the parameters, "" if there is none */
  bool wire, unix_socket;
  uint64_t round_bytes, first_key; /* of the round */
  uint32_t round_ops;
  series store, load_, copy, limit_store, limit_load;
} bench;

/* --- what the parameters say about the medium --------------------------------------------------------------------- */

static void find_medium(bench *b, const cJSON *item) {
  struct stat st;
  for (const cJSON *child = item->child; child; child = child->next) find_medium(b, child);
  if (cJSON_IsNumber(item) && item->string && strstr(item->string, "port")) b->wire = true;
  const char *text = cJSON_GetStringValue(item);
  if (!text) return;
  if (strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0) b->wire = true;
  if (text[0] != '/' || stat(text, &st) != 0) return;
  if (S_ISSOCK(st.st_mode)) b->wire = b->unix_socket = true;
  if (S_ISDIR(st.st_mode) && !*b->disk) snprintf(b->disk, sizeof(b->disk), "%s", text);
}

static void choose_limit(bench *b) {
  cJSON *params = cJSON_Parse(b->config.params_json);
  if (params) find_medium(b, params);
  cJSON_Delete(params);
  b->result->limit = b->wire && b->unix_socket ? "unix socket"
                     : b->wire                 ? "loopback"
                     : *b->disk                ? "O_DIRECT"
                                               : "memcpy";
}

/* --- set-up ---------------------------------------------------------------------------------------------------------
 */

static uint8_t *buffer_of(const bench *b, neap_op_kind kind, uint64_t key) {
  uint64_t slots = (uint64_t)b->load.depth * b->load.batch, at = key % slots;
  return b->memory + (at + (kind == NEAP_OP_LOAD ? slots : 0)) * b->stride;
}

static int make_memory(bench *b) {
  uint64_t objects = 2 * (uint64_t)b->load.depth * b->load.batch;
  b->stride = (b->load.size + 4095) / 4096 * 4096;
  b->memory_bytes = objects * b->stride;
  if (b->memory_bytes > MEMORY_BYTES_MAX)
    return neap__fail(b->err, NEAP_EINVAL, "size * batch * depth needs %llu MiB of buffers; expected at most %llu",
                      (unsigned long long)(b->memory_bytes >> 20), (unsigned long long)(MEMORY_BYTES_MAX >> 20));
  b->memory = mmap(NULL, b->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (b->memory == MAP_FAILED) return neap__fail(b->err, NEAP_ENOMEM, "no memory for the buffers: %m");
  uint64_t word = b->options->run | 1;
  for (uint64_t i = 0; i < b->memory_bytes; i += 8) {
    word = word * UINT64_C(6364136223846793005) + 1442695040888963407u; /* Knuth's MMIX generator */
    memcpy(b->memory + i, &word, 8);
  }
  return 0;
}

static int make_ops(bench *b) {
  static const neap_op_kind kinds[] = {NEAP_OP_STORE, NEAP_OP_LOAD};
  for (size_t k = 0; k < NEAP_ARRAY_LEN(kinds); k++) {
    neap__kit_op **ops = b->ops[kinds[k]] = calloc(b->load.depth, sizeof(neap__kit_op *));
    for (uint32_t i = 0; ops && i < b->load.depth; i++) {
      ops[i] = neap__kit_op_new(b->host, kinds[k], b->load.batch);
      if (!ops[i]) return neap__fail(b->err, NEAP_ENOMEM, "out of memory");
    }
    if (!ops) return neap__fail(b->err, NEAP_ENOMEM, "out of memory");
  }
  b->started_ns = calloc(b->load.depth, sizeof(uint64_t));
  b->store.latencies_us = calloc(OPS_MAX, sizeof(double));
  b->load_.latencies_us = calloc(OPS_MAX, sizeof(double));
  return b->started_ns && b->store.latencies_us && b->load_.latencies_us
             ? 0
             : neap__fail(b->err, NEAP_ENOMEM, "out of memory");
}

static int open_adapter(bench *b) {
  int rc = neap__kit_find(b->options, &b->config, b->err);
  if (rc != 0) return rc;
  const neap_adapter *table = b->config.adapter;
  const neap_traits *traits = NEAP_HAS(table, neap_adapter, traits) ? table->traits : NULL;
  snprintf(b->result->name, sizeof(b->result->name), "%s", table->name);
  if (traits && traits->batch) b->load.batch = NEAP_MIN(b->load.batch, traits->batch);
  if (traits && traits->concurrency) b->load.depth = NEAP_MIN(b->load.depth, traits->concurrency);
  b->result->batch = b->load.batch;
  b->result->depth = b->load.depth;
  choose_limit(b);
  rc = make_memory(b);
  if (rc != 0) return rc;
  if (neap__kit_host_open(WORKERS, &b->host) != 0) return neap__fail(b->err, NEAP_ENOMEM, "out of memory");
  neap__kit_host_set_plugin_dirs(b->host, b->config.plugin_dirs);
  neap__kit_host_set_memory(b->host, (neap_memory){b->memory, b->memory_bytes, 4096, ""});
  rc = table->open(table, neap__kit_host_table(b->host), b->config.params_json, &b->self, b->err);
  b->is_open = rc == 0;
  return rc == 0 ? make_ops(b) : rc;
}

static void close_adapter(bench *b) {
  if (b->is_open) b->config.adapter->close(b->self);
  if (b->host) (void)neap__kit_host_close(b->host);
  if (b->memory && b->memory != MAP_FAILED) munmap(b->memory, b->memory_bytes);
  free(b->ops[NEAP_OP_STORE]);
  free(b->ops[NEAP_OP_LOAD]);
  free(b->started_ns);
  free(b->store.latencies_us);
  free(b->load_.latencies_us);
  neap__tier_config_free(&b->config);
}

/* --- one operation ------------------------------------------------------------------------------------------------ */

static neap_object_key key_of(const bench *b, uint64_t number) {
  neap_object_key key = {.model = "neap-bench", .salt = "", .rank = 0x01000100u};
  uint64_t words[] = {b->options->run, number};
  memcpy(key.hash, words, sizeof(words));
  return key;
}

/* Both ends of an object say which key it was stored for. */
static void stamp(const bench *b, uint8_t *data, uint64_t number) {
  memcpy(data, &number, NEAP_MIN(b->load.size, (uint64_t)8));
  if (b->load.size >= 16) memcpy(data + b->load.size - 8, &number, 8);
}

static bool stamped(const bench *b, const uint8_t *data, uint64_t number) {
  return memcmp(data, &number, NEAP_MIN(b->load.size, (uint64_t)8)) == 0 &&
         (b->load.size < 16 || memcmp(data + b->load.size - 8, &number, 8) == 0);
}

static int submit(bench *b, neap_op_kind kind, uint32_t slot, uint64_t number) {
  neap__kit_op *op = b->ops[kind][slot];
  neap__kit_op_again(op);
  for (uint32_t i = 0; i < b->load.batch; i++) {
    uint8_t *data = buffer_of(b, kind, number + i);
    if (kind == NEAP_OP_STORE) stamp(b, data, number + i);
    if (kind == NEAP_OP_LOAD) memset(data, 0, NEAP_MIN(b->load.size, (uint64_t)8));
    op->objects[i].key = key_of(b, number + i);
    op->objects[i].data = data;
    op->objects[i].bytes = b->load.size;
  }
  b->started_ns[slot] = neap__now_ns();
  return neap__kit_op_submit(b->config.adapter, b->self, op);
}

static int finish(bench *b, neap_op_kind kind, uint32_t slot, uint64_t number, bool whole, series *out) {
  neap__kit_op *op = b->ops[kind][slot];
  const char *name = neap__kit_kind_name(kind);
  if (!neap__kit_op_wait(op, b->options->timeout_ms))
    return neap__fail(b->err, NEAP_ETIMEDOUT, "a %s was not ended within %g s", name,
                      (double)b->options->timeout_ms / 1e3);
  for (uint32_t i = 0; i < b->load.batch; i++) {
    int rc = op->objects[i].result;
    const uint8_t *data = op->objects[i].data;
    if (rc != 0) return neap__fail(b->err, rc, "a %s ended with %s", name, neap_err_name(rc));
    if (kind != NEAP_OP_LOAD) continue;
    uint64_t inner = b->load.size > 16 ? b->load.size - 16 : 0;
    if (!stamped(b, data, number + i) ||
        (whole && inner && memcmp(data + 8, buffer_of(b, NEAP_OP_STORE, number + i) + 8, inner) != 0))
      return neap__fail(b->err, NEAP_ECORRUPT, "a load succeeded with bytes that are not those that were stored");
    b->result->verified += whole;
  }
  if (out && out->count < OPS_MAX) out->latencies_us[out->count++] = (double)(op->done_ns - b->started_ns[slot]) / 1e3;
  return 0;
}

/* All operations of a round, depth at once. out: where rate and latencies go; NULL: outside the clock, compared whole.
 */
static int pass(bench *b, neap_op_kind kind, series *out) {
  uint64_t started_ns = neap__now_ns();
  uint32_t depth = b->load.depth;
  int rc = 0;
  for (uint32_t i = 0; i < b->round_ops + depth; i++) {
    uint32_t slot = i % depth;
    uint64_t number = b->first_key + (uint64_t)i * b->load.batch;
    if (i >= depth && i - depth < b->round_ops) {
      int ended = finish(b, kind, slot, number - (uint64_t)depth * b->load.batch, !out, out);
      if (rc == 0) rc = ended; /* what is under way is waited for all the same */
      if (ended == NEAP_ETIMEDOUT) return rc;
    }
    if (i < b->round_ops && rc == 0) rc = submit(b, kind, slot, number);
    if (rc != 0 && i < b->round_ops) b->round_ops = i;
  }
  double seconds = (double)(neap__now_ns() - started_ns) / 1e9;
  if (rc == 0 && out && out->rounds < ROUNDS_MAX)
    out->rates[out->rounds++] = (double)b->round_ops * (double)b->load.batch * (double)b->load.size / seconds;
  return rc;
}

static int remove_round(bench *b) {
  if (!neap__kit_can(b->config.adapter, NEAP_OP_REMOVE)) return 0;
  for (uint32_t i = 0; i < b->round_ops; i++) {
    neap__kit_op *op = neap__kit_op_new(b->host, NEAP_OP_REMOVE, b->load.batch);
    if (!op) return neap__fail(b->err, NEAP_ENOMEM, "out of memory");
    for (uint32_t k = 0; k < b->load.batch; k++)
      op->objects[k].key = key_of(b, b->first_key + (uint64_t)i * b->load.batch + k);
    (void)neap__kit_op_submit(b->config.adapter, b->self, op);
    if (!neap__kit_op_wait(op, b->options->timeout_ms)) return neap__fail(b->err, NEAP_ETIMEDOUT, "a delete hangs");
  }
  return 0;
}

/* --- rounds ---------------------------------------------------------------------------------------------------------
 */

static void add_rate(series *out, double rate) {
  if (out->rounds < ROUNDS_MAX && rate > 0) out->rates[out->rounds++] = rate;
}

/* A limit that cannot be measured is left out, and the note says why. */
static void measure_limits(bench *b) {
  neap__floor_load load = {
      .size = b->load.size, .total = b->round_bytes / FLOOR_PART, .depth = b->load.depth * b->load.batch};
  neap_error why = {0};
  double out = 0, in = 0;
  if (neap__floor_memory(&load, &out, &why) == 0) add_rate(&b->copy, out);
  if (b->wire) {
    load.depth = b->load.depth;
    if (neap__floor_wire(&load, b->unix_socket, &out, &why) == 0) in = out;
  } else if (*b->disk) {
    if (neap__floor_disk(&load, b->disk, &out, &in, &why) != 0) out = in = 0;
  } else {
    in = out;
  }
  if (in > 0) {
    add_rate(&b->limit_store, out);
    add_rate(&b->limit_load, in);
  } else {
    snprintf(b->result->limit_note, sizeof(b->result->limit_note), "%s", why.text);
  }
}

static int run_round(bench *b) {
  int rc = pass(b, NEAP_OP_STORE, &b->store);
  if (rc == 0) rc = pass(b, NEAP_OP_LOAD, NULL);
  if (rc == 0) rc = pass(b, NEAP_OP_LOAD, &b->load_);
  int removed = remove_round(b);
  b->result->objects += (uint64_t)b->round_ops * b->load.batch;
  b->first_key += (uint64_t)b->round_ops * b->load.batch;
  return rc != 0 ? rc : removed;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static neap__bench_figure figure_of(series *s) {
  neap__bench_figure f = {0};
  if (s->rounds) {
    qsort(s->rates, s->rounds, sizeof(double), ascending);
    f.median = s->rates[s->rounds / 2];
    f.least = s->rates[0];
    f.most = s->rates[s->rounds - 1];
  }
  if (s->count) {
    qsort(s->latencies_us, s->count, sizeof(double), ascending);
    f.p50_us = s->latencies_us[s->count / 2];
    f.p99_us = s->latencies_us[(uint64_t)s->count * 99 / 100];
  }
  return f;
}

int neap__bench(const neap__kit_options *options, const neap__bench_load *load, neap__bench_result *result,
                void (*progress)(void *ctx, const char *what, double done), void *ctx, neap_error *err) {
  bench *b = calloc(1, sizeof(*b));
  if (!b) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  *b = (bench){.options = options, .load = *load, .result = result, .err = err};
  *result = (neap__bench_result){0};
  int rc = open_adapter(b);
  uint64_t per_op = b->load.size * b->load.batch, started_ns = neap__now_ns();
  b->round_bytes = (uint64_t)(load->seconds * (double)ROUND_BYTES_PER_S);
  b->round_bytes = NEAP_MAX(NEAP_MIN(b->round_bytes, ROUND_BYTES_MAX), ROUND_BYTES_MIN);
  b->round_ops = (uint32_t)NEAP_MIN(NEAP_MAX(b->round_bytes / per_op, (uint64_t)b->load.depth), (uint64_t)4096);
  for (double spent = 0; rc == 0 && result->rounds < ROUNDS_MAX; result->rounds++) {
    if (result->rounds >= ROUNDS_MIN && spent >= load->seconds) break;
    if (progress) progress(ctx, "limits", spent / load->seconds);
    measure_limits(b);
    if (progress) progress(ctx, "stores and loads", spent / load->seconds);
    rc = run_round(b);
    spent = (double)(neap__now_ns() - started_ns) / 1e9;
  }
  result->store = figure_of(&b->store);
  result->load = figure_of(&b->load_);
  result->memcpy_ = figure_of(&b->copy);
  result->limit_store = figure_of(&b->limit_store);
  result->limit_load = figure_of(&b->limit_load);
  if (rc != NEAP_ETIMEDOUT) close_adapter(b); /* else an operation may still touch all of it */
  if (rc != NEAP_ETIMEDOUT) free(b);
  return rc;
}
