/* SPDX-License-Identifier: MIT
 *
 * serve/http.h - the HTTP side of the server: LMCache's admin API (health, status, configuration, clearing, objects,
 * quotas, prefetches, log level) and Prometheus metrics; and neap's own: /adapters, which come and go while the server
 * runs, /policy, what stays in L1 and why, /record, the traffic, and /console, a prompt for who has the token.
 *
 * One thread of its own answers; a request that waits for a store is set aside, so that /healthcheck never waits for
 * one. Paths and shapes are those of LMCache 0.5.6. Not offered, on purpose: /env (it would publish every secret of
 * the environment) and /run_script (it would execute what it is sent). Not offered because neap has nothing that it
 * would describe: /threads, /periodic-threads, and /reconfigure, which is about devices; adapters are at /adapters. */
#pragma once
#include "console/server.h"
#include "serve/server.h"

typedef struct neap__http neap__http;

typedef struct neap__http_config {
  neap__engine *engine;
  neap__server *server;
  const char *host; /* a numeric address or a name; there is no authentication, so better a loopback one */
  uint32_t port;    /* 0: any free one, see neap__http_port */
  char *(*show_config)(void *ctx, uint32_t http_port); /* the answer to GET /config, malloc'd; HTTP thread */
  void *show_config_ctx;
  neap__console_server *console; /* behind GET /console; NULL: that is 404. Stopped before close */
  const char *console_token;
  const char *instance_id; /* label in the metrics */
  bool metrics;            /* false: GET /metrics is 404 */
  /* Shown in /status, as configured. */
  int64_t read_ttl_s, write_ttl_s;
  double reap_timeout_s, registration_grace_s;
  uint64_t kv_event_log_size;
} neap__http_config;

/* Binds and starts the thread. 0, NEAP_EINVAL (host), NEAP_EBUSY (address in use), NEAP_ENOMEM, NEAP_EIO. config's
 * strings are borrowed until close. */
int neap__http_open(const neap__http_config *config, neap__http **out, neap_error *err);
/* Takes no new connection, answers what waits for a store, stops the thread. Before the server and the engine close. */
void neap__http_close(neap__http *http);
uint32_t neap__http_port(const neap__http *http);
