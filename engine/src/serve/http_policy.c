/* SPDX-License-Identifier: MIT
 *
 * serve/http_policy.c - the policy of a running server, its shadows, and the recording.
 *
 *   GET    /policy                       POLICY: what is live, how it does, its shadows, the last changes
 *   POST   /policy/switch                {"policy": SPEC, "trial_seconds": 600, "bound": 0.05, "warm": true}; POLICY
 *   POST   /policy/reload                the same without "policy": its file is read again; POLICY
 *   GET    /policy/shadows               {"shadows": [SHADOW, ...]}
 *   POST   /policy/shadows               {"policy": SPEC, "warm": true}; 201 and {"shadows": ...}
 *   POST   /policy/shadows/SPEC/reload   its file is read again
 *   DELETE /policy/shadows/SPEC          or its number
 *   GET    /record                       the recording, a file of neap's own format
 *   GET    /record/status
 *
 * A SPEC may name a file, which is then executed: whoever reaches this API can run what the server's user can read, as
 * with the modules of /adapters. Changes block, so threads of engine->changes make them. An error is {"error", "code"}.
 */
#include <stdlib.h>
#include <string.h>

#include "serve/http_call.h"

/* --- showing -------------------------------------------------------------------------------------------------- */

static void add_ratio(cJSON *json, const char *name, uint64_t part, uint64_t whole) {
  if (whole)
    cJSON_AddNumberToObject(json, name, (double)part / (double)whole);
  else
    cJSON_AddNullToObject(json, name);
}

/* predicted: of a shadow, beside what was found by the live engine over the same requests. */
static void add_tally(cJSON *json, const char *name, const neap__tally *t, bool predicted) {
  cJSON *to = cJSON_AddObjectToObject(json, name);
  neap__http_json_u64(to, "requests", t->requests);
  neap__http_json_u64(to, "chunks", t->asked);
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
  neap__http_json_u64(json, "used_bytes", s->used_kib * 1024);
  neap__http_json_u64(json, "capacity_bytes", s->capacity_kib * 1024);
  neap__http_json_u64(json, "evictions", s->evictions);
  neap__http_json_u64(json, "orphan_evictions", s->orphan_evictions);
  neap__http_json_u64(json, "forgotten_chunks", s->forgotten);
  neap__http_json_u64(json, "dropped_requests", s->dropped);
  neap__http_json_u64(json, "waiting_requests", s->waiting);
  cJSON_AddNumberToObject(json, "lag_ms", s->lag_ms);
  cJSON_AddNumberToObject(json, "age_seconds", age_s);
  cJSON_AddNumberToObject(json, "cpu_seconds", cpu_s);
  cJSON_AddNumberToObject(json, "cpu_share", age_s > 0 ? cpu_s / age_s : 0);
  return json;
}

static void add_shadows(cJSON *json, const neap__lab_status *lab) {
  cJSON *list = cJSON_AddArrayToObject(json, "shadows");
  for (uint32_t i = 0; i < lab->shadow_count; i++) cJSON_AddItemToArray(list, show_shadow(&lab->shadows[i]));
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
  neap__http_json_u64(json, "capacity_bytes", lab->l1_bytes);
  neap__http_json_u64(json, "events", in->events);
  neap__http_json_u64(json, "proposals", in->proposals);
  neap__http_json_u64(json, "refused_proposals", in->refused);
  neap__http_json_u64(json, "completed_victims", in->completed);
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
    neap__http_json_u64(misses, neap__fate_name((neap__fate_reason)i), stats.chunks[i]);
}

cJSON *neap__http_policy_json(const neap__http *http) {
  neap__lab_status *lab = malloc(sizeof(*lab));
  cJSON *json = cJSON_CreateObject();
  if (!lab) return json;
  neap__lab_status_get(http->config.engine->lab, lab);
  add_live(json, lab);
  add_tally(json, "window", &lab->window, false);
  add_tally(json, "total", &lab->total, false);
  cJSON_AddNumberToObject(json, "window_requests", lab->window_requests);
  neap__http_json_u64(json, "requests", lab->requests);
  neap__http_json_u64(json, "dropped_requests", lab->dropped);
  neap__http_json_u64(json, "waiting_requests", lab->waiting);
  add_misses(json, http->config.engine->fate);
  add_trial(json, lab);
  add_shadows(json, lab);
  add_changes(json, lab);
  free(lab);
  return json;
}

void neap__http_policy_get(neap__http_call *call) {
  neap__http_reply_json(call, MHD_HTTP_OK, neap__http_policy_json(call->http));
}

static void reply_shadows(neap__http_call *call, unsigned status) {
  neap__lab_status *lab = malloc(sizeof(*lab));
  if (!lab) return; /* no memory, no answer: the connection ends */
  cJSON *json = cJSON_CreateObject();
  neap__lab_status_get(call->http->config.engine->lab, lab);
  add_shadows(json, lab);
  free(lab);
  neap__http_reply_json(call, status, json);
}

void neap__http_shadows_list(neap__http_call *call) { reply_shadows(call, MHD_HTTP_OK); }

void neap__http_record_status(neap__http_call *call) {
  neap__lab_status *lab = malloc(sizeof(*lab));
  if (!lab) return;
  neap__lab_status_get(call->http->config.engine->lab, lab);
  const neap__lab_record_stats *r = &lab->record;
  cJSON *json = cJSON_CreateObject();
  cJSON_AddBoolToObject(json, "on", r->on);
  neap__http_json_u64(json, "requests", r->requests);
  neap__http_json_u64(json, "bytes", r->bytes);
  neap__http_json_u64(json, "bytes_max", r->bytes_max);
  neap__http_json_u64(json, "forgotten_requests", r->forgotten);
  neap__http_json_u64(json, "lost_requests", r->lost);
  neap__http_json_u64(json, "dropped_requests", lab->dropped);
  neap__http_json_u64(json, "references", r->references);
  neap__http_json_u64(json, "repeated_references", r->repeated);
  free(lab);
  neap__http_reply_json(call, MHD_HTTP_OK, json);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

typedef struct policy_order {
  neap__http_call *call;
  char spec[256];
  neap__lab_trial trial;
  void (*work)(struct policy_order *order);
  void (*answer)(struct policy_order *order);
  int fd;
  int rc;
  neap_error err;
} policy_order;

/* One member of a body. */
typedef struct member {
  const char *name;
  char *text; /* [256] */
  double *number;
  bool *flag;
} member;

static int read_member(const cJSON *item, const member *members, size_t count, neap_error *err) {
  const char *names[8];
  for (size_t i = 0; i < count; i++) {
    const member *m = &members[i];
    names[i] = m->name;
    if (strcmp(item->string, m->name) != 0) continue;
    const char *wants = m->text ? "a text of 1 to 255 bytes" : m->number ? "a number" : "true or false";
    bool fits = m->text     ? cJSON_IsString(item) && *item->valuestring && strlen(item->valuestring) < 256
                : m->number ? cJSON_IsNumber(item)
                            : cJSON_IsBool(item);
    char *shown = fits ? NULL : cJSON_PrintUnformatted(item);
    int rc = fits ? 0 : neap__fail(err, NEAP_EINVAL, "%s: is %.64s; expected %s", m->name, shown ? shown : "", wants);
    free(shown);
    if (rc) return rc;
    if (m->text) snprintf(m->text, 256, "%s", item->valuestring);
    if (m->number) *m->number = item->valuedouble;
    if (m->flag) *m->flag = cJSON_IsTrue(item);
    return 0;
  }
  const char *near = neap__nearest(item->string, names, count);
  return neap__fail(err, NEAP_EINVAL, "'%.64s' is unknown%s%s%s", item->string, near ? "; did you mean '" : "",
                    near ? near : "", near ? "'?" : "");
}

/* NULL: answered. */
static policy_order *read_order(neap__http_call *call, bool spec, bool trial) {
  cJSON *body = NULL;
  if (!neap__http_says_json(call) || !neap__http_body(call, &body)) return NULL;
  policy_order *order = calloc(1, sizeof(*order));
  if (!order) { /* no memory, no answer: the connection ends */
    cJSON_Delete(body);
    return NULL;
  }
  order->call = call;
  order->trial = NEAP_TRIAL_DEFAULT;
  member members[4] = {{.name = "warm", .flag = &order->trial.warm}};
  size_t count = 1;
  if (spec) members[count++] = (member){.name = "policy", .text = order->spec};
  if (trial) members[count++] = (member){.name = "trial_seconds", .number = &order->trial.seconds};
  if (trial) members[count++] = (member){.name = "bound", .number = &order->trial.bound};
  int rc = 0;
  for (const cJSON *item = body ? body->child : NULL; item && rc == 0; item = item->next)
    rc = read_member(item, members, count, &order->err);
  if (rc == 0 && spec && !order->spec[0])
    rc = neap__fail(&order->err, NEAP_EINVAL, "policy: is missing; expected a built-in's name or a file");
  cJSON_Delete(body);
  if (rc == 0) return order;
  neap__http_reply_failure(call, MHD_HTTP_BAD_REQUEST, rc, order->err.text);
  free(order);
  return NULL;
}

/* --- changing ------------------------------------------------------------------------------------------------- */

static void work(void *arg) {
  policy_order *order = arg;
  order->work(order);
  neap__http_wake(order->call);
}

static void answer(neap__http_call *call) {
  policy_order *order = call->state;
  bool file_missing = order->rc == NEAP_ENOENT && order->spec[0];
  if (order->rc)
    neap__http_reply_failure(call, file_missing ? MHD_HTTP_BAD_REQUEST : neap__http_status_of(order->rc), order->rc,
                             order->err.text);
  else
    order->answer(order);
  free(order);
}

static void start(policy_order *order, void (*run)(policy_order *), void (*reply)(policy_order *)) {
  neap__http_call *call = order->call;
  order->work = run;
  order->answer = reply;
  call->state = order;
  neap__http_wait(call, answer);
  if (neap__pool_submit(call->http->config.engine->changes, work, order) == 0) return;
  order->rc = neap__fail(&order->err, NEAP_EBUSY, "too many changes are waiting already");
  neap__http_wake(call);
}

static neap__lab *lab_of(const policy_order *order) { return order->call->http->config.engine->lab; }

static void reply_policy(policy_order *order) { neap__http_policy_get(order->call); }
static void reply_list(policy_order *order) { reply_shadows(order->call, MHD_HTTP_OK); }
static void reply_added(policy_order *order) { reply_shadows(order->call, MHD_HTTP_CREATED); }

static void do_switch(policy_order *order) {
  order->rc = neap__lab_switch(lab_of(order), order->spec, &order->trial, &order->err);
}

void neap__http_policy_switch(neap__http_call *call) {
  policy_order *order = read_order(call, true, true);
  if (order) start(order, do_switch, reply_policy);
}

static void do_reload(policy_order *order) { order->rc = neap__lab_reload(lab_of(order), &order->trial, &order->err); }

void neap__http_policy_reload(neap__http_call *call) {
  policy_order *order = read_order(call, false, true);
  if (order) start(order, do_reload, reply_policy);
}

static void do_add(policy_order *order) {
  order->rc = neap__lab_shadow_add(lab_of(order), order->spec, order->trial.warm, &order->err);
}

void neap__http_shadow_add(neap__http_call *call) {
  policy_order *order = read_order(call, true, false);
  if (order) start(order, do_add, reply_added);
}

/* The shadow is what stands in the path; "verb" behind it is not. */
static policy_order *named_order(neap__http_call *call, size_t bytes) {
  policy_order *order = read_order(call, false, false);
  if (order) snprintf(order->spec, sizeof(order->spec), "%.*s", (int)NEAP_MIN(bytes, 255), call->tail);
  return order;
}

static void do_shadow_reload(policy_order *order) {
  order->rc = neap__lab_shadow_reload(lab_of(order), order->spec, &order->err);
  order->spec[0] = '\0'; /* what is missing is the shadow, not what a body names */
}

void neap__http_shadow_reload(neap__http_call *call) {
  static const char verb[] = "/reload";
  size_t bytes = strlen(call->tail);
  if (bytes < sizeof(verb) || strcmp(call->tail + bytes - (sizeof(verb) - 1), verb) != 0) {
    neap__http_reply_detail(call, MHD_HTTP_NOT_FOUND, "Not Found");
    return;
  }
  policy_order *order = named_order(call, bytes - (sizeof(verb) - 1));
  if (order) start(order, do_shadow_reload, reply_list);
}

static void do_remove(policy_order *order) {
  order->rc = neap__lab_shadow_remove(lab_of(order), order->spec, &order->err);
  order->spec[0] = '\0';
}

void neap__http_shadow_remove(neap__http_call *call) {
  policy_order *order = named_order(call, strlen(call->tail));
  if (order) start(order, do_remove, reply_list);
}

/* --- the recording -------------------------------------------------------------------------------------------- */

static void do_record(policy_order *order) {
  order->rc = neap__lab_record_file(lab_of(order), &order->fd, &order->err);
}

static void reply_record(policy_order *order) {
  neap__http_reply_file(order->call, MHD_HTTP_OK, "application/octet-stream", order->fd);
}

void neap__http_record_get(neap__http_call *call) {
  policy_order *order = calloc(1, sizeof(*order));
  if (!order) return;
  order->call = call;
  start(order, do_record, reply_record);
}
