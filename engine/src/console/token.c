/* SPDX-License-Identifier: MIT
 *
 * console/token.c - see token.h. */
#include "console/token.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int neap__console_token(const char *file, char out[NEAP_CONSOLE_TOKEN_BYTES], neap_error *err) {
  struct stat st;
  ssize_t bytes = -1;
  int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return neap__fail(err, NEAP_EINVAL, "--console-token-file: %s: %s", file, strerror(errno));
  bool private = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077) == 0;
  if (private) bytes = read(fd, out, NEAP_CONSOLE_TOKEN_BYTES - 1);
  close(fd);
  if (!private)
    return neap__fail(err, NEAP_EINVAL, "--console-token-file: %s: expected a file that only its owner may read (0600)",
                      file);
  out[bytes > 0 ? bytes : 0] = '\0';
  out[strcspn(out, "\r\n")] = '\0';
  bool good = strlen(out) >= NEAP_CONSOLE_TOKEN_MIN && strlen(out) < NEAP_CONSOLE_TOKEN_BYTES - 1;
  for (const char *c = out; *c; c++) good = good && *c > ' ' && *c < 0x7f;
  if (good) return 0;
  out[0] = '\0';
  return neap__fail(err, NEAP_EINVAL,
                    "--console-token-file: %s: its first line is no token; expected 16 to 510 printable characters",
                    file);
}

bool neap__console_token_is(const char *token, const char *given) {
  size_t bytes = strlen(token), given_bytes = given ? strlen(given) : 0;
  unsigned differ = bytes != given_bytes;
  for (size_t i = 0; i < given_bytes; i++) differ |= (unsigned)(given[i] ^ token[i % bytes]);
  return differ == 0;
}
