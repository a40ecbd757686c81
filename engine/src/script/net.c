/* SPDX-License-Identifier: MIT
 *
 * script/net.c - see net.h.
 *
 *   connect: [look the name up] -> connect to each address in turn -> [TLS handshake] -> connection
 *   accept:                        accept                          -> [TLS handshake] -> connection
 *
 * One `making` is such a request, from the call until the coroutine has its connection or the reason why not. A look-up
 * cannot be taken back once a worker thread has it: it is left to itself then, and frees itself. */
#include "script/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <lauxlib.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "script/tls.h"

#define LISTENER_TYPE "neap.listener"
#define ADDRESSES_MAX 16u
#define BACKLOG 1024
#define KEEP_IDLE_S 60
#define TIMEOUT_S_MAX 86400.0

typedef struct address {
  struct sockaddr_storage name;
  socklen_t bytes;
} address;

typedef struct making making;

typedef struct lookup {
  uv_getaddrinfo_t fs;
  making *owner; /* NULL: left to itself */
} lookup;

typedef struct listener {
  uv_poll_t poll;
  neap__vm *vm;
  uint32_t refs; /* the userdata, the accept in progress, the poll handle until it is closed */
  int fd;        /* -1: closed */
  making *accepting;
  char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* removed when closed */
} listener;

struct making {
  neap__await await;
  neap__vm *vm;
  lookup *lookup;
  address *addresses;
  uint32_t count, at;
  uint16_t port;
  listener *listener; /* accept */
  neap__conn *conn;
  void *context; /* of TLS, counted */
  char *label, *server_name;
  int result;
  bool ended, delivered, addresses_only;
};

static making *making_of(neap__await *await) { return (making *)((char *)await - offsetof(making, await)); }

static void end(making *m, int result) {
  if (m->ended) return;
  m->ended = true;
  m->result = result;
  neap__coro_wake(&m->await);
}

/* --- names ------------------------------------------------------------------------------------------------------ */

void neap__address_push(lua_State *L, const struct sockaddr *name, socklen_t bytes) {
  char text[INET6_ADDRSTRLEN] = "";
  if (name->sa_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)name;
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
    lua_pushfstring(L, "%s:%d", text, (int)ntohs(in->sin_port));
  } else if (name->sa_family == AF_INET6) {
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)name;
    inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof(text));
    lua_pushfstring(L, "[%s]:%d", text, (int)ntohs(in->sin6_port));
  } else {
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)name;
    size_t room = bytes > offsetof(struct sockaddr_un, sun_path) ? bytes - offsetof(struct sockaddr_un, sun_path) : 0;
    lua_pushlstring(L, un->sun_path, strnlen(un->sun_path, room));
  }
}

static int take_addresses(making *m, const struct addrinfo *list) {
  uint32_t n = 0;
  m->addresses = calloc(ADDRESSES_MAX, sizeof(*m->addresses));
  if (!m->addresses) return UV_ENOMEM;
  for (; list && n < ADDRESSES_MAX; list = list->ai_next) {
    if (list->ai_family != AF_INET && list->ai_family != AF_INET6) continue;
    address *a = &m->addresses[n++];
    memcpy(&a->name, list->ai_addr, list->ai_addrlen);
    a->bytes = list->ai_addrlen;
    in_port_t port = htons(m->port);
    if (list->ai_family == AF_INET) ((struct sockaddr_in *)(void *)&a->name)->sin_port = port;
    if (list->ai_family == AF_INET6) ((struct sockaddr_in6 *)(void *)&a->name)->sin6_port = port;
  }
  m->count = n;
  return n ? 0 : UV_EAI_NODATA;
}

static void connect_next(making *m);

static void on_looked_up(uv_getaddrinfo_t *fs, int status, struct addrinfo *list) {
  lookup *l = fs->data;
  making *m = l->owner;
  if (m) {
    m->lookup = NULL;
    int rc = status == 0 ? take_addresses(m, list) : status;
    if (rc != 0 || m->addresses_only) {
      end(m, rc);
    } else {
      connect_next(m);
    }
  }
  uv_freeaddrinfo(list);
  free(l);
}

/* 0: the addresses are there, or will be told. */
static int look_up(making *m, const char *host) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *list;
  if (getaddrinfo(host, NULL, &hints, &list) == 0) {
    int rc = take_addresses(m, list);
    freeaddrinfo(list);
    return rc;
  }
  lookup *l = calloc(1, sizeof(*l));
  if (!l) return UV_ENOMEM;
  hints.ai_flags = AI_ADDRCONFIG;
  l->fs.data = l;
  l->owner = m;
  int rc = uv_getaddrinfo(neap__loop_uv(m->vm->loop), &l->fs, on_looked_up, host, NULL, &hints);
  if (rc == 0) {
    m->lookup = l;
  } else {
    free(l);
  }
  return rc;
}

static int path_address(address *a, const char *path) {
  struct sockaddr_un *un = (struct sockaddr_un *)(void *)&a->name;
  size_t length = strlen(path);
  if (length == 0 || length >= sizeof(un->sun_path)) return UV_ENAMETOOLONG;
  un->sun_family = AF_UNIX;
  memcpy(un->sun_path, path, length + 1);
  a->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
  return 0;
}

/* --- connecting ------------------------------------------------------------------------------------------------- */

static void drop_conn(making *m, const char *why) {
  neap__conn *c = m->conn;
  if (!c) return;
  m->conn = NULL;
  c->on_readable = c->on_writable = NULL;
  neap__conn_close(c, why);
  neap__conn_drop(c);
}

static void shake_hands(neap__conn *c) {
  making *m = c->connecting;
  int event = 0;
  c->on_readable = c->on_writable = NULL;
  int rc = neap__tls_handshake(c, &event);
  if (rc == UV_EAGAIN) {
    if (event & UV_WRITABLE) c->on_writable = shake_hands;
    if (event & UV_READABLE) c->on_readable = shake_hands;
    rc = neap__conn_poll(c);
    if (rc == 0) return;
  }
  if (rc != 0) neap__conn_close(c, uv_strerror(rc));
  end(m, rc);
}

static void connected(making *m) {
  int rc = m->context ? neap__tls_start(m->conn, m->context, m->server_name) : 0;
  if (rc != 0 || !m->context) {
    end(m, rc);
  } else {
    shake_hands(m->conn);
  }
}

static void on_connect(neap__conn *c) {
  making *m = c->connecting;
  int error = 0;
  socklen_t bytes = sizeof(error);
  c->on_writable = NULL;
  if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) error = errno;
  if (error == 0) {
    connected(m);
    return;
  }
  m->result = uv_translate_sys_error(error);
  drop_conn(m, "not connected");
  connect_next(m);
}

static void set_options(int fd, sa_family_t family) {
  int on = 1, idle = KEEP_IDLE_S;
  if (family == AF_UNIX) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
}

/* 0: connected, or on the way, which *waits says. */
static int connect_to(making *m, const address *a, bool *waits) {
  sa_family_t family = a->name.ss_family;
  int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return uv_translate_sys_error(errno);
  set_options(fd, family);
  int error = connect(fd, (const struct sockaddr *)&a->name, a->bytes) == 0 ? 0 : errno;
  *waits = error == EINPROGRESS;
  if (error && !*waits) {
    close(fd);
    return uv_translate_sys_error(error);
  }
  int rc = neap__conn_new(m->vm, fd, &m->conn);
  if (rc != 0) return rc;
  m->conn->connecting = m;
  if (*waits) m->conn->on_writable = on_connect;
  return neap__conn_poll(m->conn);
}

static void connect_next(making *m) {
  while (m->at < m->count) {
    bool waits = false;
    m->result = connect_to(m, &m->addresses[m->at++], &waits);
    if (m->result == 0 && !waits) connected(m);
    if (m->result == 0) return;
    drop_conn(m, "not connected");
  }
  end(m, m->result);
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static void stop_accepting(making *m) {
  if (m->listener && m->listener->accepting == m) {
    m->listener->accepting = NULL;
    if (m->listener->fd >= 0) uv_poll_stop(&m->listener->poll);
  }
}

static void give_up(making *m, int result) {
  if (m->lookup) {
    uv_cancel((uv_req_t *)&m->lookup->fs); /* or else it is only left */
    m->lookup->owner = NULL;
    m->lookup = NULL;
  }
  stop_accepting(m);
  drop_conn(m, "given up before it was connected");
  end(m, result);
}

static void cancel_making(neap__await *await) { give_up(making_of(await), UV_ECANCELED); }
static void expire_making(neap__await *await) { give_up(making_of(await), UV_ETIMEDOUT); }

static void listener_drop(listener *l) {
  if (l && --l->refs == 0) free(l);
}

static void release_making(neap__await *await) {
  making *m = making_of(await);
  stop_accepting(m);
  if (!m->delivered) drop_conn(m, "given up: its connect was canceled");
  listener_drop(m->listener);
  neap__tls_context_drop(m->context);
  free(m->addresses);
  free(m->label);
  free(m->server_name);
  free(m);
}

static int push_made(lua_State *L, neap__await *await) {
  making *m = making_of(await);
  if (m->result < 0 && m->conn && m->conn->why[0]) return neap__conn_push_failure(L, m->conn, m->label, m->result);
  if (m->result < 0) return neap__push_failure(L, m->label, NULL, m->result);
  neap__conn_push(L, m->conn);
  m->delivered = true;
  return 1;
}

static int push_addresses(lua_State *L, neap__await *await) {
  making *m = making_of(await);
  char text[INET6_ADDRSTRLEN];
  if (m->result < 0) return neap__push_failure(L, m->label, NULL, m->result);
  lua_createtable(L, (int)m->count, 0);
  for (uint32_t i = 0; i < m->count; i++) {
    const struct sockaddr *name = (const struct sockaddr *)&m->addresses[i].name;
    const void *bytes = name->sa_family == AF_INET
                            ? (const void *)&((const struct sockaddr_in *)(const void *)name)->sin_addr
                            : (const void *)&((const struct sockaddr_in6 *)(const void *)name)->sin6_addr;
    lua_pushstring(L, inet_ntop(name->sa_family, bytes, text, sizeof(text)));
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* NULL without memory. label: what failures begin with. */
static making *making_new(lua_State *L, neap__coro *coro, const char *label, const char *server_name) {
  making *m = calloc(1, sizeof(*m));
  if (!m) return NULL;
  m->await = (neap__await){
      .push = push_made, .cancel = cancel_making, .expire = expire_making, .release = release_making, .coro = coro};
  m->vm = neap__vm_of(L);
  m->label = strdup(label);
  if (server_name) m->server_name = strdup(server_name);
  if (m->label && !m->server_name == !server_name) return m;
  release_making(&m->await);
  return NULL;
}

static int no_memory(lua_State *L, const char *verb) {
  lua_pushnil(L);
  return 1 + neap__push_failure(L, verb, NULL, UV_ENOMEM);
}

static double check_timeout(lua_State *L, int arg) {
  double seconds = luaL_optnumber(L, arg, 0);
  luaL_argcheck(L, seconds >= 0 && seconds <= TIMEOUT_S_MAX, arg, "expected a timeout of 0 to 86400 seconds");
  return seconds;
}

static uint16_t check_port(lua_State *L, int arg) {
  double port = luaL_checknumber(L, arg);
  luaL_argcheck(L, port >= 0 && port <= 65535, arg, "expected a port of 0 to 65535");
  return (uint16_t)port;
}

/* core.net_connect(label, path or nil, host or nil, port or nil, timeout or nil, context or nil, server name or nil) */
static int l_connect(lua_State *L) {
  const char *label = luaL_checkstring(L, 1), *path = luaL_optstring(L, 2, NULL);
  const char *host = path ? NULL : luaL_checkstring(L, 3), *server_name = luaL_optstring(L, 7, NULL);
  uint16_t port = path ? 0 : check_port(L, 4);
  double timeout = check_timeout(L, 5);
  void *context = neap__tls_context_check(L, 6);
  neap__coro *coro;
  int refused = neap__coro_enter(L, "neap.net.connect", false, &coro);
  if (refused) return refused;
  making *m = making_new(L, coro, label, server_name);
  if (!m) return no_memory(L, label);
  m->context = neap__tls_context_hold(context);
  m->port = port;
  if (timeout > 0) m->await.timeout_ns = neap__now_ns() + (uint64_t)(timeout * 1e9);
  int rc;
  if (path) {
    m->addresses = calloc(1, sizeof(*m->addresses));
    m->count = 1;
    rc = m->addresses ? path_address(m->addresses, path) : UV_ENOMEM;
  } else {
    rc = look_up(m, host);
  }
  if (rc != 0) {
    end(m, rc);
  } else if (!m->lookup) {
    connect_next(m);
  }
  return neap__coro_wait(L, coro, &m->await);
}

/* core.net_resolve(host) */
static int l_resolve(lua_State *L) {
  const char *host = luaL_checkstring(L, 1);
  neap__coro *coro;
  int refused = neap__coro_enter(L, "neap.net.resolve", false, &coro);
  if (refused) return refused;
  lua_pushfstring(L, "resolve %s", host);
  making *m = making_new(L, coro, lua_tostring(L, -1), NULL);
  if (!m) return no_memory(L, "resolve");
  m->await.push = push_addresses;
  m->addresses_only = true;
  int rc = look_up(m, host);
  if (rc != 0 || !m->lookup) end(m, rc);
  return neap__coro_wait(L, coro, &m->await);
}

/* --- listening -------------------------------------------------------------------------------------------------- */

static listener *check_listener(lua_State *L) { return *(listener **)luaL_checkudata(L, 1, LISTENER_TYPE); }

static void accept_one(making *m) {
  listener *l = m->listener;
  int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)) return;
  int error = errno;
  stop_accepting(m);
  int rc = uv_translate_sys_error(error);
  if (fd >= 0) {
    set_options(fd, l->path[0] ? AF_UNIX : AF_INET);
    rc = neap__conn_new(m->vm, fd, &m->conn);
  }
  if (rc != 0) {
    end(m, rc);
    return;
  }
  m->conn->connecting = m;
  connected(m);
}

static void on_acceptable(uv_poll_t *poll, int status, int events) {
  listener *l = poll->data;
  (void)events;
  if (!l->accepting) {
    uv_poll_stop(poll);
  } else if (status < 0) {
    give_up(l->accepting, status);
  } else {
    accept_one(l->accepting);
  }
}

/* core.net_accept(listener, context or nil) */
static int l_accept(lua_State *L) {
  listener *l = check_listener(L);
  void *context = neap__tls_context_check(L, 2);
  neap__coro *coro;
  int refused = neap__coro_enter(L, "accept", false, &coro);
  if (refused) return refused;
  if (l->accepting) return luaL_error(L, "accept: another coroutine accepts from this listener");
  making *m = making_new(L, coro, "accept", NULL);
  if (!m) return no_memory(L, "accept");
  l->refs++;
  m->listener = l;
  m->context = neap__tls_context_hold(context);
  l->accepting = m;
  if (l->fd < 0) {
    give_up(m, UV_ECONNABORTED);
  } else {
    accept_one(m);
    int rc = l->accepting == m ? uv_poll_start(&l->poll, UV_READABLE, on_acceptable) : 0;
    if (rc != 0) give_up(m, rc);
  }
  return neap__coro_wait(L, coro, &m->await);
}

static void on_listener_closed(uv_handle_t *handle) { listener_drop(handle->data); }

static void listener_close(listener *l) {
  if (l->fd < 0) return;
  uv_close((uv_handle_t *)&l->poll, on_listener_closed);
  close(l->fd);
  l->fd = -1;
  if (l->path[0]) unlink(l->path);
  if (l->accepting) give_up(l->accepting, UV_ECONNABORTED);
}

/* core.net_unlisten(listener): does not await */
static int l_unlisten(lua_State *L) {
  listener_close(check_listener(L));
  lua_pushboolean(L, 1);
  return 1;
}

static int l_collect(lua_State *L) {
  listener **u = luaL_checkudata(L, 1, LISTENER_TYPE);
  if (*u) {
    listener_close(*u);
    listener_drop(*u);
  }
  *u = NULL;
  return 0;
}

static int bind_and_listen(int fd, const address *a) {
  int on = 1;
  if (a->name.ss_family != AF_UNIX) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(fd, (const struct sockaddr *)&a->name, a->bytes) != 0) return uv_translate_sys_error(errno);
  return listen(fd, BACKLOG) == 0 ? 0 : uv_translate_sys_error(errno);
}

static int listener_new(neap__vm *vm, const address *a, const char *path, listener **out) {
  int fd = socket(a->name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return uv_translate_sys_error(errno);
  int rc = bind_and_listen(fd, a);
  listener *l = rc == 0 ? calloc(1, sizeof(*l)) : NULL;
  if (rc == 0) rc = l ? uv_poll_init(neap__loop_uv(vm->loop), &l->poll, fd) : UV_ENOMEM;
  if (rc != 0) {
    free(l);
    close(fd);
    return rc;
  }
  l->poll.data = l;
  l->vm = vm;
  l->refs = 2;
  l->fd = fd;
  if (path) snprintf(l->path, sizeof(l->path), "%s", path);
  *out = l;
  return 0;
}

/* core.net_listen(label, path or nil, numeric host, port): does not await */
static int l_listen(lua_State *L) {
  const char *label = luaL_checkstring(L, 1), *path = luaL_optstring(L, 2, NULL);
  neap__vm *vm = neap__vm_of(L);
  if (!vm->loop) return luaL_error(L, "neap.net.listen: not while the module is loaded");
  address a = {0};
  int rc;
  if (path) {
    rc = path_address(&a, path);
  } else {
    making m = {.port = check_port(L, 4)};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *list;
    const char *host = luaL_checkstring(L, 3);
    rc = getaddrinfo(host, NULL, &hints, &list) == 0 ? 0 : UV_EINVAL;
    if (rc == 0) {
      rc = take_addresses(&m, list);
      freeaddrinfo(list);
      if (rc == 0) a = m.addresses[0];
      free(m.addresses);
    }
  }
  listener **u = lua_newuserdata(L, sizeof(*u));
  *u = NULL;
  luaL_getmetatable(L, LISTENER_TYPE);
  lua_setmetatable(L, -2);
  if (rc == 0) rc = listener_new(vm, &a, path, u);
  return rc == 0 ? 1 : neap__push_failure(L, label, NULL, rc);
}

/* core.net_port(listener) -> port, or nil for a unix socket */
static int l_port(lua_State *L) {
  listener *l = check_listener(L);
  struct sockaddr_storage name = {0};
  socklen_t bytes = sizeof(name);
  if (l->fd < 0 || getsockname(l->fd, (struct sockaddr *)&name, &bytes) != 0) return 0;
  if (name.ss_family == AF_UNIX) return 0;
  lua_pushinteger(L, ntohs(name.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&name)->sin_port
                                                     : ((struct sockaddr_in6 *)(void *)&name)->sin6_port));
  return 1;
}

void neap__net_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg functions[] = {{"net_connect", l_connect},
                                       {"net_resolve", l_resolve},
                                       {"net_listen", l_listen},
                                       {"net_accept", l_accept},
                                       {"net_port", l_port},
                                       {"net_unlisten", l_unlisten},
                                       {NULL, NULL}};
  static const luaL_Reg methods[] = {{"__gc", l_collect}, {NULL, NULL}};
  luaL_newmetatable(L, LISTENER_TYPE);
  neap__vm_register(L, vm, methods);
  lua_newtable(L); /* neap/net.lua puts the methods there */
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__index");
  lua_setfield(L, -3, "listener_methods");
  lua_pop(L, 1);
  neap__vm_register(L, vm, functions);
  neap__conn_open(L, vm);
  neap__tls_open(L, vm);
}
