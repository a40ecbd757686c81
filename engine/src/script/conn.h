/* SPDX-License-Identifier: MIT
 *
 * script/conn.h - one stream socket (TCP or unix, with or without TLS) of a VM.
 *
 *   waiting: on_readable, on_writable --(poll event)--> step: system calls until done, would block, or failed
 *
 * The socket is polled on the VM's loop and read and written by our own system calls: bytes go from the kernel into the
 * buffer that a script named (and, with the same call, what follows them into a small input buffer), and from buffers
 * into the kernel. So nothing touches a buffer while a coroutine does not await, and to cancel is to stop waiting.
 *
 * One coroutine may read while another writes. What is cut short - by a cancel, a failure, a close - leaves the stream
 * at an unknown place, and closes the socket: a connection is whole or closed. Loop thread only. */
#pragma once
#include <sys/socket.h>
#include <sys/uio.h>

#include "script/buffer.h"

#define NEAP__CONN_WHY_BYTES 256
#define NEAP__DELIMITER_BYTES 16

typedef struct neap__tls neap__tls;
typedef struct neap__conn neap__conn;

/* The read in progress. Bytes for a buffer: data, left. Bytes for a string stay in the input buffer until it is made:
 * need is their number, or 0 while a delimiter is looked for. */
typedef struct neap__reading {
  neap__await await;
  bool active, delivered;
  int result; /* of libuv; 0: all is there */
  unsigned char *data;
  uint64_t left, total;
  neap__mem *mem;
  uint32_t need, max, scanned;
  uint32_t delimiter_bytes;
  char delimiter[NEAP__DELIMITER_BYTES];
} neap__reading;

/* The write (or the shutdown) in progress: parts[at .. count). */
typedef struct neap__writing {
  neap__await await;
  bool active, shut, delivered;
  int result;
  struct iovec *parts;
  uint32_t at, count;
  neap__mem **mems; /* one per part, NULL for strings and leases */
  void *block;      /* what release frees */
} neap__writing;

/* refs: the userdata, each await, the poll handle until it is closed. */
struct neap__conn {
  uv_poll_t poll;
  neap__vm *vm;
  uint32_t refs;
  int fd; /* -1: closed */
  int polled;
  bool eof;
  void (*on_readable)(neap__conn *c), (*on_writable)(neap__conn *c); /* NULL: nobody waits */
  void *connecting;                                                  /* for net.c, until there is a userdata */
  neap__tls *tls;
  unsigned char *in; /* bytes in[in_at .. in_end) came with others that were asked for */
  uint32_t in_cap, in_at, in_end;
  neap__reading r;
  neap__writing w;
  char why[NEAP__CONN_WHY_BYTES]; /* why it is closed, or what TLS says about a failure */
};

/* A connection over fd, which it owns from now on, also when this fails. UV_ENOMEM or another code of libuv. */
int neap__conn_new(neap__vm *vm, int fd, neap__conn **out);
void neap__conn_drop(neap__conn *c);
/* Closes the socket; reads and writes that wait end with UV_ECONNABORTED and this reason. Again: no effect. */
void neap__conn_close(neap__conn *c, const char *why);
/* Polls for what on_readable and on_writable wait for. UV_* or 0. */
int neap__conn_poll(neap__conn *c);

/* Moves bytes from the socket: first to `to`, at most want, then to the input buffer, whose room is not 0 if want is.
 * Returns how many went to `to` (want 0: to the input buffer), UV_EOF, UV_EAGAIN, or what failed. */
ssize_t neap__conn_receive(neap__conn *c, unsigned char *to, size_t want);
/* Moves bytes to the socket. Returns how many, UV_EAGAIN, or what failed. */
ssize_t neap__conn_send(neap__conn *c, const struct iovec *parts, uint32_t count);
/* Pushes nil, code, message for what `verb` of c ended with. Returns 3. */
int neap__conn_push_failure(lua_State *L, const neap__conn *c, const char *verb, ssize_t code);

/* Pushes "ADDRESS:PORT", "[ADDRESS]:PORT", or the path of a unix socket. */
void neap__address_push(lua_State *L, const struct sockaddr *address, socklen_t bytes);

/* Pushes the userdata, which takes a reference of c over. Raises (then the reference is still the caller's). */
void neap__conn_push(lua_State *L, neap__conn *c);
/* Adds conn_write, conn_read_exactly, ... to the core table on top. The Lua side is neap/net.lua. Raises. */
void neap__conn_open(lua_State *L, neap__vm *vm);
