/* SPDX-License-Identifier: MIT
 *
 * cli/connection.c - see connection.h. The lock is for writes: an interrupt is a line between others. */
#include "connection.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES (16u << 20) /* of a server: an answer of a mebibyte, escaped */
#define HEAD_MAX 16384u
#define HELLO_S 10
#define TOKEN_BYTES 512

struct neap__connection {
  int fd;
  void (*write)(void *ctx, const char *text, size_t bytes);
  void *write_ctx;
  pthread_mutex_t lock;
  char *in;
  size_t in_bytes, in_cap;
};

/* --- lines -------------------------------------------------------------------------------------------------------- */

static bool send_all(neap__connection *r, const char *text, size_t bytes) {
  pthread_mutex_lock(&r->lock);
  while (bytes > 0) {
    ssize_t n = send(r->fd, text, bytes, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text += n;
    bytes -= (size_t)n;
  }
  pthread_mutex_unlock(&r->lock);
  return bytes == 0;
}

static int fill(neap__connection *r, neap_error *err) {
  if (r->in_bytes == r->in_cap) {
    size_t cap = NEAP_MAX(r->in_cap * 2, 65536u);
    char *in = cap <= LINE_MAX_BYTES ? realloc(r->in, cap) : NULL;
    if (!in) return neap__fail(err, NEAP_EIO, "the server sends a line that is too long");
    r->in = in;
    r->in_cap = cap;
  }
  for (;;) {
    ssize_t n = recv(r->fd, r->in + r->in_bytes, r->in_cap - r->in_bytes, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) return neap__fail(err, NEAP_EIO, "the server has closed the session");
    if (n < 0 && errno == EAGAIN) return neap__fail(err, NEAP_EIO, "the server does not answer");
    if (n < 0) return neap__fail(err, NEAP_EIO, "the server is gone: %s", strerror(errno));
    r->in_bytes += (size_t)n;
    return 0;
  }
}

static void drop_input(neap__connection *r, size_t bytes) {
  r->in_bytes -= bytes;
  memmove(r->in, r->in + bytes, r->in_bytes);
}

/* The next line as JSON, which the caller deletes. A line with "error" is a failure. */
static int read_line(neap__connection *r, cJSON **out, neap_error *err) {
  char *end;
  while (!r->in || !(end = memchr(r->in, '\n', r->in_bytes))) {
    int rc = fill(r, err);
    if (rc != 0) return rc;
  }
  size_t bytes = (size_t)(end - r->in);
  cJSON *json = cJSON_ParseWithLength(r->in, bytes);
  drop_input(r, bytes + 1);
  const char *error = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "error"));
  int rc = 0;
  if (error) rc = neap__fail(err, NEAP_EIO, "%s", error);
  if (!json) rc = neap__fail(err, NEAP_EIO, "the server does not speak the console's protocol");
  if (rc != 0)
    cJSON_Delete(json);
  else
    *out = json;
  return rc;
}

int neap__connection_eval(neap__connection *r, neap__console_kind kind, const char *text, const char *name, bool json,
                          neap__console_status *status, char **answer, neap_error *err) {
  static const char *const kinds[] = {"eval", "script", "complete"};
  cJSON *request = cJSON_CreateObject(), *line = NULL;
  cJSON_AddStringToObject(request, "op", "eval");
  cJSON_AddStringToObject(request, "kind", kinds[kind]);
  cJSON_AddStringToObject(request, "text", text);
  cJSON_AddStringToObject(request, "name", name);
  cJSON_AddBoolToObject(request, "json", json);
  char *sent = cJSON_PrintUnformatted(request);
  cJSON_Delete(request);
  if (!sent) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  size_t bytes = strlen(sent);
  sent[bytes] = '\n';                 /* cJSON ends its text with a NUL */
  (void)send_all(r, sent, bytes + 1); /* a server that is gone shows in what we read */
  free(sent);
  for (;;) {
    int rc = read_line(r, &line, err);
    if (rc != 0) return rc;
    const char *output = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "output"));
    const char *end = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "status"));
    if (output) r->write(r->write_ctx, output, strlen(output));
    if (end) {
      const char *said = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "answer"));
      *status = strcmp(end, "ok") == 0           ? NEAP_CONSOLE_OK
                : strcmp(end, "incomplete") == 0 ? NEAP_CONSOLE_INCOMPLETE
                                                 : NEAP_CONSOLE_FAILED;
      *answer = strdup(said ? said : "");
    }
    cJSON_Delete(line);
    if (end) return 0;
  }
}

void neap__connection_interrupt(neap__connection *r) {
  static const char line[] = "{\"op\":\"interrupt\"}\n";
  (void)send_all(r, line, sizeof(line) - 1);
}

/* --- connecting -----------------------------------------------------------------------------------------------------
 */

static int connect_unix(neap__connection *r, const char *path, neap_error *err) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (!*path || strlen(path) >= sizeof(address.sun_path))
    return neap__fail(err, NEAP_EINVAL, "--connect: '%s' is not valid; expected unix:PATH of at most %zu bytes", path,
                      sizeof(address.sun_path) - 1);
  memcpy(address.sun_path, path, strlen(path) + 1);
  r->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (r->fd >= 0 && connect(r->fd, (const struct sockaddr *)&address, sizeof(address)) == 0) return 0;
  return neap__fail(err, NEAP_EIO, "--connect: %s: %s", path, strerror(errno));
}

static int read_token(const char *token, const char *file, char *out, size_t cap, neap_error *err) {
  const char *given = token ? token : getenv("NEAP_CONSOLE_TOKEN");
  out[0] = '\0';
  if (file) {
    FILE *in = fopen(file, "re");
    if (!in) return neap__fail(err, NEAP_EINVAL, "--token-file: %s: %s", file, strerror(errno));
    if (!fgets(out, (int)cap, in)) out[0] = '\0';
    fclose(in);
    out[strcspn(out, "\r\n")] = '\0';
  } else if (given && strlen(given) < cap) {
    memcpy(out, given, strlen(given) + 1);
  }
  if (!out[0])
    return neap__fail(err, NEAP_EINVAL, "--connect http: no token; give --token-file, --token or NEAP_CONSOLE_TOKEN");
  for (const char *c = out; *c; c++)
    if (*c <= ' ' || *c == 0x7f) return neap__fail(err, NEAP_EINVAL, "--token: it must not contain blanks");
  return 0;
}

static int connect_tcp(neap__connection *r, const char *url, char *host, size_t cap, neap_error *err) {
  const char *at = url + strlen("http://");
  size_t bytes = strcspn(at, "/");
  char *colon = NULL;
  if (bytes < cap && (at[bytes] == '\0' || at[bytes + 1] == '\0')) {
    memcpy(host, at, bytes);
    host[bytes] = '\0';
    colon = strrchr(host, ':');
  }
  if (!colon || colon == host || !colon[1])
    return neap__fail(err, NEAP_EINVAL, "--connect: '%s' is not valid; expected http://HOST:PORT", url);
  char node[256];
  snprintf(node, sizeof(node), "%.*s", (int)(colon - host), host);
  char *name = node;
  if (*name == '[' && name[strlen(name) - 1] == ']') {
    name[strlen(name) - 1] = '\0';
    name++;
  }
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
  int rc = getaddrinfo(name, colon + 1, &hints, &found);
  if (rc != 0) return neap__fail(err, NEAP_EIO, "--connect: %s: %s", host, gai_strerror(rc));
  for (const struct addrinfo *a = found; a; a = a->ai_next) {
    r->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (r->fd >= 0 && connect(r->fd, a->ai_addr, a->ai_addrlen) == 0) break;
    neap__fail(err, NEAP_EIO, "--connect: %s: %s", host, strerror(errno));
    if (r->fd >= 0) close(r->fd);
    r->fd = -1;
  }
  freeaddrinfo(found);
  return r->fd >= 0 ? 0 : NEAP_EIO;
}

/* seconds: 0 is for ever. */
static void set_patience(neap__connection *r, int seconds) {
  const struct timeval patience = {.tv_sec = seconds};
  setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

/* Asks for the stream and takes the head of the answer off the input. */
static int upgrade(neap__connection *r, const char *host, const char *token, neap_error *err) {
  char text[1024];
  int n = snprintf(text, sizeof(text),
                   "GET /console HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: neap-console\r\n"
                   "Authorization: Bearer %s\r\n\r\n",
                   host, token);
  if (n <= 0 || (size_t)n >= sizeof(text)) return neap__fail(err, NEAP_EINVAL, "--token: it is too long");
  (void)send_all(r, text, (size_t)n);
  set_patience(r, HELLO_S);
  char *end = NULL;
  while (!end) {
    int rc = r->in_bytes > HEAD_MAX ? neap__fail(err, NEAP_EIO, "the server does not speak HTTP") : fill(r, err);
    if (rc != 0) return rc;
    end = memmem(r->in, r->in_bytes, "\r\n\r\n", 4);
  }
  unsigned status = 0;
  *end = '\0'; /* what follows is the stream's, and ends nowhere */
  if (sscanf(r->in, "HTTP/1.1 %3u", &status) != 1 || status != 101) {
    const char *why = status == 401   ? "the token is not the server's"
                      : status == 404 ? "the server has no console (--console-token-file)"
                      : status == 503 ? "all sessions are taken; try again later"
                                      : "the server refuses";
    return neap__fail(err, NEAP_EIO, "--connect: %s: %s (HTTP %u)", host, why, status);
  }
  drop_input(r, (size_t)(end - r->in) + 4);
  return 0;
}

static int connect_http(neap__connection *r, const char *url, const char *token, const char *token_file,
                        neap_error *err) {
  char secret[TOKEN_BYTES], host[256];
  int rc = read_token(token, token_file, secret, sizeof(secret), err);
  if (rc == 0) rc = connect_tcp(r, url, host, sizeof(host), err);
  if (rc == 0) rc = upgrade(r, host, secret, err);
  return rc;
}

static int take_hello(neap__connection *r, neap_error *err) {
  set_patience(r, HELLO_S);
  cJSON *hello = NULL;
  int rc = read_line(r, &hello, err);
  if (rc == 0 && cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(hello, "protocol")) != 1)
    rc = neap__fail(err, NEAP_EIO, "the server speaks another version of the console's protocol");
  cJSON_Delete(hello);
  set_patience(r, 0);
  return rc;
}

int neap__connection_open(const char *where, const char *token, const char *token_file,
                          void (*write)(void *ctx, const char *text, size_t bytes), void *write_ctx,
                          neap__connection **out, neap_error *err) {
  neap__connection *r = calloc(1, sizeof(*r));
  if (!r) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  r->fd = -1;
  r->write = write;
  r->write_ctx = write_ctx;
  pthread_mutex_init(&r->lock, NULL);
  int rc;
  if (strncmp(where, "unix:", 5) == 0)
    rc = connect_unix(r, where + 5, err);
  else if (strncmp(where, "http://", 7) == 0)
    rc = connect_http(r, where, token, token_file, err);
  else
    rc = neap__fail(err, NEAP_EINVAL, "--connect: '%s' is not valid; expected unix:PATH or http://HOST:PORT", where);
  if (rc == 0) rc = take_hello(r, err);
  if (rc == 0)
    *out = r;
  else
    neap__connection_close(r);
  return rc;
}

void neap__connection_close(neap__connection *r) {
  if (!r) return;
  if (r->fd >= 0) close(r->fd);
  pthread_mutex_destroy(&r->lock);
  free(r->in);
  free(r);
}
