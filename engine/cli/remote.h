/* SPDX-License-Identifier: MIT
 *
 * cli/remote.h - the client's side of console/server.h. One thread evaluates; interrupts come from another. */
#pragma once
#include "script/console.h"

typedef struct neap__remote neap__remote;

/* where: unix:PATH, or http://HOST:PORT with a token: given, from a file, or from NEAP_CONSOLE_TOKEN. write: what the
 * session prints, called within neap__remote_eval. NEAP_EINVAL: where or the token is not valid; NEAP_EIO: the server
 * is not there or refuses, with its words. */
int neap__remote_open(const char *where, const char *token, const char *token_file,
                      void (*write)(void *ctx, const char *text, size_t bytes), void *write_ctx, neap__remote **out,
                      neap_error *err);
void neap__remote_close(neap__remote *remote); /* NULL is nothing */

/* See neap__target_eval. */
int neap__remote_eval(neap__remote *remote, neap__console_kind kind, const char *text, const char *name, bool json,
                      neap__console_status *status, char **answer, neap_error *err);
void neap__remote_interrupt(neap__remote *remote); /* any thread */
