/* SPDX-License-Identifier: MIT
 *
 * serve/http.c - the HTTP daemon: connections, bodies, routing; see serve/http.h. The routes are in http_*.c.
 *
 * Bounds: connections, the bytes of a body, idle time. libmicrohttpd runs one thread, which is the HTTP thread of
 * every file here. */
#include "serve/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/http_call.h"

#define CONNECTIONS_MAX 64u
#define IDLE_S 30u

/* --- routing -------------------------------------------------------------------------------------------------- */

typedef struct route {
  const char *method;
  const char *path; /* one ending in '*' stands for every path with at least one byte more */
  void (*handle)(neap__http_call *call);
} route;

static const route routes[] = {
    {"GET", "/", neap__http_root},
    {"GET", "/healthcheck", neap__http_health},
    {"GET", "/status", neap__http_status},
    {"GET", "/config", neap__http_config_get},
    {"GET", "/config/adapters", neap__http_adapters},
    {"GET", "/adapters", neap__http_tiers_list},
    {"POST", "/adapters", neap__http_tier_attach},
    {"GET", "/adapters/*", neap__http_tier_get},
    {"POST", "/adapters/*", neap__http_tier_reload},
    {"PATCH", "/adapters/*", neap__http_tier_configure},
    {"DELETE", "/adapters/*", neap__http_tier_detach},
    {"GET", "/version", neap__http_version},
    {"GET", "/lmc_version", neap__http_lmc_version},
    {"GET", "/commit_id", neap__http_commit},
    {"GET", "/metrics", neap__http_metrics},
    {"GET", "/loglevel", neap__http_loglevel},
    {"GET", "/policy", neap__http_policy_get},
    {"POST", "/policy/switch", neap__http_policy_switch},
    {"POST", "/policy/reload", neap__http_policy_reload},
    {"GET", "/policy/shadows", neap__http_shadows_list},
    {"POST", "/policy/shadows", neap__http_shadow_add},
    {"POST", "/policy/shadows/*", neap__http_shadow_reload},
    {"DELETE", "/policy/shadows/*", neap__http_shadow_remove},
    {"GET", "/policy/explain", neap__http_explain_get},
    {"POST", "/policy/explain", neap__http_explain_post},
    {"GET", "/record", neap__http_record_get},
    {"GET", "/record/status", neap__http_record_status},
    {"POST", "/cache/clear", neap__http_clear},
    {"GET", "/cache/objects", neap__http_objects_list},
    {"DELETE", "/cache/objects", neap__http_objects_delete},
    {"POST", "/cache/prefetches", neap__http_prefetch_start},
    {"GET", "/cache/prefetches/*", neap__http_prefetch_poll},
    {"POST", "/cache/checksums", neap__http_checksums},
    {"GET", "/quota", neap__http_quota_list},
    {"GET", "/quota/*", neap__http_quota_get},
    {"PUT", "/quota/*", neap__http_quota_put},
    {"DELETE", "/quota/*", neap__http_quota_delete},
    {"POST", "/policy/hints", neap__http_hints},
    {"POST", "/run_script", neap__http_run_script},
    {"GET", "/console", neap__http_console},
};

static bool route_matches(const route *r, const char *path, const char **tail) {
  size_t n = strlen(r->path);
  *tail = "";
  if (r->path[n - 1] != '*') return strcmp(r->path, path) == 0;
  if (strncmp(r->path, path, n - 1) != 0 || !path[n - 1]) return false;
  *tail = path + n - 1;
  return true;
}

static void dispatch(neap__http_call *call, const char *method) {
  bool known = false;
  if (call->body_refused) {
    neap__http_reply_detail(call, MHD_HTTP_CONTENT_TOO_LARGE, "request body is larger than %u bytes",
                            NEAP_HTTP_BODY_MAX);
    return;
  }
  for (size_t i = 0; i < NEAP_ARRAY_LEN(routes); i++) {
    if (!route_matches(&routes[i], call->path, &call->tail)) continue;
    known = true;
    if (strcmp(routes[i].method, method) != 0) continue;
    routes[i].handle(call);
    return;
  }
  if (known)
    neap__http_reply_detail(call, MHD_HTTP_METHOD_NOT_ALLOWED, "Method Not Allowed");
  else
    neap__http_reply_detail(call, MHD_HTTP_NOT_FOUND, "Not Found");
}

/* --- one request ---------------------------------------------------------------------------------------------- */

static void append_body(neap__http_call *call, const char *data, size_t bytes) {
  if (call->body_refused) return;
  if (bytes > NEAP_HTTP_BODY_MAX - call->body_bytes) {
    call->body_refused = true;
    return;
  }

  if (call->body_bytes + bytes >= call->body_cap) {
    size_t cap = NEAP_MAX(4096, call->body_cap * 2); /* doubling: small pieces are not copied each time */
    while (cap <= call->body_bytes + bytes) cap *= 2;
    char *body = realloc(call->body, cap);
    call->body_refused = body == NULL;
    if (!body) return;
    call->body = body;
    call->body_cap = cap;
  }
  memcpy(call->body + call->body_bytes, data, bytes);
  call->body_bytes += bytes;
  call->body[call->body_bytes] = '\0';
}

static struct MHD_Response *answer_of(const neap__http_call *call) {
  struct stat st;
  if (call->fd <= 0) return MHD_create_response_from_buffer(call->text_bytes, call->text, MHD_RESPMEM_MUST_FREE);
  return fstat(call->fd, &st) == 0 ? MHD_create_response_from_fd64((uint64_t)st.st_size, call->fd) : NULL;
}

static enum MHD_Result send_answer(neap__http_call *call) {
  struct MHD_Response *response = answer_of(call);
  if (!response) return MHD_NO;
  call->text = NULL;
  call->fd = 0;
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, call->content_type);
  enum MHD_Result ok = MHD_queue_response(call->connection, call->status, response);
  MHD_destroy_response(response);
  return ok;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *bytes, void **context) {
  (void)version;
  neap__http_call *call = *context;
  if (!call) { /* headers only: the body, if any, follows */
    call = calloc(1, sizeof(*call));
    *context = call;
    if (!call) return MHD_NO;
    call->http = cls;
    call->connection = connection;
    return MHD_YES;
  }
  if (*bytes > 0) {
    append_body(call, data, *bytes);
    *bytes = 0;
    return MHD_YES;
  }
  call->path = url;
  call->waiting = false;
  if (call->resume) {
    void (*resume)(neap__http_call *) = call->resume;
    call->resume = NULL;
    resume(call);
  } else {
    dispatch(call, method);
  }
  if (call->waiting || call->queued) return MHD_YES;
  return call->text || call->fd > 0 ? send_answer(call) : MHD_NO; /* no memory for an answer: the connection ends */
}

static void on_end(void *cls, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode how) {
  (void)cls, (void)connection, (void)how;
  neap__http_call *call = *context;
  if (!call) return;
  free(call->body);
  free(call->text);
  if (call->fd > 0) close(call->fd);
  free(call);
  *context = NULL;
}

void neap__http_wait(neap__http_call *call, void (*resume)(neap__http_call *call)) {
  uv_mutex_lock(&call->http->lock);
  call->http->set_aside++;
  uv_mutex_unlock(&call->http->lock);
  call->resume = resume;
  call->waiting = true;
  MHD_suspend_connection(call->connection);
}

void neap__http_wake(neap__http_call *call) {
  neap__http *http = call->http;
  MHD_resume_connection(call->connection);
  uv_mutex_lock(&http->lock);
  if (--http->set_aside == 0) uv_cond_broadcast(&http->none_set_aside);
  uv_mutex_unlock(&http->lock);
}

/* --- opening and closing -------------------------------------------------------------------------------------- */

static int resolve(const neap__http_config *config, struct addrinfo **out, neap_error *err) {
  char port[16];
  snprintf(port, sizeof(port), "%u", config->port);
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
  int rc = getaddrinfo(config->host, port, &hints, out);
  if (rc != 0)
    return neap__fail(err, NEAP_EINVAL, "HTTP host '%s': %s; expected an address of this machine", config->host,
                      gai_strerror(rc));
  return 0;
}

/* Binds here rather than in libmicrohttpd, whose failure would not say why. */
static int bind_socket(const neap__http_config *config, int *out, bool *ipv6, neap_error *err) {
  struct addrinfo *address = NULL;
  int rc = resolve(config, &address, err), one = 1;
  if (rc != 0) return rc;
  int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
      bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, 128) == 0) {
    *out = fd;
    *ipv6 = address->ai_family == AF_INET6;
    freeaddrinfo(address);
    return 0;
  }
  rc = errno == EADDRINUSE ? NEAP_EBUSY : errno == EADDRNOTAVAIL || errno == EACCES ? NEAP_EINVAL : NEAP_EIO;
  neap__fail(err, rc, "cannot listen for HTTP on %s:%u: %s", config->host, config->port, strerror(errno));
  if (fd >= 0) close(fd);
  freeaddrinfo(address);
  return rc;
}

static uint32_t bound_port(int fd) {
  struct sockaddr_storage address = {0};
  socklen_t bytes = sizeof(address);
  if (getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) return 0;
  if (address.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
  return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

int neap__http_open(const neap__http_config *config, neap__http **out, neap_error *err) {
  int fd = -1;
  bool ipv6 = false;
  int rc = bind_socket(config, &fd, &ipv6, err);
  if (rc != 0) return rc;
  neap__http *http = calloc(1, sizeof(*http));
  if (!http) {
    close(fd);
    return neap__fail(err, NEAP_ENOMEM, "out of memory");
  }
  http->config = *config;
  http->port = bound_port(fd);
  NEAP_ASSERT(uv_mutex_init(&http->lock) == 0 && uv_cond_init(&http->none_set_aside) == 0);
  unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ITC;
  if (ipv6) flags |= MHD_USE_IPv6;
  http->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, http, MHD_OPTION_LISTEN_SOCKET, fd,
                                  MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_CONNECTION_LIMIT,
                                  CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_END);
  if (!http->daemon) {
    close(fd);
    uv_cond_destroy(&http->none_set_aside);
    uv_mutex_destroy(&http->lock);
    free(http);
    return neap__fail(err, NEAP_EIO, "cannot start the HTTP thread");
  }
  *out = http;
  return 0;
}

void neap__http_close(neap__http *http) {
  if (!http) return;
  int fd = MHD_quiesce_daemon(http->daemon);
  neap__tier_set_hurry(http->config.engine->tiers);
  uv_mutex_lock(&http->lock); /* libmicrohttpd cannot stop while a connection is suspended */
  while (http->set_aside > 0) uv_cond_wait(&http->none_set_aside, &http->lock);
  uv_mutex_unlock(&http->lock);
  MHD_stop_daemon(http->daemon);
  if (fd >= 0) close(fd);
  for (uint32_t i = 0; i < http->prefetch_count; i++) neap__fetch_end(http->prefetches[i].fetch);
  uv_cond_destroy(&http->none_set_aside);
  uv_mutex_destroy(&http->lock);
  free(http);
}

uint32_t neap__http_port(const neap__http *http) { return http->port; }
