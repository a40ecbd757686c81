/* SPDX-License-Identifier: MIT
 *
 * watch.c - see watch.h. The directory of a module is watched, for an editor may put a new file in the place of the old
 * one; SETTLE_MS after the last event the state of the files is compared with the one that runs. The same is done every
 * LOOK_MS, which finds adapters that came and went, and changes on file systems that tell nothing. Reloads run on a
 * thread of engine->changes; everything else on the watcher's own loop. */
#include "watch.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SETTLE_MS 50u
#define LOOK_MS 1000u
#define GRACE_MS 30000u
#define CLOCK_NS 20000000 /* by which the times of files may be behind */

/* One adapter, or one policy. */
typedef struct watched {
  uv_fs_event_t event;
  uv_timer_t settle;
  neap__job job;
  neap__watch *watch;
  struct watched *next;
  neap__tier *tier; /* tells one adapter from another, never looked into; NULL: a policy */
  bool live;        /* the live policy, else a shadow */
  char name[NEAP_MAX(NEAP_TIER_NAME_BYTES, 256)], path[4096]; /* name: of a policy, its spec */
  bool whole_dir;                                             /* any .lua file beside it counts */
  uint64_t state;                                             /* of the files when they were last loaded */
  bool reloading, seen, gone;
  int handles; /* not yet closed */
  int rc;
  neap_error err;
} watched;

struct neap__watch {
  neap__engine *engine;
  neap__loop *loop;
  uv_timer_t look;
  watched *first;
  pthread_mutex_t lock;
  pthread_cond_t idle;
  uint32_t reloads;
};

/* --- what the files look like --------------------------------------------------------------------------------- */

static bool is_lua(const char *name) {
  size_t n = strlen(name);
  return n > 4 && strcmp(name + n - 4, ".lua") == 0;
}

/* changed_ns: raised to when it was changed or put there. */
static uint64_t file_state(const char *path, int64_t *changed_ns) {
  struct stat st;
  if (stat(path, &st) != 0) return 0;
  *changed_ns = NEAP_MAX(*changed_ns, (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec);
  uint64_t parts[] = {(uint64_t)st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
                      (uint64_t)st.st_mtim.tv_nsec},
           mixed = 1;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(parts); i++) mixed = (mixed ^ parts[i]) * UINT64_C(0x9e3779b97f4a7c15);
  return mixed ? mixed : 1;
}

/* 0: the module is not there. The order of the files does not matter. */
static uint64_t state_of(const watched *w, int64_t *changed_ns) {
  uint64_t state = file_state(w->path, changed_ns);
  if (!w->whole_dir || !state) return state;
  char dir[sizeof w->path], file[sizeof w->path + 256];
  snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(w->path, '/') - w->path), w->path);
  DIR *stream = opendir(dir);
  for (struct dirent *entry; stream && (entry = readdir(stream)) != NULL;) {
    if (!is_lua(entry->d_name) || entry->d_name[0] == '.') continue;
    snprintf(file, sizeof file, "%s/%s", dir, entry->d_name);
    state += file_state(file, changed_ns);
  }
  if (stream) closedir(stream);
  return state ? state : 1;
}

/* --- reloading ------------------------------------------------------------------------------------------------ */

static void check(watched *w);

static const char *what(const watched *w) { return w->tier ? "adapter" : w->live ? "policy" : "shadow"; }

static void reload_work(void *arg) {
  watched *w = arg;
  uint32_t left = 0;
  w->err.text[0] = '\0';
  neap__engine *e = w->watch->engine;
  const neap__lab_trial trial = NEAP_TRIAL_DEFAULT;
  if (w->tier)
    w->rc = neap__tier_set_reload(e->tiers, w->name, NULL, GRACE_MS, &left, &w->err);
  else if (w->live)
    w->rc = neap__lab_reload(e->lab, &trial, &w->err);
  else
    w->rc = neap__lab_shadow_reload(e->lab, w->name, &w->err);
  neap__loop_post(w->watch->loop, &w->job);
}

static void closed(uv_handle_t *handle) {
  watched *w = handle->data;
  w->handles--;
  if (!w->handles && !w->reloading) free(w);
}

static void reloaded(neap__job *job) {
  watched *w = (watched *)((char *)job - offsetof(watched, job));
  neap__watch *watch = w->watch;
  w->reloading = false;
  if (w->rc == 0)
    NEAP_LOG_INFO("%s '%s' runs the code that was saved in %s", what(w), w->name, w->path);
  else if (!w->gone && w->rc == NEAP_EBUSY)
    w->state = 0; /* something else changes it: at the next look */
  else if (!w->gone)
    NEAP_LOG_ERROR("%s '%s' goes on with its old code: %s", what(w), w->name, w->err.text);
  if (w->gone && !w->handles)
    free(w);
  else if (!w->gone && w->rc != NEAP_EBUSY)
    check(w); /* saved again meanwhile? */
  pthread_mutex_lock(&watch->lock);
  if (--watch->reloads == 0) pthread_cond_broadcast(&watch->idle);
  pthread_mutex_unlock(&watch->lock);
}

static void check(watched *w) {
  int64_t changed_ns = 0;
  uint64_t state = state_of(w, &changed_ns);
  if (w->reloading || !state || state == w->state) return; /* replaced in two steps: wait for the second */
  w->state = state;
  w->reloading = true;
  pthread_mutex_lock(&w->watch->lock);
  w->watch->reloads++;
  pthread_mutex_unlock(&w->watch->lock);
  if (neap__pool_submit(w->watch->engine->changes, reload_work, w) == 0) return;
  w->rc = NEAP_EBUSY;
  neap__loop_post(w->watch->loop, &w->job);
}

/* --- watching ------------------------------------------------------------------------------------------------- */

static void on_settled(uv_timer_t *timer) { check(timer->data); }

static void on_event(uv_fs_event_t *event, const char *file, int events, int status) {
  watched *w = event->data;
  (void)file; /* may be missing, and may be the temporary name */
  (void)events;
  (void)status;
  uv_timer_start(&w->settle, on_settled, SETTLE_MS, 0);
}

/* tier NULL: a policy. loaded_ns: when the code that runs was read, by the wall clock. */
static void begin_watching(neap__watch *watch, neap__tier *tier, const char *name, const char *path, bool live,
                           int64_t loaded_ns) {
  const char *base = strrchr(path, '/');
  watched *w = calloc(1, sizeof *w);
  if (!w) return;
  char dir[sizeof w->path];
  snprintf(w->path, sizeof w->path, "%s%s", base ? "" : "./", path);
  base = strrchr(w->path, '/');
  snprintf(w->name, sizeof w->name, "%s", name);
  snprintf(dir, sizeof dir, "%.*s", (int)(base - w->path), w->path);
  w->watch = watch;
  w->tier = tier;
  w->live = live;
  w->whole_dir = strcmp(base, "/init.lua") == 0;
  w->job.run = reloaded;
  w->seen = true;
  int64_t changed_ns = 0;
  w->state = state_of(w, &changed_ns);
  if (changed_ns + CLOCK_NS >= loaded_ns) w->state = 0; /* saved since: reload */
  w->event.data = w->settle.data = w;
  w->handles = 2;
  uv_fs_event_init(neap__loop_uv(watch->loop), &w->event);
  uv_timer_init(neap__loop_uv(watch->loop), &w->settle);
  int rc = uv_fs_event_start(&w->event, on_event, *dir ? dir : "/", 0);
  if (rc) NEAP_LOG_WARN("%s cannot be watched (%s); it is looked at every second", dir, uv_strerror(rc));
  w->next = watch->first;
  watch->first = w;
  NEAP_LOG_INFO("%s '%s': watching %s", what(w), w->name, w->path);
}

static void end_watching(watched *w) {
  w->gone = true;
  uv_close((uv_handle_t *)&w->event, closed);
  uv_close((uv_handle_t *)&w->settle, closed);
}

static void see(neap__watch *watch, const neap__tier_entry *e) {
  const char *path = neap__tier_config_of(e->tier)->path;
  watched *w = watch->first;
  while (w && (w->tier != e->tier || strcmp(w->name, e->name) != 0)) w = w->next;
  if (w)
    w->seen = true;
  else if (path && is_lua(path))
    begin_watching(watch, e->tier, e->name, path, false, neap__tier_config_of(e->tier)->loaded_ns);
}

static bool see_policy(void *ctx, const neap__lab_file *file) {
  neap__watch *watch = ctx;
  watched *w = watch->first;
  while (w && (w->tier || w->live != file->live || strcmp(w->name, file->spec) != 0)) w = w->next;
  if (w)
    w->seen = true;
  else
    begin_watching(watch, NULL, file->spec, file->path, file->live, file->loaded_ns);
  return true;
}

static void look(neap__watch *watch) {
  neap__tier_view view;
  for (watched *w = watch->first; w; w = w->next) w->seen = false;
  neap__tier_set_view(watch->engine->tiers, &view);
  for (uint32_t i = 0; i < view.count; i++)
    if (!view.entries[i].draining) see(watch, &view.entries[i]);
  neap__tier_view_drop(watch->engine->tiers, &view);
  neap__lab_files(watch->engine->lab, see_policy, watch);
  for (watched **at = &watch->first; *at;) {
    watched *w = *at;
    if (w->seen) {
      check(w);
      at = &w->next;
      continue;
    }
    *at = w->next;
    end_watching(w);
  }
}

static void on_look(uv_timer_t *timer) { look(timer->data); }

/* --- open and close ------------------------------------------------------------------------------------------- */

static void begin(void *arg) {
  neap__watch *watch = arg;
  watch->look.data = watch;
  uv_timer_init(neap__loop_uv(watch->loop), &watch->look);
  uv_timer_start(&watch->look, on_look, LOOK_MS, LOOK_MS);
  look(watch);
}

static void end(void *arg) {
  neap__watch *watch = arg;
  uv_close((uv_handle_t *)&watch->look, NULL);
  for (watched *w = watch->first, *next; w; w = next) {
    next = w->next;
    end_watching(w);
  }
  watch->first = NULL;
}

int neap__watch_open(neap__engine *engine, neap__watch **out) {
  neap__watch *watch = calloc(1, sizeof *watch);
  if (!watch) return NEAP_ENOMEM;
  watch->engine = engine;
  int rc = neap__loop_open("neap-watch", &watch->loop);
  if (rc) {
    free(watch);
    return rc;
  }
  pthread_mutex_init(&watch->lock, NULL);
  pthread_cond_init(&watch->idle, NULL);
  neap__loop_call(watch->loop, begin, watch);
  *out = watch;
  return 0;
}

void neap__watch_close(neap__watch *watch) {
  if (!watch) return;
  neap__tier_set_hurry(watch->engine->tiers);
  neap__loop_call(watch->loop, end, watch);
  pthread_mutex_lock(&watch->lock);
  while (watch->reloads) pthread_cond_wait(&watch->idle, &watch->lock);
  pthread_mutex_unlock(&watch->lock);
  neap__loop_close(watch->loop);
  pthread_cond_destroy(&watch->idle);
  pthread_mutex_destroy(&watch->lock);
  free(watch);
}
