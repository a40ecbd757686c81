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

#include "lab/show.h"
#include "serve/http_call.h"

/* --- showing -------------------------------------------------------------------------------------------------- */

cJSON *neap__http_policy_json(const neap__http *http) {
  return neap__lab_policy_json(http->config.engine->lab, http->config.engine->fate);
}

void neap__http_policy_get(neap__http_call *call) {
  neap__http_reply_json(call, MHD_HTTP_OK, neap__http_policy_json(call->http));
}

static void reply_shadows(neap__http_call *call, unsigned status) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddItemToObject(json, "shadows", neap__lab_shadows_json(call->http->config.engine->lab));
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
