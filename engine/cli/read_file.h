/* SPDX-License-Identifier: MIT
 *
 * cli/read_file.h - a whole file as text. Any thread. */
#pragma once
#include "base/base.h"

/* path "-": the standard input. *out is malloc'd and NUL-terminated. NEAP_ENOENT, NEAP_EIO, NEAP_ELIMIT (more than max
 * bytes), NEAP_EINVAL (a NUL byte in it), NEAP_ENOMEM, with the path in err. */
int neap__read_file(const char *path, size_t max, char **out, neap_error *err);
