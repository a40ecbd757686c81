/* SPDX-License-Identifier: MIT
 *
 * cli/prompt_lab.c - see prompt_lab.h. A study has two owners, the thread that works on it and the call that awaits it;
 * the last one frees it. */
#include "prompt_lab.h"

#include <lauxlib.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plot.h"
#include "replay/replay.h"
#include "replay/report.h"
#include "script/coro.h"

#define POLICIES_MAX 16u
#define SERIES_MAX 16u
#define POINTS_MAX 4096u
#define PLOT_BYTES 131072
#define BASE_US 20000
#define SLOPE_US 20
#define LOAD_US 1300

typedef struct study {
  neap__await await;
  neap__job job;
  neap__vm *vm;
  pthread_mutex_t lock; /* guards the next three */
  int refs;
  bool ended, abandoned;
  char *path;
  char *policy_texts[POLICIES_MAX];
  neap__policy_spec policies[POLICIES_MAX];
  neap__replay_size sizes[NEAP__REPLAY_SIZES_MAX];
  uint32_t policy_count, size_count;
  bool head_first;
  neap__trace_options load;
  neap__replay_options options;
  neap__replay_run *runs;
  char *trace_name;
  uint32_t distinct;
  int rc;
  neap_error err;
} study;

static void study_drop(study *s) {
  pthread_mutex_lock(&s->lock);
  bool last = --s->refs == 0;
  pthread_mutex_unlock(&s->lock);
  if (!last) return;
  for (uint32_t i = 0; i < POLICIES_MAX; i++) free(s->policy_texts[i]);
  free(s->path);
  free(s->trace_name);
  free(s->runs);
  pthread_mutex_destroy(&s->lock);
  free(s);
}

/* --- on a thread of its own -----------------------------------------------------------------------------------------
 */

static int try_policies(study *s) {
  for (uint32_t i = 0; i < s->policy_count; i++) {
    neap__instance *instance;
    int rc = neap__policy_find(s->policy_texts[i], &s->policies[i], &s->err);
    const neap__instance_config config = {
        .policy = rc == 0 ? s->policies[i].policy : NULL, .params = s->policies[i].params, .slots = 64};
    if (rc == 0) rc = neap__instance_open(&config, &instance, &s->err);
    if (rc != 0) return rc;
    neap__instance_close(instance);
  }
  return 0;
}

static int replay_input(study *s, const neap__replay_input *input) {
  uint32_t count = s->policy_count * s->size_count;
  s->runs = calloc(count, sizeof(*s->runs));
  s->trace_name = strdup(input->trace->name);
  if (!s->runs || !s->trace_name) return neap__fail(&s->err, NEAP_ENOMEM, "out of memory for %u runs", count);
  s->distinct = input->distinct;
  for (uint32_t i = 0; i < count; i++) {
    neap__replay_run *run = &s->runs[i];
    run->policy = &s->policies[i % s->policy_count];
    run->size = &s->sizes[i / s->policy_count];
    int rc = neap__replay_capacity(run->size, input, 0, &run->capacity, &run->chunks, &s->err);
    if (rc != 0) return rc;
  }
  int rc = neap__replay(input, &s->options, s->runs, count);
  if (rc != 0) return neap__fail(&s->err, rc, "cannot start a thread");
  for (uint32_t i = 0; i < count; i++)
    if (s->runs[i].rc != 0)
      return neap__fail(&s->err, s->runs[i].rc, "%.64s at %.16s: %.300s", s->runs[i].policy->text,
                        s->runs[i].size->text, s->runs[i].err.text);
  return 0;
}

static int replay_trace(study *s) {
  neap__trace *trace;
  neap__replay_input input;
  bool future = false;
  int rc = try_policies(s);
  if (rc != 0 || !s->path) return rc;
  rc = neap__trace_load(s->path, &s->load, &trace, &s->err);
  if (rc != 0) return rc;
  for (uint32_t i = 0; i < s->policy_count; i++) future |= neap__replay_needs_future(&s->policies[i]);
  rc = neap__replay_input_open(trace, s->head_first, false, future, &input, &s->err);
  if (rc == 0) {
    rc = replay_input(s, &input);
    neap__replay_input_close(&input);
  }
  neap__trace_free(trace);
  return rc;
}

static void *work(void *arg) {
  study *s = arg;
  s->rc = replay_trace(s);
  pthread_mutex_lock(&s->lock);
  s->ended = true;
  if (!s->abandoned) neap__loop_post(s->vm->loop, &s->job);
  pthread_mutex_unlock(&s->lock);
  study_drop(s);
  return NULL;
}

/* --- the await ------------------------------------------------------------------------------------------------------
 */

static study *study_of(neap__await *await) { return (study *)((char *)await - offsetof(study, await)); }

static void study_release(neap__await *await) { study_drop(study_of(await)); }

static void study_ended(neap__job *job) { neap__coro_wake(&((study *)((char *)job - offsetof(study, job)))->await); }

static void study_cancel(neap__await *await) {
  study *s = study_of(await);
  pthread_mutex_lock(&s->lock);
  bool ended = s->ended;
  s->abandoned = !ended;
  pthread_mutex_unlock(&s->lock);
  if (!ended) neap__coro_wake(await);
}

static void set_number(lua_State *L, const char *name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

/* An array of rows; or nil, code, message. */
static int study_push(lua_State *L, neap__await *await) {
  const study *s = study_of(await);
  if (s->rc != 0) {
    lua_pushnil(L);
    lua_pushstring(L, neap_err_name(s->rc) + strlen("NEAP_"));
    lua_pushstring(L, s->err.text[0] ? s->err.text : neap_strerror(s->rc));
    return 3;
  }
  lua_newtable(L);
  for (uint32_t i = 0; s->runs && i < s->policy_count * s->size_count; i++) {
    const neap__replay_run *run = &s->runs[i];
    lua_newtable(L);
    lua_pushstring(L, s->trace_name);
    lua_setfield(L, -2, "trace");
    lua_pushstring(L, run->policy->text);
    lua_setfield(L, -2, "policy");
    lua_pushstring(L, run->size->text);
    lua_setfield(L, -2, "size");
    set_number(L, "size_chunks", (double)run->chunks);
    set_number(L, "size_fraction", (double)run->chunks / (double)NEAP_MAX(s->distinct, 1u));
    set_number(L, "requests", (double)run->stats.requests);
    set_number(L, "accesses", (double)run->stats.accesses);
    set_number(L, "distinct", s->distinct);
    set_number(L, "block_hit_ratio", neap__replay_block_ratio(run));
    set_number(L, "prefix_hit_ratio", neap__replay_prefix_ratio(run));
    set_number(L, "evictions", (double)run->stats.evictions);
    set_number(L, "orphan_evictions", (double)run->stats.orphan_evictions);
    set_number(L, "accesses_per_s", floor((double)run->stats.accesses / fmax(run->seconds, 1e-9)));
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* --- functions ------------------------------------------------------------------------------------------------------
 */

/* The strings of the array at index, each checked, at most max; returns how many. Nothing is allocated. */
static uint32_t count_strings(lua_State *L, int index, const char *what, uint32_t max) {
  luaL_checktype(L, index, LUA_TTABLE);
  size_t count = lua_objlen(L, index);
  if (count == 0 || count > max) luaL_error(L, "%s: got %d, expected 1 to %d", what, (int)count, (int)max);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, index, (int)i);
    if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "%s: number %d is a %s", what, (int)i, luaL_typename(L, -1));
    lua_pop(L, 1);
  }
  return (uint32_t)count;
}

static bool copy_arguments(lua_State *L, study *s) {
  bool copied = true;
  for (uint32_t i = 0; i < s->policy_count; i++) {
    lua_rawgeti(L, 2, (int)i + 1);
    s->policy_texts[i] = strdup(lua_tostring(L, -1));
    copied = copied && s->policy_texts[i];
    lua_pop(L, 1);
  }
  if (!lua_isnil(L, 1)) s->path = strdup(lua_tostring(L, 1));
  return copied && (lua_isnil(L, 1) || s->path);
}

/* replay(path|nil, policies, sizes, head_first, requests, seed) -> rows | nil, code, message. Awaits. Without a path it
 * only finds and tries the policies. */
static int l_replay(lua_State *L) {
  neap__coro *coro;
  neap_error err;
  const char *path = luaL_optstring(L, 1, NULL);
  lua_settop(L, 6);
  uint32_t policies = count_strings(L, 2, "policies", POLICIES_MAX);
  uint32_t sizes = path ? count_strings(L, 3, "sizes", NEAP__REPLAY_SIZES_MAX) : 0;
  lua_Number requests = luaL_checknumber(L, 5), seed = luaL_checknumber(L, 6);
  luaL_argcheck(L, requests >= 0 && requests <= UINT32_MAX, 5, "expected requests from 0 (all) to 4294967295");
  luaL_argcheck(L, seed >= 0 && seed <= 9007199254740992.0, 6, "expected a seed from 0 to 2^53");
  neap__replay_size *parsed = lua_newuserdata(L, NEAP__REPLAY_SIZES_MAX * sizeof(*parsed));
  for (uint32_t i = 0; i < sizes; i++) {
    lua_rawgeti(L, 3, (int)i + 1);
    if (neap__replay_size_parse(lua_tostring(L, -1), &parsed[i], &err) != 0) return luaL_error(L, "%s", err.text);
    lua_pop(L, 1);
  }
  int refused = neap__coro_enter(L, "policy.replay", false, &coro);
  if (refused) return refused;
  study *s = calloc(1, sizeof(*s));
  if (!s) return luaL_error(L, "out of memory");
  pthread_t thread;
  pthread_mutex_init(&s->lock, NULL);
  s->refs = 2;
  s->vm = neap__vm_of(L);
  s->await = (neap__await){.push = study_push, .cancel = study_cancel, .release = study_release};
  s->job.run = study_ended;
  s->policy_count = policies;
  s->size_count = sizes;
  s->head_first = lua_toboolean(L, 4);
  s->load.requests_max = (uint64_t)requests;
  s->options = (neap__replay_options){.seed = (uint64_t)seed,
                                      .batch = 1,
                                      .threads = (uint32_t)NEAP_MAX(1, sysconf(_SC_NPROCESSORS_ONLN)),
                                      .cost = {BASE_US, SLOPE_US},
                                      .load_us = LOAD_US};
  memcpy(s->sizes, parsed, sizes * sizeof(*parsed));
  bool started = copy_arguments(L, s) && pthread_create(&thread, NULL, work, s) == 0;
  if (!started) {
    s->refs = 1;
    study_drop(s);
    return luaL_error(L, "no memory, or no thread, for a replay");
  }
  pthread_detach(thread);
  return neap__coro_wait(L, coro, &s->await);
}

static const char *percent(double x, char text[32]) {
  snprintf(text, 32, "%.3g%%", x * 100);
  return text;
}

/* Reads the points { { x, y }, ... } of a series into userdata that stays on the stack. */
static void read_series(lua_State *L, neap__plot_series *out) {
  int at = lua_gettop(L); /* { name =, points... } */
  luaL_checktype(L, at, LUA_TTABLE);
  size_t count = lua_objlen(L, at);
  if (count > POINTS_MAX) luaL_error(L, "plot: a curve of %d points, expected at most %d", (int)count, (int)POINTS_MAX);
  lua_getfield(L, at, "name");
  out->name = luaL_checkstring(L, -1);
  double *x = lua_newuserdata(L, 2 * NEAP_MAX(count, 1u) * sizeof(*x)), *y = x + count;
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, at, (int)i + 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    x[i] = luaL_checknumber(L, -2);
    y[i] = luaL_checknumber(L, -1);
    lua_pop(L, 3);
  }
  out->x = x;
  out->y = y;
  out->count = (uint32_t)count;
}

/* plot(title, series, columns) -> text. A series is { name = , { x, y }, ... }, x and y from 0 to 1. */
static int l_plot(lua_State *L) {
  neap__plot_series series[SERIES_MAX];
  const char *title = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t count = lua_objlen(L, 2);
  if (count == 0 || count > SERIES_MAX) return luaL_error(L, "plot: %d curves, expected 1 to 16", (int)count);
  luaL_checkstack(L, 3 * (int)count + 20, "plot");
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (int)i + 1);
    read_series(L, &series[i]);
  }
  neap__plot_style style;
  neap__plot_style_of(stdout, &style);
  const neap__plot plot = {.title = title,
                           .series = series,
                           .count = (uint32_t)count,
                           .x_name = percent,
                           .x_log = true,
                           .points = true,
                           .unicode = style.unicode,
                           .colour = style.colour,
                           .columns = style.columns,
                           .rows = 16};
  char *text = lua_newuserdata(L, PLOT_BYTES); /* the stack's: what pushes it may raise */
  FILE *out = fmemopen(text, PLOT_BYTES, "w");
  if (!out) return luaL_error(L, "out of memory");
  neap__plot_draw(out, &plot);
  long bytes = ftell(out);
  bool whole = fclose(out) == 0 && bytes >= 0 && bytes < PLOT_BYTES;
  if (!whole) return luaL_error(L, "plot: it has more than %d bytes", PLOT_BYTES);
  lua_pushlstring(L, text, (size_t)bytes);
  return 1;
}

/* names() -> array of the built-ins */
static int l_names(lua_State *L) {
  int i = 0;
  lua_newtable(L);
  for (const char *const *name = neap__policy_names(); *name; name++) {
    lua_pushstring(L, *name);
    lua_rawseti(L, -2, ++i);
  }
  return 1;
}

void neap__prompt_lab_push(lua_State *L, neap__vm *vm) {
  static const luaL_Reg functions[] = {{"replay", l_replay}, {"plot", l_plot}, {"names", l_names}, {NULL, NULL}};
  lua_newtable(L);
  neap__vm_register(L, vm, functions);
}
