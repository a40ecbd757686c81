/* SPDX-License-Identifier: MIT
 *
 * cli/target.c - see target.h: the options, and the session in this process. The other one is connection.c. */
#include "target.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "connection.h"
#include "console/bind.h"
#include "prompt_lab.h"

#define MIB (UINT64_C(1) << 20)
#define CLOSE_MS 5000u
#define WORKERS 4u

struct neap__target {
  const neap__target_config *config;
  neap__dirs dirs;
  char scratch[64]; /* modules that are defined at the prompt; "": there is none */
  neap__engine *engine;
  neap__bind *bind;
  neap__console *console;
  neap__connection *connection; /* NULL: the others are there */
};

const char neap__target_help[] =
    "  --l1-size BYTES      size of the engine's L1 (default 64M)\n"
    "  --chunk-size N       tokens per chunk (default 16)\n"
    "  --eviction-policy P  what leaves L1 first (default LRU)\n"
    "  --l2-adapter JSON    a second-level store, as neap server takes it; repeatable\n"
    "  --plugin-path DIRS   where adapters are looked for, before those that come with neap\n"
    "  --log-level LEVEL    debug, info, warning or error (default warning)\n"
    "  --memory BYTES       of Lua values, and again of buffers (default 1G)\n"
    "  --time S             seconds that one evaluation may take (default: no bound)\n"
    "  --trusted            compile: faster, but Ctrl-C cannot stop a loop that never awaits\n"
    "  --guarded            no files, sockets, processes, FFI or modules, as in the sessions of a server\n"
    "  --connect WHERE      a session of a live server: unix:PATH (--console-socket) or http://HOST:PORT\n"
    "  --token T            for http; better --token-file FILE or NEAP_CONSOLE_TOKEN\n"
    "  --json               values as JSON, one per line\n"
    "  --help               show this and exit\n";

void neap__target_defaults(neap__target_config *config) {
  *config = (neap__target_config){
      .l1_bytes = 64 * MIB, .chunk_tokens = 16, .policy = "LRU", .log_level = "warning", .memory = 1024 * MIB};
}

size_t neap__target_options(neap__target_config *c, neap__option *table) {
  const neap__option rows[] = {
      {.name = "l1-size", .kind = NEAP_OPTION_BYTES, .value = &c->l1_bytes, .min = (double)MIB, .max = 1099511627776.0},
      {.name = "chunk-size", .kind = NEAP_OPTION_NUMBER, .value = &c->chunk_tokens, .min = 1, .max = 8192},
      {.name = "eviction-policy", .kind = NEAP_OPTION_TEXT, .value = &c->policy},
      {.name = "l2-adapter", .kind = NEAP_OPTION_LIST, .value = &c->l2_adapters},
      {.name = "plugin-path", .kind = NEAP_OPTION_TEXT, .value = &c->plugin_path},
      {.name = "log-level", .kind = NEAP_OPTION_TEXT, .value = &c->log_level},
      {.name = "memory",
       .kind = NEAP_OPTION_BYTES,
       .value = &c->memory,
       .min = (double)(4 * MIB),
       .max = 1099511627776.0},
      {.name = "time", .kind = NEAP_OPTION_NUMBER, .value = &c->time_s, .min = 0.001, .max = 86400},
      {.name = "trusted", .kind = NEAP_OPTION_SWITCH, .value = &c->trusted},
      {.name = "guarded", .kind = NEAP_OPTION_SWITCH, .value = &c->guarded},
      {.name = "connect", .kind = NEAP_OPTION_TEXT, .value = &c->connect},
      {.name = "token", .kind = NEAP_OPTION_TEXT, .value = &c->token},
      {.name = "token-file", .kind = NEAP_OPTION_TEXT, .value = &c->token_file},
      {.name = "json", .kind = NEAP_OPTION_SWITCH, .value = &c->json},
      {.name = "help", .kind = NEAP_OPTION_SWITCH, .value = &c->help},
  };
  _Static_assert(NEAP_ARRAY_LEN(rows) <= NEAP_TARGET_OPTIONS, "the table of the caller is too small");
  memcpy(table, rows, sizeof(rows));
  return NEAP_ARRAY_LEN(rows);
}

static int set_log_level(const char *name, neap_error *err) {
  static const char *const names[] = {"debug", "info", "warning", "error"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
    if (strcmp(name, names[i]) != 0) continue;
    neap__log_set_level((neap_log_level)i);
    return 0;
  }
  return neap__fail(err, NEAP_EINVAL, "--log-level: '%s' is not valid; expected debug, info, warning or error", name);
}

static int check(const neap__target_config *c, neap_error *err) {
  if (c->trusted && c->guarded) return neap__fail(err, NEAP_EINVAL, "--trusted and --guarded exclude each other");
  if (c->connect && c->trusted) return neap__fail(err, NEAP_EINVAL, "--trusted: a session of a server is guarded");
  if (!c->connect && (c->token || c->token_file))
    return neap__fail(err, NEAP_EINVAL, "--token is for --connect http://HOST:PORT");
  if (c->chunk_tokens != (double)(uint32_t)c->chunk_tokens)
    return neap__fail(err, NEAP_EINVAL, "--chunk-size: %g is not valid; expected a whole number", c->chunk_tokens);
  return set_log_level(c->log_level, err);
}

/* Modules are loaded from folders of the plugin path only, so it is one of them. */
static int make_scratch(neap__target *t, neap_error *err) {
  char path[] = "/tmp/neap-prompt-XXXXXX";
  if (!mkdtemp(path)) return neap__fail(err, NEAP_EIO, "cannot make a folder in /tmp: %s", strerror(errno));
  memcpy(t->scratch, path, sizeof(path));
  return neap__dirs_add_plugins(&t->dirs, path, err);
}

static void remove_scratch(const neap__target *t) {
  DIR *stream = t->scratch[0] ? opendir(t->scratch) : NULL;
  if (!stream) return;
  for (struct dirent *entry; (entry = readdir(stream)) != NULL;)
    if (entry->d_name[0] != '.') unlinkat(dirfd(stream), entry->d_name, 0);
  closedir(stream);
  rmdir(t->scratch);
}

static int open_engine(neap__target *t, neap_error *err) {
  const neap__target_config *c = t->config;
  neap__dirs_find(&t->dirs);
  int rc = neap__dirs_add_plugins(&t->dirs, c->plugin_path, err);
  if (rc == 0 && !c->guarded) rc = make_scratch(t, err);
  if (rc != 0) return rc;
  const neap__engine_config config = {
      .l1 = {.pool_bytes = c->l1_bytes, .align_bytes = 4096, .chunk_tokens = (uint32_t)c->chunk_tokens},
      .eviction_policy = c->policy,
      .watermark = 0.8,
      .ratio = 0.2,
      .l2_adapters = c->l2_adapters.words,
      .l2_adapter_count = c->l2_adapters.count,
      .plugin_dirs = t->dirs.plugins,
      .lua_dir = t->dirs.lua,
      .workers = WORKERS,
  };
  return neap__engine_open(&config, &t->engine, err);
}

static void write_out(void *ctx, const char *text, size_t bytes) {
  (void)ctx;
  fwrite(text, 1, bytes, stdout);
  fflush(stdout);
}

/* What the session gets as `engine`: a guarded one cannot read traces and policies. */
static void push_engine(lua_State *L, neap__vm *vm, void *ctx) {
  const neap__target *t = ctx;
  neap__bind_push(L, vm, t->bind);
  if (t->config->guarded) return;
  neap__prompt_lab_push(L, vm);
  lua_setfield(L, -2, "lab");
}

static int open_session(neap__target *t, neap_error *err) {
  const neap__target_config *c = t->config;
  int rc = neap__bind_open(t->engine, c->guarded, t->scratch[0] ? t->scratch : NULL, &t->bind);
  if (rc != 0) return neap__fail(err, rc, "out of memory");
  const neap__console_config config = {
      .mode = c->trusted   ? NEAP_CONSOLE_TRUSTED
              : c->guarded ? NEAP_CONSOLE_GUARDED
                           : NEAP_CONSOLE_OPEN,
      .name = "prompt",
      .script_path = c->script_path,
      .plugin_dirs = t->dirs.plugins,
      .memory = c->memory,
      .time_ns = (uint64_t)(c->time_s * 1e9),
      .bind = push_engine,
      .bind_ctx = t,
      .write = write_out,
      .colour = c->colour,
      .columns = c->columns,
      .args = c->args,
      .argc = c->argc,
  };
  return neap__console_open(&config, &t->console, err);
}

int neap__target_open(const neap__target_config *config, neap__target **out, neap_error *err) {
  int rc = check(config, err);
  if (rc != 0) return rc;
  neap__target *t = calloc(1, sizeof(*t));
  if (!t) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  t->config = config;
  if (config->connect) {
    rc =
        neap__connection_open(config->connect, config->token, config->token_file, write_out, NULL, &t->connection, err);
  } else {
    rc = open_engine(t, err);
    if (rc == 0) rc = open_session(t, err);
  }
  if (rc == 0)
    *out = t;
  else
    neap__target_close(t);
  return rc;
}

/* A session that does not come back uses the engine no more, but the process ends as it stands. */
void neap__target_close(neap__target *t) {
  if (!t) return;
  bool clean = true;
  neap__connection_close(t->connection);
  if (t->console) neap__console_interrupt(t->console);
  if (t->bind) clean = neap__bind_shut(t->bind, CLOSE_MS);
  clean = neap__console_close(t->console, CLOSE_MS) && clean;
  remove_scratch(t);
  if (!clean) {
    fputs("neap: the session does not come back; ending without it\n", stderr);
    fflush(stdout);
    _exit(1);
  }
  neap__bind_free(t->bind);
  neap__engine_close(t->engine, false);
  free(t);
}

int neap__target_eval(neap__target *t, neap__console_kind kind, const char *text, const char *name, bool json,
                      neap__console_status *status, char **answer, neap_error *err) {
  if (t->connection) return neap__connection_eval(t->connection, kind, text, name, json, status, answer, err);
  neap__console_call call = {.kind = kind, .text = text, .bytes = strlen(text), .name = name, .json = json};
  NEAP_ASSERT(neap__console_wait(t->console, &call) == 0);
  *status = call.status;
  *answer = call.answer;
  return 0;
}

void neap__target_interrupt(neap__target *t) {
  if (t->connection)
    neap__connection_interrupt(t->connection);
  else
    neap__console_interrupt(t->console);
}
