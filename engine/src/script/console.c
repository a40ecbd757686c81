/* SPDX-License-Identifier: MIT
 *
 * script/console.c - see console.h. `current` is what the threads share: it is set by submit and cleared when the
 * coroutine has ended, both under the lock; an interrupt is for the call that is current when it is asked for. */
#include "script/console.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "kit/host.h"
#include "script/coro.h"
#include "script/inner.h"
#include "script/signal.h"
#include "script/values.h"

#define COLUMNS 100u
#define HOST_THREADS 2u
#define TREE "neap.console.tree"
#define JSON_BYTES_MAX (16u << 20)

struct neap__console {
  neap__console_config config;
  neap__loop *loop;
  neap__vm vm;
  bool vm_open;
  neap__kit_host *kit; /* what neap.open opens is held by it; NULL: guarded */
  neap_host host;
  int functions[3]; /* in the registry, by neap__console_kind */
  neap__coro *coro; /* of the call under way; loop thread */
  neap__signal vm_closed;
  neap__job interrupt;
  pthread_mutex_t lock; /* guards the rest */
  pthread_cond_t idle;
  neap__console_call *current;
  uint64_t number, interrupt_number;
  bool interrupting;
};

/* --- what the Lua side gets --------------------------------------------------------------------------------------- */

static neap__console *console_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

/* core.write(text) */
static int l_write(lua_State *L) {
  neap__console *c = console_of(L);
  size_t bytes;
  const char *text = luaL_checklstring(L, 1, &bytes);
  c->config.write(c->config.write_ctx, text, bytes);
  return 0;
}

static int l_tree_gc(lua_State *L) {
  cJSON **tree = lua_touserdata(L, 1);
  cJSON_Delete(*tree);
  *tree = NULL;
  return 0;
}

/* core.json(value) -> text. Raises for what has no JSON form. */
static int l_json(lua_State *L) {
  luaL_checkany(L, 1);
  cJSON **tree = lua_newuserdata(L, sizeof(*tree));
  *tree = NULL;
  if (luaL_newmetatable(L, TREE)) {
    lua_pushcfunction(L, l_tree_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  *tree = cJSON_CreateObject();
  if (!*tree) return luaL_error(L, "out of memory");
  neap__value_take(L, 1, *tree, "value");
  char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(*tree, "value"));
  if (!text) return luaL_error(L, "out of memory");
  size_t bytes = strlen(text);
  char *copy = bytes <= JSON_BYTES_MAX ? lua_newuserdata(L, bytes + 1) : NULL; /* collected if the push raises */
  if (copy) memcpy(copy, text, bytes + 1);
  free(text);
  if (!copy) return luaL_error(L, "more than %d bytes of JSON", (int)JSON_BYTES_MAX);
  lua_pushlstring(L, copy, bytes);
  return 1;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

typedef struct opening {
  neap__console *console;
  int rc;
  neap_error *err;
} opening;

static void push_options(lua_State *L, neap__console *c) {
  static const char *const modes[] = {"open", "trusted", "guarded"};
  static const luaL_Reg functions[] = {{"write", l_write}, {"json", l_json}, {NULL, NULL}};
  lua_newtable(L);
  for (const luaL_Reg *f = functions; f->name; f++) {
    lua_pushlightuserdata(L, c);
    lua_pushcclosure(L, f->func, 1);
    lua_setfield(L, -2, f->name);
  }
  lua_pushstring(L, modes[c->config.mode]);
  lua_setfield(L, -2, "mode");
  lua_pushboolean(L, c->config.colour);
  lua_setfield(L, -2, "colour");
  lua_pushinteger(L, (lua_Integer)(c->config.columns ? c->config.columns : COLUMNS));
  lua_setfield(L, -2, "columns");
  lua_newtable(L);
  for (uint32_t i = 0; i < c->config.argc; i++) {
    lua_pushstring(L, c->config.args[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_setfield(L, -2, "args");
}

static int setup_body(lua_State *L) {
  static const char *const names[] = {"eval", "script", "complete"};
  neap__console *c = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "neap.console.session");
  neap__vm_invoke(L, 1, 1);
  push_options(L, c);
  if (c->config.bind) {
    c->config.bind(L, &c->vm, c->config.bind_ctx);
    lua_setfield(L, 2, "engine");
  }
  neap__vm_invoke(L, 1, 1);
  for (int i = 0; i < (int)NEAP_ARRAY_LEN(names); i++) {
    lua_getfield(L, 1, names[i]);
    c->functions[i] = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  const neap__guard_limits limits = {.guarded = c->config.mode != NEAP_CONSOLE_TRUSTED,
                                     .memory = c->config.memory,
                                     .slice_ns = c->config.slice_ns ? c->config.slice_ns : UINT64_MAX};
  neap__guard_set(&c->vm, &limits);
  return 0;
}

static void open_vm(void *arg) {
  opening *o = arg;
  neap__console *c = o->console;
  const char *path = c->config.mode == NEAP_CONSOLE_GUARDED ? NULL : c->config.script_path;
  if (!path && c->config.mode != NEAP_CONSOLE_GUARDED) path = "./prompt"; /* modules of the folder we run in */
  o->rc = neap__vm_open(&c->vm, c->loop, c->kit ? &c->host : NULL, c->config.name, path, o->err);
  if (o->rc != 0) return;
  c->vm_open = true;
  if (c->config.mode != NEAP_CONSOLE_GUARDED) neap__watchdog_remove(&c->vm.pulse); /* somebody sits before it */
  o->rc = neap__vm_call(&c->vm, "console", setup_body, c, o->err);
}

static void log_line(void *engine, neap_log_level level, const char *text) {
  (void)engine;
  neap__log(level, "prompt", 0, "%s", text);
}

static void coros_closed(void *arg) {
  neap__console *c = arg;
  neap__vm_close(&c->vm);
  c->vm_open = false;
  neap__signal_set(&c->vm_closed);
}

static void close_vm(void *arg) {
  neap__console *c = arg;
  if (c->vm_open) {
    neap__coros_close(&c->vm, coros_closed, c);
  } else {
    neap__signal_set(&c->vm_closed);
  }
}

static void console_free(neap__console *c) {
  if (c->loop) {
    if (c->vm_open) neap__inner_lua_close(&c->vm);
    neap__loop_call(c->loop, close_vm, c);
    neap__signal_wait(&c->vm_closed);
    neap__loop_close(c->loop);
  }
  if (c->kit) neap__kit_host_close(c->kit);
  neap__signal_free(&c->vm_closed);
  pthread_cond_destroy(&c->idle);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

static void on_interrupt(neap__job *job);

int neap__console_open(const neap__console_config *config, neap__console **out, neap_error *err) {
  neap__console *c = calloc(1, sizeof(*c));
  if (!c) return neap__fail(err, NEAP_ENOMEM, "%s: out of memory", config->name);
  c->config = *config;
  c->interrupt.run = on_interrupt;
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&c->idle, &attr);
  pthread_condattr_destroy(&attr);
  pthread_mutex_init(&c->lock, NULL);
  neap__signal_init(&c->vm_closed);
  opening o = {.console = c, .err = err};
  if (config->mode != NEAP_CONSOLE_GUARDED) o.rc = neap__kit_host_open(HOST_THREADS, &c->kit);
  if (o.rc == 0 && c->kit) {
    c->host = *neap__kit_host_table(c->kit);
    c->host.log = log_line;
    neap__kit_host_set_plugin_dirs(c->kit, config->plugin_dirs);
  }
  if (o.rc == 0) o.rc = neap__loop_open(config->name, &c->loop);
  if (o.rc != 0) neap__fail(err, o.rc, "%s: no thread: %s", config->name, neap_strerror(o.rc));
  if (o.rc == 0) neap__loop_call(c->loop, open_vm, &o);
  if (o.rc == 0)
    *out = c;
  else
    console_free(c);
  return o.rc;
}

/* --- one evaluation ----------------------------------------------------------------------------------------------- */

static void set_answer(neap__console_call *call, neap__console_status status, const char *text, size_t bytes) {
  call->status = status;
  call->answer = malloc(bytes + 1);
  call->answer_bytes = call->answer ? bytes : 0;
  if (!call->answer) return;
  memcpy(call->answer, text, bytes);
  call->answer[bytes] = '\0';
}

static int call_next(lua_State *L, neap__coro *coro, const char **what) {
  neap__console_call *call = neap__coro_owner(coro);
  if (call->called) return -1;
  call->called = true;
  *what = call->kind == NEAP_CONSOLE_COMPLETE ? "complete" : "evaluate";
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->console->functions[call->kind]);
  lua_pushlstring(L, call->text, call->bytes);
  lua_pushstring(L, call->name);
  lua_pushboolean(L, call->json);
  return 3;
}

/* session.lua returns the name of a status and the answer. */
static void call_returned(lua_State *R, neap__coro *coro) {
  neap__console_call *call = neap__coro_owner(coro);
  const char *status = lua_tostring(R, 1);
  size_t bytes = 0;
  const char *text = lua_type(R, 2) == LUA_TSTRING ? lua_tolstring(R, 2, &bytes) : "";
  NEAP_ASSERT(status);
  set_answer(call,
             strcmp(status, "ok") == 0           ? NEAP_CONSOLE_OK
             : strcmp(status, "incomplete") == 0 ? NEAP_CONSOLE_INCOMPLETE
                                                 : NEAP_CONSOLE_FAILED,
             text, bytes);
}

/* The lines of a traceback that are the script's: those of the session itself tell nobody anything, nor does the chunk
 * that was typed, unless it called something. Returns how long the text is then. */
static size_t trim_traceback(char *text, bool typed) {
  char *at = strstr(text, "\nstack traceback:");
  if (!at) return strlen(text);
  char *first = at + strlen("\nstack traceback:"), *to = first;
  bool any = false;
  for (char *line = first; *line == '\n';) {
    size_t bytes = 1 + strcspn(line + 1, "\n");
    char *next = line + bytes, kept = *next;
    *next = '\0';
    bool own = strstr(line, "/neap/console/") || strstr(line, "/neap/await.lua") || strstr(line, "'pass'") ||
               (typed && strstr(line, "in function 'main'"));
    any = any || (!own && !strstr(line, "\t[C]:"));
    *next = kept;
    if (!own) {
      memmove(to, line, bytes);
      to += bytes;
    }
    line = next;
  }
  if (!any) to = at;
  *to = '\0';
  return (size_t)(to - text);
}

/* An error that our Lua or C raised at the script's call names a line of ours, which is no use to anybody. */
static const char *skip_own_place(const char *text) {
  size_t line = strcspn(text, "\n");
  const char *own = memmem(text, line, "/neap/console/", strlen("/neap/console/"));
  if (!own) own = memmem(text, line, "/neap/await.lua:", strlen("/neap/await.lua:"));
  const char *end = own ? strstr(own, ".lua:") : NULL;
  if (!end) return text;
  end += strlen(".lua:");
  end += strspn(end, "0123456789");
  return strncmp(end, ": ", 2) == 0 ? end + 2 : text;
}

static void call_failed(neap__coro *coro, int code, const char *text) {
  neap__console_call *call = neap__coro_owner(coro);
  const neap__console *c = call->console;
  call->called = true;
  free(call->answer);
  char why[256] = "", *copy = strdup(skip_own_place(text));
  uint64_t memory = c->config.memory ? c->config.memory : NEAP__GUARD_MEMORY;
  if (code == NEAP_ETIMEDOUT)
    snprintf(why, sizeof(why), "stopped: an evaluation may take %g s here", (double)c->config.time_ns / 1e9);
  else if (code == NEAP_ECANCELED && !strstr(text, "interrupted"))
    snprintf(why, sizeof(why), "interrupted");
  else if (code == NEAP_ENOMEM)
    snprintf(why, sizeof(why), "not enough memory: a session may use %.4g MiB; set to nil what is not needed",
             (double)memory / 1048576.0);
  if (why[0] || !copy)
    set_answer(call, NEAP_CONSOLE_FAILED, why, strlen(why));
  else
    set_answer(call, NEAP_CONSOLE_FAILED, copy, trim_traceback(copy, call->kind == NEAP_CONSOLE_EVAL));
  free(copy);
}

static void end_call(neap__console_call *call) {
  neap__console *c = call->console;
  pthread_mutex_lock(&c->lock);
  c->coro = NULL;
  c->current = NULL;
  pthread_cond_broadcast(&c->idle);
  pthread_mutex_unlock(&c->lock);
  call->done(call);
}

static void call_finished(void *owner) { end_call(owner); }

static const neap__coro_calls calls = {
    .next = call_next, .returned = call_returned, .failed = call_failed, .finished = call_finished};

static void start_call(neap__job *job) {
  neap__console_call *call = (neap__console_call *)((char *)job - offsetof(neap__console_call, job));
  neap__console *c = call->console;
  uint64_t deadline = c->config.time_ns ? neap__now_ns() + c->config.time_ns : 0;
  if (neap__coro_start(&c->vm, &calls, call, deadline, &c->coro) == 0) return;
  set_answer(call, NEAP_CONSOLE_FAILED, "out of memory", strlen("out of memory"));
  end_call(call);
}

int neap__console_submit(neap__console *c, neap__console_call *call) {
  call->console = c;
  call->job.run = start_call;
  call->called = false;
  call->answer = NULL;
  call->answer_bytes = 0;
  call->status = NEAP_CONSOLE_FAILED;
  pthread_mutex_lock(&c->lock);
  bool busy = c->current != NULL;
  if (!busy) {
    c->current = call;
    call->number = ++c->number;
    neap__guard_resume(&c->vm.guard);
  }
  pthread_mutex_unlock(&c->lock);
  if (busy) return NEAP_EBUSY;
  neap__loop_post(c->loop, &call->job);
  return 0;
}

static void set_signal(neap__console_call *call) { neap__signal_set(call->ctx); }

int neap__console_wait(neap__console *c, neap__console_call *call) {
  neap__signal ended;
  neap__signal_init(&ended);
  call->done = set_signal;
  call->ctx = &ended;
  int rc = neap__console_submit(c, call);
  if (rc == 0) neap__signal_wait(&ended);
  neap__signal_free(&ended);
  return rc;
}

/* --- interrupts ----------------------------------------------------------------------------------------------------
 */

static void on_interrupt(neap__job *job) {
  neap__console *c = (neap__console *)((char *)job - offsetof(neap__console, interrupt));
  pthread_mutex_lock(&c->lock);
  c->interrupting = false;
  bool meant = c->current && c->current->number == c->interrupt_number;
  pthread_mutex_unlock(&c->lock);
  if (meant && c->coro) neap__coro_cancel(c->coro, NEAP_ECANCELED);
}

void neap__console_interrupt(neap__console *c) {
  pthread_mutex_lock(&c->lock);
  bool post = c->current && !c->interrupting;
  if (c->current) {
    neap__guard_interrupt(&c->vm.guard);
    c->interrupt_number = c->current->number;
    c->interrupting = true;
  }
  pthread_mutex_unlock(&c->lock);
  if (post) neap__loop_post(c->loop, &c->interrupt);
}

static bool wait_idle(neap__console *c, uint64_t ms) {
  uint64_t at = neap__now_ns() + ms * 1000000u;
  struct timespec until = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
  int rc = 0;
  pthread_mutex_lock(&c->lock);
  while (c->current && rc == 0) rc = pthread_cond_timedwait(&c->idle, &c->lock, &until);
  bool idle = !c->current;
  pthread_mutex_unlock(&c->lock);
  return idle;
}

bool neap__console_close(neap__console *c, uint64_t grace_ms) {
  if (!c) return true;
  neap__console_interrupt(c);
  if (!wait_idle(c, grace_ms)) return false;
  console_free(c);
  return true;
}
