/* SPDX-License-Identifier: MIT
 *
 * serve/server.c - the wire front end opened, taken over from an earlier process, closed; and what other threads may
 * ask of it while it runs. */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/wire.h"

#define PEER_QUEUE_MAX 16384                 /* messages of one peer, each way */
#define MESSAGE_BYTES_MAX ((int64_t)1 << 30) /* libzmq drops a peer that sends more */
#define KNOCK_ENDPOINT "inproc://neap-wire"
#define LINGER_MS 200 /* last replies of a closing server */

int neap__batch_reserve(neap__batch *batch, uint32_t count) {
  if (count <= batch->cap) return 0;
  uint32_t cap = NEAP_MAX(count + count / 2, 256u);
  void *keys = realloc(batch->keys, cap * sizeof(*batch->keys));
  if (keys) batch->keys = keys;
  void *bytes = realloc(batch->bytes, cap * sizeof(*batch->bytes));
  if (bytes) batch->bytes = bytes;
  void *leases = realloc(batch->leases, cap * sizeof(*batch->leases));
  if (leases) batch->leases = leases;
  void *results = realloc(batch->results, cap * sizeof(*batch->results));
  if (results) batch->results = results;
  void *at = realloc(batch->at, cap * sizeof(*batch->at));
  if (at) batch->at = at;
  if (!keys || !bytes || !leases || !results || !at) return NEAP_ENOMEM;
  batch->cap = cap;
  return 0;
}

static void batch_free(neap__batch *batch) {
  free(batch->keys);
  free(batch->bytes);
  free(batch->leases);
  free(batch->results);
  free(batch->at);
}

/* --- bell ------------------------------------------------------------------------------------------------------- */

static neap__bell *bell_new(void) {
  neap__bell *bell = calloc(1, sizeof(*bell));
  if (!bell) return NULL;
  bell->users = 1;
  bell->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (bell->fd >= 0) return bell;
  free(bell);
  return NULL;
}

void neap__bell_drop(neap__bell *bell) {
  if (atomic_fetch_sub(&bell->users, 1) > 1) return;
  close(bell->fd);
  free(bell);
}

static void bell_wake(neap__bell *bell) {
  uint64_t one = 1;
  (void)!write(bell->fd, &one, sizeof(one));
}

void neap__bell_ring(void *arg) {
  neap__bell *bell = arg;
  if (atomic_load(&bell->waiting) > 0) bell_wake(bell);
  neap__bell_drop(bell);
}

/* --- take-over -------------------------------------------------------------------------------------------------- */

typedef struct kept_lease {
  neap__owner owner;
  neap__lease lease;
  bool staged;
} kept_lease;

typedef struct kept_leases {
  kept_lease *at;
  uint32_t count, cap;
  bool failed;
} kept_leases;

static void keep_lease(void *ctx, neap__lease lease, const neap__owner *owner, bool staged) {
  kept_leases *kept = ctx;
  if (kept->count == kept->cap) {
    uint32_t cap = NEAP_MAX(2 * kept->cap, 256u);
    kept_lease *at = realloc(kept->at, cap * sizeof(*at));
    if (!at) {
      kept->failed = true;
      return;
    }
    kept->at = at;
    kept->cap = cap;
  }
  kept->at[kept->count++] = (kept_lease){.owner = *owner, .lease = lease, .staged = staged};
}

/* A lease becomes part of its request's session or of its instance's transfer, as if this process had given it out. A
 * transfer's staged buffer is found through L1 at its commit. */
static int adopt_lease(neap__server *server, const kept_lease *kept) {
  neap__view view;
  neap__holds *holds = NULL;
  if (kept->owner.kind == NEAP_OWNER_TRANSFER) {
    if (!neap__instances_find(&server->instances, kept->owner.id)) {
      neap__l1_drop_owner(server->l1, NEAP_OWNER_TRANSFER, kept->owner.id);
      return 0;
    }
    neap__transfer *transfer = neap__transfer_find(&server->sessions, kept->owner.id, kept->owner.tag);
    if (!transfer) transfer = neap__transfer_add(&server->sessions, kept->owner.id, kept->owner.tag, server->now_ns);
    if (transfer) holds = &transfer->holds;
  } else {
    neap__session *session = neap__session_get_hash(&server->sessions, kept->owner.id, server->now_ns);
    if (session) {
      session->adopted = true;
      holds = &session->holds;
    }
  }
  if (!holds || neap__holds_reserve(holds, 1)) return NEAP_ENOMEM;
  if (kept->staged || neap__l1_view(server->l1, kept->lease, &view)) return 0;
  uint32_t readers = kept->owner.kind == NEAP_OWNER_TRANSFER ? 1 : NEAP_READERS_ALL;
  neap__holds_add(holds, &view.key, kept->lease, readers);
  return 0;
}

/* Registrations first, then what their workers and the requests had leased. */
static int take_over(neap__server *server) {
  kept_leases kept = {0};
  int code = neap__instances_open(&server->instances, server->l1, server->chunk_tokens, server->now_ns);
  if (code) return code;
  neap__l1_each_lease(server->l1, keep_lease, &kept);
  code = kept.failed ? NEAP_ENOMEM : 0;
  for (uint32_t i = 0; i < kept.count && code == 0; i++) code = adopt_lease(server, &kept.at[i]);
  free(kept.at);
  if (code) neap__instances_close(&server->instances);
  return code;
}

/* --- socket ----------------------------------------------------------------------------------------------------- */

/* The host as an address, since libzmq binds to addresses and interfaces only. IPv4 first, as clients resolve it. */
static int resolve(const char *host, char *text, size_t cap, bool *ipv6, neap_error *err) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE, .ai_family = AF_INET}, *list = NULL;
  *ipv6 = false;
  int code = getaddrinfo(host, "0", &hints, &list);
  if (code) {
    *ipv6 = true;
    hints.ai_family = AF_INET6;
    code = getaddrinfo(host, "0", &hints, &list);
  }
  if (code) return neap__fail(err, NEAP_EINVAL, "host: '%.200s': %s", host, gai_strerror(code));
  code = getnameinfo(list->ai_addr, list->ai_addrlen, text, (socklen_t)cap, NULL, 0, NI_NUMERICHOST);
  freeaddrinfo(list);
  return code ? neap__fail(err, NEAP_EINVAL, "host: '%.200s': %s", host, gai_strerror(code)) : 0;
}

static int set_options(void *socket, bool ipv6) {
  const struct {
    int name, value;
  } options[] = {{ZMQ_ROUTER_MANDATORY, 1},    {ZMQ_LINGER, 0},  {ZMQ_RCVHWM, PEER_QUEUE_MAX},
                 {ZMQ_SNDHWM, PEER_QUEUE_MAX}, {ZMQ_IPV6, ipv6}, {ZMQ_RCVTIMEO, (int)NEAP_CHORES_MS}};
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(options); i++)
    if (zmq_setsockopt(socket, options[i].name, &options[i].value, sizeof(int))) return -1;
  int64_t bytes_max = MESSAGE_BYTES_MAX;
  return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &bytes_max, sizeof(bytes_max));
}

static int bind_socket(neap__server *server, neap_error *err) {
  char address[256], endpoint[320], bound[256];
  size_t bytes = sizeof(bound);
  bool ipv6;
  if (server->config.port > UINT16_MAX)
    return neap__fail(err, NEAP_EINVAL, "port: %u; expected 0 .. 65535", server->config.port);
  const char *host = server->config.host && strcmp(server->config.host, "*") != 0 ? server->config.host : "0.0.0.0";
  int code = resolve(host, address, sizeof(address), &ipv6, err);
  if (code) return code;
  server->context = zmq_ctx_new();
  server->socket = server->context ? zmq_socket(server->context, ZMQ_ROUTER) : NULL;
  if (!server->socket || set_options(server->socket, ipv6))
    return neap__fail(err, NEAP_ENOMEM, "zmq: %s", zmq_strerror(zmq_errno()));
  char port[16] = "*";
  if (server->config.port > 0) snprintf(port, sizeof(port), "%u", server->config.port);
  snprintf(endpoint, sizeof(endpoint), ipv6 ? "tcp://[%s]:%s" : "tcp://%s:%s", address, port);
  if (zmq_bind(server->socket, endpoint)) {
    int reason = zmq_errno();
    return neap__fail(err, reason == EADDRINUSE ? NEAP_EBUSY : NEAP_EINVAL, "cannot listen on %s: %s", endpoint,
                      zmq_strerror(reason));
  }
  if (zmq_getsockopt(server->socket, ZMQ_LAST_ENDPOINT, bound, &bytes) || !strrchr(bound, ':') ||
      zmq_bind(server->socket, KNOCK_ENDPOINT))
    return neap__fail(err, NEAP_EIO, "zmq: no endpoint for %s", endpoint);
  server->port = (uint32_t)strtoul(strrchr(bound, ':') + 1, NULL, 10);
  return 0;
}

/* --- open and close --------------------------------------------------------------------------------------------- */

static void server_free(neap__server *server) {
  if (server->socket) zmq_close(server->socket);
  if (server->context) zmq_ctx_term(server->context);
  if (server->bell) neap__bell_drop(server->bell);
  batch_free(&server->batch);
  neap__prompt_free(&server->prompt);
  neap__writer_free(&server->out);
  free(server->waiters);
  free(server);
}

/* Signals belong to the thread that the program chose for them. */
static int start_thread(neap__server *server) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int code = pthread_create(&server->thread, NULL, neap__wire_thread, server);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (code) return NEAP_ENOMEM;
  pthread_setname_np(server->thread, "neap-wire");
  return 0;
}

/* Makes the server's state; the socket is there. */
static int start(neap__server *server) {
  server->waiters = calloc(NEAP_WAITERS_MAX, sizeof(*server->waiters));
  server->bell = bell_new();
  if (!server->waiters || !server->bell || neap__batch_reserve(&server->batch, 1)) return NEAP_ENOMEM;
  int code = neap__sessions_open(&server->sessions, server->l1);
  if (code) return code;
  code = neap__clients_open(&server->clients, server->l1);
  if (code == 0) code = take_over(server);
  if (code) goto close_sessions;
  code = start_thread(server);
  if (code == 0) return 0;
  neap__instances_close(&server->instances);
close_sessions:
  neap__clients_close(&server->clients);
  neap__sessions_close(&server->sessions);
  return code;
}

int neap__server_open(const neap__server_config *config, neap__server **out, neap_error *err) {
  neap__server *server = calloc(1, sizeof(*server));
  if (!server) return neap__fail(err, NEAP_ENOMEM, "%s", neap_strerror(NEAP_ENOMEM));
  server->config = *config;
  server->engine = config->engine;
  server->l1 = config->engine->l1;
  server->chunk_tokens = config->engine->config.l1.chunk_tokens;
  server->now_ns = neap__now_ns();
  neap__l1_memory(server->l1, &server->memory);
  int code = bind_socket(server, err);
  if (code == 0) {
    code = start(server);
    if (code) neap__fail(err, code, "the wire front end did not start: %s", neap_strerror(code));
  }
  if (code) {
    server_free(server);
    return code;
  }
  NEAP_LOG_INFO("LMCache zmq cache server is running on %s:%u", config->host ? config->host : "*", server->port);
  *out = server;
  return 0;
}

/* A message without content, from inside, ends the thread's wait for one. If it cannot be sent the wait ends by
 * itself. */
static void knock(neap__server *server) {
  void *socket = zmq_socket(server->context, ZMQ_DEALER);
  if (!socket) return;
  if (zmq_connect(socket, KNOCK_ENDPOINT) == 0) (void)zmq_send(socket, "", 0, ZMQ_DONTWAIT);
  zmq_close(socket);
}

void neap__server_close(neap__server *server) {
  int linger_ms = LINGER_MS;
  atomic_store(&server->stopping, true);
  bell_wake(server->bell); /* out of zmq_poll, */
  knock(server);           /* or out of zmq_msg_recv */
  pthread_join(server->thread, NULL);
  zmq_setsockopt(server->socket, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
  neap__clients_close(&server->clients);
  neap__sessions_close(&server->sessions);
  neap__instances_close(&server->instances);
  server_free(server);
}

/* --- any thread ------------------------------------------------------------------------------------------------- */

uint32_t neap__server_port(const neap__server *server) { return server->port; }

void neap__server_each_instance(neap__server *server, void (*visit)(void *ctx, const neap__instance_info *info),
                                void *ctx) {
  neap__instances_each(&server->instances, visit, ctx);
}

bool neap__server_find_space(neap__server *server, const char *model, uint32_t world_size, uint32_t *space) {
  neap__text text = {.at = model, .bytes = (uint32_t)strlen(model)};
  return neap__instances_primary(&server->instances, text, world_size, space);
}

void neap__server_stats_get(neap__server *server, neap__server_stats *out) {
  neap__fetcher_stats fetches;
  neap__fetcher_stats_get(server->engine->fetcher, &fetches);
  *out = (neap__server_stats){.active_fetches = fetches.in_flight + fetches.waiting};
#define XX(name) out->name = atomic_load_explicit(&server->counters.name, memory_order_relaxed);
  NEAP_COUNTERS(XX)
  XX(sessions) XX(instances) XX(transfers)
#undef XX
}
