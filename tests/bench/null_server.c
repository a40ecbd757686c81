/* SPDX-License-Identifier: MIT
 *
 * bench/null_server.c - the floor: a server of the protocol with no cache behind it.
 *
 * One thread and one ROUTER socket; every request is decoded, tokens into an array, and gets a canned answer: every
 * lookup hits in full, every store gets the next slots of the pool. What neap needs more than this is what it does.
 * Takes the flags of `neap server` and heeds --host, --port, --l1-size-gb and --shm-name; ends on SIGTERM. */
#include "wire.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

enum { MAX_TOKENS = 1 << 20, MAX_REPLY = 1 << 20, REQUESTS = 1 << 16 };

typedef struct key {
  uint64_t start, end;
  text request_id;
} key;

static char pool_name[128];
static uint64_t pool_bytes = 1u << 30, pool_next, chunk_bytes = 1u << 20;
static uint32_t tokens[MAX_TOKENS], hits[REQUESTS]; /* hits: chunks of the last lookup, by hash of the request id */
static uint8_t reply[MAX_REPLY];

static void stop(int signal) {
  (void)signal;
  shm_unlink(pool_name);
  _exit(0);
}

static uint32_t *hit_of(text id) { /* FNV-1a */
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < id.length; i++) hash = (hash ^ (uint8_t)id.bytes[i]) * 16777619u;
  return &hits[hash % REQUESTS];
}

static key get_key(reader *r) {
  key k = {0};
  for (uint32_t entries = get_count(r); entries; entries--) {
    text name = get_text(r);
    if (is(name, "token_ids")) {
      uint32_t count = get_count(r);
      for (uint32_t i = 0; i < count; i++) tokens[i % MAX_TOKENS] = (uint32_t)get_uint(r);
    } else if (is(name, "start")) k.start = get_uint(r);
    else if (is(name, "end")) k.end = get_uint(r);
    else if (is(name, "request_id")) k.request_id = get_text(r);
    else skip(r);
  }
  return k;
}

static uint32_t chunks_of(const key *k) {
  uint64_t chunks = k->end > k->start ? (k->end - k->start) / CHUNK_TOKENS : 0;
  return chunks > 4096 ? 4096 : (uint32_t)chunks; /* what fits into a reply */
}

static void put_slots(writer *w, uint32_t chunks) {
  put_text(w, "slots");
  put_array(w, chunks);
  for (uint32_t i = 0; i < chunks; i++) {
    if (pool_next + chunk_bytes > pool_bytes) pool_next = 0;
    put_map(w, 4);
    put_uint_entry(w, "offset", pool_next);
    put_uint_entry(w, "length", chunk_bytes);
    put_text(w, "shape");
    put_array(w, 1);
    put_uint(w, chunk_bytes);
    put_text_entry(w, "dtype", "uint8");
    pool_next += chunk_bytes;
  }
}

static void put_register(writer *w, reader *r) {
  uint64_t layers = 1, hidden = 1, slots = CHUNK_TOKENS, planes = 2, item = 2;
  for (uint32_t entries = get_count(r); entries; entries--) {
    text name = get_text(r);
    if (is(name, "num_layers")) layers = get_uint(r);
    else if (is(name, "hidden_dim_size")) hidden = get_uint(r);
    else if (is(name, "use_mla")) planes = get_byte(r) == 0xc3 ? 1 : 2;
    else skip(r);
  }
  chunk_bytes = planes * layers * slots * hidden * item;
  put_map(w, 2);
  put_text_entry(w, "shm_name", pool_name);
  put_uint_entry(w, "pool_size", pool_bytes);
}

static void put_store(writer *w, reader *r) {
  key k = get_key(r);
  uint32_t chunks = chunks_of(&k);
  put_map(w, 1);
  put_text(w, "context");
  put_map(w, 2);
  put_slots(w, chunks);
  put_text(w, "chunk_indices");
  put_array(w, chunks);
  for (uint32_t i = 0; i < chunks; i++) put_uint(w, i);
}

static void put_retrieve(writer *w, reader *r) {
  key k = get_key(r);
  put_map(w, 2);
  put_text(w, "success");
  put_bool(w, true);
  put_text(w, "context");
  put_map(w, 1);
  put_slots(w, chunks_of(&k));
}

/* Answers into reply; returns the bytes of the payload, 0 for None. */
static size_t answer(uint64_t op, reader r) {
  writer w = {reply};
  key k;
  switch (op) {
  case OP_PING: put_bool(&w, true); break;
  case OP_CHUNK_SIZE: put_uint(&w, CHUNK_TOKENS); break;
  case OP_REGISTER: put_register(&w, &r); break;
  case OP_LOOKUP:
    k = get_key(&r);
    *hit_of(k.request_id) = chunks_of(&k);
    break;
  case OP_STATUS: put_uint(&w, *hit_of(get_text(&r))); break;
  case OP_PREPARE_STORE: put_store(&w, &r); break;
  case OP_PREPARE_RETRIEVE: put_retrieve(&w, &r); break;
  case OP_FREE: get_key(&r); break;
  case OP_COMMIT_STORE:
  case OP_COMMIT_RETRIEVE:
    get_key(&r);
    put_bool(&w, true);
    break;
  default: break;
  }
  return (size_t)(w.at - reply);
}

static reader range(zmq_msg_t *frame) {
  const uint8_t *bytes = zmq_msg_data(frame);
  return (reader){bytes, bytes + zmq_msg_size(frame)};
}

static void serve_one(void *socket) {
  zmq_msg_t frames[8]; /* routing id, uid, op, arguments */
  int count = 0;
  bool more = true;
  while (more && count < 8) {
    zmq_msg_init(&frames[count]);
    if (zmq_msg_recv(&frames[count], socket, 0) < 0) return;
    more = zmq_msg_more(&frames[count++]);
  }
  if (count >= 3) {
    reader op = range(&frames[2]);
    size_t bytes = answer(get_uint(&op), count > 3 ? range(&frames[3]) : (reader){reply, reply});
    zmq_msg_send(&frames[0], socket, ZMQ_SNDMORE);
    zmq_msg_send(&frames[1], socket, ZMQ_SNDMORE);
    zmq_msg_send(&frames[2], socket, bytes ? ZMQ_SNDMORE : 0);
    if (bytes) zmq_send(socket, reply, bytes, 0);
  }
  while (count--) zmq_msg_close(&frames[count]);
}

static int open_pool(const char *name) {
  snprintf(pool_name, sizeof pool_name, "neap_null_%s", name);
  int fd = shm_open(pool_name, O_CREAT | O_EXCL | O_RDWR, 0600);
  if (fd < 0 || ftruncate(fd, (off_t)pool_bytes)) {
    perror(pool_name);
    return -1;
  }
  return close(fd);
}

int main(int argc, char **argv) {
  const char *host = "127.0.0.1", *port = "5555", *name = "pool";
  for (int i = 1; i + 1 < argc; i++) {
    if (!strcmp(argv[i], "--host")) host = argv[i + 1];
    else if (!strcmp(argv[i], "--port")) port = argv[i + 1];
    else if (!strcmp(argv[i], "--shm-name")) name = argv[i + 1];
    else if (!strcmp(argv[i], "--l1-size-gb")) pool_bytes = (uint64_t)(strtod(argv[i + 1], NULL) * (1u << 30));
  }
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  char endpoint[128];
  int unbounded = 0;
  snprintf(endpoint, sizeof endpoint, "tcp://%s:%s", host, port);
  void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_ROUTER);
  zmq_setsockopt(socket, ZMQ_SNDHWM, &unbounded, sizeof unbounded);
  zmq_setsockopt(socket, ZMQ_RCVHWM, &unbounded, sizeof unbounded);
  if (open_pool(name)) return 1;
  int status = zmq_bind(socket, endpoint);
  if (status) fprintf(stderr, "%s: %s\n", endpoint, zmq_strerror(zmq_errno()));
  while (status == 0) serve_one(socket);
  shm_unlink(pool_name);
  return 1;
}
