/* SPDX-License-Identifier: MIT
 *
 * s3.c - the built-in type "s3": parameters and the table. LMCache's names where it has them; `bucket` (for services
 * that have no bucket in their host name), `prefix` and what tunes transfers are neap's own. */
#include "s3.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define CHECK_MS 10000

void neap__s3_say(neap__s3 *s3, neap_log_level level, const char *format, ...) {
  char line[768];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  s3->host->log(s3->host->engine, level, line);
}

char *neap__s3_escape(const char *text, const char *also) {
  static const char digits[] = "0123456789ABCDEF";
  char *out = malloc(3 * strlen(text) + 1), *at = out;
  if (!out) return NULL;
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    bool plain = isalnum(*c) || strchr("-._~", *c) || strchr(also, *c);
    if (plain) {
      *at++ = (char)*c;
    } else {
      *at++ = '%';
      *at++ = digits[*c >> 4];
      *at++ = digits[*c & 15];
    }
  }
  *at = 0;
  return out;
}

/* --- parameters ----------------------------------------------------------------------------------------------- */

static const char *text_of(const cJSON *params, const char *name) {
  return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, name));
}

static double number_of(const cJSON *params, const char *name) {
  return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(params, name));
}

static bool flag_of(const cJSON *params, const char *name) {
  return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(params, name));
}

static char *copy(const char *text) { return text && *text ? strdup(text) : NULL; }

static int refuse(neap_error *err, const char *text) {
  snprintf(err->text, sizeof err->text, "%s", text);
  return NEAP_EINVAL;
}

/* A parameter, or what the environment says in the way of AWS's tools. */
static char *credential(const cJSON *params, const char *name, const char *variable) {
  const char *given = text_of(params, name);
  return copy(given ? given : getenv(variable));
}

static int read_credentials(neap__s3_settings *s, const cJSON *params, neap_error *err) {
  s->access_key = credential(params, "aws_access_key_id", "AWS_ACCESS_KEY_ID");
  s->secret_key = credential(params, "aws_secret_access_key", "AWS_SECRET_ACCESS_KEY");
  s->session_token = credential(params, "aws_session_token", "AWS_SESSION_TOKEN");
  if (s->access_key && s->secret_key) return 0;
  return refuse(err,
                "aws_access_key_id and aws_secret_access_key are needed, here or as AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY in the environment");
}

/* "s3://host", "http://host", "https://host" or "host", with or without a port. */
static int read_endpoint(neap__s3_settings *s, const cJSON *params, neap_error *err) {
  const char *endpoint = text_of(params, "s3_endpoint"), *bucket = text_of(params, "bucket");
  const char *scheme = flag_of(params, "disable_tls") ? "http" : "https", *host = strstr(endpoint, "://");
  if (!host) {
    host = endpoint;
  } else {
    size_t n = (size_t)(host - endpoint);
    if (n == 4 && strncmp(endpoint, "http", 4) == 0)
      scheme = "http";
    else if (!(n == 5 && strncmp(endpoint, "https", 5) == 0) && !(n == 2 && strncmp(endpoint, "s3", 2) == 0))
      return refuse(err, "s3_endpoint must be HOST, HOST:PORT, s3://HOST, http://HOST or https://HOST");
    host += 3;
  }
  size_t host_bytes = strcspn(host, "/?#");
  if (!host_bytes || (host[host_bytes] && strcmp(host + host_bytes, "/") != 0))
    return refuse(err, "s3_endpoint must be a host, without a path; the bucket goes into the host or into 'bucket'");
  if (bucket && strpbrk(bucket, "/?#%")) return refuse(err, "bucket must be a bucket's name");
  size_t cap = host_bytes + (bucket ? strlen(bucket) : 0) + 16;
  s->base_url = malloc(cap);
  if (!s->base_url) return NEAP_ENOMEM;
  snprintf(s->base_url, cap, "%s://%.*s%s%s", scheme, (int)host_bytes, host, bucket ? "/" : "", bucket ? bucket : "");
  return 0;
}

static int read_settings(neap__s3_settings *s, const cJSON *params, neap_error *err) {
  const char *prefix = text_of(params, "prefix");
  int rc = read_endpoint(s, params, err);
  if (rc == 0) rc = read_credentials(s, params, err);
  if (rc) return rc;
  s->region = copy(text_of(params, "s3_region"));
  s->prefix = strdup(prefix ? prefix : "");
  s->ca_file = copy(text_of(params, "ca_file"));
  s->http2 = flag_of(params, "s3_prefer_http2");
  s->connections = (uint32_t)number_of(params, "s3_num_io_threads");
  s->attempts = (uint32_t)number_of(params, "attempts");
  s->part_bytes = (uint64_t)number_of(params, "part_mb") * MIB;
  return s->region && s->prefix ? 0 : NEAP_ENOMEM;
}

/* --- open and close ------------------------------------------------------------------------------------------- */

static void close_store(void *self) {
  neap__s3 *s3 = self;
  neap__s3_settings *s = &s3->settings;
  if (s3->transfer) neap__s3_transfer_close(s3->transfer);
  char *texts[] = {s->base_url, s->prefix, s->region, s->access_key, s->secret_key, s->session_token, s->ca_file};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
  free(s3);
}

/* One question at open, so that wrong credentials, a wrong region or a missing bucket are told at once. */
typedef struct check {
  neap__s3_call call; /* first */
  neap__s3_request request;
  neap__s3 *s3;
  pthread_mutex_t lock;
  pthread_cond_t answered;
  bool ended;
} check;

static void check_done(neap__s3_request *r) {
  check *c = r->ctx;
  pthread_mutex_lock(&c->lock);
  c->ended = true;
  pthread_cond_signal(&c->answered);
  pthread_mutex_unlock(&c->lock);
}

static void check_run(neap__s3_call *call) {
  check *c = (check *)call;
  neap__s3_submit(c->s3->transfer, &c->request);
}

static int check_bucket(neap__s3 *s3, neap_error *err) {
  uint64_t until = s3->host->now_ns(s3->host->engine) + CHECK_MS * UINT64_C(1000000);
  check c = {.call = {.run = check_run}, .s3 = s3};
  c.request = (neap__s3_request){.method = "GET",
                                 .target = strdup("/?list-type=2&max-keys=1"),
                                 .done = check_done,
                                 .ctx = &c,
                                 .deadline_ns = until};
  pthread_mutex_init(&c.lock, NULL);
  pthread_cond_init(&c.answered, NULL);
  if (c.request.target) {
    neap__s3_transfer_call(s3->transfer, &c.call);
    pthread_mutex_lock(&c.lock);
    while (!c.ended) pthread_cond_wait(&c.answered, &c.lock);
    pthread_mutex_unlock(&c.lock);
  } else {
    c.request.result = NEAP_ENOMEM;
  }
  const neap__s3_request *r = &c.request;
  if (r->result)
    snprintf(err->text, sizeof err->text, "%s: cannot list the bucket: status %ld%s%s %s", s3->settings.base_url,
             r->status, r->error_code[0] ? " " : "", r->error_code, r->curl_error);
  int rc = r->result;
  neap__s3_request_clear(&c.request);
  pthread_cond_destroy(&c.answered);
  pthread_mutex_destroy(&c.lock);
  return rc;
}

static int open_store(const neap_adapter *adapter, const neap_host *host, const char *params_json, void **self,
                      neap_error *err) {
  (void)adapter;
  neap__s3 *s3 = calloc(1, sizeof *s3);
  cJSON *params = cJSON_Parse(params_json);
  int rc = s3 && params && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : NEAP_ENOMEM;
  if (rc == 0) {
    s3->host = host;
    rc = read_settings(&s3->settings, params, err);
  }
  bool checks = flag_of(params, "check");
  cJSON_Delete(params);
  if (rc == 0) rc = neap__s3_transfer_open(s3, err);
  if (rc == 0 && checks) rc = check_bucket(s3, err);
  if (rc) {
    if (rc == NEAP_ENOMEM) snprintf(err->text, sizeof err->text, "out of memory");
    if (s3) close_store(s3);
    return rc;
  }
  neap__s3_say(s3, NEAP_INFO, "Initialized S3L2Adapter with %s, region %s, %u connections", s3->settings.base_url,
               s3->settings.region, s3->settings.connections);
  *self = s3;
  return 0;
}

static int status(void *self, char *json, size_t cap) {
  neap__s3 *s3 = self;
  neap__s3_stats stats = neap__s3_transfer_stats(s3->transfer);
  int n = snprintf(json, cap,
                   "{\"is_healthy\":true,\"type\":\"S3L2Adapter\",\"endpoint\":\"%s\",\"requests\":%llu,"
                   "\"retries\":%llu,\"failures\":%llu,\"sent_bytes\":%llu,\"received_bytes\":%llu}",
                   s3->settings.base_url, (unsigned long long)stats.requests, (unsigned long long)stats.retries,
                   (unsigned long long)stats.failures, (unsigned long long)stats.sent_bytes,
                   (unsigned long long)stats.received_bytes);
  return n >= 0 && (size_t)n < cap ? n : NEAP_ELIMIT;
}

static void run(void *self, neap_op *op) { neap__s3_post(self, op); }
static void list(void *self, neap_op *op) { neap__s3_list(self, op); }
static void cancel(void *self, neap_op *op) { neap__s3_cancel(self, op); }

const neap_adapter neap__s3_adapter = {
    NEAP_ADAPTER_INIT("s3", "1.0"),
    .schema_json =
        "{\"s3_endpoint\":{\"type\":\"string\",\"required\":true,"
        "\"doc\":\"host of the bucket, or of the service if 'bucket' is given; may carry s3://, http:// or https://\"},"
        "\"s3_region\":{\"type\":\"string\",\"required\":true,\"doc\":\"region that requests are signed for\"},"
        "\"bucket\":{\"type\":\"string\",\"min\":1,\"doc\":\"puts the bucket into the path instead of the host\"},"
        "\"prefix\":{\"type\":\"string\",\"max\":512,\"doc\":\"goes before every object's name\"},"
        "\"disable_tls\":{\"type\":\"boolean\",\"default\":false},"
        "\"ca_file\":{\"type\":\"string\",\"doc\":\"certificates to trust instead of the system's\"},"
        "\"aws_access_key_id\":{\"type\":\"string\"},"
        "\"aws_secret_access_key\":{\"type\":\"string\"},"
        "\"aws_session_token\":{\"type\":\"string\"},"
        "\"s3_num_io_threads\":{\"type\":\"integer\",\"min\":1,\"max\":1024,\"default\":64,"
        "\"doc\":\"connections at most\"},"
        "\"s3_prefer_http2\":{\"type\":\"boolean\",\"default\":true},"
        "\"part_mb\":{\"type\":\"integer\",\"min\":5,\"max\":4096,\"default\":16,"
        "\"doc\":\"longer objects travel in parts of this size\"},"
        "\"attempts\":{\"type\":\"integer\",\"min\":1,\"max\":20,\"default\":4,"
        "\"doc\":\"of a request that may be tried again\"},"
        "\"check\":{\"type\":\"boolean\",\"default\":true,\"doc\":\"try the bucket at start\"}}",
    .open = open_store,
    .store = run,
    .lookup = run,
    .load = run,
    .remove = run,
    .list = list,
    .cancel = cancel,
    .status = status,
    .close = close_store,
};

NEAP_ADAPTER_BUILTIN(neap__s3_adapter)
