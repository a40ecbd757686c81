/* SPDX-License-Identifier: MIT
 *
 * cli/server.c - `neap server`: opens the engine, the wire server and the HTTP API, waits for a signal, closes them in
 * the opposite order.
 *
 * SIGTERM and SIGINT are taken by the main thread alone, which otherwise sleeps; every other thread is started with
 * them blocked. The first one drains, the second one ends the program where it stands. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "console/token.h"
#include "serve/http.h"
#include "serve/metrics.h"
#include "server_config.h"
#include "watch.h"

typedef struct program {
  neap__flags *flags;
  neap__dirs dirs;
  char pool_name[256], instance_id[64];
  neap__engine *engine;
  neap__server *server;
  neap__console_server *console;
  char console_token[NEAP_CONSOLE_TOKEN_BYTES];
  neap__http *http;
  neap__watch *watch;
  neap__running running;
} program;

/* --- starting ------------------------------------------------------------------------------------------------- */

static void exit_now(int number) {
  (void)number;
  _exit(1);
}

static void signals_of_interest(sigset_t *set) {
  sigemptyset(set);
  sigaddset(set, SIGTERM);
  sigaddset(set, SIGINT);
}

static void block_signals(void) {
  sigset_t set;
  signals_of_interest(&set);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
}

/* A random UUID, version 4 (RFC 9562). */
static void new_uuid(char *text, size_t cap) {
  uint8_t b[16];
  NEAP_ASSERT(getrandom(b, sizeof(b), 0) == (ssize_t)sizeof(b));
  b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
  b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
  snprintf(text, cap, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
           b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static void set_log_level(const neap__flags *flags) {
  static const char *const names[] = {"debug", "info", "warning", "error"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++)
    if (strcmp(neap__flags_text(flags, "log-level"), names[i]) == 0) neap__log_set_level((neap_log_level)i);
}

static char *show_config(void *ctx, uint32_t http_port) {
  const program *p = ctx;
  return neap__config_json(p->flags, &p->running, http_port);
}

static int open_engine(program *p, neap_error *err) {
  const char *id = neap__flags_text(p->flags, "instance-id");
  int rc = neap__pool_name(neap__flags_text(p->flags, "shm-name"), p->pool_name, sizeof(p->pool_name), err);
  if (rc == 0) rc = neap__dirs_add_plugins(&p->dirs, neap__flags_text(p->flags, "plugin-path"), err);
  if (rc != 0) return rc;
  if (id && *id)
    snprintf(p->instance_id, sizeof(p->instance_id), "%s", id);
  else
    new_uuid(p->instance_id, sizeof(p->instance_id));
  if (!p->pool_name[0])
    NEAP_LOG_WARN("--shm-name is empty: L1 is private to this process, and workers cannot register to map it");
  neap__engine_config config;
  neap__engine_config_fill(p->flags, p->pool_name, p->dirs.lua, p->dirs.plugins, &config);
  return neap__engine_open(&config, &p->engine, err);
}

/* The token alone opens no socket, but sessions need their server all the same. */
static int open_console(program *p, neap_error *err) {
  const char *path = neap__flags_text(p->flags, "console-socket");
  const char *file = neap__flags_text(p->flags, "console-token-file");
  if (path && !*path) path = NULL;
  if (!path && !file) return 0;
  int rc = file ? neap__console_token(file, p->console_token, err) : 0;
  if (rc == 0) rc = neap__console_server_open(p->engine, path, &p->console, err);
  if (rc == 0 && path) NEAP_LOG_INFO("console at unix:%s", path);
  return rc;
}

static int open_fronts(program *p, neap_error *err) {
  const neap__flags *f = p->flags;
  neap__server_config server = {
      .engine = p->engine,
      .host = neap__flags_text(f, "host"),
      .port = (uint32_t)neap__flags_int(f, "port"),
      .reap_timeout_s = neap__flags_number(f, "worker-reap-timeout-seconds"),
      .registration_grace_s = neap__flags_number(f, "worker-registration-grace-seconds"),
      .session_ttl_s = neap__flags_number(f, "session-ttl-seconds"),
  };
  int rc = neap__server_open(&server, &p->server, err);
  if (rc != 0) return rc;
  p->running =
      (neap__running){.engine = p->engine, .instance_id = p->instance_id, .port = neap__server_port(p->server)};
  rc = open_console(p, err);
  if (rc != 0) return rc;
  neap__http_config http = {
      .engine = p->engine,
      .server = p->server,
      .host = neap__flags_text(f, "http-host"),
      .port = (uint32_t)neap__flags_int(f, "http-port"),
      .show_config = show_config,
      .show_config_ctx = p,
      .console = p->console_token[0] ? p->console : NULL,
      .console_token = p->console_token,
      .instance_id = p->instance_id,
      .metrics = !neap__flags_on(f, "disable-metrics") && !neap__flags_on(f, "disable-observability"),
      .read_ttl_s = neap__flags_int(f, "l1-read-ttl-seconds"),
      .write_ttl_s = neap__flags_int(f, "l1-write-ttl-seconds"),
      .reap_timeout_s = server.reap_timeout_s,
      .registration_grace_s = server.registration_grace_s,
      .kv_event_log_size = (uint64_t)neap__flags_int(f, "kv-event-log-size"),
  };
  return neap__http_open(&http, &p->http, err);
}

static int open_watch(program *p, neap_error *err) {
  if (!neap__flags_on(p->flags, "watch")) return 0;
  int rc = neap__watch_open(p->engine, &p->watch);
  return rc ? neap__fail(err, rc, "--watch: cannot start its thread: %s", neap_strerror(rc)) : 0;
}

/* LMCache's lines, which scripts wait for; the wire server has said where it listens. */
static void announce(const program *p) {
  const neap__flags *f = p->flags;
  NEAP_LOG_INFO("TokenHasher initialized: chunk_size=%lld, hash_algorithm=%s",
                (long long)neap__flags_int(f, "chunk-size"), neap__flags_text(f, "hash-algorithm"));
  NEAP_LOG_INFO("Supported transfer mode: %s", neap__flags_text(f, "supported-transfer-mode"));
  NEAP_LOG_INFO("LMCache cache server is running...");
  NEAP_LOG_INFO("LMCache HTTP server initialized");
  NEAP_LOG_INFO("Uvicorn running on http://%s:%u", neap__flags_text(f, "http-host"), neap__http_port(p->http));
}

/* --- running -------------------------------------------------------------------------------------------------- */

static void log_traffic(const program *p, neap__snapshot *before) {
  neap__snapshot now;
  neap__snapshot_take(p->engine, p->server, &now);
  NEAP_LOG_INFO(
      "stored %llu tokens, retrieved %llu tokens, hit %llu of %llu tokens; L1 %.2f of %.2f GiB in use, "
      "%u objects",
      (unsigned long long)(now.server.stored_tokens - before->server.stored_tokens),
      (unsigned long long)(now.server.retrieved_tokens - before->server.retrieved_tokens),
      (unsigned long long)(now.server.lookup_hit_tokens - before->server.lookup_hit_tokens),
      (unsigned long long)(now.server.lookup_requested_tokens - before->server.lookup_requested_tokens),
      (double)now.l1.used_bytes / 1073741824.0, (double)now.l1.pool_bytes / 1073741824.0, now.l1.objects);
  *before = now;
}

static void wait_for_signal(const program *p) {
  sigset_t set;
  neap__snapshot before;
  bool lines = neap__flags_on(p->flags, "enable-extra-logging");
  double interval = neap__flags_number(p->flags, "extra-logging-interval");
  struct timespec wait = {.tv_sec = (time_t)interval, .tv_nsec = (long)((interval - (double)(time_t)interval) * 1e9)};
  signals_of_interest(&set);
  neap__snapshot_take(p->engine, p->server, &before);
  for (;;) {
    int number = lines ? sigtimedwait(&set, NULL, &wait) : sigwaitinfo(&set, NULL);
    if (number > 0) {
      NEAP_LOG_INFO("%s received: draining; once more ends at once", number == SIGTERM ? "SIGTERM" : "SIGINT");
      break;
    }
    if (errno == EAGAIN) log_traffic(p, &before);
  }
  struct sigaction second = {.sa_handler = exit_now};
  sigaction(SIGTERM, &second, NULL);
  sigaction(SIGINT, &second, NULL);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void close_all(program *p) {
  bool keep = neap__flags_on(p->flags, "l1-keep");
  neap__watch_close(p->watch);
  if (p->console) neap__tier_set_hurry(p->engine->tiers); /* a session may wait for a change of adapters */
  bool sessions_ended = neap__console_server_stop(p->console);
  if (p->http) {
    neap__http_close(p->http);
    NEAP_LOG_INFO("LMCache HTTP server stopped");
  }
  if (p->server) {
    neap__server_close(p->server);
    NEAP_LOG_INFO("MPCacheServer closed");
  }
  neap__console_server_close(p->console);
  if (sessions_ended)
    neap__engine_close(p->engine, keep);
  else
    neap__l1_leave(p->engine->l1, keep); /* the process ends now, and takes that session with it */
}

static int run(program *p) {
  neap_error err = {0};
  int rc = open_engine(p, &err);
  if (rc == 0) rc = open_fronts(p, &err);
  if (rc == 0) rc = open_watch(p, &err);
  if (rc == 0) {
    announce(p);
    if (neap__flags_on(p->flags, "disable-logging") || neap__flags_on(p->flags, "disable-observability"))
      neap__log_set_level(NEAP_MAX(neap__log_level(), NEAP_WARNING));
    wait_for_signal(p);
  }
  close_all(p);
  neap__log_flush();
  if (rc != 0) fprintf(stderr, "neap server: %s\n", err.text[0] ? err.text : neap_strerror(rc));
  return rc == 0 ? 0 : rc == NEAP_EINVAL ? 2 : 1;
}

int neap__cmd_server(int argc, char **argv) {
  program *p = calloc(1, sizeof(*p));
  neap_error err = {0};
  bool help = false;
  int status = 2;
  if (!p || neap__flags_parse(argc, argv, &p->flags, &help, &err) != 0) {
    fprintf(stderr, "neap server: %s (see neap help server)\n", p ? err.text : "out of memory");
  } else if (help) {
    neap__flags_print_help(stdout);
    status = 0;
  } else {
    block_signals();
    neap__dirs_find(&p->dirs);
    set_log_level(p->flags);
    (void)neap__log_writer_start(); /* without it lines are written by whoever logs them */
    neap__flags_warn(p->flags);
    status = run(p);
    neap__log_writer_stop();
  }
  if (p) neap__flags_free(p->flags);
  free(p);
  return status;
}
