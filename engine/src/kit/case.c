/* SPDX-License-Identifier: MIT
 *
 * kit/case.c - see case.h. */
#include "kit/case.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "script/script.h"
#include "script/watchdog.h"

#define WORKERS 4u
#define BATCH_MAX 64u
#define STORED_MAX 8192u
#define SETTLE_MS 500

/* --- the report ------------------------------------------------------------------------------------------------- */

/* The last whole lines of the adapter's log that fit the report. */
static void keep_log_tail(neap__kit *kit) {
  static char log[65536];
  size_t room = sizeof(kit->report->log) - 1;
  if (!neap__kit_host_logged(kit->host, "", log, sizeof(log))) return;
  size_t n = strlen(log);
  const char *tail = n > room ? strchr(log + n - room, '\n') : log;
  if (tail) memcpy(kit->report->log, tail, strlen(tail) + 1);
}

/* The first finding stands; whoever comes second waits for the end of the process. */
static _Noreturn void end(neap__kit *kit, neap__kit_result result, const char *fmt, va_list args) {
  static atomic_bool ended;
  if (atomic_exchange(&ended, true)) {
    for (;;) pause();
  }
  vsnprintf(kit->report->reason, sizeof(kit->report->reason), fmt, args);
  if (kit->host) keep_log_tail(kit);
  atomic_store(&kit->report->result, result);
  _exit(0);
}

void neap__kit_fail(neap__kit *kit, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  end(kit, NEAP_KIT_FAILED, fmt, args);
}

void neap__kit_skip(neap__kit *kit, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  if (kit->is_open) neap__kit_close(kit);
  end(kit, NEAP_KIT_SKIPPED, fmt, args);
}

void neap__kit_note(neap__kit *kit, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  vsnprintf(kit->report->note, sizeof(kit->report->note), fmt, args);
  va_end(args);
}

void neap__kit_step(neap__kit *kit, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  pthread_mutex_lock(&kit->lock);
  vsnprintf(kit->report->step, sizeof(kit->report->step), fmt, args);
  atomic_store(&kit->report->step_ns, neap__now_ns());
  pthread_mutex_unlock(&kit->lock);
  va_end(args);
}

void neap__kit_expect(neap__kit *kit, int got, int want, const char *what) {
  if (got != want) neap__kit_fail(kit, "%s ended with %s; expected %s", what, neap_err_name(got), neap_err_name(want));
}

static void *need_memory(neap__kit *kit, void *memory) {
  if (!memory) neap__kit_fail(kit, "the check itself is out of memory");
  return memory;
}

/* --- the adapter ------------------------------------------------------------------------------------------------ */

static bool ends_with(const char *text, const char *tail) {
  size_t n = strlen(text), m = strlen(tail);
  return n > m && strcmp(text + n - m, tail) == 0;
}

/* {"type":"plugin","module_path":FILE,...} for a file, {"type":TYPE, the parameters} for a type. */
static int configuration(const neap__kit_options *options, const char *file, char **json, neap_error *err) {
  cJSON *params = NULL, *config = NULL;
  int rc = neap__json_parse(options->params_json, &params, err);
  if (rc != 0) return rc;
  if (!cJSON_IsObject(params)) {
    rc = neap__fail(err, NEAP_EINVAL, "expected a JSON object, got %s", neap__json_type(params));
    cJSON_Delete(params);
    return rc;
  }
  config = file ? cJSON_CreateObject() : params;
  cJSON_DeleteItemFromObjectCaseSensitive(config, "type");
  cJSON_AddStringToObject(config, "type", file ? "plugin" : options->what);
  if (file) {
    cJSON_AddStringToObject(config, "module_path", file);
    if (options->class_name) cJSON_AddStringToObject(config, "class_name", options->class_name);
    cJSON_AddItemToObject(config, "adapter_params", params);
  }
  *json = cJSON_PrintUnformatted(config);
  cJSON_Delete(config);
  return *json ? 0 : neap__fail(err, NEAP_ENOMEM, "out of memory");
}

int neap__kit_find(const neap__kit_options *options, neap__tier_config *config, neap_error *err) {
  char *json = NULL, *dirs = NULL, *real = NULL;
  bool file = strchr(options->what, '/') || ends_with(options->what, ".lua") || ends_with(options->what, ".so");
  int rc = NEAP_ENOMEM;
  if (!file && options->class_name)
    return neap__fail(err, NEAP_EINVAL, "--class is for files; '%s' is a type", options->what);
  if (file) {
    real = realpath(options->what, NULL);
    if (!real) return neap__fail(err, NEAP_ENOENT, "%s: %m", options->what);
    if (asprintf(&dirs, "%.*s:%s", (int)(strrchr(real, '/') - real), real, options->plugin_dirs) < 0) goto out;
  }
  neap__lua_setup(options->lua_dir);
  neap__registry_add_loader(&neap__lua_loader);
  rc = configuration(options, real, &json, err);
  if (rc == 0) rc = neap__tier_config_parse(json, 0, dirs ? dirs : options->plugin_dirs, config, err);
out:
  free(real);
  free(dirs);
  free(json);
  return rc;
}

void neap__kit_load(neap__kit *kit) {
  neap_error err = {0};
  if (kit->table) return;
  neap__kit_step(kit, "the module was loaded");
  if (neap__kit_find(kit->options, &kit->config, &err) != 0) neap__kit_fail(kit, "%s", err.text);
  kit->table = kit->config.adapter;
  snprintf(kit->report->name, sizeof(kit->report->name), "%s", kit->table->name);
  snprintf(kit->report->version, sizeof(kit->report->version), "%s", kit->table->version ? kit->table->version : "");
  const neap_traits *traits = NEAP_HAS(kit->table, neap_adapter, traits) ? kit->table->traits : NULL;
  kit->batch_max = traits && traits->batch ? NEAP_MIN(traits->batch, BATCH_MAX) : BATCH_MAX;
}

static void need_host(neap__kit *kit) {
  if (kit->host) return;
  NEAP_KIT_NEED(kit, neap__kit_host_open(WORKERS, &kit->host) == 0, "the check itself is out of memory");
  const neap_traits *traits = NEAP_HAS(kit->table, neap_adapter, traits) ? kit->table->traits : NULL;
  if (traits && traits->concurrency) neap__kit_host_set_depth(kit->host, traits->concurrency);
  neap__kit_host_set_plugin_dirs(kit->host, kit->config.plugin_dirs);
  neap__watchdog_set_limit(NEAP_MAX(kit->options->timeout_ms / 2, (uint64_t)100));
}

int neap__kit_try_open(neap__kit *kit, const char *params_json, neap_error *err) {
  neap__kit_load(kit);
  need_host(kit);
  neap__kit_host_set_closed(kit->host, false);
  neap__kit_step(kit, "open ran");
  kit->self = NULL;
  int rc = kit->table->open(kit->table, neap__kit_host_table(kit->host),
                            params_json ? params_json : kit->config.params_json, &kit->self, err);
  kit->is_open = rc == 0;
  return rc;
}

void neap__kit_open(neap__kit *kit) {
  neap_error err = {0};
  int rc = neap__kit_try_open(kit, NULL, &err);
  NEAP_KIT_NEED(kit, rc == 0, "open ended with %s: %s", neap_err_name(rc),
                err.text[0] ? err.text : "it gave no reason");
}

void neap__kit_release(neap__kit_call *call) {
  for (uint32_t i = 0; call->fences && i < call->op->op.count; i++) {
    neap__fence_free(call->fences[i]);
    call->fences[i] = NULL;
    call->op->objects[i].data = NULL;
  }
}

/* What every check asks of every operation, at the end once more. */
static void look_back(neap__kit *kit) {
  const char *breach = neap__kit_host_breach(kit->host);
  NEAP_KIT_NEED(kit, !breach, "%s", breach);
  for (neap__kit_call *call = kit->calls; call; call = call->next) {
    uint32_t ends = atomic_load(&call->op->done_count);
    const char *kind = neap__kit_kind_name(call->op->op.kind);
    NEAP_KIT_NEED(kit, ends == 1, "a %s ended %u times; expected once", kind, ends);
    for (uint32_t i = 0; call->fences && i < call->op->op.count; i++) {
      const neap__fence *fence = call->fences[i];
      if (!fence) continue;
      NEAP_KIT_NEED(kit, !neap__fence_broken(fence), "a %s wrote beside the %llu bytes of object %u", kind,
                    (unsigned long long)fence->bytes, i + 1);
      NEAP_KIT_NEED(kit, !neap__fence_changed(fence), "the buffer of object %u of a %s changed after done", i + 1,
                    kind);
    }
  }
}

void neap__kit_close(neap__kit *kit) {
  if (!kit->is_open) return;
  neap__kit_step(kit, "close ran");
  kit->table->close(kit->self);
  neap__kit_host_set_closed(kit->host, true);
  kit->is_open = false;
  for (int i = 0; i < SETTLE_MS && neap__kit_host_queued(kit->host) > 0; i++)
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* work that starts only now is seen by the host */
  look_back(kit);
  for (neap__kit_call *call = kit->calls; call; call = call->next) neap__kit_release(call);
  NEAP_KIT_NEED(kit, neap__kit_host_inner_open() == 0, "close left %u inner adapters open",
                neap__kit_host_inner_open());
}

bool neap__kit_offers(neap__kit *kit, neap_op_kind kind) {
  neap__kit_load(kit);
  return neap__kit_can(kit->table, kind);
}

void neap__kit_require(neap__kit *kit, neap_op_kind kind) {
  if (!neap__kit_offers(kit, kind)) neap__kit_skip(kit, "the adapter has no %s", neap__kit_kind_name(kind));
}

void neap__kit_elsewhere(neap__kit *kit, void (*part)(neap__kit *kit)) {
  int status = 0;
  NEAP_ASSERT(!kit->host && !kit->table);
  pid_t parent = getpid(), pid = fork();
  NEAP_KIT_NEED(kit, pid >= 0, "the check itself cannot start a process: %m");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* who watches the check ends the parent only */
    if (getppid() != parent) _exit(0);
    part(kit);
    _exit(0);
  }
  while (waitpid(pid, &status, 0) != pid) continue;
  if (atomic_load(&kit->report->result) != NEAP_KIT_RUNNING) _exit(0);
  if (WIFSIGNALED(status))
    neap__kit_fail(kit, "the process ended by signal %d (%s) while %s", WTERMSIG(status), strsignal(WTERMSIG(status)),
                   kit->report->step);
  NEAP_KIT_NEED(kit, WEXITSTATUS(status) == 0, "the adapter ended the process with exit status %d while %s",
                WEXITSTATUS(status), kit->report->step);
}

void neap__kit_forget(neap__kit *kit) {
  if (!kit->is_open || !kit->table->remove) return;
  for (size_t at = 0; at < kit->stored_count; at += kit->batch_max) {
    uint32_t count = (uint32_t)NEAP_MIN(kit->stored_count - at, (size_t)kit->batch_max);
    neap__kit_call *call = neap__kit_call_new(kit, NEAP_OP_REMOVE, count);
    for (uint32_t i = 0; i < count; i++) neap__kit_put(kit, call, i, kit->stored[at + i], 0, 0);
    neap__kit_run(kit, call);
  }
  kit->stored_count = 0;
}

/* --- operations ------------------------------------------------------------------------------------------------- */

neap_object_key neap__kit_key(neap__kit *kit) {
  neap_object_key key = {.model = kit->model, .salt = "", .rank = 0x01000100u};
  pthread_mutex_lock(&kit->lock);
  uint64_t words[] = {kit->options->run, kit->index, kit->next_key++};
  pthread_mutex_unlock(&kit->lock);
  neap__blake3(words, sizeof(words), key.hash);
  return key;
}

neap__kit_call *neap__kit_call_new(neap__kit *kit, neap_op_kind kind, uint32_t count) {
  neap__kit_call *call = need_memory(kit, calloc(1, sizeof(*call)));
  call->op = need_memory(kit, neap__kit_op_new(kit->host, kind, count));
  call->op->entries_model = kit->model;
  if (kind == NEAP_OP_STORE || kind == NEAP_OP_LOAD)
    call->fences = need_memory(kit, calloc(count, sizeof(neap__fence *)));
  pthread_mutex_lock(&kit->lock);
  call->next = kit->calls;
  kit->calls = call;
  pthread_mutex_unlock(&kit->lock);
  return call;
}

void neap__kit_put(neap__kit *kit, neap__kit_call *call, uint32_t i, neap_object_key key, uint64_t bytes,
                   uint64_t fill) {
  neap_object *object = &call->op->objects[i];
  object->key = key;
  object->bytes = bytes;
  if (!call->fences) return;
  neap__fence *fence = call->fences[i] = need_memory(kit, neap__fence_new(bytes, kit->tight));
  object->data = fence->data;
  if (call->op->op.kind != NEAP_OP_STORE) return;
  neap__fence_fill(fence, fill);
  neap__fence_seal(fence, true);
}

static void note_stored(neap__kit *kit, const neap_object_key *key) {
  pthread_mutex_lock(&kit->lock);
  if (!kit->stored) kit->stored = calloc(STORED_MAX, sizeof(*kit->stored));
  if (kit->stored && kit->stored_count < STORED_MAX) kit->stored[kit->stored_count++] = *key;
  pthread_mutex_unlock(&kit->lock);
}

void neap__kit_submit(neap__kit *kit, neap__kit_call *call) {
  neap__kit_op *op = call->op;
  if (op->op.count == 1 && op->objects[0].bytes)
    neap__kit_step(kit, "a %s of %llu bytes ran", neap__kit_kind_name(op->op.kind),
                   (unsigned long long)op->objects[0].bytes);
  else
    neap__kit_step(kit, "a %s of %u object%s ran", neap__kit_kind_name(op->op.kind), op->op.count,
                   op->op.count == 1 ? "" : "s");
  for (uint32_t i = 0; op->op.kind == NEAP_OP_STORE && i < op->op.count; i++) note_stored(kit, &op->objects[i].key);
  int rc = neap__kit_op_submit(kit->table, kit->self, op);
  NEAP_KIT_NEED(kit, rc == 0, "a %s could not be handed over: %s", neap__kit_kind_name(op->op.kind), neap_strerror(rc));
}

static bool known_code(int code) { return code <= 0 && strcmp(neap_err_name(code), "NEAP_UNKNOWN") != 0; }

void neap__kit_wait(neap__kit *kit, neap__kit_call *call) {
  neap__kit_op *op = call->op;
  const char *kind = neap__kit_kind_name(op->op.kind);
  NEAP_KIT_NEED(kit, neap__kit_op_wait(op, kit->options->timeout_ms),
                "a %s of %u objects was not ended by done within %g s", kind, op->op.count,
                (double)kit->options->timeout_ms / 1e3);
  const char *breach = neap__kit_host_breach(kit->host);
  NEAP_KIT_NEED(kit, !breach, "%s", breach);
  for (uint32_t i = 0; i < op->op.count; i++) {
    int result = op->objects[i].result;
    NEAP_KIT_NEED(kit, known_code(result), "object %u of a %s has the result %d, which is no code of neap/types.h",
                  i + 1, kind, result);
    if (!call->fences) continue;
    neap__fence *fence = call->fences[i];
    NEAP_KIT_NEED(kit, !neap__fence_broken(fence), "a %s wrote beside the %llu bytes of object %u", kind,
                  (unsigned long long)fence->bytes, i + 1);
    neap__fence_look(fence);
  }
  if (op->op.kind == NEAP_OP_LIST)
    NEAP_KIT_NEED(kit, known_code(op->op.list_result), "a list has the result %d, which is no code of neap/types.h",
                  op->op.list_result);
}

void neap__kit_run(neap__kit *kit, neap__kit_call *call) {
  neap__kit_submit(kit, call);
  neap__kit_wait(kit, call);
}

void neap__kit_same(neap__kit *kit, const neap__kit_call *call, uint32_t i, uint64_t fill) {
  uint64_t at = 0;
  const neap__fence *fence = call->fences[i];
  NEAP_KIT_NEED(kit, neap__fence_filled(fence, fill, &at),
                "object %u of a load has result NEAP_OK, but byte %llu of its %llu is not the one that was stored",
                i + 1, (unsigned long long)at, (unsigned long long)fence->bytes);
}

static int run_one(neap__kit *kit, neap_op_kind kind, neap_object_key key, uint64_t bytes, uint64_t fill) {
  neap__kit_call *call = neap__kit_call_new(kit, kind, 1);
  neap__kit_put(kit, call, 0, key, bytes, fill);
  neap__kit_run(kit, call);
  int result = call->op->objects[0].result;
  if (kind == NEAP_OP_LOAD && result == 0) neap__kit_same(kit, call, 0, fill);
  return result;
}

int neap__kit_store(neap__kit *kit, neap_object_key key, uint64_t bytes, uint64_t fill) {
  return run_one(kit, NEAP_OP_STORE, key, bytes, fill);
}

int neap__kit_lookup(neap__kit *kit, neap_object_key key, uint64_t bytes) {
  return run_one(kit, NEAP_OP_LOOKUP, key, bytes, 0);
}

int neap__kit_loaded(neap__kit *kit, neap_object_key key, uint64_t bytes, uint64_t fill) {
  return run_one(kit, NEAP_OP_LOAD, key, bytes, fill);
}

int neap__kit_remove(neap__kit *kit, neap_object_key key) { return run_one(kit, NEAP_OP_REMOVE, key, 0, 0); }
