/* SPDX-License-Identifier: MIT
 *
 * serve/server.h - the front end that speaks LMCache's multiprocess protocol over ZeroMQ.
 *
 * One thread owns the ROUTER socket, the sessions and the registrations; it answers from L1 directly and hands
 * lookups that need L2 to the fetch flow. Every request is answered. HTTP (serve/http.h) reads through the functions
 * below, which may be called from any thread. */
#pragma once
#include "engine.h"

typedef struct neap__server neap__server;

typedef struct neap__server_config {
  neap__engine *engine;
  const char *host;      /* "localhost", "127.0.0.1", "0.0.0.0", ... */
  uint32_t port;         /* 0: any free one, see neap__server_port */
  double reap_timeout_s; /* 0 = never */
  double registration_grace_s;
  double session_ttl_s;
} neap__server_config;

/* Binds, adopts registrations and request leases of an earlier process, starts the thread. 0, NEAP_EINVAL,
 * NEAP_EBUSY (address in use), NEAP_ENOMEM. config's strings are borrowed. */
int neap__server_open(const neap__server_config *config, neap__server **out, neap_error *err);
/* Answers what was received, then stops the thread and closes the socket. */
void neap__server_close(neap__server *server);
uint32_t neap__server_port(const neap__server *server);

/* A registered worker. */
typedef struct neap__instance_info {
  uint64_t instance_id;
  const char *model;
  uint32_t world_size, block_size;
  bool one_plane; /* use_mla */
} neap__instance_info;
/* Calls visit for each registered worker; the info is valid during the call. */
void neap__server_each_instance(neap__server *server, void (*visit)(void *ctx, const neap__instance_info *info),
                                void *ctx);
/* Does the server know this model with this world size? Fills the layout's space (the primary one) if so. */
bool neap__server_find_space(neap__server *server, const char *model, uint32_t world_size, uint32_t *space);

/* Counters since start; token counts as LMCache's metrics have them. */
typedef struct neap__server_stats {
  uint64_t requests, refused, bad_messages; /* refused: known but not servable; bad: undecodable or unknown */
  uint64_t lookups, lookup_requested_tokens, lookup_hit_tokens, lookup_hit_l1_tokens, lookup_hit_l2_tokens;
  uint64_t lookup_hit_l1_keys, lookup_hit_l2_keys, lookup_early_exit;
  uint64_t stores, stored_tokens, retrieves, retrieved_tokens, failed_retrieves, chunks_loaded;
  uint64_t reaped, pings_refused, reanswered; /* reanswered: lost with an earlier server */
  uint32_t sessions, active_fetches, instances, transfers;
} neap__server_stats;
void neap__server_stats_get(neap__server *server, neap__server_stats *out);
