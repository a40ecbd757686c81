/* SPDX-License-Identifier: MIT
 *
 * serve/http_call.h - what the files of the HTTP front end share: one request being answered, and the helpers that
 * read it and answer it. Everything runs on the HTTP thread but neap__http_wake. */
#pragma once
#include <cjson/cJSON.h>
#include <microhttpd.h>

#include "serve/http.h"
#include "serve/metrics.h"

#define NEAP_HTTP_BODY_MAX (8u << 20)
#define NEAP_HTTP_PREFETCHES_MAX 256u

/* One request. A handler answers it once with neap__http_reply*, or sets it aside with neap__http_wait. */
typedef struct neap__http_call {
  neap__http *http;
  struct MHD_Connection *connection;
  const char *path; /* decoded */
  const char *tail; /* what stands for the last '*' of the route, "" if the route has none */
  char *body;
  size_t body_bytes, body_cap;
  bool body_refused; /* larger than NEAP_HTTP_BODY_MAX, or no memory */
  bool waiting;
  bool queued;                                  /* the handler has queued a response of its own */
  void (*resume)(struct neap__http_call *call); /* runs once awake */
  void *state;                                  /* the waiting handler's */
  unsigned status;
  const char *content_type;
  char *text; /* the answer, NULL until there is one */
  size_t text_bytes;
  int fd; /* the answer is this file if it is above 0 */
} neap__http_call;

/* A prefetch that nobody has asked the result of yet. */
typedef struct neap__http_prefetch {
  char id[33];
  neap__fetch *fetch;
  uint32_t chunks, rows;
} neap__http_prefetch;

struct neap__http {
  neap__http_config config;
  struct MHD_Daemon *daemon;
  uint32_t port;
  uv_mutex_t lock; /* guards set_aside */
  uv_cond_t none_set_aside;
  uint32_t set_aside;
  neap__http_prefetch prefetches[NEAP_HTTP_PREFETCHES_MAX]; /* oldest first */
  uint32_t prefetch_count;
};

/* --- answering ------------------------------------------------------------------------------------------------ */

/* Each takes what it is given (text: malloc). reply_detail answers {"detail": ...}, reply_error {"error": ...}. */
void neap__http_reply(neap__http_call *call, unsigned status, const char *content_type, char *text);
void neap__http_reply_json(neap__http_call *call, unsigned status, cJSON *json);
void neap__http_reply_text(neap__http_call *call, unsigned status, const char *fmt, ...) NEAP_PRINTF(3, 4);
void neap__http_reply_detail(neap__http_call *call, unsigned status, const char *fmt, ...) NEAP_PRINTF(3, 4);
void neap__http_reply_error(neap__http_call *call, unsigned status, const char *fmt, ...) NEAP_PRINTF(3, 4);

/* {"error": what is wrong with which value, "code": NEAP_...}; "" is the code's own text. */
void neap__http_reply_failure(neap__http_call *call, unsigned status, int code, const char *text);
/* What the caller can do something about is 4xx; what a store said while it opened is 502. */
unsigned neap__http_status_of(int code);
/* A file from its start; closes fd. */
void neap__http_reply_file(neap__http_call *call, unsigned status, const char *content_type, int fd);

/* Sets the request aside until neap__http_wake; then resume runs. Call it before another thread can wake it. */
void neap__http_wait(neap__http_call *call, void (*resume)(neap__http_call *call));
void neap__http_wake(neap__http_call *call); /* any thread, once */

/* --- reading -------------------------------------------------------------------------------------------------- */

/* A query parameter, decoded, or NULL. */
const char *neap__http_query(neap__http_call *call, const char *name);
/* A page in somebody's browser can send a POST anywhere, but not with this content type. False: 415 was answered. */
bool neap__http_says_json(neap__http_call *call);
/* The body as a JSON object; *out stays NULL when there is no body. False: a 422 has been answered. */
bool neap__http_body(neap__http_call *call, cJSON **out);

/* A list of complaints as LMCache's framework words them, answered with 422 when it is not empty. loc holds the path
 * of the value, "body" or "query" first; input is copied. */
typedef struct neap__http_complaints {
  cJSON *list;
} neap__http_complaints;
void neap__http_complain(neap__http_complaints *complaints, const char *type, const char *msg, const cJSON *input,
                         cJSON *loc);
#define NEAP_HTTP_MISSING "missing", "Field required"
#define NEAP_HTTP_NO_STRING "string_type", "Input should be a valid string"
#define NEAP_HTTP_NO_BOOL "bool_type", "Input should be a valid boolean"
#define NEAP_HTTP_NO_LIST "list_type", "Input should be a valid list"
#define NEAP_HTTP_NO_NUMBER "float_type", "Input should be a valid number"
#define NEAP_HTTP_NO_INT "int_type", "Input should be a valid integer"
#define NEAP_HTTP_NO_UINT "int_type", "Input should be an integer from 0 to 4294967295"
bool neap__http_reply_complaints(neap__http_call *call, neap__http_complaints *complaints); /* true: answered */
cJSON *neap__http_loc(const char *first, const char *second);

/* An integer within min .. max. */
bool neap__http_integer(const cJSON *value, double min, double max, uint32_t *out);
/* The token ids of a list, malloc'd; one that is none is complained of, at its place behind loc, which is taken. NULL
 * without memory. */
uint32_t *neap__http_tokens(neap__http_complaints *complaints, const cJSON *ids, cJSON *loc, uint32_t *count);

/* --- building ------------------------------------------------------------------------------------------------- */

/* Numbers above 2^53 do not survive a double; this one writes the digits. */
void neap__http_json_u64(cJSON *object, const char *name, uint64_t value);

/* neap__tier_status as an object: what the adapter says of itself, with the framework's opinion in is_healthy. */
cJSON *neap__http_tier_status(neap__tier *tier, const neap__tier_stats *stats);

/* Holds the first L2 tier of that type or name (NULL: of all). False: a 404 or 503 has been answered. */
bool neap__http_hold_tier(neap__http_call *call, const char *type, neap__tier_entry *out);

/* --- routes ---------------------------------------------------------------------------------------------------- */

void neap__http_root(neap__http_call *call);
void neap__http_health(neap__http_call *call);
void neap__http_version(neap__http_call *call);
void neap__http_lmc_version(neap__http_call *call);
void neap__http_commit(neap__http_call *call);
void neap__http_config_get(neap__http_call *call);
void neap__http_adapters(neap__http_call *call);
void neap__http_tiers_list(neap__http_call *call);
void neap__http_tier_attach(neap__http_call *call);
void neap__http_tier_get(neap__http_call *call);
void neap__http_tier_reload(neap__http_call *call);
void neap__http_tier_configure(neap__http_call *call);
void neap__http_tier_detach(neap__http_call *call);
void neap__http_loglevel(neap__http_call *call);
void neap__http_run_script(neap__http_call *call);
void neap__http_checksums(neap__http_call *call);
void neap__http_quota_list(neap__http_call *call);
void neap__http_quota_get(neap__http_call *call);
void neap__http_quota_put(neap__http_call *call);
void neap__http_quota_delete(neap__http_call *call);
void neap__http_hints(neap__http_call *call);
void neap__http_status(neap__http_call *call);
void neap__http_metrics(neap__http_call *call);
void neap__http_policy_get(neap__http_call *call);
void neap__http_policy_switch(neap__http_call *call);
void neap__http_policy_reload(neap__http_call *call);
void neap__http_shadows_list(neap__http_call *call);
void neap__http_shadow_add(neap__http_call *call);
void neap__http_shadow_reload(neap__http_call *call);
void neap__http_shadow_remove(neap__http_call *call);
void neap__http_explain_get(neap__http_call *call);
void neap__http_explain_post(neap__http_call *call);
void neap__http_record_get(neap__http_call *call);
void neap__http_record_status(neap__http_call *call);
void neap__http_clear(neap__http_call *call);
void neap__http_objects_list(neap__http_call *call);
void neap__http_objects_delete(neap__http_call *call);
void neap__http_prefetch_start(neap__http_call *call);
void neap__http_prefetch_poll(neap__http_call *call);
void neap__http_console(neap__http_call *call);

/* http_policy.c: the answer to GET /policy, for whoever shows it in a larger one. */
cJSON *neap__http_policy_json(const neap__http *http);
