/* SPDX-License-Identifier: MIT
 *
 * serve/wire.h - inside of the wire front end: the server, one request under way, the table of operations.
 *
 *   wire.c          the thread and its socket: messages in, dispatch, replies out
 *   server.c        open, take-over, close; what other threads may ask
 *   ops_lookup.c    lookup, status, free, end          (scheduler)
 *   ops_transfer.c  prepare and commit, both ways      (worker)
 *   ops_admin.c     registration, health, the rest
 *   reanswer.c      answers for requests that an earlier server took with it
 *
 * Everything here belongs to the wire thread unless said otherwise. */
#pragma once
#include <stdatomic.h>
#include <zmq.h>

#include "engine.h"
#include "serve/clients.h"
#include "serve/instance.h"
#include "serve/server.h"
#include "serve/session.h"
#include "serve/writer.h"

#define NEAP_ARGS_MAX 8u         /* frames behind the operation */
#define NEAP_PARTS_MAX 11u       /* routing id, uid, operation, arguments */
#define NEAP_WAITERS_MAX 4096u   /* deferred wait_prefetch_status replies */
#define NEAP_KEYS_MAX (1u << 20) /* objects of one lookup */
#define NEAP_CHORES_MS 250u      /* between two looks at what is due by the clock */
#define NEAP_FRAME_BYTES_MAX ((size_t)64 << 20)

/* Wakes the wire thread when a fetch is final. Fetches may outlive the server, so it counts its users. */
typedef struct neap__bell {
  _Atomic uint32_t users;
  _Atomic uint32_t waiting; /* replies that wait for a fetch */
  int fd;                   /* eventfd */
} neap__bell;

/* A wait_prefetch_status that is answered later. */
typedef struct neap__waiter {
  zmq_msg_t route, uid, op;
  uint64_t session, deadline_ns;
} neap__waiter;

/* Counters that other threads read: one writer, no lock. */
/* clang-format off */
#define NEAP_COUNTERS(XX)                                                                           \
  XX(requests) XX(refused) XX(bad_messages)                                                         \
  XX(lookups) XX(lookup_requested_tokens) XX(lookup_hit_tokens) XX(lookup_hit_l1_tokens)            \
  XX(lookup_hit_l2_tokens) XX(lookup_hit_l1_keys) XX(lookup_hit_l2_keys) XX(lookup_early_exit)      \
  XX(stores) XX(stored_tokens) XX(retrieves) XX(retrieved_tokens) XX(failed_retrieves)              \
  XX(chunks_loaded) XX(reaped) XX(pings_refused) XX(reanswered)
/* clang-format on */

typedef struct neap__counters {
#define XX(name) _Atomic uint64_t name;
  NEAP_COUNTERS(XX)
#undef XX
  _Atomic uint32_t sessions, instances, transfers;
} neap__counters;

#define NEAP_COUNT(server, name, n)                                                                 \
  atomic_store_explicit(&(server)->counters.name,                                                   \
                        atomic_load_explicit(&(server)->counters.name, memory_order_relaxed) + (n), \
                        memory_order_relaxed)

/* Arrays for one request's objects; they grow and stay. */
typedef struct neap__batch {
  neap__key *keys;
  uint64_t *bytes;
  neap__lease *leases;
  int *results;
  uint32_t *at; /* where a chunk stands in its prompt */
  uint32_t cap;
} neap__batch;

struct neap__server {
  neap__server_config config;
  neap__engine *engine;
  neap__l1 *l1;
  uint32_t chunk_tokens;
  neap_memory memory;
  void *context, *socket;
  neap__bell *bell;
  uint32_t port;
  pthread_t thread;
  _Atomic bool stopping;
  uint64_t now_ns; /* when the request under way was received */

  neap__instances instances;
  neap__sessions sessions;
  neap__clients clients;
  neap__prompt prompt; /* of requests without a session */
  neap__batch batch;
  neap__writer out;
  neap__waiter *waiters;
  uint32_t waiter_count;

  uint64_t reap_next_ns, chores_next_ns;
  uint32_t logged_ops[64], logged_count;
  uint64_t complain_second_ns;
  uint32_t complaints, complaints_held;
  bool warned_pickle;
  neap__counters counters;
};

/* What a client gets when its request cannot be served: it then runs without a cache, and lives. */
typedef enum neap__neutral {
  NEAP_ANSWER_NONE, /* no payload */
  NEAP_ANSWER_FALSE,
  NEAP_ANSWER_TRUE,
  NEAP_ANSWER_ZERO,
  NEAP_ANSWER_NO_SLOTS, /* prepare_store */
  NEAP_ANSWER_NO_DATA,  /* prepare_retrieve */
  NEAP_ANSWER_NO_POOL,  /* register */
  NEAP_ANSWER_NO_LIST,
  NEAP_ANSWER_SILENCE,
} neap__neutral;

typedef struct neap__call neap__call;

/* serve writes the result to server->out (nothing: a reply without payload) and returns 0; or returns an error, and
 * the neutral answer goes out. */
typedef struct neap__op {
  uint8_t id; /* 0: has only a name */
  uint8_t args;
  neap__neutral neutral;
  const char *name;
  int (*serve)(neap__server *server, neap__call *call, neap_error *err);
} neap__op;

struct neap__call {
  const neap__op *op;
  neap__reader args[NEAP_ARGS_MAX];
  zmq_msg_t *parts; /* routing id, uid, operation, ... */
  bool silent;      /* no reply now */
};

/* --- wire.c */
extern const neap__op neap__ops[];
extern const uint32_t neap__op_count;
void *neap__wire_thread(void *server);
/* A warning about a request, a few per second at most. */
void neap__complain(neap__server *server, const char *fmt, ...) NEAP_PRINTF(2, 3);
/* Sends [uid][op][payload of server->out, if any]; consumes the three parts. */
void neap__reply(neap__server *server, zmq_msg_t *route, zmq_msg_t *uid, zmq_msg_t *op);
void neap__write_neutral(neap__server *server, neap__neutral neutral);

/* --- reanswer.c */
/* The client that sent the call, if it has told who it is; what it still waits for from an earlier server is answered
 * first. Notes the call as asked. */
neap__client *neap__client_of(neap__server *server, neap__call *call, uint32_t args);

/* --- server.c */
int neap__batch_reserve(neap__batch *batch, uint32_t count); /* 0 or NEAP_ENOMEM */
void neap__bell_drop(neap__bell *bell);
void neap__bell_ring(void *bell); /* any thread; ends one use */

/* --- arguments */
int neap__arg_key(neap__call *call, uint32_t i, neap__ipc_key *key, neap_error *err);
int neap__arg_int(neap__call *call, uint32_t i, uint64_t *out, neap_error *err);
int neap__arg_text(neap__call *call, uint32_t i, neap__text *out, neap_error *err);

/* --- operations */
typedef int neap__serve_fn(neap__server *server, neap__call *call, neap_error *err);
neap__serve_fn neap__op_lookup, neap__op_status, neap__op_wait, neap__op_free, neap__op_end;
neap__serve_fn neap__op_prepare_store, neap__op_commit_store, neap__op_prepare_retrieve, neap__op_commit_retrieve;
neap__serve_fn neap__op_register, neap__op_unregister, neap__op_chunk_size, neap__op_ping, neap__op_experimental;
neap__serve_fn neap__op_noop, neap__op_report, neap__op_clear, neap__op_subscribe, neap__op_other_mode;

/* Answers waiters whose lookup is final or whose time is over; returns the next deadline (UINT64_MAX: none). */
uint64_t neap__waiters_serve(neap__server *server);
void neap__waiters_drop(neap__server *server);
/* The request's prompt with the hashes of its first chunks: its session's, or the server's own without one. 0,
 * NEAP_ENOMEM. */
int neap__call_prompt(neap__server *server, neap__session *session, const neap__ipc_key *key, uint32_t chunks,
                      neap__prompt **out, neap_error *err);
/* Tells the policy that the request has begun, unless it was told before: before what it stores and uses. */
void neap__call_tell_request(neap__server *server, neap__session *session);
/* Number of the key's tenant. */
int neap__call_tenant(neap__server *server, const neap__ipc_key *key, uint32_t *tenant, neap_error *err);
/* Ends an instance: its transfers, its uncommitted bytes, and its layout's leases if it was the last. */
void neap__drop_instance(neap__server *server, neap__instance *instance);
void neap__reap(neap__server *server);
