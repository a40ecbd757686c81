/* SPDX-License-Identifier: MIT
 *
 * lab/lab.c - see lab.h. The thread, the traffic, the shadows; what changes the live policy is in change.c. */
#include "lab/lab.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "lab/lab_defs.h"

#define RING_WORDS (1u << 20)
#define WINDOW 4096u
#define LOOK_MS 20u
#define WATCH_NS UINT64_C(100000000)

/* --- the wire thread ------------------------------------------------------------------------------------------- */

void neap__lab_tell(neap__lab *lab, const neap__lab_request *r) {
  neap__lab_record *to = (neap__lab_record *)neap__ring_claim(lab->ring, NEAP__RECORD_WORDS + r->chunks);
  if (to == NULL) return;
  *to = (neap__lab_record){.session = r->session,
                           .model = (uint64_t)(uintptr_t)r->model,
                           .tenant = r->tenant,
                           .time_ms = (uint32_t)((neap__now_ns() - lab->opened_ns) / 1000000),
                           .asked = r->asked,
                           .found = r->found,
                           .found_l1 = r->found_l1,
                           .kib = (uint32_t)NEAP_MIN((r->chunk_bytes + 1023) / 1024, UINT32_MAX)};
  for (uint32_t i = 0; i < r->chunks; i++) memcpy(&to->chunk[i], r->hashes[i], sizeof(to->chunk[i]));
  neap__ring_publish(lab->ring);
}

/* --- the lab thread -------------------------------------------------------------------------------------------- */

/* Into a record of the thread's own, names salted: one chunk of two tenants or models is two. False: no memory. */
static bool salt_record(neap__lab *lab, const neap__lab_record *from, uint32_t chunks) {
  if (chunks > lab->record_room || lab->record == NULL) {
    uint32_t room = NEAP_MAX(chunks, 256);
    neap__lab_record *grown = realloc(lab->record, sizeof(*grown) + room * sizeof(grown->chunk[0]));
    if (grown == NULL) return false;
    lab->record = grown;
    uint32_t *units = realloc(lab->units, room * sizeof(*units));
    if (units == NULL) return false;
    lab->units = units;
    lab->record_room = room;
  }
  const char *model = (const char *)(uintptr_t)from->model;
  uint64_t words[2] = {0, neap__hash64(model, strlen(model), from->tenant)};
  *lab->record = *from;
  lab->record->model = 0;
  words[0] = from->session;
  lab->record->session = from->session ? neap__salted(&lab->salt, words, 1) : 0;
  for (uint32_t i = 0; i < chunks; i++) {
    words[0] = from->chunk[i];
    lab->record->chunk[i] = neap__salted(&lab->salt, words, 2);
  }
  return true;
}

static void use(neap__lab *lab, const neap__lab_record *from, uint32_t chunks) {
  if (!salt_record(lab, from, chunks)) return;
  const neap__lab_record *r = lab->record;
  neap__lab_record_append(lab, r, chunks);
  const neap__tally more = {.requests = 1, .asked = r->asked, .found = r->found, .found_l1 = r->found_l1};
  pthread_mutex_lock(&lab->lock);
  if (chunks) lab->chunk_kib = r->kib;
  if (r->asked) {
    neap__tally_add(&lab->total, &more);
    neap__window_add(&lab->window, &more);
  }
  for (uint32_t i = 0; i < lab->shadow_count; i++) neap__shadow_use(lab->shadows[i], r, chunks);
  if (lab->reference) neap__shadow_use(lab->reference, r, chunks);
  pthread_mutex_unlock(&lab->lock);
}

static void drain(neap__lab *lab) {
  uint32_t words;
  const neap__lab_record *r;
  while ((r = (const neap__lab_record *)neap__ring_peek(lab->ring, &words)) != NULL) {
    use(lab, r, words - NEAP__RECORD_WORDS);
    neap__ring_pop(lab->ring);
  }
}

static void check_shadows(neap__lab *lab) {
  pthread_mutex_lock(&lab->lock);
  for (uint32_t i = 0; i < lab->shadow_count; i++) neap__shadow_check(lab->shadows[i]);
  if (lab->reference) neap__shadow_check(lab->reference);
  pthread_mutex_unlock(&lab->lock);
}

static void *run(void *arg) {
  neap__lab *lab = arg;
  uint64_t watched_ns = 0;
  pthread_setname_np(pthread_self(), "neap-lab");
  while (!atomic_load(&lab->stop)) {
    drain(lab);
    if (neap__now_ns() - watched_ns >= WATCH_NS) {
      check_shadows(lab);
      neap__lab_watch(lab);
      watched_ns = neap__now_ns();
    }
    neap__ring_wait(lab->ring, LOOK_MS);
  }
  return NULL;
}

/* --- shadows --------------------------------------------------------------------------------------------------- */

int64_t neap__lab_time_of_day_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int neap__lab_open_shadow(neap__lab *lab, const neap__policy_spec *spec, int64_t loaded_ns, bool warm,
                          neap__shadow **out, neap_error *err) {
  neap__shadow_config config = {.spec = *spec,
                                .capacity_kib = NEAP_MAX(lab->config.l1_bytes / 1024, 1),
                                .window = (uint32_t)lab->window.requests_max,
                                .epoch_ns = lab->opened_ns,
                                .loaded_ns = loaded_ns};
  if (warm) config.warm = neap__lab_record_trace(lab);
  pthread_mutex_lock(&lab->lock);
  config.chunk_kib = lab->chunk_kib;
  pthread_mutex_unlock(&lab->lock);
  return neap__shadow_open(&config, out, err);
}

/* Its place in the list, or the count. Under change_lock or lock. */
static uint32_t find_shadow(const neap__lab *lab, const char *spec) {
  char *end = NULL;
  unsigned long number = strtoul(spec, &end, 10);
  if (*spec >= '0' && *spec <= '9' && *end == '\0') return (uint32_t)NEAP_MIN(number, lab->shadow_count);
  uint32_t i = 0;
  while (i < lab->shadow_count && strcasecmp(neap__shadow_spec(lab->shadows[i])->text, spec) != 0) i++;
  return i;
}

static int no_shadow(const neap__lab *lab, const char *spec, neap_error *err) {
  const char *specs[NEAP_SHADOWS_MAX];
  for (uint32_t i = 0; i < lab->shadow_count; i++) specs[i] = neap__shadow_spec(lab->shadows[i])->text;
  if (lab->shadow_count == 0) return neap__fail(err, NEAP_ENOENT, "shadow '%.64s' is unknown; there is none", spec);
  const char *near = neap__nearest(spec, specs, lab->shadow_count);
  return neap__fail(err, NEAP_ENOENT, "shadow '%.64s' is unknown; expected a policy of the list or its number%s%s%s",
                    spec, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

int neap__lab_shadow_add(neap__lab *lab, const char *spec, bool warm, neap_error *err) {
  neap__policy_spec found;
  int64_t loaded_ns = neap__lab_time_of_day_ns();
  neap__shadow *shadow = NULL;
  pthread_mutex_lock(&lab->change_lock);
  int rc =
      lab->shadow_count == NEAP_SHADOWS_MAX
          ? neap__fail(err, NEAP_ELIMIT, "there are %u shadows already; expected at most that many", NEAP_SHADOWS_MAX)
          : 0;
  uint32_t there = 0;
  while (there < lab->shadow_count && strcasecmp(neap__shadow_spec(lab->shadows[there])->text, spec) != 0) there++;
  if (rc == 0 && there < lab->shadow_count)
    rc = neap__fail(err, NEAP_EEXIST, "policy '%.64s' is a shadow already; to load its file again, reload it", spec);
  if (rc == 0) rc = neap__policy_find(spec, &found, err);
  if (rc == 0) rc = neap__lab_open_shadow(lab, &found, loaded_ns, warm, &shadow, err);
  if (rc == 0) {
    pthread_mutex_lock(&lab->lock);
    lab->shadows[lab->shadow_count++] = shadow;
    pthread_mutex_unlock(&lab->lock);
    NEAP_LOG_INFO("shadow %s added", spec);
  }
  pthread_mutex_unlock(&lab->change_lock);
  return rc;
}

int neap__lab_shadow_remove(neap__lab *lab, const char *spec, neap_error *err) {
  neap__shadow *shadow = NULL;
  pthread_mutex_lock(&lab->change_lock);
  uint32_t at = find_shadow(lab, spec);
  int rc = at == lab->shadow_count ? no_shadow(lab, spec, err) : 0;
  if (rc == 0) {
    pthread_mutex_lock(&lab->lock);
    shadow = lab->shadows[at];
    lab->shadow_count--;
    memmove(&lab->shadows[at], &lab->shadows[at + 1], (lab->shadow_count - at) * sizeof(lab->shadows[0]));
    pthread_mutex_unlock(&lab->lock);
    NEAP_LOG_INFO("shadow %s removed", neap__shadow_spec(shadow)->text);
    neap__shadow_close(shadow);
  }
  pthread_mutex_unlock(&lab->change_lock);
  return rc;
}

int neap__lab_shadow_reload(neap__lab *lab, const char *spec, neap_error *err) {
  neap__policy_spec found;
  int64_t loaded_ns = neap__lab_time_of_day_ns();
  neap__shadow *fresh = NULL, *old = NULL;
  pthread_mutex_lock(&lab->change_lock);
  uint32_t at = find_shadow(lab, spec);
  int rc = at == lab->shadow_count ? no_shadow(lab, spec, err) : 0;
  if (rc == 0) rc = neap__policy_find(neap__shadow_spec(lab->shadows[at])->text, &found, err);
  if (rc == 0) rc = neap__lab_open_shadow(lab, &found, loaded_ns, true, &fresh, err);
  if (rc == 0) {
    pthread_mutex_lock(&lab->lock);
    old = lab->shadows[at];
    lab->shadows[at] = fresh;
    pthread_mutex_unlock(&lab->lock);
    NEAP_LOG_INFO("shadow %s reloaded", found.text);
    neap__shadow_close(old);
  }
  pthread_mutex_unlock(&lab->change_lock);
  return rc;
}

/* --- looking --------------------------------------------------------------------------------------------------- */

void neap__lab_status_get(neap__lab *lab, neap__lab_status *out) {
  memset(out, 0, sizeof(*out));
  neap__stream_stats_get(lab->config.stream, &out->stream);
  neap__ring_stats ring;
  neap__ring_stats_get(lab->ring, &ring);
  pthread_mutex_lock(&lab->lock);
  memcpy(out->policy, lab->policy.spec.text, sizeof(out->policy));
  memcpy(out->place, lab->policy.place, sizeof(out->place));
  out->total = lab->total;
  out->window = neap__window_sum(&lab->window);
  out->window_requests = (uint32_t)lab->window.requests_max;
  out->requests = ring.records;
  out->dropped = ring.dropped;
  out->waiting = ring.waiting;
  out->l1_bytes = lab->config.l1_bytes;
  neap__lab_record_stats_get(lab, &out->record);
  out->chunk_kib = lab->chunk_kib;
  out->shadow_count = lab->shadow_count;
  for (uint32_t i = 0; i < lab->shadow_count; i++) neap__shadow_stats_get(lab->shadows[i], &out->shadows[i]);
  out->on_trial = lab->trial.on;
  out->trial_bound = lab->trial.order.bound;
  uint64_t now = neap__now_ns();
  out->trial_left_s = lab->trial.on && lab->trial.until_ns > now ? (double)(lab->trial.until_ns - now) / 1e9 : 0;
  if (lab->reference) neap__shadow_stats_get(lab->reference, &out->reference);
  out->change_count = lab->change_count;
  memcpy(out->changes, lab->changes, sizeof(out->changes));
  pthread_mutex_unlock(&lab->lock);
}

/* "./p.lua" of "isolated:./p.lua:size=3"; false: it comes from no file. */
static bool file_of(const char *spec, char *path, size_t room) {
  static const char isolated[] = "isolated:";
  if (strncasecmp(spec, isolated, sizeof(isolated) - 1) == 0) spec += sizeof(isolated) - 1;
  const char *end = strstr(spec, ".lua");
  if (end == NULL || (end[4] != '\0' && end[4] != ':')) return false;
  snprintf(path, room, "%.*s", (int)(end + 4 - spec), spec);
  return true;
}

void neap__lab_files(neap__lab *lab, bool (*visit)(void *ctx, const neap__lab_file *file), void *ctx) {
  char specs[NEAP_SHADOWS_MAX + 1][256], path[256];
  int64_t loaded_ns[NEAP_SHADOWS_MAX + 1];
  uint32_t count = 1;
  pthread_mutex_lock(&lab->lock);
  memcpy(specs[0], lab->policy.spec.text, sizeof(specs[0]));
  loaded_ns[0] = lab->policy.loaded_ns;
  for (uint32_t i = 0; i < lab->shadow_count; i++, count++) {
    memcpy(specs[count], neap__shadow_spec(lab->shadows[i])->text, sizeof(specs[0]));
    loaded_ns[count] = neap__shadow_loaded_ns(lab->shadows[i]);
  }
  pthread_mutex_unlock(&lab->lock);
  for (uint32_t i = 0; i < count; i++) {
    const neap__lab_file file = {.path = path, .spec = specs[i], .live = i == 0, .loaded_ns = loaded_ns[i]};
    if (file_of(specs[i], path, sizeof(path)) && !visit(ctx, &file)) return;
  }
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static void free_lab(neap__lab *lab) {
  pthread_mutex_destroy(&lab->change_lock);
  pthread_mutex_destroy(&lab->lock);
  neap__record_close(lab->recording);
  neap__ring_close(lab->ring);
  free(lab->record);
  free(lab->units);
  free(lab);
}

int neap__lab_open(const neap__lab_config *config, neap__lab **out, neap_error *err) {
  neap__lab *lab = calloc(1, sizeof(*lab));
  if (lab == NULL || neap__ring_open(config->ring_words ? config->ring_words : RING_WORDS, &lab->ring) != 0) {
    free(lab);
    return neap__fail(err, NEAP_ENOMEM, "no memory for the policy lab");
  }
  lab->config = *config;
  lab->policy = config->policy;
  lab->opened_ns = neap__now_ns();
  lab->window.requests_max = config->window ? config->window : WINDOW;
  NEAP_ASSERT(getrandom(&lab->salt, sizeof(lab->salt), 0) == (ssize_t)sizeof(lab->salt));
  pthread_mutex_init(&lab->change_lock, NULL);
  pthread_mutex_init(&lab->lock, NULL);
  neap__fate_policy(config->fate, lab->policy.spec.text, lab->policy.place);
  int rc = neap__lab_record_open(lab, err);
  if (rc == 0 && pthread_create(&lab->thread, NULL, run, lab) != 0)
    rc = neap__fail(err, NEAP_ENOMEM, "cannot start the thread of the policy lab");
  if (rc) {
    free_lab(lab);
    return rc;
  }
  *out = lab;
  return 0;
}

void neap__lab_close(neap__lab *lab) {
  if (lab == NULL) return;
  atomic_store(&lab->stop, true);
  neap__ring_wake(lab->ring);
  pthread_join(lab->thread, NULL);
  for (uint32_t i = 0; i < lab->shadow_count; i++) neap__shadow_close(lab->shadows[i]);
  neap__shadow_close(lab->reference);
  free_lab(lab);
}
