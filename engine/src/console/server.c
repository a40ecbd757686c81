/* SPDX-License-Identifier: MIT
 *
 * console/server.c - see server.h. Reads and writes block, within bounds; a session's thread writes output, the reader
 * reads, so an interrupt is heard while Lua runs. */
#include "console/server.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "console/bind.h"
#include "script/console.h"

#define MEMORY (32u << 20)
#define SLICE_NS (2 * UINT64_C(1000000000))
#define TIME_NS (10 * UINT64_C(1000000000))
#define IDLE_S 3600
#define WRITE_S 10
#define CLOSE_MS 2000u

typedef struct connection {
  neap__console_server *server;
  struct connection *next;
  int fd;
  void (*closed)(void *ctx); /* NULL: fd is ours */
  void *closed_ctx;
  neap__console *console;
  neap__bind *bind;
  char *in; /* [NEAP_CONSOLE_LINE_MAX + 1] */
  size_t in_bytes;
  pthread_mutex_t lock; /* guards writes and the rest */
  neap__console_call call;
  cJSON *request; /* what call points into; NULL: none is under way */
  uint64_t output_bytes;
} connection;

struct neap__console_server {
  neap__engine *engine;
  struct sockaddr_un address;
  int fd; /* -1: no socket */
  pthread_t listener;
  pthread_mutex_t lock; /* guards the rest */
  pthread_cond_t ended;
  connection *connections;
  uint32_t count, stuck; /* stuck: sessions that were left behind */
  bool stopping;
};

/* --- writing ------------------------------------------------------------------------------------------------------ */

/* Under the lock. A peer that does not read is shut off: then the reader sees the end. */
static void send_line(connection *c, cJSON *json) {
  char *text = json ? cJSON_PrintUnformatted(json) : NULL;
  cJSON_Delete(json);
  size_t left = text ? strlen(text) + 1 : 0;
  if (text) text[left - 1] = '\n';
  for (const char *at = text; left > 0;) {
    ssize_t n = send(c->fd, at, left, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      shutdown(c->fd, SHUT_RDWR);
      break;
    }
    at += n;
    left -= (size_t)n;
  }
  free(text);
}

static void send_pair(connection *c, const char *name, const char *text) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, name, text);
  send_line(c, json);
}

/* Of print, on the session's thread. */
static void write_output(void *ctx, const char *text, size_t bytes) {
  connection *c = ctx;
  pthread_mutex_lock(&c->lock);
  uint64_t room = NEAP_CONSOLE_OUTPUT_MAX - c->output_bytes;
  if (room > 0) {
    size_t n = (size_t)NEAP_MIN((uint64_t)bytes, room);
    char *copy = malloc(n + 1);
    for (size_t i = 0; copy && i < n; i++) copy[i] = text[i] ? text[i] : '?'; /* JSON strings end at a NUL here */
    if (copy) {
      copy[n] = '\0';
      send_pair(c, "output", copy);
      free(copy);
    }
    c->output_bytes += n;
    if (c->output_bytes == NEAP_CONSOLE_OUTPUT_MAX)
      send_pair(c, "output", "\n... the rest of the output is left out\n");
  }
  pthread_mutex_unlock(&c->lock);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void answer(neap__console_call *call) {
  static const char *const names[] = {"ok", "incomplete", "failed"};
  connection *c = call->ctx;
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "status", names[call->status]);
  if (call->answer_bytes > NEAP_CONSOLE_OUTPUT_MAX) call->answer[NEAP_CONSOLE_OUTPUT_MAX] = '\0';
  cJSON_AddStringToObject(json, "answer", call->answer ? call->answer : "out of memory");
  free(call->answer);
  pthread_mutex_lock(&c->lock);
  cJSON_Delete(c->request);
  c->request = NULL;
  send_line(c, json);
  pthread_mutex_unlock(&c->lock);
}

static const char *string_of(const cJSON *json, const char *name, const char *fallback) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, name));
  return text ? text : fallback;
}

/* NULL, or what is wrong with the request. Takes it over. */
static const char *start_eval(connection *c, cJSON *request) {
  static const char *const kinds[] = {"eval", "script", "complete"};
  const char *kind = string_of(request, "kind", "eval"), *text = string_of(request, "text", NULL);
  int number = 0;
  while (number < 3 && strcmp(kinds[number], kind) != 0) number++;
  pthread_mutex_lock(&c->lock);
  bool busy = c->request != NULL;
  if (!busy && text && number < 3) {
    c->request = request;
    c->output_bytes = 0;
    c->call = (neap__console_call){.kind = (neap__console_kind)number,
                                   .text = text,
                                   .bytes = strlen(text),
                                   .name = string_of(request, "name", "=prompt"),
                                   .json = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(request, "json")),
                                   .done = answer,
                                   .ctx = c};
  }
  pthread_mutex_unlock(&c->lock);
  if (!busy && text && number < 3) {
    NEAP_ASSERT(neap__console_submit(c->console, &c->call) == 0);
    return NULL;
  }
  cJSON_Delete(request);
  return busy   ? "an evaluation is under way"
         : text ? "kind: expected eval, script or complete"
                : "text: expected a string";
}

/* NULL, or why the connection ends. */
static const char *take_line(connection *c, const char *line, size_t bytes) {
  cJSON *request = cJSON_ParseWithLength(line, bytes);
  const char *op = string_of(request, "op", "");
  if (strcmp(op, "eval") == 0) return start_eval(c, request);
  bool interrupt = strcmp(op, "interrupt") == 0;
  cJSON_Delete(request);
  if (!interrupt) return "expected a line of JSON with \"op\": \"eval\" or \"interrupt\"";
  neap__console_interrupt(c->console);
  return NULL;
}

static const char *take_lines(connection *c) {
  char *end;
  while ((end = memchr(c->in, '\n', c->in_bytes)) != NULL) {
    size_t bytes = (size_t)(end - c->in);
    const char *wrong = take_line(c, c->in, bytes);
    if (wrong) return wrong;
    c->in_bytes -= bytes + 1;
    memmove(c->in, end + 1, c->in_bytes);
  }
  return c->in_bytes == NEAP_CONSOLE_LINE_MAX ? "a line is too long" : NULL;
}

/* --- one connection -------------------------------------------------------------------------------------------------
 */

static int open_session(connection *c, neap_error *err) {
  int rc = neap__bind_open(c->server->engine, true, NULL, &c->bind);
  if (rc != 0) return neap__fail(err, rc, "out of memory");
  const neap__console_config config = {.mode = NEAP_CONSOLE_GUARDED,
                                       .name = "console",
                                       .memory = MEMORY,
                                       .slice_ns = SLICE_NS,
                                       .time_ns = TIME_NS,
                                       .bind = neap__bind_push,
                                       .bind_ctx = c->bind,
                                       .write = write_output,
                                       .write_ctx = c};
  return neap__console_open(&config, &c->console, err);
}

/* Reads until the peer leaves or is told why it must. */
static void serve(connection *c) {
  const char *wrong = take_lines(c);
  while (!wrong) {
    ssize_t n = recv(c->fd, c->in + c->in_bytes, NEAP_CONSOLE_LINE_MAX - c->in_bytes, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) wrong = "nothing was asked for an hour";
    if (n == 0 || (n < 0 && !wrong)) return;
    if (n > 0) {
      c->in_bytes += (size_t)n;
      wrong = take_lines(c);
    }
  }
  pthread_mutex_lock(&c->lock);
  send_pair(c, "error", wrong);
  pthread_mutex_unlock(&c->lock);
}

static void say_hello(connection *c) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "neap", NEAP_VERSION);
  cJSON_AddNumberToObject(json, "protocol", NEAP_CONSOLE_PROTOCOL);
  pthread_mutex_lock(&c->lock);
  send_line(c, json);
  pthread_mutex_unlock(&c->lock);
}

/* False: it did not come back within the time. */
static bool close_session(connection *c) {
  if (c->console) neap__console_interrupt(c->console);
  bool shut = !c->bind || neap__bind_shut(c->bind, CLOSE_MS);
  if (neap__console_close(c->console, CLOSE_MS)) c->console = NULL;
  if (!shut || c->console) return false;
  neap__bind_free(c->bind);
  return true;
}

static bool stopping(neap__console_server *s) {
  pthread_mutex_lock(&s->lock);
  bool answer = s->stopping;
  pthread_mutex_unlock(&s->lock);
  return answer;
}

/* Gives everything back, unless the session does not come back: then it keeps its seat, so that they do not pile up,
 * and at the server's end what it may touch. */
static void end_connection(connection *c) {
  neap__console_server *s = c->server;
  bool clean = close_session(c);
  if (!clean)
    NEAP_LOG_ERROR("a console session does not come back; it takes one of %u until it does", NEAP_CONSOLE_SESSIONS_MAX);
  while (!clean && !stopping(s)) clean = close_session(c);
  pthread_mutex_lock(&s->lock);
  connection **at = &s->connections;
  while (*at != c) at = &(*at)->next;
  *at = c->next;
  pthread_mutex_unlock(&s->lock);
  if (c->closed)
    c->closed(c->closed_ctx);
  else
    close(c->fd);
  free(c->in);
  pthread_mutex_lock(&c->lock);
  c->fd = -1; /* what a session that was left behind may still write goes nowhere */
  pthread_mutex_unlock(&c->lock);
  if (clean) {
    pthread_mutex_destroy(&c->lock);
    free(c);
  }
  pthread_mutex_lock(&s->lock); /* the last touch of the server */
  s->count--;
  s->stuck += !clean;
  pthread_cond_broadcast(&s->ended);
  pthread_mutex_unlock(&s->lock);
}

static void *read_connection(void *arg) {
  connection *c = arg;
  neap_error err = {""};
  const struct timeval idle = {.tv_sec = IDLE_S}, patience = {.tv_sec = WRITE_S};
  setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle));
  setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  int rc = open_session(c, &err);
  if (rc == 0) {
    say_hello(c);
    serve(c);
  } else {
    pthread_mutex_lock(&c->lock);
    send_pair(c, "error", err.text);
    pthread_mutex_unlock(&c->lock);
  }
  shutdown(c->fd, SHUT_RDWR); /* output that waits for the peer fails now */
  end_connection(c);
  return NULL;
}

/* --- all of them ----------------------------------------------------------------------------------------------------
 */

int neap__console_server_adopt(neap__console_server *s, int fd, const char *head, size_t head_bytes,
                               void (*closed)(void *ctx), void *ctx) {
  pthread_t reader;
  connection *c = calloc(1, sizeof(*c));
  char *in = c ? malloc(NEAP_CONSOLE_LINE_MAX) : NULL;
  if (!in || head_bytes > NEAP_CONSOLE_LINE_MAX) {
    free(c);
    free(in);
    return NEAP_ENOMEM;
  }
  if (head_bytes) memcpy(in, head, head_bytes);
  *c = (connection){.server = s, .fd = fd, .closed = closed, .closed_ctx = ctx, .in = in, .in_bytes = head_bytes};
  pthread_mutex_init(&c->lock, NULL);
  pthread_mutex_lock(&s->lock);
  int rc = s->stopping || s->count >= NEAP_CONSOLE_SESSIONS_MAX ? NEAP_ELIMIT : 0;
  if (rc == 0 && pthread_create(&reader, NULL, read_connection, c) != 0) rc = NEAP_EIO;
  if (rc == 0) {
    pthread_detach(reader);
    c->next = s->connections;
    s->connections = c;
    s->count++;
  }
  pthread_mutex_unlock(&s->lock);
  if (rc == 0) return 0;
  pthread_mutex_destroy(&c->lock);
  free(in);
  free(c);
  return rc;
}

static bool allowed(int fd) {
  struct ucred peer;
  socklen_t bytes = sizeof(peer);
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

static void refuse(int fd, const char *why) {
  char line[128];
  int n = snprintf(line, sizeof(line), "{\"error\":\"%s\"}\n", why);
  if (n > 0) (void)send(fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
  close(fd);
}

static void *listen_loop(void *arg) {
  neap__console_server *s = arg;
  for (;;) {
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
    if (stopping(s)) {
      if (fd >= 0) close(fd);
      return NULL;
    }
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      usleep(100000); /* no descriptor is left: somebody will close one */
    } else if (!allowed(fd)) {
      refuse(fd, "the console is for the server's own user");
    } else {
      int rc = neap__console_server_adopt(s, fd, NULL, 0, NULL, NULL);
      if (rc != 0) refuse(fd, rc == NEAP_ELIMIT ? "all sessions are taken; try again later" : "no thread or memory");
    }
  }
}

/* A socket that is left over from a server that died; anything else stays. */
static int take_path(const struct sockaddr_un *address, neap_error *err) {
  struct stat st;
  if (lstat(address->sun_path, &st) != 0) return 0;
  if (!S_ISSOCK(st.st_mode))
    return neap__fail(err, NEAP_EBUSY, "--console-socket: %s is there and is no socket", address->sun_path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 && errno == ECONNREFUSED;
  if (fd >= 0) close(fd);
  if (!stale) return neap__fail(err, NEAP_EBUSY, "--console-socket: somebody listens on %s", address->sun_path);
  unlink(address->sun_path);
  return 0;
}

/* Nobody can connect before the mode is set: it does not listen yet. */
static int bind_path(neap__console_server *s, const char *path, neap_error *err) {
  s->address.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof(s->address.sun_path))
    return neap__fail(err, NEAP_EINVAL, "--console-socket: '%s' is longer than %zu bytes", path,
                      sizeof(s->address.sun_path) - 1);
  memcpy(s->address.sun_path, path, strlen(path) + 1);
  int rc = take_path(&s->address, err);
  if (rc != 0) return rc;
  s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (s->fd >= 0 && bind(s->fd, (const struct sockaddr *)&s->address, sizeof(s->address)) == 0) {
    if (chmod(path, 0600) == 0 && listen(s->fd, 16) == 0) return 0;
    rc = neap__fail(err, NEAP_EIO, "--console-socket: %s: %s", path, strerror(errno));
    unlink(path);
    return rc;
  }
  return neap__fail(err, NEAP_EIO, "--console-socket: %s: %s", path, strerror(errno));
}

static void server_free(neap__console_server *s) {
  if (s->fd >= 0) close(s->fd);
  pthread_cond_destroy(&s->ended);
  pthread_mutex_destroy(&s->lock);
  free(s);
}

int neap__console_server_open(neap__engine *engine, const char *path, neap__console_server **out, neap_error *err) {
  neap__console_server *s = calloc(1, sizeof(*s));
  if (!s) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  s->engine = engine;
  s->fd = -1;
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->ended, NULL);
  int rc = path ? bind_path(s, path, err) : 0;
  if (rc == 0 && path && pthread_create(&s->listener, NULL, listen_loop, s) != 0) {
    rc = neap__fail(err, NEAP_EIO, "--console-socket: no thread");
    unlink(path);
  }
  if (rc == 0)
    *out = s;
  else
    server_free(s);
  return rc;
}

bool neap__console_server_stop(neap__console_server *s) {
  if (!s) return true;
  pthread_mutex_lock(&s->lock);
  s->stopping = true;
  for (connection *c = s->connections; c; c = c->next) shutdown(c->fd, SHUT_RDWR);
  pthread_mutex_unlock(&s->lock);
  if (s->fd >= 0) {
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->listener, NULL);
    unlink(s->address.sun_path);
  }
  pthread_mutex_lock(&s->lock);
  while (s->count > 0) pthread_cond_wait(&s->ended, &s->lock);
  bool clean = s->stuck == 0;
  pthread_mutex_unlock(&s->lock);
  return clean;
}

void neap__console_server_close(neap__console_server *s) {
  if (s) server_free(s);
}
