/* SPDX-License-Identifier: MIT
 *
 * script/tls.h - TLS over a connection of conn.h, by OpenSSL.
 *
 * OpenSSL sees memory only: records are received into and sent from memory BIOs, so that every wait is the
 * connection's. Certificates are verified unless the script says otherwise. Loop thread only. */
#pragma once
#include "script/conn.h"

/* core.tls_context(options, server) -> context | nil, code, message. Reads the files that the options name. */
int neap__l_tls_context(lua_State *L);
/* The SSL_CTX of the context at index arg, or NULL for nil. Raises for anything else. */
void *neap__tls_context_check(lua_State *L, int arg);
/* Counts and uncounts a context, which may be NULL. */
void *neap__tls_context_hold(void *context);
void neap__tls_context_drop(void *context);

/* Begins TLS on c. name: the server's, or NULL on the server's side. UV_ENOMEM, or UV_EINVAL with c->why. */
int neap__tls_start(neap__conn *c, void *context, const char *name);
void neap__tls_free(neap__tls *tls);
/* 0: the handshake is done. UV_EAGAIN: call it again when *event is there. UV_EPROTO with c->why, or what failed. */
int neap__tls_handshake(neap__conn *c, int *event);
/* As neap__conn_receive, of plain bytes: to `to`, or, if want is 0, to the input buffer. Without `more`, only from
 * records that are here already; UV_EAGAIN when there are none, so that the socket is the only thing to wait for. */
ssize_t neap__tls_receive(neap__conn *c, unsigned char *to, size_t want, bool more);
/* Is there nothing to be read, not even a part of a record, nor the end of the stream? */
bool neap__tls_idle(neap__conn *c);
/* As neap__conn_send, of plain bytes. Bytes that are counted may wait in the session: see neap__tls_flush. */
ssize_t neap__tls_send(neap__conn *c, const struct iovec *parts, uint32_t count);
/* 0: nothing waits. UV_EAGAIN, or what failed. */
int neap__tls_flush(neap__conn *c);
/* Puts the end of the stream behind what waits. */
void neap__tls_end(neap__conn *c);

/* Adds tls_context to the core table on top. Raises. */
void neap__tls_open(lua_State *L, neap__vm *vm);
