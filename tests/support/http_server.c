/* SPDX-License-Identifier: MIT
 *
 * support/http_server.c - see http_server.h. */
#include "support/http_server.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"

#define CONNECTIONS_MAX 128

struct test_http_server {
  void (*answer)(void *ctx, test_exchange *exchange);
  void *ctx;
  int fd;
  unsigned port;
  pthread_t acceptor;
  atomic_uint count;
  pthread_mutex_t lock;
  int connections[CONNECTIONS_MAX];
  pthread_t threads[CONNECTIONS_MAX];
  unsigned opened;
};

typedef struct connection {
  test_http_server *server;
  int fd;
} connection;

static bool send_all(int fd, const char *data, size_t bytes) {
  while (bytes) {
    ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
    if (n <= 0) return false;
    data += n;
    bytes -= (size_t)n;
  }
  return true;
}

/* Reads up to the empty line, byte by byte: what follows belongs to the body. */
static bool read_head(int fd, char *head, size_t cap) {
  size_t used = 0;
  while (used + 1 < cap) {
    if (recv(fd, head + used, 1, 0) != 1) return false;
    head[++used] = 0;
    if (used >= 4 && memcmp(head + used - 4, "\r\n\r\n", 4) == 0) return true;
  }
  return false;
}

static bool read_request(int fd, test_exchange *x) {
  if (!read_head(fd, x->head, sizeof x->head)) return false;
  if (sscanf(x->head, "%15s %2047s", x->method, x->target) != 2) return false;
  const char *length = strcasestr(x->head, "\r\ncontent-length:");
  x->body_bytes = length ? strtoul(length + 17, NULL, 10) : 0;
  if (strcasestr(x->head, "\r\nexpect:") && !send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return false;
  x->body = malloc(x->body_bytes + 1);
  NEAP_ASSERT(x->body != NULL);
  return !x->body_bytes || recv(fd, x->body, x->body_bytes, MSG_WAITALL) == (ssize_t)x->body_bytes;
}

/* False: the connection is done. */
static bool exchange(test_http_server *server, int fd) {
  test_exchange *x = calloc(1, sizeof *x);
  NEAP_ASSERT(x != NULL);
  bool go_on = read_request(fd, x);
  if (go_on) {
    x->number = atomic_fetch_add(&server->count, 1);
    server->answer(server->ctx, x);
    char byte;
    if (x->hang) (void)recv(fd, &byte, 1, 0); /* ends when the client, or the server, is done with it */
    go_on = !x->hang && x->reply[0] && send_all(fd, x->reply, strlen(x->reply)) &&
            (!x->more || send_all(fd, x->more, x->more_bytes)) && !x->close;
  }
  free(x->body);
  free(x);
  return go_on;
}

static void *serve(void *arg) {
  connection *c = arg;
  while (exchange(c->server, c->fd)) continue;
  shutdown(c->fd, SHUT_RDWR);
  free(c);
  return NULL;
}

static void *accept_all(void *arg) {
  test_http_server *server = arg;
  for (int fd; (fd = accept(server->fd, NULL, NULL)) >= 0;) {
    connection *c = malloc(sizeof *c);
    NEAP_ASSERT(c != NULL && server->opened < CONNECTIONS_MAX);
    *c = (connection){.server = server, .fd = fd};
    pthread_mutex_lock(&server->lock);
    server->connections[server->opened] = fd;
    pthread_create(&server->threads[server->opened++], NULL, serve, c);
    pthread_mutex_unlock(&server->lock);
  }
  return NULL;
}

test_http_server *test_http_open(void (*answer)(void *ctx, test_exchange *exchange), void *ctx) {
  test_http_server *server = calloc(1, sizeof *server);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t bytes = sizeof address;
  NEAP_ASSERT(server != NULL);
  server->answer = answer;
  server->ctx = ctx;
  pthread_mutex_init(&server->lock, NULL);
  server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int rc = bind(server->fd, (struct sockaddr *)&address, bytes);
  if (rc == 0) rc = getsockname(server->fd, (struct sockaddr *)&address, &bytes);
  if (rc == 0) rc = listen(server->fd, 64);
  NEAP_ASSERT(rc == 0);
  server->port = ntohs(address.sin_port);
  pthread_create(&server->acceptor, NULL, accept_all, server);
  return server;
}

unsigned test_http_port(const test_http_server *server) { return server->port; }
unsigned test_http_count(test_http_server *server) { return atomic_load(&server->count); }

void test_http_close(test_http_server *server) {
  shutdown(server->fd, SHUT_RDWR);
  pthread_join(server->acceptor, NULL);
  for (unsigned i = 0; i < server->opened; i++) {
    shutdown(server->connections[i], SHUT_RDWR);
    pthread_join(server->threads[i], NULL);
    close(server->connections[i]);
  }
  close(server->fd);
  pthread_mutex_destroy(&server->lock);
  free(server);
}

void test_http_reply(test_exchange *x, const char *status, const char *headers, const char *body) {
  int n = snprintf(x->reply, sizeof x->reply, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(body),
                   headers, body);
  NEAP_ASSERT(n > 0 && (size_t)n < sizeof x->reply);
}
