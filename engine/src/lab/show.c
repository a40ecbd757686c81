/* SPDX-License-Identifier: MIT
 *
 * lab/show.c - see show.h. */
#include "lab/show.h"

#include <stdlib.h>

static void add_ratio(cJSON *json, const char *name, uint64_t part, uint64_t whole) {
  if (whole)
    cJSON_AddNumberToObject(json, name, (double)part / (double)whole);
  else
    cJSON_AddNullToObject(json, name);
}

/* predicted: of a shadow, beside what was found by the live engine over the same requests. */
static void add_tally(cJSON *json, const char *name, const neap__tally *t, bool predicted) {
  cJSON *to = cJSON_AddObjectToObject(json, name);
  cJSON_AddNumberToObject(to, "requests", (double)t->requests);
  cJSON_AddNumberToObject(to, "chunks", (double)t->asked);
  if (predicted) add_ratio(to, "prefix_hit_ratio", t->prefix, t->asked);
  if (predicted) add_ratio(to, "block_hit_ratio", t->hits, t->asked);
  add_ratio(to, "actual_l1_prefix_hit_ratio", t->found_l1, t->asked);
  add_ratio(to, "actual_prefix_hit_ratio", t->found, t->asked);
}

static cJSON *show_shadow(const neap__shadow_stats *s) {
  cJSON *json = cJSON_CreateObject();
  double age_s = (double)(neap__now_ns() - s->opened_ns) / 1e9, cpu_s = (double)s->cpu_ns / 1e9;
  cJSON_AddStringToObject(json, "policy", s->spec);
  cJSON_AddStringToObject(json, "state", neap__shadow_state_name(s->state));
  cJSON_AddStringToObject(json, "why", s->why.text);
  cJSON_AddBoolToObject(json, "full", s->full);
  add_tally(json, "window", &s->window, true);
  add_tally(json, "total", &s->total, true);
  cJSON_AddNumberToObject(json, "residents", s->residents);
  cJSON_AddNumberToObject(json, "used_bytes", (double)(s->used_kib * 1024));
  cJSON_AddNumberToObject(json, "capacity_bytes", (double)(s->capacity_kib * 1024));
  cJSON_AddNumberToObject(json, "evictions", (double)s->evictions);
  cJSON_AddNumberToObject(json, "orphan_evictions", (double)s->orphan_evictions);
  cJSON_AddNumberToObject(json, "forgotten_chunks", (double)s->forgotten);
  cJSON_AddNumberToObject(json, "dropped_requests", (double)s->dropped);
  cJSON_AddNumberToObject(json, "waiting_requests", (double)s->waiting);
  cJSON_AddNumberToObject(json, "lag_ms", s->lag_ms);
  cJSON_AddNumberToObject(json, "age_seconds", age_s);
  cJSON_AddNumberToObject(json, "cpu_seconds", cpu_s);
  cJSON_AddNumberToObject(json, "cpu_share", age_s > 0 ? cpu_s / age_s : 0);
  return json;
}

static cJSON *show_shadows(const neap__lab_status *lab) {
  cJSON *list = cJSON_CreateArray();
  for (uint32_t i = 0; i < lab->shadow_count; i++) cJSON_AddItemToArray(list, show_shadow(&lab->shadows[i]));
  return list;
}

static void add_live(cJSON *json, const neap__lab_status *lab) {
  const neap__instance_stats *in = &lab->stream.instance;
  cJSON_AddStringToObject(json, "policy", lab->policy);
  cJSON_AddStringToObject(json, "name", lab->stream.policy);
  cJSON_AddStringToObject(json, "place", lab->place);
  cJSON_AddBoolToObject(json, "out", in->out);
  cJSON_AddStringToObject(json, "why", in->why.text);
  cJSON_AddNumberToObject(json, "residents", in->residents);
  cJSON_AddNumberToObject(json, "capacity_chunks", lab->stream.capacity);
  cJSON_AddNumberToObject(json, "capacity_bytes", (double)lab->l1_bytes);
  cJSON_AddNumberToObject(json, "events", (double)in->events);
  cJSON_AddNumberToObject(json, "proposals", (double)in->proposals);
  cJSON_AddNumberToObject(json, "refused_proposals", (double)in->refused);
  cJSON_AddNumberToObject(json, "completed_victims", (double)in->completed);
}

static void add_changes(cJSON *json, const neap__lab_status *lab) {
  cJSON *list = cJSON_AddArrayToObject(json, "changes");
  for (uint32_t i = 0; i < lab->change_count; i++) {
    const neap__lab_change *c = &lab->changes[i];
    cJSON *item = cJSON_CreateObject();
    cJSON_AddNumberToObject(item, "time", (double)c->unix_s);
    cJSON_AddStringToObject(item, "how", c->how);
    cJSON_AddStringToObject(item, "from", c->from);
    cJSON_AddStringToObject(item, "to", c->to);
    cJSON_AddStringToObject(item, "outcome", c->outcome);
    cJSON_AddStringToObject(item, "why", c->why.text);
    cJSON_AddItemToArray(list, item);
  }
}

static void add_trial(cJSON *json, const neap__lab_status *lab) {
  if (!lab->on_trial) {
    cJSON_AddNullToObject(json, "trial");
    return;
  }
  cJSON *trial = cJSON_AddObjectToObject(json, "trial");
  cJSON_AddNumberToObject(trial, "seconds_left", lab->trial_left_s);
  cJSON_AddNumberToObject(trial, "bound", lab->trial_bound);
  if (lab->reference.opened_ns)
    cJSON_AddItemToObject(trial, "reference", show_shadow(&lab->reference));
  else
    cJSON_AddNullToObject(trial, "reference");
}

static void add_misses(cJSON *json, neap__fate *fate) {
  neap__fate_stats stats;
  neap__fate_stats_get(fate, &stats);
  cJSON *misses = cJSON_AddObjectToObject(json, "missed_chunks");
  for (uint32_t i = 0; i < NEAP_FATE_REASONS; i++)
    cJSON_AddNumberToObject(misses, neap__fate_name((neap__fate_reason)i), (double)stats.chunks[i]);
}

cJSON *neap__lab_policy_json(neap__lab *lab, neap__fate *fate) {
  neap__lab_status *status = malloc(sizeof(*status));
  if (!status) return NULL;
  neap__lab_status_get(lab, status);
  cJSON *json = cJSON_CreateObject();
  add_live(json, status);
  add_tally(json, "window", &status->window, false);
  add_tally(json, "total", &status->total, false);
  cJSON_AddNumberToObject(json, "window_requests", status->window_requests);
  cJSON_AddNumberToObject(json, "requests", (double)status->requests);
  cJSON_AddNumberToObject(json, "dropped_requests", (double)status->dropped);
  cJSON_AddNumberToObject(json, "waiting_requests", (double)status->waiting);
  add_misses(json, fate);
  add_trial(json, status);
  cJSON_AddItemToObject(json, "shadows", show_shadows(status));
  add_changes(json, status);
  free(status);
  return json;
}

cJSON *neap__lab_shadows_json(neap__lab *lab) {
  neap__lab_status *status = malloc(sizeof(*status));
  if (!status) return NULL;
  neap__lab_status_get(lab, status);
  cJSON *list = show_shadows(status);
  free(status);
  return list;
}
