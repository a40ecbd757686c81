/* SPDX-License-Identifier: MIT
 *
 * support/http_server.h - an HTTP server on loopback that answers what a test tells it to, however wrong that is.
 *
 * Each connection has a thread; requests are read whole. `answer` may be called from several of them at once. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct test_http_server test_http_server;

typedef struct test_exchange {
  unsigned number; /* of the request, from 0, over all connections */
  char method[16];
  char target[2048];
  char head[8192]; /* all header lines */
  char *body;
  size_t body_bytes;
  /* what to do */
  char reply[4096]; /* sent as it is; "" closes the connection without a word */
  const char *more; /* and then this, of more_bytes; may be NULL */
  size_t more_bytes;
  bool close; /* and then the connection is closed */
  bool hang;  /* nothing is sent; the connection stays until the server stops */
} test_exchange;

test_http_server *test_http_open(void (*answer)(void *ctx, test_exchange *exchange), void *ctx);
unsigned test_http_port(const test_http_server *server);
unsigned test_http_count(test_http_server *server); /* requests so far */
void test_http_close(test_http_server *server);
/* Fills in a reply with status, header lines ("A: b\r\n" each) and a body. */
void test_http_reply(test_exchange *exchange, const char *status, const char *headers, const char *body);
