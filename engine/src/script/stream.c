/* SPDX-License-Identifier: MIT
 *
 * script/stream.c - reads and writes of a connection for scripts (conn.h tells how they move). What can be done at once
 * is done without suspending the coroutine, unless it has kept the loop for long. */
#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "script/conn.h"
#include "script/tls.h"

#define TYPE "neap.connection"
#define STRING_MAX 65536u
#define UNTIL_DEFAULT 4096u
#define IN_BYTES 16384u
/* One event moves at most this much, so that a fast peer leaves the loop to others. */
#define TURN_BYTES (4u << 20)
#define PARTS_MAX 1024
#define INLINE_PARTS 32
/* Parts that one system call takes. */
#define SEND_PARTS 64u

typedef struct userdata {
  neap__conn *conn;
} userdata;

static neap__conn *check_conn(lua_State *L) {
  userdata *u = luaL_checkudata(L, 1, TYPE);
  if (!u->conn) luaL_error(L, "not a connection");
  return u->conn;
}

/* Without `more`, only what has been received already; the poll tells nothing of that. */
static ssize_t receive(neap__conn *c, unsigned char *to, size_t want, bool more) {
  if (c->tls) return neap__tls_receive(c, to, want, more);
  return more ? neap__conn_receive(c, to, want) : UV_EAGAIN;
}

static ssize_t send_parts(neap__conn *c, const struct iovec *parts, uint32_t count) {
  return c->tls ? neap__tls_send(c, parts, count) : neap__conn_send(c, parts, count);
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

/* Room for `need` bytes in the input buffer from in_at on, and at least one more than there are. */
static bool make_room(neap__conn *c, uint32_t need) {
  uint32_t held = c->in_end - c->in_at;
  if (held == 0) c->in_at = c->in_end = 0;
  if (c->in_cap - c->in_at >= need && c->in_cap > c->in_end) return true;
  if (held && c->in_at) memmove(c->in, c->in + c->in_at, held);
  c->in_at = 0;
  c->in_end = held;
  if (c->in_cap >= need && c->in_cap > held) return true;
  uint32_t cap = NEAP_MAX(IN_BYTES, need);
  unsigned char *in = realloc(c->in, cap);
  if (!in) return false;
  c->in = in;
  c->in_cap = cap;
  return true;
}

/* Looks for the delimiter; what was looked through is not looked through again. */
static bool found(neap__conn *c) {
  neap__reading *r = &c->r;
  uint32_t held = c->in_end - c->in_at;
  if (held < r->delimiter_bytes) return false;
  uint32_t back = NEAP_MIN(r->scanned, r->delimiter_bytes - 1);
  uint32_t from = r->scanned - back;
  unsigned char *at = memmem(c->in + c->in_at + from, held - from, r->delimiter, r->delimiter_bytes);
  r->scanned = held;
  if (!at) return false;
  r->need = (uint32_t)(at - (c->in + c->in_at)) + r->delimiter_bytes;
  return true;
}

/* 0: all is there; 1: more is to be received; otherwise what is wrong. */
static int look(neap__conn *c) {
  neap__reading *r = &c->r;
  if (r->data) {
    uint32_t held = (uint32_t)NEAP_MIN((uint64_t)(c->in_end - c->in_at), r->left);
    if (held) memcpy(r->data, c->in + c->in_at, held);
    c->in_at += held;
    r->data += held;
    r->left -= held;
    if (r->left == 0) return 0;
    return make_room(c, 0) ? 1 : UV_ENOMEM;
  }
  if (r->delimiter_bytes && !r->need && found(c) && r->need > r->max) return UV_EMSGSIZE;
  if (r->need && c->in_end - c->in_at >= r->need) return 0;
  if (!r->need && c->in_end - c->in_at >= r->max) return UV_EMSGSIZE;
  return make_room(c, r->need ? r->need : NEAP_MIN(r->max, NEAP_MAX(IN_BYTES, (c->in_end - c->in_at) * 2))) ? 1
                                                                                                            : UV_ENOMEM;
}

/* 0: done; UV_EAGAIN: wait; otherwise what is wrong. */
static int advance(neap__conn *c) {
  neap__reading *r = &c->r;
  uint64_t moved = 0;
  int more;
  while ((more = look(c)) == 1) {
    size_t want = r->data ? (size_t)NEAP_MIN(r->left, (uint64_t)TURN_BYTES) : 0;
    ssize_t n = receive(c, r->data, want, moved < TURN_BYTES);
    if (n < 0) return (int)n;
    moved += (uint64_t)n;
    if (!want) continue;
    r->data += n;
    r->left -= (uint64_t)n;
  }
  return more;
}

static void end_read(neap__conn *c, int result) {
  c->on_readable = NULL;
  c->r.result = result;
  if (result < 0 && result != UV_EOF) neap__conn_close(c, uv_strerror(result));
  neap__coro_wake(&c->r.await);
}

static void on_readable(neap__conn *c) {
  int rc = c->fd < 0 ? UV_ECONNABORTED : advance(c);
  if (rc != UV_EAGAIN) end_read(c, rc);
}

static neap__conn *reader_of(neap__await *await) {
  return (neap__conn *)((char *)await - offsetof(neap__conn, r.await));
}

static void cancel_read(neap__await *await) {
  neap__conn *c = reader_of(await);
  c->on_readable = NULL;
  neap__conn_close(c, "given up: a read of it was canceled");
  neap__coro_wake(await);
}

/* What was read into the input buffer and not delivered would be taken for the next reply. */
static void release_read(neap__await *await) {
  neap__conn *c = reader_of(await);
  neap__reading *r = &c->r;
  if (!r->delivered) neap__conn_close(c, "given up: a read of it was canceled");
  neap__mem_drop(r->mem);
  r->mem = NULL;
  r->active = false;
  neap__conn_drop(c);
}

static int push_end_of_stream(lua_State *L, neap__conn *c) {
  neap__reading *r = &c->r;
  char text[128];
  uint64_t got = r->data ? r->total - r->left : c->in_end - c->in_at;
  if (r->delimiter_bytes) {
    snprintf(text, sizeof(text), "the peer closed the connection after %llu bytes without the delimiter",
             (unsigned long long)got);
  } else {
    snprintf(text, sizeof(text), "the peer closed the connection after %llu of %llu bytes", (unsigned long long)got,
             (unsigned long long)r->total);
  }
  lua_pushnil(L);
  lua_pushliteral(L, "EOF");
  lua_pushfstring(L, "read: %s", text);
  return 3;
}

static int push_read(lua_State *L, neap__await *await) {
  neap__conn *c = reader_of(await);
  neap__reading *r = &c->r;
  if (r->result == UV_EOF) return push_end_of_stream(L, c);
  if (r->result == UV_EMSGSIZE) {
    lua_pushnil(L);
    lua_pushliteral(L, "EMSGSIZE");
    lua_pushfstring(L, "read: no delimiter among %d bytes", (int)r->max);
    return 3;
  }
  if (r->result < 0) return neap__conn_push_failure(L, c, "read", r->result);
  if (r->data) {
    lua_pushboolean(L, 1);
  } else {
    lua_pushlstring(L, (const char *)c->in + c->in_at, r->need - r->delimiter_bytes);
    c->in_at += r->need;
  }
  return 1;
}

static int deliver_read(lua_State *L, neap__await *await) {
  int pushed = push_read(L, await);
  reader_of(await)->r.delivered = true;
  return pushed;
}

/* Ends the reading functions: c->r says what is to be read, and nothing of it is begun. */
static int read_now(lua_State *L, neap__coro *coro, neap__conn *c) {
  neap__reading *r = &c->r;
  r->await = (neap__await){.push = deliver_read, .cancel = cancel_read, .release = release_read, .coro = coro};
  r->active = true;
  c->refs++;
  int rc = c->fd < 0 ? UV_ECONNABORTED : advance(c);
  if (rc == UV_EAGAIN) {
    c->on_readable = on_readable;
    rc = neap__conn_poll(c);
    if (rc == 0) return neap__coro_wait(L, coro, &r->await);
    c->on_readable = NULL;
  }
  if (neap__coro_slice_over(coro)) {
    end_read(c, rc);
    return neap__coro_wait(L, coro, &r->await);
  }
  r->result = rc;
  if (rc < 0 && rc != UV_EOF) neap__conn_close(c, uv_strerror(rc));
  r->delivered = true; /* nothing is held when it is pushed, which may raise; the userdata keeps c */
  release_read(&r->await);
  lua_pushnil(L);
  return 1 + push_read(L, &r->await);
}

static neap__conn *enter_read(lua_State *L, const char *name, neap__coro **coro, int *pushed) {
  neap__conn *c = check_conn(L);
  *pushed = neap__coro_enter(L, name, false, coro);
  if (*pushed) return NULL;
  if (c->r.active) luaL_error(L, "%s: another coroutine reads from this connection", name);
  return c;
}

static uint32_t check_count(lua_State *L, int arg, uint32_t least) {
  double n = luaL_checknumber(L, arg);
  if (!(n >= least && n <= STRING_MAX)) {
    luaL_error(L, "bad argument #%d (%f bytes, expected %d to %d: payload is read into buffers)", arg - 1, n,
               (int)least, (int)STRING_MAX);
  }
  return (uint32_t)n;
}

/* core.conn_read_exactly(conn, n) */
static int l_read_exactly(lua_State *L) {
  uint32_t n = check_count(L, 2, 0);
  neap__coro *coro;
  int pushed;
  neap__conn *c = enter_read(L, "read_exactly", &coro, &pushed);
  if (!c) return pushed;
  if (n == 0) {
    lua_pushnil(L);
    lua_pushliteral(L, "");
    return 2;
  }
  c->r = (neap__reading){.need = n, .total = n};
  return read_now(L, coro, c);
}

/* core.conn_read_until(conn, delimiter [, max]) */
static int l_read_until(lua_State *L) {
  size_t bytes;
  const char *delimiter = luaL_checklstring(L, 2, &bytes);
  luaL_argcheck(L, bytes >= 1 && bytes <= NEAP__DELIMITER_BYTES, 2, "expected a delimiter of 1 to 16 bytes");
  uint32_t max = lua_isnoneornil(L, 3) ? UNTIL_DEFAULT : check_count(L, 3, 1);
  neap__coro *coro;
  int pushed;
  neap__conn *c = enter_read(L, "read_until", &coro, &pushed);
  if (!c) return pushed;
  c->r = (neap__reading){.max = max + (uint32_t)bytes, .delimiter_bytes = (uint32_t)bytes};
  memcpy(c->r.delimiter, delimiter, bytes);
  return read_now(L, coro, c);
}

/* core.conn_read_exactly_into(conn, buffer [, offset [, length]]) */
static int l_read_exactly_into(lua_State *L) {
  neap__buffer *buffer = neap__buffer_check(L, 2, true);
  uint64_t offset, length;
  neap__buffer_range(L, 3, buffer->bytes, &offset, &length);
  neap__coro *coro;
  int pushed;
  neap__conn *c = enter_read(L, "read_exactly_into", &coro, &pushed);
  if (!c) return pushed;
  neap__mem *mem = neap__buffer_hold(L, buffer, coro);
  c->r = (neap__reading){.data = buffer->data + offset, .left = length, .total = length, .mem = mem};
  return read_now(L, coro, c);
}

/* --- writing ---------------------------------------------------------------------------------------------------- */

static void step_over(neap__writing *w, size_t n) {
  while (w->at < w->count && n >= w->parts[w->at].iov_len) n -= w->parts[w->at++].iov_len;
  if (n == 0) return;
  struct iovec *part = &w->parts[w->at];
  part->iov_base = (char *)part->iov_base + n;
  part->iov_len -= n;
}

/* 0: done; UV_EAGAIN: wait; otherwise what is wrong. */
static int put(neap__conn *c) {
  neap__writing *w = &c->w;
  uint64_t moved = 0;
  if (c->fd < 0) return UV_ECONNABORTED;
  step_over(w, 0);
  while (w->at < w->count) {
    if (moved >= TURN_BYTES) return UV_EAGAIN;
    ssize_t n = send_parts(c, w->parts + w->at, NEAP_MIN(w->count - w->at, SEND_PARTS));
    if (n < 0) return (int)n;
    moved += (uint64_t)n;
    step_over(w, (size_t)n);
  }
  int rc = c->tls ? neap__tls_flush(c) : 0;
  if (rc == 0 && w->shut && shutdown(c->fd, SHUT_WR) != 0) rc = uv_translate_sys_error(errno);
  return rc;
}

static void end_write(neap__conn *c, int result) {
  c->on_writable = NULL;
  c->w.result = result;
  if (result < 0) neap__conn_close(c, uv_strerror(result));
  neap__coro_wake(&c->w.await);
}

static void on_writable(neap__conn *c) {
  int rc = put(c);
  if (rc != UV_EAGAIN) end_write(c, rc);
}

static neap__conn *writer_of(neap__await *await) {
  return (neap__conn *)((char *)await - offsetof(neap__conn, w.await));
}

static void cancel_write(neap__await *await) {
  neap__conn *c = writer_of(await);
  c->on_writable = NULL;
  neap__conn_close(c, "given up: a write to it was canceled");
  neap__coro_wake(await);
}

static void release_write(neap__await *await) {
  neap__conn *c = writer_of(await);
  neap__writing *w = &c->w;
  for (uint32_t i = 0; w->mems && i < w->count; i++) neap__mem_drop(w->mems[i]);
  free(w->block);
  w->active = false;
  w->parts = NULL;
  w->mems = NULL;
  w->block = NULL;
  neap__conn_drop(c);
}

static int push_written(lua_State *L, neap__await *await) {
  neap__conn *c = writer_of(await);
  if (c->w.result < 0) return neap__conn_push_failure(L, c, c->w.shut ? "shutdown" : "write", c->w.result);
  lua_pushboolean(L, 1);
  return 1;
}

/* Checks the part at index arg and says where its bytes are. Raises. */
static neap__buffer *check_part(lua_State *L, int arg, struct iovec *out) {
  if (lua_type(L, arg) == LUA_TSTRING) {
    out->iov_base = (void *)(uintptr_t)lua_tolstring(L, arg, &out->iov_len);
    return NULL;
  }
  return neap__buffer_part(L, arg, false, out);
}

/* What a write needs beyond the call: its own list of parts, counted buffers, and copies of what is left of strings. */
static bool keep_parts(neap__writing *w, const struct iovec *parts, neap__buffer *const *buffers, uint32_t count) {
  size_t bytes = count * (sizeof(*w->parts) + sizeof(*w->mems));
  for (uint32_t i = w->at; i < count; i++) bytes += buffers[i] ? 0 : parts[i].iov_len;
  struct iovec *kept = calloc(1, bytes);
  if (!kept) return false;
  w->block = w->parts = kept;
  w->mems = (neap__mem **)(kept + count);
  char *text = (char *)(w->mems + count);
  for (uint32_t i = w->at; i < count; i++) {
    kept[i] = parts[i];
    if (buffers[i] && buffers[i]->mem) {
      w->mems[i] = buffers[i]->mem;
      w->mems[i]->refs++;
    } else if (!buffers[i] && parts[i].iov_len) {
      memcpy(text, parts[i].iov_base, parts[i].iov_len);
      kept[i].iov_base = text;
      text += parts[i].iov_len;
    }
  }
  return true;
}

/* Writes parts, then shuts the sending side down if c->w.shut. buffers[i] is NULL for a string. */
static int write_now(lua_State *L, neap__coro *coro, neap__conn *c, struct iovec *parts, neap__buffer *const *buffers,
                     uint32_t count) {
  neap__writing *w = &c->w;
  w->await = (neap__await){.push = push_written, .cancel = cancel_write, .release = release_write, .coro = coro};
  w->active = true;
  w->parts = parts;
  w->count = count;
  c->refs++;
  int rc = put(c);
  if (rc == UV_EAGAIN) {
    c->on_writable = on_writable;
    rc = keep_parts(w, parts, buffers, count) ? neap__conn_poll(c) : UV_ENOMEM;
    if (rc == 0) return neap__coro_wait(L, coro, &w->await);
    c->on_writable = NULL;
  }
  if (neap__coro_slice_over(coro)) {
    end_write(c, rc);
    return neap__coro_wait(L, coro, &w->await);
  }
  w->result = rc;
  if (rc < 0) neap__conn_close(c, uv_strerror(rc));
  release_write(&w->await); /* nothing is held when it is pushed */
  lua_pushnil(L);
  return 1 + push_written(L, &w->await);
}

static neap__conn *enter_write(lua_State *L, const char *name, neap__coro **coro, int *pushed) {
  neap__conn *c = check_conn(L);
  *pushed = neap__coro_enter(L, name, false, coro);
  if (*pushed) return NULL;
  if (c->w.active) luaL_error(L, "%s: another coroutine writes to this connection", name);
  return c;
}

/* core.conn_write(conn, part, ...): strings, buffers and { buffer, offset, length } */
static int l_write(lua_State *L) {
  int count = lua_gettop(L) - 1;
  neap__coro *coro;
  int pushed;
  neap__conn *c = enter_write(L, "write", &coro, &pushed);
  if (!c) return pushed;
  luaL_argcheck(L, count <= PARTS_MAX, 2, "more than 1024 parts");
  struct iovec few_parts[INLINE_PARTS], *parts = few_parts;
  neap__buffer *few_buffers[INLINE_PARTS], **buffers = few_buffers;
  if (count > INLINE_PARTS) {
    parts = lua_newuserdata(L, (size_t)count * (sizeof(*parts) + sizeof(void *)));
    buffers = (neap__buffer **)(parts + count);
  }
  for (int i = 0; i < count; i++) {
    buffers[i] = check_part(L, i + 2, &parts[i]);
    if (buffers[i]) neap__mem_drop(neap__buffer_hold(L, buffers[i], coro)); /* raises if it may not be used here */
  }
  c->w = (neap__writing){0};
  return write_now(L, coro, c, parts, buffers, (uint32_t)count);
}

/* core.conn_shutdown(conn): nothing more will be written; what the peer still sends can be read */
static int l_shutdown(lua_State *L) {
  neap__coro *coro;
  int pushed;
  neap__conn *c = enter_write(L, "shutdown", &coro, &pushed);
  if (!c) return pushed;
  if (c->tls) neap__tls_end(c);
  c->w = (neap__writing){.shut = true};
  return write_now(L, coro, c, NULL, NULL, 0);
}

/* --- the userdata ----------------------------------------------------------------------------------------------- */

void neap__conn_push(lua_State *L, neap__conn *c) {
  userdata *u = lua_newuserdata(L, sizeof(*u));
  u->conn = NULL;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  u->conn = c;
}

/* core.conn_close(conn): does not await; again, or after a failure: no effect */
static int l_close(lua_State *L) {
  neap__conn *c = check_conn(L);
  if (c->tls && c->fd >= 0) {
    neap__tls_end(c);
    neap__tls_flush(c); /* as far as it goes at once */
  }
  neap__conn_close(c, "the connection is closed");
  lua_pushboolean(L, 1);
  return 1;
}

static int l_collect(lua_State *L) {
  userdata *u = luaL_checkudata(L, 1, TYPE);
  if (u->conn) {
    neap__conn_close(u->conn, "the connection was forgotten");
    neap__conn_drop(u->conn);
  }
  u->conn = NULL;
  return 0;
}

/* core.conn_idle(conn): is it open, with nothing to be read? What comes unasked makes a connection unfit for reuse. */
static int l_idle(lua_State *L) {
  neap__conn *c = check_conn(L);
  char byte;
  bool idle = c->fd >= 0 && !c->eof && c->in_at == c->in_end && !c->r.active && !c->w.active;
  if (idle && c->tls) {
    idle = neap__tls_idle(c);
  } else if (idle) {
    idle = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR);
  }
  lua_pushboolean(L, idle);
  return 1;
}

/* core.conn_peer(conn): "ADDRESS:PORT", the path of a unix socket ("" without a name), or nil, code, message */
static int l_peer(lua_State *L) {
  neap__conn *c = check_conn(L);
  struct sockaddr_storage address = {0};
  socklen_t bytes = sizeof(address);
  if (c->fd < 0) return neap__conn_push_failure(L, c, "peer", UV_ECONNABORTED);
  if (getpeername(c->fd, (struct sockaddr *)&address, &bytes) != 0) {
    return neap__push_failure(L, "peer", NULL, uv_translate_sys_error(errno));
  }
  neap__address_push(L, (const struct sockaddr *)&address, bytes);
  return 1;
}

/* conn.closed, and the methods */
static int l_index(lua_State *L) {
  neap__conn *c = check_conn(L);
  if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "closed") == 0) {
    lua_pushboolean(L, c->fd < 0);
  } else {
    lua_rawget(L, lua_upvalueindex(1));
  }
  return 1;
}

void neap__conn_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg functions[] = {{"conn_write", l_write},
                                       {"conn_shutdown", l_shutdown},
                                       {"conn_read_exactly", l_read_exactly},
                                       {"conn_read_exactly_into", l_read_exactly_into},
                                       {"conn_read_until", l_read_until},
                                       {"conn_close", l_close},
                                       {"conn_idle", l_idle},
                                       {"conn_peer", l_peer},
                                       {NULL, NULL}};
  static const luaL_Reg methods[] = {{"__gc", l_collect}, {NULL, NULL}};
  luaL_newmetatable(L, TYPE);
  neap__vm_register(L, vm, methods);
  lua_newtable(L); /* neap/net.lua puts the methods there */
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, l_index, 1);
  lua_setfield(L, -3, "__index");
  lua_setfield(L, -3, "conn_methods");
  lua_pop(L, 1);
  neap__vm_register(L, vm, functions);
}
