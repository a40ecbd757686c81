/* SPDX-License-Identifier: MIT
 *
 * console/server.h - sessions of a live server: each connection is a guarded session of its own (script/console.h).
 *
 *   a unix socket          mode 0600; the peer must be the server's user, or root
 *   GET /console           with a bearer token, upgraded to the same stream (serve/http_console.c)
 *
 * Lines of JSON, in both directions; a line of a client has at most NEAP_CONSOLE_LINE_MAX bytes.
 *
 *   <- {"neap": VERSION, "protocol": 1}
 *   -> {"op": "eval", "kind": "eval"|"script"|"complete", "text": ..., "name": ..., "json": false}
 *   <- {"output": what print wrote}                                   any number of them
 *   <- {"status": "ok"|"incomplete"|"failed", "answer": ...}          one for each eval; one eval at a time
 *   -> {"op": "interrupt"}                                            has no answer of its own
 *   <- {"error": ...}                                                 then the connection is closed
 *
 * Bounds: NEAP_CONSOLE_SESSIONS_MAX sessions; of each, memory, processor time without awaiting, time and output of an
 * evaluation, and an idle hour. A client that leaves, or does not read for ten seconds, is gone: its evaluation is
 * interrupted and the session closed; one that is busy in C keeps its seat until it comes back. One thread accepts, two
 * serve a connection: its reader, and the session's. */
#pragma once
#include "engine.h"

#define NEAP_CONSOLE_PROTOCOL 1
#define NEAP_CONSOLE_SESSIONS_MAX 8u
#define NEAP_CONSOLE_LINE_MAX (1u << 20)
#define NEAP_CONSOLE_OUTPUT_MAX (1u << 20)

typedef struct neap__console_server neap__console_server;

/* path: of the unix socket, NULL for none; a socket that nobody listens on is replaced. 0, NEAP_EINVAL (path too long),
 * NEAP_EBUSY (somebody listens there, or it is no socket), NEAP_EIO, NEAP_ENOMEM. engine outlives it. */
int neap__console_server_open(neap__engine *engine, const char *path, neap__console_server **out, neap_error *err);
/* Ends every session and removes the socket; takes no new one. False: a session is busy in C and was left behind; the
 * engine must not be closed then (its L1 can be left, see neap__l1_leave). NULL is nothing, true. */
bool neap__console_server_stop(neap__console_server *server);
/* After stop, and after whoever calls adopt has closed. NULL is nothing. */
void neap__console_server_close(neap__console_server *server);

/* Serves a connection that was made elsewhere. head: bytes that were read already. closed(ctx) gives fd back, once, on
 * a thread of the server. 0, or
 * NEAP_ELIMIT (all sessions are taken), NEAP_ENOMEM, NEAP_EIO: fd is still the caller's. */
int neap__console_server_adopt(neap__console_server *server, int fd, const char *head, size_t head_bytes,
                               void (*closed)(void *ctx), void *ctx);
