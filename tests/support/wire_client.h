/* SPDX-License-Identifier: MIT
 *
 * support/wire_client.h - an engine with a wire server on a free port, and a client that speaks to it as vLLM does.
 *
 * One chunk is CHUNK tokens, so that a prompt fits on a line. Token lists count up from a first token: two prompts with
 * the same first token share their prefix. Every call waits for its reply; no reply within ten seconds fails the
 * test. For test programs of one thread. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "serve/reader.h"
#include "serve/server.h"
#include "serve/writer.h"

/* L1's check holds the lock of every shard at once, more than ThreadSanitizer's deadlock detector can count. */
#if defined(__SANITIZE_THREAD__)
NEAP_EXPORT const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "detect_deadlocks=0"; }
#endif

#define CHUNK 4u
#define SLOT_BYTES (2u * CHUNK * 64u * 2u) /* of the layout that client_register sends by default */
#define MODEL "demo/tiny-llama"
#define REPLY_MS 10000
#define SLOTS_MAX 64u

typedef struct bench {
  neap__engine *engine;
  neap__server *server;
  char shm_name[64];
  const char *l2; /* JSON of the one adapter, or NULL */
  void *context, *socket;
  uint64_t uid;
} bench;

/* One reply: found tells if there was a payload. */
typedef struct reply {
  uint8_t bytes[8192];
  size_t size;
  bool found;
} reply;

/* What a key says; start, end and tokens count tokens. */
typedef struct ask {
  const char *request, *salt, *model;
  const char *session; /* NULL: no request_configs */
  uint32_t first, tokens, start, end;
  uint32_t world, readers;
  int worker; /* -1: nil */
} ask;

typedef struct slots {
  bool success;
  uint32_t count, indices;
  uint64_t offset[SLOTS_MAX], index[SLOTS_MAX];
} slots;

enum {
  LOOKUP = 8,
  STATUS = 9,
  WAIT = 10,
  FREE_LOCKS = 12,
  END = 13,
  REGISTER = 14,
  UNREGISTER = 15,
  PREPARE_STORE = 16,
  COMMIT_STORE = 17,
  PREPARE_RETRIEVE = 18,
  COMMIT_RETRIEVE = 19,
  CLEAR = 20,
  CHUNK_SIZE = 21,
  PING = 22,
  REPORT = 23,
  NOOP = 24,
  EXPERIMENTAL = 32
};

/* --- the server ------------------------------------------------------------------------------------------------- */

static inline void bench_start(bench *b, uint64_t pool_bytes) {
  neap_error err = {{0}};
  neap__log_set_level(NEAP_ERROR);
  neap__engine_config config = {
      .l1 = {.pool_bytes = pool_bytes, .align_bytes = 4096, .chunk_tokens = CHUNK, .shm_name = b->shm_name},
      .eviction_policy = "LRU",
      .watermark = 0.9,
      .ratio = 0.2,
      .workers = 1,
      .l2_adapters = &b->l2,
      .l2_adapter_count = b->l2 != NULL};
  if (neap__engine_open(&config, &b->engine, &err)) fail_msg("engine: %s", err.text);
  neap__server_config server = {.engine = b->engine,
                                .host = "localhost",
                                .reap_timeout_s = 120,
                                .registration_grace_s = 3600,
                                .session_ttl_s = 600};
  if (neap__server_open(&server, &b->server, &err)) fail_msg("server: %s", err.text);
  b->context = zmq_ctx_new();
  b->socket = zmq_socket(b->context, ZMQ_DEALER);
  int linger = 0, patience = REPLY_MS;
  zmq_setsockopt(b->socket, ZMQ_LINGER, &linger, sizeof(linger));
  zmq_setsockopt(b->socket, ZMQ_RCVTIMEO, &patience, sizeof(patience));
  char endpoint[64];
  snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", neap__server_port(b->server));
  assert_int_equal(zmq_connect(b->socket, endpoint), 0);
}

static inline void bench_stop(bench *b, bool keep) {
  zmq_close(b->socket);
  zmq_ctx_term(b->context);
  neap__server_close(b->server);
  neap__engine_close(b->engine, keep);
}

static inline int bench_setup_with(void **state, const char *l2) {
  static unsigned number;
  bench *b = calloc(1, sizeof(*b));
  b->l2 = l2;
  snprintf(b->shm_name, sizeof(b->shm_name), "neap-test-%d-%u", (int)getpid(), number++);
  bench_start(b, (uint64_t)4 << 20);
  *state = b;
  return 0;
}

static inline int bench_setup(void **state) { return bench_setup_with(state, NULL); }

static inline int bench_teardown(void **state) {
  bench *b = *state;
  neap_error err = {{0}};
  if (neap__l1_check(b->engine->l1, &err)) fail_msg("L1: %s", err.text);
  bench_stop(b, false);
  free(b);
  return 0;
}

static inline neap__l1_stats l1_stats(bench *b) {
  neap__l1_stats stats;
  neap__l1_stats_get(b->engine->l1, &stats);
  return stats;
}

static inline neap__server_stats server_stats(bench *b) {
  neap__server_stats stats;
  neap__server_stats_get(b->server, &stats);
  return stats;
}

/* --- messages --------------------------------------------------------------------------------------------------- */

static inline void send_frame(bench *b, const neap__writer *w, bool more) {
  assert_true(zmq_send(b->socket, w->at, w->bytes, more ? ZMQ_SNDMORE : 0) >= 0);
}

/* Sends uid, the operation that is already in *op, and args; returns the uid. */
static inline uint64_t send_request(bench *b, const neap__writer *op, neap__writer *args, uint32_t count) {
  neap__writer uid = {0};
  neap__write_uint(&uid, b->uid);
  send_frame(b, &uid, true);
  send_frame(b, op, count > 0);
  for (uint32_t i = 0; i < count; i++) {
    send_frame(b, &args[i], i + 1 < count);
    neap__writer_free(&args[i]);
  }
  neap__writer_free(&uid);
  return b->uid++;
}

/* Receives one reply and checks that it echoes uid and operation. */
static inline reply receive(bench *b, uint64_t uid, const neap__writer *op) {
  reply r = {.found = false};
  uint8_t frame[512];
  neap__writer want = {0};
  neap__write_uint(&want, uid);
  int bytes = zmq_recv(b->socket, frame, sizeof(frame), 0);
  if (bytes < 0) fail_msg("no reply");
  assert_int_equal(bytes, want.bytes);
  assert_memory_equal(frame, want.at, want.bytes);
  neap__writer_free(&want);
  bytes = zmq_recv(b->socket, frame, sizeof(frame), 0);
  assert_int_equal(bytes, op->bytes);
  assert_memory_equal(frame, op->at, op->bytes);
  int more;
  size_t size = sizeof(more);
  zmq_getsockopt(b->socket, ZMQ_RCVMORE, &more, &size);
  if (!more) return r;
  bytes = zmq_recv(b->socket, r.bytes, sizeof(r.bytes), 0);
  assert_in_range(bytes, 1, sizeof(r.bytes));
  r.size = (size_t)bytes;
  r.found = true;
  return r;
}

static inline reply call(bench *b, uint64_t op_id, neap__writer *args, uint32_t count) {
  neap__writer op = {0};
  neap__write_uint(&op, op_id);
  reply r = receive(b, send_request(b, &op, args, count), &op);
  neap__writer_free(&op);
  return r;
}

static inline bool reply_bool(const reply *r) {
  assert_true(r->found);
  assert_int_equal(r->size, 1);
  assert_true(r->bytes[0] == 0xc2 || r->bytes[0] == 0xc3);
  return r->bytes[0] == 0xc3;
}

static inline uint64_t reply_uint(const reply *r) {
  neap__reader reader = neap__reader_over(r->bytes, r->size);
  uint64_t v = 0;
  assert_true(r->found);
  assert_int_equal(neap__read_uint(&reader, UINT64_MAX, &v), 0);
  return v;
}

/* --- operations ------------------------------------------------------------------------------------------------- */

static inline neap__writer key_frame(const ask *a) {
  neap__writer w = {0};
  neap__write_map(&w, 10);
  neap__write_text(&w, "model_name");
  neap__write_text(&w, a->model ? a->model : MODEL);
  neap__write_text(&w, "world_size");
  neap__write_uint(&w, a->world ? a->world : 1);
  neap__write_text(&w, "worker_id");
  if (a->worker < 0)
    neap__write_nil(&w);
  else
    neap__write_uint(&w, (uint64_t)a->worker);
  neap__write_text(&w, "token_ids");
  neap__write_array(&w, a->tokens);
  for (uint32_t i = 0; i < a->tokens; i++) neap__write_uint(&w, a->first + i);
  neap__write_text(&w, "start");
  neap__write_uint(&w, a->start);
  neap__write_text(&w, "end");
  neap__write_uint(&w, a->end);
  neap__write_text(&w, "request_id");
  neap__write_text(&w, a->request ? a->request : "cmpl-1");
  neap__write_text(&w, "cache_salt");
  neap__write_text(&w, a->salt ? a->salt : "");
  neap__write_text(&w, "request_configs");
  if (a->session) {
    neap__write_map(&w, 1);
    neap__write_text(&w, "lmcache.tag.session");
    neap__write_text(&w, a->session);
  } else {
    neap__write_nil(&w);
  }
  neap__write_text(&w, "num_kv_readers");
  neap__write_uint(&w, a->readers);
  return w;
}

/* A prompt of `chunks` chunks that starts with token `first`, as its scheduler asks for it. */
static inline ask prompt(const char *request, uint32_t first, uint32_t chunks) {
  return (ask){
      .request = request, .first = first, .tokens = chunks * CHUNK, .end = chunks * CHUNK, .worker = -1, .readers = 1};
}

static inline neap__writer uint_frame(uint64_t v) {
  neap__writer w = {0};
  neap__write_uint(&w, v);
  return w;
}

static inline neap__writer text_frame(const char *text) {
  neap__writer w = {0};
  neap__write_text(&w, text);
  return w;
}

/* Registers a worker of `layers` layers; returns the pool's size as answered, 0 when refused. */
static inline uint64_t register_as(bench *b, uint64_t instance, const char *model, uint32_t world, uint32_t layers) {
  neap__writer w = {0};
  neap__text name = {0};
  neap__write_map(&w, 9);
  neap__write_text(&w, "instance_id");
  neap__write_uint(&w, instance);
  neap__write_text(&w, "model_name");
  neap__write_text(&w, model);
  neap__write_text(&w, "world_size");
  neap__write_uint(&w, world);
  neap__write_text(&w, "block_size");
  neap__write_uint(&w, 2);
  neap__write_text(&w, "num_layers");
  neap__write_uint(&w, layers);
  neap__write_text(&w, "hidden_dim_size");
  neap__write_uint(&w, 64);
  neap__write_text(&w, "dtype_str");
  neap__write_text(&w, "bfloat16");
  neap__write_text(&w, "use_mla");
  neap__write_bool(&w, true);
  neap__write_text(&w, "num_physical_slots");
  neap__write_nil(&w);
  reply r = call(b, REGISTER, &w, 1);
  neap__reader reader = neap__reader_over(r.bytes, r.size);
  uint32_t pairs;
  uint64_t size;
  assert_true(r.found);
  assert_int_equal(neap__read_map(&reader, &pairs), 0);
  assert_int_equal(neap__read_text(&reader, &name), 0);
  assert_true(neap__text_is(name, "shm_name"));
  assert_int_equal(neap__read_text(&reader, &name), 0);
  bool named = name.bytes > 0;
  if (named) assert_true(neap__text_is(name, b->shm_name));
  assert_int_equal(neap__read_text(&reader, &name), 0);
  assert_int_equal(neap__read_uint(&reader, UINT64_MAX, &size), 0);
  assert_int_equal(named, size > 0);
  return size;
}

static inline void register_worker(bench *b, uint64_t instance) {
  assert_true(register_as(b, instance, MODEL, 1, 2) > 0);
}

static inline void unregister(bench *b, uint64_t instance) {
  neap__writer arg = uint_frame(instance);
  assert_false(call(b, UNREGISTER, &arg, 1).found);
}

static inline void lookup(bench *b, const ask *a) {
  neap__writer args[] = {key_frame(a), uint_frame(1)};
  assert_false(call(b, LOOKUP, args, 2).found);
}

/* Asks until the result is known. */
static inline uint64_t status(bench *b, const char *request) {
  for (;;) {
    neap__writer arg = text_frame(request);
    reply r = call(b, STATUS, &arg, 1);
    if (r.found) return reply_uint(&r);
  }
}

static inline uint64_t look(bench *b, const ask *a) {
  lookup(b, a);
  return status(b, a->request);
}

static inline void free_locks(bench *b, const ask *a) {
  neap__writer args[] = {key_frame(a), uint_frame(1)};
  assert_false(call(b, FREE_LOCKS, args, 2).found);
}

static inline void end_session(bench *b, const char *request) {
  neap__writer arg = text_frame(request);
  assert_false(call(b, END, &arg, 1).found);
}

static inline void clear(bench *b, bool force) {
  neap__writer arg = {0};
  neap__write_bool(&arg, force);
  assert_false(call(b, CLEAR, &arg, 1).found);
}

static inline bool ping(bench *b, uint64_t instance) {
  neap__writer arg = uint_frame(instance);
  reply r = call(b, PING, &arg, 1);
  return reply_bool(&r);
}

static inline uint64_t read_slot(neap__reader *r) {
  neap__text name;
  uint32_t fields;
  uint64_t v, offset = UINT64_MAX, length = 0;
  assert_int_equal(neap__read_map(r, &fields), 0);
  for (uint32_t i = 0; i < fields; i++) {
    assert_int_equal(neap__read_text(r, &name), 0);
    if (neap__text_is(name, "offset") || neap__text_is(name, "length")) {
      assert_int_equal(neap__read_uint(r, UINT64_MAX, &v), 0);
      if (neap__text_is(name, "offset"))
        offset = v;
      else
        length = v;
    } else {
      assert_int_equal(neap__read_skip(r), 0);
    }
  }
  assert_true(length > 0 && offset != UINT64_MAX);
  return offset;
}

static inline void read_context(neap__reader *r, slots *out) {
  neap__text name;
  neap__value list;
  uint32_t fields;
  assert_int_equal(neap__read_map(r, &fields), 0);
  for (uint32_t i = 0; i < fields; i++) {
    assert_int_equal(neap__read_text(r, &name), 0);
    assert_int_equal(neap__read_value(r, &list), 0);
    assert_int_equal(list.kind, NEAP_KIND_ARRAY);
    assert_in_range(list.number, 0, SLOTS_MAX);
    bool offsets = neap__text_is(name, "slots");
    if (offsets)
      out->count = (uint32_t)list.number;
    else
      out->indices = (uint32_t)list.number;
    for (uint64_t s = 0; s < list.number; s++) {
      if (offsets)
        out->offset[s] = read_slot(r);
      else
        assert_int_equal(neap__read_uint(r, UINT32_MAX, &out->index[s]), 0);
    }
  }
}

/* The answer of either prepare. */
static inline slots read_slots(const reply *r) {
  slots out = {.count = 0};
  neap__reader reader = neap__reader_over(r->bytes, r->size);
  neap__text name;
  uint32_t fields;
  assert_true(r->found);
  assert_int_equal(neap__read_map(&reader, &fields), 0);
  for (uint32_t i = 0; i < fields; i++) {
    assert_int_equal(neap__read_text(&reader, &name), 0);
    if (neap__text_is(name, "success"))
      assert_int_equal(neap__read_bool(&reader, &out.success), 0);
    else if (neap__text_is(name, "context"))
      read_context(&reader, &out);
    else
      assert_int_equal(neap__read_skip(&reader), 0);
  }
  assert_true(neap__reader_done(&reader));
  return out;
}

/* A scheduler's key as worker `worker` sends it. */
static inline ask by_worker(ask a, int worker) {
  a.worker = worker;
  return a;
}

static inline slots prepare(bench *b, uint64_t op, const ask *a, uint64_t instance) {
  neap__writer args[] = {key_frame(a), uint_frame(instance)};
  reply r = call(b, op, args, 2);
  return read_slots(&r);
}

static inline bool commit_store(bench *b, const ask *a, uint64_t instance) {
  neap__writer args[] = {key_frame(a), uint_frame(instance), {0}};
  neap__write_empty_bin(&args[2]);
  reply r = call(b, COMMIT_STORE, args, 3);
  return reply_bool(&r);
}

static inline bool commit_retrieve(bench *b, const ask *a, uint64_t instance) {
  neap__writer args[] = {key_frame(a), uint_frame(instance)};
  reply r = call(b, COMMIT_RETRIEVE, args, 2);
  return reply_bool(&r);
}

static inline uint8_t *pool_at(bench *b, uint64_t offset) {
  neap_memory memory;
  neap__l1_memory(b->engine->l1, &memory);
  return (uint8_t *)memory.base + offset;
}

/* Stores the whole range of `a` as worker 0 of `instance`, each object filled with `fill`. */
static inline void store(bench *b, const ask *a, uint64_t instance, int fill) {
  ask key = by_worker(*a, 0);
  slots s = prepare(b, PREPARE_STORE, &key, instance);
  assert_int_equal(s.count, (a->end - a->start) / CHUNK);
  for (uint32_t i = 0; i < s.count; i++) memset(pool_at(b, s.offset[i]), fill, SLOT_BYTES);
  assert_true(commit_store(b, &key, instance));
}
