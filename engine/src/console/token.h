/* SPDX-License-Identifier: MIT
 *
 * console/token.h - the secret that opens a console over HTTP. Any thread. */
#pragma once
#include "base/base.h"

#define NEAP_CONSOLE_TOKEN_BYTES 512u
#define NEAP_CONSOLE_TOKEN_MIN 16u

/* Reads the first line of a file that nobody but its owner may read: 16 to 510 printable characters without blanks.
 * 0, or NEAP_EINVAL with what is wrong; the text of the file is never in err. */
int neap__console_token(const char *file, char out[NEAP_CONSOLE_TOKEN_BYTES], neap_error *err);
/* Whether given (NULL: nothing) is the token, in a time that does not tell how much of it is. */
bool neap__console_token_is(const char *token, const char *given);
