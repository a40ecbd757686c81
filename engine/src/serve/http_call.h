/* SPDX-License-Identifier: MIT
 *
 * serve/http_call.h - what the files of the HTTP front end share: one request being answered, and the helpers that
 * read it and answer it. Everything runs on the HTTP thread but neap__call_wake. */
#pragma once
#include <cjson/cJSON.h>
#include <microhttpd.h>

#include "serve/http.h"
#include "serve/metrics.h"

#define NEAP_HTTP_BODY_MAX (8u << 20)
#define NEAP_HTTP_PREFETCHES_MAX 256u

/* One request. A handler answers it once with neap__reply*, or sets it aside with neap__call_wait. */
typedef struct neap__call {
  neap__http *http;
  struct MHD_Connection *connection;
  const char *path; /* decoded */
  const char *tail; /* what stands for the last '*' of the route, "" if the route has none */
  char *body;
  size_t body_bytes, body_cap;
  bool body_refused; /* larger than NEAP_HTTP_BODY_MAX, or no memory */
  bool waiting;
  void (*resume)(struct neap__call *call); /* runs once awake */
  void *state;                             /* the waiting handler's */
  unsigned status;
  const char *content_type;
  char *text; /* the answer, NULL until there is one */
  size_t text_bytes;
} neap__call;

/* A prefetch that nobody has asked the result of yet. */
typedef struct neap__prefetch {
  char id[33];
  neap__fetch *fetch;
  uint32_t chunks, rows;
} neap__prefetch;

struct neap__http {
  neap__http_config config;
  struct MHD_Daemon *daemon;
  uint32_t port;
  uv_mutex_t lock; /* guards set_aside */
  uv_cond_t none_set_aside;
  uint32_t set_aside;
  neap__prefetch prefetches[NEAP_HTTP_PREFETCHES_MAX]; /* oldest first */
  uint32_t prefetch_count;
};

/* --- answering ------------------------------------------------------------------------------------------------ */

void neap__reply(neap__call *call, unsigned status, const char *content_type, char *text); /* takes text (malloc) */
void neap__reply_json(neap__call *call, unsigned status, cJSON *json);                     /* takes json */
void neap__reply_text(neap__call *call, unsigned status, const char *fmt, ...) NEAP_PRINTF(3, 4);
void neap__reply_detail(neap__call *call, unsigned status, const char *fmt, ...) NEAP_PRINTF(3, 4); /* {"detail"} */
void neap__reply_error(neap__call *call, unsigned status, const char *fmt, ...) NEAP_PRINTF(3, 4);  /* {"error"} */

/* Sets the request aside until neap__call_wake; then resume runs. Call it before another thread can wake it. */
void neap__call_wait(neap__call *call, void (*resume)(neap__call *call));
void neap__call_wake(neap__call *call); /* any thread, once */

/* --- reading -------------------------------------------------------------------------------------------------- */

/* A query parameter, decoded, or NULL. */
const char *neap__call_query(neap__call *call, const char *name);
/* The body as a JSON object; *out stays NULL when there is no body. False: a 422 has been answered. */
bool neap__call_body(neap__call *call, cJSON **out);

/* A list of complaints as LMCache's framework words them, answered with 422 when it is not empty. loc holds the path
 * of the value, "body" or "query" first; input is copied. */
typedef struct neap__complaints {
  cJSON *list;
} neap__complaints;
void neap__complain(neap__complaints *complaints, const char *type, const char *msg, const cJSON *input, cJSON *loc);
bool neap__reply_complaints(neap__call *call, neap__complaints *complaints); /* true: answered */
cJSON *neap__loc(const char *first, const char *second);

/* --- building ------------------------------------------------------------------------------------------------- */

/* Numbers above 2^53 do not survive a double; this one writes the digits. */
void neap__json_u64(cJSON *object, const char *name, uint64_t value);

/* The first L2 tier of that type (NULL: of all), or NULL and a 404 or 503 has been answered. */
neap__tier *neap__http_find_tier(neap__call *call, const char *type);

/* --- routes ---------------------------------------------------------------------------------------------------- */

void neap__http_root(neap__call *call);
void neap__http_health(neap__call *call);
void neap__http_version(neap__call *call);
void neap__http_lmc_version(neap__call *call);
void neap__http_commit(neap__call *call);
void neap__http_config_get(neap__call *call);
void neap__http_adapters(neap__call *call);
void neap__http_loglevel(neap__call *call);
void neap__http_run_script(neap__call *call);
void neap__http_checksums(neap__call *call);
void neap__http_quota_list(neap__call *call);
void neap__http_quota_get(neap__call *call);
void neap__http_quota_put(neap__call *call);
void neap__http_quota_delete(neap__call *call);
void neap__http_status(neap__call *call);
void neap__http_metrics(neap__call *call);
void neap__http_clear(neap__call *call);
void neap__http_objects_list(neap__call *call);
void neap__http_objects_delete(neap__call *call);
void neap__http_prefetch_start(neap__call *call);
void neap__http_prefetch_poll(neap__call *call);
