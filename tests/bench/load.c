/* SPDX-License-Identifier: MIT
 *
 * bench/load.c - a load generator for the multiprocess protocol, engine-driven with shared memory.
 *
 * A client is a thread with one DEALER socket and `depth` journeys in flight, each what one vLLM request does to the
 * server:
 *   ping      one ping
 *   miss      lookup, status, end                          of prompts that nobody stored
 *   hit       lookup, status, free, end                    of stored ones
 *   store     prepare, copy in, commit, end                of new ones
 *   retrieve  lookup, status, prepare, copy out, commit, end
 *   mixed     lookup, retrieve what is there, store the rest, end; prompts by Zipf's law (exponent 0.9)
 *   insist    store, again and again until there is room
 *   ready     pings until the first answer
 * Prompts are numbers; every chunk carries its prompt's number in its tokens and at both ends of its bytes, so a wrong
 * chunk is noticed. Prints one flat JSON object; ends with 1 when anything was wrong. */
#include "prompt.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { PING, MISS, HIT, STORE, RETRIEVE, MIXED, INSIST, READY, KINDS };
static const char *const kinds[KINDS] = {"ping", "miss", "hit", "store", "retrieve", "mixed", "insist", "ready"};
enum { IDLE = -1, ASLEEP = -2, POLL_NS = 500000, REPLY_S = 30, SOURCE_BYTES = 32 << 20 };

static const char *endpoint = "tcp://127.0.0.1:5555";
static int kind_asked;
static struct {
  int64_t clients, depth, chunks, chunk_bytes; /* chunks of a prompt */
  int64_t prompts;                             /* known ones; stored before the measurement unless `first` is given */
  int64_t count, first;                        /* a counted run: prompts first .. first + count - 1, once each */
  int64_t warmup_ms, ms;                       /* a timed run */
  int64_t verify, populate, pid, since_ns;     /* pid: of the server; since_ns: when it was started, for `ready` */
} options = {.clients = 1, .depth = 1, .chunks = 4, .chunk_bytes = 65536, .first = -1, .warmup_ms = 300, .ms = 2000,
             .verify = 1};

typedef struct slot {
  uint64_t offset, chunk; /* chunk: of the prompt */
} slot;

typedef struct journey {
  int op, again; /* op: awaited, or IDLE, or ASLEEP until wake_ns and then again `again` */
  prompt prompt;
  int64_t from, hit, slot_count; /* chunks */
  uint64_t uid;
  int64_t began_ns, sent_ns, wake_ns;
  slot slots[MAX_CHUNKS];
} journey;

typedef struct client {
  int index, kind;
  void *socket;
  pthread_t thread;
  uint64_t instance, random, uid, requests, next, last; /* prompts [next, last) of a counted run */
  journey *journeys;
  uint8_t *frame, *source;
  int64_t source_at, end_ns;
  float *latencies_us; /* of journeys that ended inside the measured time, in order */
  size_t done, room;
  uint64_t bytes, hit_chunks, asked_chunks, refused, wrong;
} client;

static uint8_t *pool;
static uint64_t pool_bytes;
static double *zipf;          /* cumulative weight of each prompt */
static int64_t from_ns, to_ns; /* what is measured; 0: a counted run */
static atomic_uint_fast64_t fresh = 1u << 24; /* numbers of new prompts */
static pthread_barrier_t barrier;
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;

static int64_t now_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000 + t.tv_nsec;
}

static _Noreturn void die(const char *what, const char *why) {
  fprintf(stderr, "load: %s: %s\n", what, why);
  exit(2);
}

static void send_frame(client *c, const void *bytes, size_t count, bool more) {
  if (zmq_send(c->socket, bytes, count, more ? ZMQ_SNDMORE : 0) < 0) die("send", zmq_strerror(zmq_errno()));
}

/* Sends one request of a journey. Its uid tells which journey the reply belongs to. */
static void request(client *c, journey *j, int op) {
  uint8_t head[16];
  writer w = {head};
  j->uid = c->uid++ * (uint64_t)options.depth + (uint64_t)(j - c->journeys);
  put_uint(&w, j->uid);
  size_t uid_bytes = (size_t)(w.at - head);
  j->op = op;
  j->sent_ns = now_ns(CLOCK_MONOTONIC);
  send_frame(c, head, uid_bytes, true);
  writer o = {head};
  put_uint(&o, (uint64_t)op);
  send_frame(c, head, (size_t)(o.at - head), op != OP_CHUNK_SIZE);
  if (op == OP_CHUNK_SIZE) return;

  writer first = {c->frame};
  bool scheduler = op == OP_LOOKUP || op == OP_FREE, keyed = scheduler || (op >= OP_PREPARE_STORE && op < OP_CLEAR);
  if (op == OP_REGISTER) put_layout(&first, c->instance, (uint64_t)options.chunk_bytes);
  else if (op == OP_PING || op == OP_UNREGISTER) put_uint(&first, c->instance);
  else if (!keyed) put_text(&first, j->prompt.request_id);
  else if (op == OP_LOOKUP) put_key(&first, &j->prompt, true, 0, options.chunks);
  else if (op == OP_PREPARE_STORE || op == OP_COMMIT_STORE) put_key(&first, &j->prompt, false, j->from, options.chunks);
  else put_key(&first, &j->prompt, scheduler, 0, j->hit);
  send_frame(c, c->frame, (size_t)(first.at - c->frame), keyed);
  if (!keyed) return;

  writer second = {head};
  put_uint(&second, scheduler ? 1 : c->instance);
  send_frame(c, head, (size_t)(second.at - head), op == OP_COMMIT_STORE);
  if (op == OP_COMMIT_STORE) send_frame(c, "\xc4\0", 2, false);
}

static void sleep_then(journey *j, int op) {
  j->op = ASLEEP;
  j->again = op;
  j->wake_ns = now_ns(CLOCK_MONOTONIC) + POLL_NS;
}

static uint64_t by_zipf(uint64_t random) {
  double want = (double)(random >> 11) * 0x1p-53 * zipf[options.prompts - 1];
  int64_t low = 0, high = options.prompts - 1;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (zipf[middle] < want) low = middle + 1;
    else high = middle;
  }
  return (uint64_t)low;
}

/* Begins the next journey; false when there is none. */
static bool begin(client *c, journey *j) {
  if (to_ns && now_ns(CLOCK_MONOTONIC) >= to_ns) return false;
  if (!to_ns && c->next >= c->last) return false;
  c->random = mix(c->random);
  if (!to_ns) j->prompt.number = c->next++;
  else if (c->kind == HIT || c->kind == RETRIEVE) j->prompt.number = c->random % (uint64_t)options.prompts;
  else j->prompt.number = c->kind == MIXED ? by_zipf(c->random) : atomic_fetch_add(&fresh, 1);
  snprintf(j->prompt.request_id, sizeof j->prompt.request_id, "cmpl-%x-%d-%llu", (unsigned)getpid(), c->index,
           (unsigned long long)c->requests++);
  j->from = j->hit = 0;
  j->began_ns = now_ns(CLOCK_MONOTONIC);
  request(c, j, c->kind == PING ? OP_PING : c->kind == STORE || c->kind == INSIST ? OP_PREPARE_STORE : OP_LOOKUP);
  return true;
}

static void finish(client *c, journey *j) {
  int64_t now = now_ns(CLOCK_MONOTONIC);
  j->op = IDLE;
  c->end_ns = now;
  if (to_ns && (now < from_ns || now >= to_ns)) return;
  if (c->done == c->room) {
    c->room = c->room ? 2 * c->room : 4096;
    c->latencies_us = realloc(c->latencies_us, c->room * sizeof *c->latencies_us);
  }
  c->latencies_us[c->done++] = (float)(now - j->began_ns) / 1000;
}

/* Copies a chunk between the pool and private memory, in the direction of the journey, and marks or checks it. */
static void copy(client *c, journey *j, const slot *s, bool in) {
  size_t bytes = (size_t)options.chunk_bytes;
  uint64_t mark = mix(j->prompt.number << 12 ^ s->chunk), found[2];
  uint8_t *mine = c->source + c->source_at, *theirs = pool + s->offset;
  c->source_at += options.chunk_bytes;
  if (c->source_at + options.chunk_bytes > SOURCE_BYTES) c->source_at = 0;
  if (in) {
    memcpy(mine, &mark, 8);
    memcpy(mine + bytes - 8, &mark, 8);
  }
  memcpy(in ? theirs : mine, in ? mine : theirs, bytes);
  memcpy(found, mine, 8);
  memcpy(found + 1, mine + bytes - 8, 8);
  if (!in && options.verify && (found[0] != mark || found[1] != mark)) c->wrong++;
  int64_t now = to_ns ? now_ns(CLOCK_MONOTONIC) : 0;
  if (!to_ns || (now >= from_ns && now < to_ns)) c->bytes += bytes;
}

static void read_slots(client *c, journey *j, reader *r) {
  uint32_t count = get_count(r);
  for (uint32_t i = 0; i < count && i < MAX_CHUNKS; i++) {
    slot *s = &j->slots[i];
    uint64_t length = 0;
    s->chunk = i;
    for (uint32_t entries = get_count(r); entries; entries--) {
      text name = get_text(r);
      if (is(name, "offset")) s->offset = get_uint(r);
      else if (is(name, "length")) length = get_uint(r);
      else skip(r);
    }
    if (length == (uint64_t)options.chunk_bytes && s->offset <= pool_bytes - length) j->slot_count++;
    else c->wrong++;
  }
}

/* The answer to a prepare: success (of a store: always) and slots. */
static bool read_slots_reply(client *c, journey *j, reader *r) {
  bool success = j->op == OP_PREPARE_STORE;
  j->slot_count = 0;
  for (uint32_t entries = get_count(r); entries; entries--) {
    text name = get_text(r);
    if (is(name, "success")) success = get_byte(r) == 0xc3;
    else if (!is(name, "context")) skip(r);
    else for (uint32_t inner = get_count(r); inner; inner--) {
      text field = get_text(r);
      if (is(field, "slots")) read_slots(c, j, r);
      else if (is(field, "chunk_indices")) {
        uint32_t count = get_count(r);
        for (uint32_t i = 0; i < count && i < MAX_CHUNKS; i++) j->slots[i].chunk = (uint64_t)j->from + get_uint(r);
      } else skip(r);
    }
  }
  return success;
}

static void looked_up(client *c, journey *j, uint64_t chunks) {
  j->hit = chunks > (uint64_t)options.chunks ? options.chunks : (int64_t)chunks;
  c->hit_chunks += (uint64_t)j->hit;
  c->asked_chunks += (uint64_t)options.chunks;
  if (c->kind == MISS || (j->hit == 0 && c->kind != MIXED)) request(c, j, OP_END);
  else if (c->kind == HIT) request(c, j, OP_FREE);
  else request(c, j, j->hit ? OP_PREPARE_RETRIEVE : OP_PREPARE_STORE);
}

/* One step of a journey; r is the reply's payload, empty for None. */
static void step(client *c, journey *j, reader r) {
  bool none = r.at == r.end || (r.end - r.at == 1 && *r.at == 0xc0);
  bool yes = r.end - r.at == 1 && *r.at == 0xc3;
  switch (j->op) {
  case OP_PING:
    c->wrong += !yes;
    finish(c, j);
    return;
  case OP_LOOKUP: request(c, j, OP_STATUS); return;
  case OP_STATUS:
    if (none) sleep_then(j, OP_STATUS);
    else looked_up(c, j, get_uint(&r));
    return;
  case OP_PREPARE_STORE:
    if (!read_slots_reply(c, j, &r)) c->wrong++;
    for (int i = 0; i < j->slot_count; i++) copy(c, j, &j->slots[i], true);
    c->refused += (uint64_t)(options.chunks - j->from - j->slot_count);
    if (j->slot_count) request(c, j, OP_COMMIT_STORE);
    else if (c->kind == INSIST) sleep_then(j, OP_PREPARE_STORE);
    else request(c, j, OP_END);
    return;
  case OP_PREPARE_RETRIEVE:
    if (!read_slots_reply(c, j, &r) || j->slot_count != j->hit) c->wrong++;
    for (int i = 0; i < j->slot_count; i++) copy(c, j, &j->slots[i], false);
    request(c, j, OP_COMMIT_RETRIEVE);
    return;
  case OP_COMMIT_RETRIEVE:
    j->from = j->hit;
    request(c, j, c->kind == MIXED && j->hit < options.chunks ? OP_PREPARE_STORE : OP_END);
    return;
  case OP_COMMIT_STORE: c->wrong += !yes; /* fall through */
  case OP_FREE: request(c, j, OP_END); return;
  default: finish(c, j);
  }
}

/* Receives one reply and hands it to its journey, or to `payload` outside of journeys. False when there is none. */
static bool receive(client *c, int flags, void (*take)(client *, journey *, reader)) {
  zmq_msg_t frames[3];
  int count = 0;
  bool more = true;
  while (more && count < 3) {
    zmq_msg_init(&frames[count]);
    if (zmq_msg_recv(&frames[count], c->socket, flags) < 0) return false;
    more = zmq_msg_more(&frames[count++]);
    flags = 0;
  }
  const uint8_t *bytes = zmq_msg_data(&frames[0]), *payload = count == 3 ? zmq_msg_data(&frames[2]) : bytes;
  uint64_t uid = get_uint(&(reader){bytes, bytes + zmq_msg_size(&frames[0])});
  journey *j = &c->journeys[uid % (uint64_t)options.depth];
  if (more || count < 2 || j->uid != uid || j->op < 0) c->wrong++;
  else take(c, j, (reader){payload, payload + (count == 3 ? zmq_msg_size(&frames[2]) : 0)});
  while (count--) zmq_msg_close(&frames[count]);
  return true;
}

static void run(client *c) {
  for (;;) {
    int busy = 0, asleep = 0;
    int64_t now = now_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < options.depth; i++) {
      journey *j = &c->journeys[i];
      if (j->op == IDLE && !begin(c, j)) continue;
      if (j->op == ASLEEP && now >= j->wake_ns) request(c, j, j->again);
      if (j->op >= 0 && now - j->sent_ns > REPLY_S * INT64_C(1000000000)) die("no reply", j->prompt.request_id);
      asleep += j->op == ASLEEP;
      busy++;
    }
    if (!busy) return;
    zmq_pollitem_t item = {.socket = c->socket, .events = ZMQ_POLLIN};
    zmq_poll(&item, 1, asleep ? 1 : 1000);
    while (receive(c, ZMQ_DONTWAIT, step)) {}
  }
}

static void map_pool(text name, uint64_t bytes) {
  char path[256];
  pthread_mutex_lock(&pool_lock);
  if (!pool) {
    snprintf(path, sizeof path, "/%.*s", (int)name.length, name.bytes);
    int fd = shm_open(path, O_RDWR, 0);
    if (fd < 0) die(path, strerror(errno));
    pool = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (options.populate ? MAP_POPULATE : 0), fd, 0);
    if (pool == MAP_FAILED) die("mmap of the pool", strerror(errno));
    pool_bytes = bytes;
    close(fd);
  }
  pthread_mutex_unlock(&pool_lock);
}

static void take_setup(client *c, journey *j, reader r) {
  if (j->op == OP_CHUNK_SIZE && get_uint(&r) != CHUNK_TOKENS) die("chunk size", "expected 256");
  if (j->op == OP_REGISTER) {
    text name = {"", 0};
    uint64_t bytes = 0;
    for (uint32_t entries = get_count(&r); entries; entries--) {
      text field = get_text(&r);
      if (is(field, "shm_name")) name = get_text(&r);
      else if (is(field, "pool_size")) bytes = get_uint(&r);
      else skip(&r);
    }
    if (name.length == 0 || bytes == 0) die("register", "the server offers no pool");
    map_pool(name, bytes);
  }
  (void)c;
  j->op = IDLE;
}

/* One request outside of journeys, waited for. */
static bool call(client *c, int op, int timeout_ms) {
  zmq_pollitem_t item = {.socket = c->socket, .events = ZMQ_POLLIN};
  request(c, &c->journeys[0], op);
  while (c->journeys[0].op != IDLE)
    if (zmq_poll(&item, 1, timeout_ms) <= 0 || !receive(c, ZMQ_DONTWAIT, take_setup)) return false;
  return true;
}

static void *client_main(void *context) {
  client *c = context;
  if (!call(c, OP_CHUNK_SIZE, REPLY_S * 1000) || !call(c, OP_REGISTER, REPLY_S * 1000)) die("setup", "no reply");
  int kind = c->kind;
  if (options.prompts && kind != MIXED) { /* stores what hit and retrieve will find */
    c->kind = STORE;
    c->next = (uint64_t)(options.prompts * c->index / options.clients);
    c->last = (uint64_t)(options.prompts * (c->index + 1) / options.clients);
    if (options.first < 0) run(c);
    c->kind = kind;
  }
  int64_t first = options.first < 0 ? 0 : options.first;
  c->next = (uint64_t)(first + options.count * c->index / options.clients);
  c->last = (uint64_t)(first + options.count * (c->index + 1) / options.clients);
  c->done = c->bytes = c->refused = c->hit_chunks = c->asked_chunks = 0;
  pthread_barrier_wait(&barrier); /* ready */
  pthread_barrier_wait(&barrier); /* the time is set */
  run(c);
  pthread_barrier_wait(&barrier);
  if (!call(c, OP_UNREGISTER, REPLY_S * 1000)) die("unregister", "no reply");
  return NULL;
}

static double cpu_seconds(int64_t pid) {
  char path[64], line[1024];
  unsigned long user = 0, system = 0;
  snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
  FILE *file = pid ? fopen(path, "r") : NULL;
  if (!file) return 0;
  const char *rest = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
  if (rest) sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
  fclose(file);
  return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static int ascending(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* Adds the clients up and prints them; true if all was right. */
static bool report(client *clients, double seconds, double cpu) {
  client sum = {0};
  for (int i = 0; i < options.clients; i++) sum.room += clients[i].done;
  float *all = malloc((sum.room + 1) * sizeof *all), hundredth[10] = {0}, first = 0;
  for (int i = 0; i < options.clients; i++) {
    client *c = &clients[i];
    if (c->done) memcpy(all + sum.done, c->latencies_us, c->done * sizeof *all);
    sum.done += c->done;
    sum.bytes += c->bytes;
    sum.refused += c->refused;
    sum.wrong += c->wrong;
    sum.hit_chunks += c->hit_chunks;
    sum.asked_chunks += c->asked_chunks;
  }
  if (sum.done >= 105) {
    first = all[0];
    memcpy(hundredth, all + 95, sizeof hundredth);
    qsort(hundredth, 10, sizeof *hundredth, ascending);
  }
  qsort(all, sum.done, sizeof *all, ascending);
  size_t n = sum.done ? sum.done : 1, slow = 0;
  if (!sum.done) all[0] = 0;
  while (slow < sum.done && all[sum.done - 1 - slow] > 10000) slow++;
  printf("{\"kind\":\"%s\",\"clients\":%lld,\"depth\":%lld,\"chunks\":%lld,\"chunk_bytes\":%lld,",
         kinds[kind_asked], (long long)options.clients, (long long)options.depth, (long long)options.chunks,
         (long long)options.chunk_bytes);
  printf("\"seconds\":%.3f,\"requests\":%zu,\"per_s\":%.1f,\"gb_s\":%.4f,", seconds, sum.done,
         (double)sum.done / seconds, (double)sum.bytes / seconds / 1e9);
  printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"over_10ms\":%zu,", (double)all[n / 2],
         (double)all[n - 1 - n / 100], (double)all[n - 1], slow);
  printf("\"first_us\":%.1f,\"hundredth_us\":%.1f,\"hit_ratio\":%.4f,", (double)first, (double)hundredth[5],
         (double)sum.hit_chunks / (double)(sum.asked_chunks ? sum.asked_chunks : 1));
  printf("\"refused\":%llu,\"wrong\":%llu,", (unsigned long long)sum.refused, (unsigned long long)sum.wrong);
  printf("\"server_cpu_ms_per_1000\":%.3f}\n", cpu * 1e6 / (double)n);
  free(all);
  return sum.wrong == 0;
}

static void open_client(client *c, void *context, int index) {
  int none = 0, soon_ms = 5;
  c->index = index;
  c->kind = kind_asked;
  c->instance = (uint64_t)getpid() << 16 | (uint64_t)index;
  c->random = mix((uint64_t)index);
  c->journeys = calloc((size_t)options.depth, sizeof *c->journeys);
  for (int i = 0; i < options.depth; i++) {
    c->journeys[i].op = IDLE;
    c->journeys[i].prompt.chunks = (uint32_t)options.chunks;
  }
  c->frame = malloc((size_t)MAX_CHUNKS * CHUNK_FRAME + 1024);
  c->source = malloc(SOURCE_BYTES);
  memset(c->source, index + 1, SOURCE_BYTES);
  c->socket = zmq_socket(context, ZMQ_DEALER);
  zmq_setsockopt(c->socket, ZMQ_LINGER, &none, sizeof none);
  zmq_setsockopt(c->socket, ZMQ_SNDHWM, &none, sizeof none);
  zmq_setsockopt(c->socket, ZMQ_RCVHWM, &none, sizeof none);
  zmq_setsockopt(c->socket, ZMQ_RECONNECT_IVL, &soon_ms, sizeof soon_ms);
  if (zmq_connect(c->socket, endpoint)) die(endpoint, zmq_strerror(zmq_errno()));
}

static int report_ready(client *c) {
  while (!call(c, OP_PING, 100)) c->journeys[0].op = IDLE;
  int64_t now = now_ns(CLOCK_REALTIME);
  printf("{\"kind\":\"ready\",\"ms\":%.1f}\n", (double)(now - options.since_ns) / 1e6);
  return 0;
}

static void make_zipf(void) {
  zipf = calloc((size_t)options.prompts, sizeof *zipf);
  for (int64_t i = 0; i < options.prompts; i++) zipf[i] = (i ? zipf[i - 1] : 0) + pow((double)(i + 1), -0.9);
}

static int measure(client *clients) {
  pthread_barrier_init(&barrier, NULL, (unsigned)options.clients + 1);
  for (int i = 0; i < options.clients; i++) pthread_create(&clients[i].thread, NULL, client_main, &clients[i]);
  pthread_barrier_wait(&barrier);
  int64_t began = now_ns(CLOCK_MONOTONIC), warmup = options.warmup_ms * 1000000;
  from_ns = options.count ? 0 : began + warmup;
  to_ns = options.count ? 0 : from_ns + options.ms * 1000000;
  double cpu = cpu_seconds(options.pid);
  pthread_barrier_wait(&barrier);
  if (!options.count) {
    usleep((unsigned)options.warmup_ms * 1000);
    cpu = cpu_seconds(options.pid);
    usleep((unsigned)options.ms * 1000);
    cpu = cpu_seconds(options.pid) - cpu;
  }
  pthread_barrier_wait(&barrier);
  if (options.count) cpu = cpu_seconds(options.pid) - cpu;
  int64_t ended = began;
  for (int i = 0; i < options.clients; i++) {
    pthread_join(clients[i].thread, NULL);
    if (clients[i].end_ns > ended) ended = clients[i].end_ns;
  }
  return report(clients, options.count ? (double)(ended - began) / 1e9 : (double)options.ms / 1e3, cpu) ? 0 : 1;
}

static const struct {
  const char *name;
  int64_t *value;
} numbers[] = {
  {"--clients", &options.clients}, {"--depth", &options.depth}, {"--chunks", &options.chunks},
  {"--chunk-bytes", &options.chunk_bytes}, {"--prompts", &options.prompts}, {"--count", &options.count},
  {"--first", &options.first}, {"--warmup-ms", &options.warmup_ms}, {"--ms", &options.ms},
  {"--verify", &options.verify}, {"--populate", &options.populate}, {"--pid", &options.pid},
  {"--since-ns", &options.since_ns},
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static void read_options(int argc, char **argv) {
  while (kind_asked < KINDS && (argc < 2 || strcmp(argv[1], kinds[kind_asked]))) kind_asked++;
  if (kind_asked == KINDS) die("first argument", "expected ping, miss, hit, store, retrieve, mixed, insist or ready");
  for (int i = 2; i < argc; i += 2) {
    int n = 0;
    while (n < NUMBERS && strcmp(argv[i], numbers[n].name)) n++;
    if (i + 1 == argc) die(argv[i], "expected a value");
    if (n < NUMBERS) *numbers[n].value = strtoll(argv[i + 1], NULL, 10);
    else if (!strcmp(argv[i], "--endpoint")) endpoint = argv[i + 1];
    else die(argv[i], "unknown");
  }
  if (options.clients < 1 || options.depth < 1 || options.chunks < 1 || options.chunks > MAX_CHUNKS ||
      options.chunk_bytes < 2 * CHUNK_TOKENS || options.chunk_bytes > SOURCE_BYTES / 2)
    die("usage", "clients and depth from 1, chunks 1 to 1024, chunk-bytes 512 to 16 MiB");
  bool known = kind_asked == HIT || kind_asked == RETRIEVE || kind_asked == MIXED;
  if (known && options.prompts < 1 && options.count < 1) die("usage", "this kind needs --prompts or --count");
}

int main(int argc, char **argv) {
  read_options(argc, argv);
  encode_tokens();
  if (kind_asked == MIXED) make_zipf();
  void *context = zmq_ctx_new();
  client *clients = calloc((size_t)options.clients, sizeof *clients);
  for (int i = 0; i < options.clients; i++) open_client(&clients[i], context, i);
  return kind_asked == READY ? report_ready(&clients[0]) : measure(clients);
}
