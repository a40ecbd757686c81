/* SPDX-License-Identifier: MIT
 *
 * cli/connection.h - the client's side of console/server.h. One thread evaluates; interrupts come from another. */
#pragma once
#include "script/console.h"

typedef struct neap__connection neap__connection;

/* where: unix:PATH, or http://HOST:PORT with a token: given, from a file, or from NEAP_CONSOLE_TOKEN. write: what the
 * session prints, called within neap__connection_eval. NEAP_EINVAL: where or the token is not valid; NEAP_EIO: the
 * server is not there or refuses, with its words. */
int neap__connection_open(const char *where, const char *token, const char *token_file,
                          void (*write)(void *ctx, const char *text, size_t bytes), void *write_ctx,
                          neap__connection **out, neap_error *err);
void neap__connection_close(neap__connection *connection); /* NULL is nothing */

/* See neap__target_eval. */
int neap__connection_eval(neap__connection *connection, neap__console_kind kind, const char *text, const char *name,
                          bool json, neap__console_status *status, char **answer, neap_error *err);
void neap__connection_interrupt(neap__connection *connection); /* any thread */
