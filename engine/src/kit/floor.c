/* SPDX-License-Identifier: MIT
 *
 * kit/floor.c - see floor.h. */
#include "kit/floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define ALIGN 4096u
#define THREADS_MAX 64u

static uint8_t *new_memory(uint64_t bytes) {
  uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return NULL;
  memset(memory, 0x5a, bytes); /* the pages are there before the clock runs */
  return memory;
}

static double rate_since(uint64_t started_ns, uint64_t bytes) {
  return (double)bytes / ((double)(neap__now_ns() - started_ns) / 1e9);
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

int neap__floor_memory(const neap__floor_load *load, double *rate, neap_error *err) {
  uint64_t pieces = NEAP_MAX(load->total / load->size, (uint64_t)1), bytes = pieces * load->size;
  uint8_t *from = new_memory(bytes), *to = new_memory(bytes);
  int rc =
      from && to ? 0 : neap__fail(err, NEAP_ENOMEM, "no memory for a copy of %llu bytes", (unsigned long long)bytes);
  if (rc == 0) {
    uint64_t started_ns = neap__now_ns();
    for (uint64_t i = 0; i < pieces; i++) memcpy(to + i * load->size, from + i * load->size, load->size);
    __asm__ volatile("" : : "r"(to) : "memory"); /* the copy is wanted */
    *rate = rate_since(started_ns, bytes);
  }
  if (from) munmap(from, bytes);
  if (to) munmap(to, bytes);
  return rc;
}

/* --- threads that share pieces ------------------------------------------------------------------------------------ */

typedef struct crew {
  uint64_t size, pieces;
  _Atomic uint64_t next;
  atomic_int failed; /* errno */
  int fd;
  bool write;
} crew;

typedef struct hand {
  crew *crew;
  uint8_t *buffer;
  int fd; /* of a socket */
} hand;

static void *disk_hand(void *arg) {
  const hand *h = arg;
  crew *c = h->crew;
  for (uint64_t i; (i = atomic_fetch_add(&c->next, 1)) < c->pieces && !atomic_load(&c->failed);) {
    for (uint64_t at = 0; at < c->size;) {
      off_t offset = (off_t)(i * c->size + at);
      ssize_t n = c->write ? pwrite(c->fd, h->buffer + at, c->size - at, offset)
                           : pread(c->fd, h->buffer + at, c->size - at, offset);
      if (n <= 0) atomic_store(&c->failed, n < 0 ? errno : EIO);
      if (n <= 0) break;
      at += (uint64_t)n;
    }
  }
  return NULL;
}

/* Runs work in `count` threads; their rate, or 0. */
static double run_crew(crew *c, hand *hands, uint32_t count, void *(*work)(void *arg)) {
  pthread_t threads[THREADS_MAX];
  uint32_t started = 0;
  atomic_store(&c->next, 0);
  uint64_t started_ns = neap__now_ns();
  while (started < count && pthread_create(&threads[started], NULL, work, &hands[started]) == 0) started++;
  for (uint32_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
  return started == count && !atomic_load(&c->failed) ? rate_since(started_ns, c->pieces * c->size) : 0;
}

/* --- disk --------------------------------------------------------------------------------------------------------- */

/* A file without a name, which is gone when it is closed. */
static int open_nameless(const char *dir) {
  int fd = open(dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
  char path[4096];
  if ((size_t)snprintf(path, sizeof(path), "%s/neap-bench-%d", dir, (int)getpid()) >= sizeof(path)) return -1;
  fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
  if (fd >= 0) unlink(path);
  return fd;
}

int neap__floor_disk(const neap__floor_load *load, const char *dir, double *write_rate, double *read_rate,
                     neap_error *err) {
  hand hands[THREADS_MAX];
  uint32_t count = NEAP_MIN(load->depth, THREADS_MAX);
  crew c = {.size = (load->size + ALIGN - 1) / ALIGN * ALIGN, .write = true};
  c.pieces = NEAP_MAX(load->total / c.size, (uint64_t)count);
  uint8_t *buffers = new_memory(c.size * count);
  c.fd = open_nameless(dir);
  int rc = 0;
  if (!buffers || c.fd < 0) {
    rc = neap__fail(err, NEAP_ENOTSUP, "%s: no O_DIRECT: %s", dir, buffers ? strerror(errno) : "out of memory");
    goto out;
  }
  for (uint32_t i = 0; i < count; i++) hands[i] = (hand){.crew = &c, .buffer = buffers + i * c.size};
  *write_rate = run_crew(&c, hands, count, disk_hand);
  c.write = false;
  *read_rate = *write_rate > 0 ? run_crew(&c, hands, count, disk_hand) : 0;
  if (*read_rate == 0) rc = neap__fail(err, NEAP_EIO, "%s: raw O_DIRECT: %s", dir, strerror(atomic_load(&c.failed)));
out:
  if (c.fd >= 0) close(c.fd);
  if (buffers) munmap(buffers, c.size * count);
  return rc;
}

/* --- wire --------------------------------------------------------------------------------------------------------- */

static bool move_all(int fd, uint8_t *data, uint64_t bytes, bool out) {
  while (bytes > 0) {
    ssize_t n = out ? send(fd, data, bytes, MSG_NOSIGNAL) : recv(fd, data, bytes, 0);
    if (n <= 0) return false;
    data += n;
    bytes -= (uint64_t)n;
  }
  return true;
}

static void *wire_sender(void *arg) {
  const hand *h = arg;
  crew *c = h->crew;
  uint8_t answer;
  while (atomic_fetch_add(&c->next, 1) < c->pieces)
    if (!move_all(h->fd, h->buffer, c->size, true) || !move_all(h->fd, &answer, 1, false))
      atomic_store(&c->failed, EIO);
  shutdown(h->fd, SHUT_WR);
  return NULL;
}

static void *wire_receiver(void *arg) {
  const hand *h = arg;
  while (move_all(h->fd, h->buffer, h->crew->size, false))
    if (!move_all(h->fd, h->buffer, 1, true)) break;
  return NULL;
}

/* Two connected TCP sockets on loopback; 0 or -1. */
static int tcp_pair(int fds[2]) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof(address);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  fds[0] = -1;
  if (listener >= 0 && fds[1] >= 0 && bind(listener, (struct sockaddr *)&address, length) == 0 &&
      listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0 &&
      connect(fds[1], (struct sockaddr *)&address, length) == 0)
    fds[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (listener >= 0) close(listener);
  if (fds[0] >= 0) return 0;
  if (fds[1] >= 0) close(fds[1]);
  return -1;
}

int neap__floor_wire(const neap__floor_load *load, bool unix_socket, double *rate, neap_error *err) {
  pthread_t receivers[THREADS_MAX];
  hand senders[THREADS_MAX], ends[THREADS_MAX];
  uint32_t count = NEAP_MIN(load->depth, THREADS_MAX), made = 0;
  crew c = {.size = load->size, .pieces = NEAP_MAX(load->total / load->size, (uint64_t)count)};
  uint8_t *buffers = new_memory(2 * c.size * count);
  for (; buffers && made < count; made++) {
    int fds[2];
    if ((unix_socket ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) : tcp_pair(fds)) != 0) break;
    senders[made] = (hand){.crew = &c, .buffer = buffers + 2 * made * c.size, .fd = fds[0]};
    ends[made] = (hand){.crew = &c, .buffer = buffers + (2 * made + 1) * c.size, .fd = fds[1]};
    if (pthread_create(&receivers[made], NULL, wire_receiver, &ends[made]) == 0) continue;
    close(fds[0]);
    close(fds[1]);
    break;
  }
  *rate = made == count && buffers ? run_crew(&c, senders, count, wire_sender) : 0;
  for (uint32_t i = 0; i < made; i++) {
    shutdown(senders[i].fd, SHUT_RDWR);
    pthread_join(receivers[i], NULL);
    close(senders[i].fd);
    close(ends[i].fd);
  }
  if (buffers) munmap(buffers, 2 * c.size * count);
  return *rate > 0 ? 0 : neap__fail(err, NEAP_EIO, "loopback could not be measured");
}
