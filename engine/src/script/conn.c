/* SPDX-License-Identifier: MIT
 *
 * script/conn.c - life of a connection (see conn.h), and the two system calls that move its bytes. */
#include "script/conn.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "script/tls.h"

static void on_poll(uv_poll_t *poll, int status, int events);

static int wanted(const neap__conn *c) {
  return (c->on_readable ? UV_READABLE : 0) | (c->on_writable ? UV_WRITABLE : 0);
}

static int set_poll(neap__conn *c, int events) {
  if (events == c->polled) return 0;
  c->polled = events;
  return events ? uv_poll_start(&c->poll, events, on_poll) : uv_poll_stop(&c->poll);
}

/* A reader that has what it wanted is likely to want more: its poll goes on until an event finds nobody. */
static void on_poll(uv_poll_t *poll, int status, int events) {
  neap__conn *c = poll->data;
  bool failed = status < 0, unheard = events & UV_READABLE && !c->on_readable;
  c->refs++;
  if (failed) c->polled = 0; /* libuv has stopped it; what is wrong is for the next system call to tell */
  if ((failed || events & UV_READABLE) && c->on_readable) c->on_readable(c);
  if ((failed || events & UV_WRITABLE) && c->on_writable) c->on_writable(c);
  if (c->fd >= 0) set_poll(c, wanted(c) | (unheard ? 0 : c->polled & UV_READABLE));
  neap__conn_drop(c);
}

int neap__conn_poll(neap__conn *c) { return set_poll(c, wanted(c) | (c->polled & UV_READABLE)); }

int neap__conn_new(neap__vm *vm, int fd, neap__conn **out) {
  neap__conn *c = calloc(1, sizeof(*c));
  int rc = c ? uv_poll_init(neap__loop_uv(vm->loop), &c->poll, fd) : UV_ENOMEM;
  if (rc != 0) {
    free(c);
    close(fd);
    return rc;
  }
  c->poll.data = c;
  c->vm = vm;
  c->fd = fd;
  c->refs = 2;
  *out = c;
  return 0;
}

static void on_handle_closed(uv_handle_t *handle) { neap__conn_drop(handle->data); }

void neap__conn_drop(neap__conn *c) {
  if (!c || --c->refs > 0) return;
  neap__tls_free(c->tls);
  free(c->in);
  free(c);
}

void neap__conn_close(neap__conn *c, const char *why) {
  if (c->fd < 0) return;
  void (*on_readable)(neap__conn *) = c->on_readable, (*on_writable)(neap__conn *) = c->on_writable;
  uv_close((uv_handle_t *)&c->poll, on_handle_closed);
  close(c->fd);
  c->fd = -1;
  if (!c->why[0]) snprintf(c->why, sizeof(c->why), "%s", why);
  if (on_readable) on_readable(c);
  if (on_writable) on_writable(c);
}

ssize_t neap__conn_receive(neap__conn *c, unsigned char *to, size_t want) {
  struct iovec parts[2] = {{.iov_base = to, .iov_len = want},
                           {.iov_base = c->in + c->in_end, .iov_len = c->in_cap - c->in_end}};
  struct msghdr message = {.msg_iov = want ? parts : parts + 1, .msg_iovlen = want ? 2 : 1};
  ssize_t n;
  if (c->fd < 0) return UV_ECONNABORTED;
  if (c->eof) return UV_EOF;
  do {
    n = recvmsg(c->fd, &message, MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return uv_translate_sys_error(errno);
  if (n == 0) {
    c->eof = true;
    return UV_EOF;
  }
  size_t direct = want ? NEAP_MIN((size_t)n, want) : 0;
  c->in_end += (uint32_t)((size_t)n - direct);
  return want ? (ssize_t)direct : n;
}

ssize_t neap__conn_send(neap__conn *c, const struct iovec *parts, uint32_t count) {
  struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = count};
  ssize_t n;
  if (c->fd < 0) return UV_ECONNABORTED;
  do {
    n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? uv_translate_sys_error(errno) : n;
}

int neap__conn_push_failure(lua_State *L, const neap__conn *c, const char *verb, ssize_t code) {
  if (!c->why[0]) return neap__push_failure(L, verb, NULL, code);
  lua_pushnil(L);
  lua_pushstring(L, uv_err_name((int)code));
  lua_pushfstring(L, "%s: %s", verb, c->why);
  return 3;
}
