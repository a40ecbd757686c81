/* SPDX-License-Identifier: MIT
 *
 * cli/ctl_http.h - one HTTP request to a running server, for `neap ctl` and `neap top`. Blocks; single-threaded. */
#pragma once
#include <cjson/cJSON.h>

#include "base/base.h"

/* Sends body (JSON text, may be NULL) to base + path. 0: the server answered; *answer is its JSON, NULL if it is none,
 * and the caller's to delete. Else NEAP_ECLOSED (not reached), NEAP_ETIMEDOUT, NEAP_ENOMEM or NEAP_EINVAL (base). */
int neap__ctl_request(const char *base, const char *method, const char *path, const char *body, long *status,
                      cJSON **answer, neap_error *err);
/* The same for any answer of at most `most` bytes: *answer is malloc'd, with a NUL behind its *bytes. */
int neap__ctl_fetch(const char *base, const char *method, const char *path, const char *body, size_t most, long *status,
                    char **answer, size_t *bytes, neap_error *err);
/* A word as one segment of a path, malloc'd; NULL when there is no memory. */
char *neap__ctl_escape(const char *word);
