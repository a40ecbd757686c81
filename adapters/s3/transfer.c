/* SPDX-License-Identifier: MIT
 *
 * transfer.c - the transfer thread: requests on libcurl's multi interface, bodies straight from and into buffers.
 *
 * Retries follow AWS's advice for S3: no answer, 500, 502, 503, 504, 429 and codes such as SlowDown, RequestTimeout and
 * ConditionalRequestConflict are tried again after a random time below a bound that doubles ("full jitter", M. Brooker,
 * Exponential Backoff And Jitter, 2015), a bounded number of times and never past the deadline. libcurl signs (SigV4).
 * A buffer is not touched after its request's done. */
#include "s3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define BACKOFF_MS 50u
#define BACKOFF_MAX_MS 5000u
#define CONNECT_MS 5000L
#define SILENCE_S 20L /* a transfer that moves nothing for so long has failed */
#define TEXT_MAX (8u << 20)
#define IDLE_MS 60000

struct neap__s3_transfer {
  neap__s3 *s3;
  CURLM *multi;
  pthread_t thread;
  neap__s3_request *flying, *waiting; /* transfer thread */
  unsigned seed;
  pthread_mutex_t lock; /* guards what follows */
  neap__s3_call *first, *last;
  bool stopping;
  neap__s3_stats stats;
};

static uint64_t now_ns(const neap__s3_transfer *t) { return t->s3->host->now_ns(t->s3->host->engine); }

static void push(neap__s3_request **list, neap__s3_request *r) {
  r->before = NULL;
  r->next = *list;
  if (r->next) r->next->before = r;
  *list = r;
}

static void take(neap__s3_request **list, neap__s3_request *r) {
  *(r->before ? &r->before->next : list) = r->next;
  if (r->next) r->next->before = r->before;
  r->next = r->before = NULL;
}

/* --- bodies and headers --------------------------------------------------------------------------------------- */

static size_t on_read(char *out, size_t size, size_t count, void *data) {
  neap__s3_request *r = data;
  uint64_t n = size * count, left = r->body_bytes - r->moved;
  if (n > left) n = left;
  memcpy(out, r->body + r->moved, n);
  r->moved += n;
  return n;
}

static int on_seek(void *data, curl_off_t offset, int origin) {
  neap__s3_request *r = data;
  if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > r->body_bytes) return CURL_SEEKFUNC_FAIL;
  r->moved = (uint64_t)offset;
  return CURL_SEEKFUNC_OK;
}

static size_t keep_text(neap__s3_request *r, const char *data, size_t bytes) {
  if (r->text_bytes + bytes > TEXT_MAX) return 0;
  char *text = realloc(r->text, r->text_bytes + bytes + 1);
  if (!text) return 0;
  memcpy(text + r->text_bytes, data, bytes);
  r->text = text;
  r->text_bytes += bytes;
  text[r->text_bytes] = 0;
  return bytes;
}

static size_t on_write(char *data, size_t size, size_t count, void *arg) {
  neap__s3_request *r = arg;
  size_t bytes = size * count;
  long status = 0;
  curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
  if (!r->into || status >= 300) return keep_text(r, data, bytes);
  if (bytes > r->into_bytes - r->moved) {
    r->overflow = true; /* longer than the object can be: refused before a byte too many is written */
    return 0;
  }
  memcpy(r->into + r->moved, data, bytes);
  r->moved += bytes;
  return bytes;
}

/* The value of header `name` in line, trimmed, into out; false if line is another header. */
static bool header_is(const char *line, size_t bytes, const char *name, char *out, size_t cap) {
  size_t n = strlen(name);
  if (bytes <= n || strncasecmp(line, name, n) != 0 || line[n] != ':') return false;
  const char *at = line + n + 1, *end = line + bytes;
  while (at < end && (*at == ' ' || *at == '\t')) at++;
  while (end > at && strchr(" \t\r\n", end[-1])) end--;
  size_t length = (size_t)(end - at);
  if (length >= cap) length = cap - 1;
  memcpy(out, at, length);
  out[length] = 0;
  return true;
}

static size_t on_header(char *line, size_t size, size_t count, void *data) {
  neap__s3_request *r = data;
  size_t bytes = size * count;
  char value[128];
  if (header_is(line, bytes, "etag", r->etag, sizeof r->etag)) return bytes;
  if (header_is(line, bytes, "content-length", value, sizeof value)) {
    r->length = strtoull(value, NULL, 10);
  } else if (header_is(line, bytes, "content-range", value, sizeof value)) {
    const char *slash = strchr(value, '/');
    r->total = slash ? strtoull(slash + 1, NULL, 10) : 0;
  } else if (header_is(line, bytes, NEAP__S3_CRC_HEADER, value, sizeof value)) {
    char *end;
    unsigned long crc = strtoul(value, &end, 16);
    r->has_crc = strlen(value) == 8 && !*end;
    r->crc = (uint32_t)crc;
  }
  return bytes;
}

/* --- one attempt ---------------------------------------------------------------------------------------------- */

static void set_method(neap__s3_request *r) {
  bool put = strcmp(r->method, "PUT") == 0, post = strcmp(r->method, "POST") == 0;
  if (strcmp(r->method, "HEAD") == 0) curl_easy_setopt(r->easy, CURLOPT_NOBODY, 1L);
  if (strcmp(r->method, "DELETE") == 0) curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, "DELETE");
  if (!put && !post) return;
  curl_easy_setopt(r->easy, CURLOPT_UPLOAD, 1L);
  if (post) curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, "POST");
  curl_easy_setopt(r->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_bytes);
  curl_easy_setopt(r->easy, CURLOPT_READFUNCTION, on_read);
  curl_easy_setopt(r->easy, CURLOPT_READDATA, r);
  curl_easy_setopt(r->easy, CURLOPT_SEEKFUNCTION, on_seek);
  curl_easy_setopt(r->easy, CURLOPT_SEEKDATA, r);
}

static bool append(struct curl_slist **list, const char *line) {
  struct curl_slist *longer = curl_slist_append(*list, line);
  if (longer) *list = longer;
  return longer != NULL;
}

/* The signature covers the headers, so all of them are made here. */
static bool set_headers(const neap__s3_settings *settings, neap__s3_request *r) {
  char line[4096];
  bool ok = append(&r->sent_headers, "x-amz-content-sha256: UNSIGNED-PAYLOAD");
  if (settings->session_token) {
    snprintf(line, sizeof line, "x-amz-security-token: %s", settings->session_token);
    ok = ok && append(&r->sent_headers, line);
  }
  for (struct curl_slist *h = r->headers; ok && h; h = h->next) ok = append(&r->sent_headers, h->data);
  return ok && curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->sent_headers) == CURLE_OK;
}

static bool set_target(const neap__s3_settings *s, neap__s3_request *r) {
  char url[8192], user[1024], sigv4[256];
  if ((size_t)snprintf(url, sizeof url, "%s%s", s->base_url, r->target) >= sizeof url) return false;
  if ((size_t)snprintf(user, sizeof user, "%s:%s", s->access_key, s->secret_key) >= sizeof user) return false;
  if ((size_t)snprintf(sigv4, sizeof sigv4, "aws:amz:%s:s3", s->region) >= sizeof sigv4) return false;
  return curl_easy_setopt(r->easy, CURLOPT_URL, url) == CURLE_OK &&
         curl_easy_setopt(r->easy, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK &&
         curl_easy_setopt(r->easy, CURLOPT_USERPWD, user) == CURLE_OK &&
         curl_easy_setopt(r->easy, CURLOPT_AWS_SIGV4, sigv4) == CURLE_OK;
}

static void set_limits(const neap__s3_transfer *t, neap__s3_request *r) {
  curl_easy_setopt(r->easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(r->easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
  curl_easy_setopt(r->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(r->easy, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
  curl_easy_setopt(r->easy, CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
  curl_easy_setopt(r->easy, CURLOPT_BUFFERSIZE, 512L << 10);
  curl_easy_setopt(r->easy, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
  curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->curl_error);
  const neap__s3_settings *s = &t->s3->settings;
  curl_easy_setopt(r->easy, CURLOPT_HTTP_VERSION, s->http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(r->easy, CURLOPT_PROTOCOLS_STR, "http,https");
  if (s->ca_file) curl_easy_setopt(r->easy, CURLOPT_CAINFO, s->ca_file);
  if (!r->deadline_ns) return;
  uint64_t now = now_ns(t), left_ms = r->deadline_ns > now ? (r->deadline_ns - now) / NS_PER_MS : 0;
  curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS, left_ms ? (long)left_ms : 1L);
}

static void forget_answer(neap__s3_request *r) {
  free(r->text);
  r->text = NULL;
  r->text_bytes = 0;
  r->etag[0] = r->error_code[0] = r->curl_error[0] = 0;
  r->length = r->total = r->moved = 0;
  r->has_crc = r->overflow = false;
  r->status = 0;
}

static void forget_easy(neap__s3_request *r) {
  if (r->easy) curl_easy_cleanup(r->easy);
  r->easy = NULL;
  curl_slist_free_all(r->sent_headers);
  r->sent_headers = NULL;
}

static void finish(neap__s3_transfer *t, neap__s3_request *r, int result) {
  r->result = result;
  pthread_mutex_lock(&t->lock);
  t->stats.requests++;
  t->stats.failures += result && result != NEAP_ENOENT && result != NEAP_EEXIST;
  t->stats.sent_bytes += r->body_bytes;
  t->stats.received_bytes += r->into ? r->moved : r->text_bytes;
  pthread_mutex_unlock(&t->lock);
  forget_easy(r);
  r->active = false;
  r->done(r);
}

static void start(neap__s3_transfer *t, neap__s3_request *r) {
  forget_answer(r);
  if (r->deadline_ns && now_ns(t) >= r->deadline_ns) {
    finish(t, r, NEAP_ETIMEDOUT);
    return;
  }
  r->easy = curl_easy_init();
  bool ok = r->easy && set_target(&t->s3->settings, r) && set_headers(&t->s3->settings, r);
  if (ok) {
    set_method(r);
    set_limits(t, r);
    curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
    curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(r->easy, CURLOPT_HEADERDATA, r);
    ok = curl_multi_add_handle(t->multi, r->easy) == CURLM_OK;
  }
  if (!ok) {
    finish(t, r, NEAP_ENOMEM);
    return;
  }
  push(&t->flying, r);
}

/* --- the answer ----------------------------------------------------------------------------------------------- */

static void on_error_element(void *ctx, const char *name, const char *text) {
  neap__s3_request *r = ctx;
  if (strcmp(name, "Code") == 0) snprintf(r->error_code, sizeof r->error_code, "%s", text);
}

static int code_of(const neap__s3_request *r) {
  if (r->status < 300) return 0;
  if (strcmp(r->error_code, "KeyTooLongError") == 0) return strcmp(r->method, "GET") == 0 ? NEAP_ENOENT : NEAP_EINVAL;
  switch (r->status) {
    case 401:
    case 403: return NEAP_EPERM;
    case 404: return NEAP_ENOENT;
    case 412: return NEAP_EEXIST;   /* not 409: who was in the way may fail, too */
    case 416: return NEAP_ECORRUPT; /* shorter than it should be */
    case 501: return NEAP_ENOTSUP;
    case 507: return NEAP_ENOSPC;
    default: return NEAP_EIO;
  }
}

static bool worth_another(const neap__s3_request *r, CURLcode rc) {
  static const char *const codes[] = {"SlowDown",           "InternalError",    "RequestTimeout",
                                      "ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict"};
  if (r->overflow) return false;
  if (rc != CURLE_OK) return rc != CURLE_PEER_FAILED_VERIFICATION && rc != CURLE_URL_MALFORMAT;
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (strcmp(r->error_code, codes[i]) == 0) return true;
  return r->status == 429 || r->status == 500 || (r->status >= 502 && r->status <= 504);
}

static bool try_again(neap__s3_transfer *t, neap__s3_request *r) {
  uint64_t bound = BACKOFF_MS;
  if (++r->attempt >= t->s3->settings.attempts) return false;
  for (uint32_t i = 1; i < r->attempt && bound < BACKOFF_MAX_MS; i++) bound *= 2;
  r->due_ns = now_ns(t) + (uint64_t)rand_r(&t->seed) % (bound * NS_PER_MS);
  if (r->deadline_ns && r->due_ns >= r->deadline_ns) return false;
  pthread_mutex_lock(&t->lock);
  t->stats.retries++;
  pthread_mutex_unlock(&t->lock);
  forget_easy(r);
  push(&t->waiting, r);
  return true;
}

static void arrived(neap__s3_transfer *t, CURL *easy, CURLcode rc) {
  neap__s3_request *r = NULL;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &r);
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &r->status);
  curl_multi_remove_handle(t->multi, easy);
  take(&t->flying, r);
  if (r->status >= 300 && r->text) (void)neap__s3_xml(r->text, r->text_bytes, on_error_element, r);
  bool late = r->deadline_ns && now_ns(t) >= r->deadline_ns;
  if ((rc != CURLE_OK || r->status >= 300) && !late && worth_another(r, rc) && try_again(t, r)) return;
  int result = rc == CURLE_OK ? code_of(r) : late || rc == CURLE_OPERATION_TIMEDOUT ? NEAP_ETIMEDOUT : NEAP_EIO;
  if (r->overflow || (result == 0 && r->into && r->moved != r->into_bytes)) result = NEAP_ECORRUPT;
  finish(t, r, result);
}

/* --- the thread ----------------------------------------------------------------------------------------------- */

static void run_calls(neap__s3_transfer *t) {
  pthread_mutex_lock(&t->lock);
  neap__s3_call *c = t->first;
  t->first = t->last = NULL;
  pthread_mutex_unlock(&t->lock);
  for (neap__s3_call *next; c; c = next) {
    next = c->next;
    c->run(c);
  }
}

/* Starts what is due; milliseconds until the next one is. */
static int start_due(neap__s3_transfer *t) {
  uint64_t now = now_ns(t), wait = IDLE_MS * NS_PER_MS;
  for (neap__s3_request *r = t->waiting, *next; r; r = next) {
    next = r->next;
    if (r->due_ns <= now) {
      take(&t->waiting, r);
      start(t, r);
    } else if (r->due_ns - now < wait) {
      wait = r->due_ns - now;
    }
  }
  return (int)((wait + NS_PER_MS - 1) / NS_PER_MS);
}

static void *transfer_thread(void *arg) {
  neap__s3_transfer *t = arg;
  for (;;) {
    run_calls(t);
    int wait_ms = start_due(t), running, left;
    curl_multi_perform(t->multi, &running);
    bool any = false;
    for (CURLMsg *m; (m = curl_multi_info_read(t->multi, &left)) != NULL;) {
      if (m->msg != CURLMSG_DONE) continue;
      any = true;
      arrived(t, m->easy_handle, m->data.result);
    }
    pthread_mutex_lock(&t->lock);
    bool more = any || t->first != NULL, stop = t->stopping;
    pthread_mutex_unlock(&t->lock);
    if (stop && !more) return NULL;
    if (!more) curl_multi_poll(t->multi, NULL, 0, wait_ms, NULL);
  }
}

void neap__s3_transfer_call(neap__s3_transfer *t, neap__s3_call *call) {
  call->next = NULL;
  pthread_mutex_lock(&t->lock);
  *(t->last ? &t->last->next : &t->first) = call;
  t->last = call;
  curl_multi_wakeup(t->multi); /* under the lock: once the call could run, the store may be closed */
  pthread_mutex_unlock(&t->lock);
}

void neap__s3_submit(neap__s3_transfer *t, neap__s3_request *r) {
  r->attempt = 0;
  r->active = true;
  start(t, r);
}

void neap__s3_abort(neap__s3_transfer *t, neap__s3_request *r) {
  if (r->easy) {
    curl_multi_remove_handle(t->multi, r->easy);
    take(&t->flying, r);
  } else {
    take(&t->waiting, r);
  }
  finish(t, r, NEAP_ECANCELED);
}

void neap__s3_request_clear(neap__s3_request *r) {
  free(r->target);
  free(r->text);
  curl_slist_free_all(r->headers);
  r->target = r->text = NULL;
  r->headers = NULL;
}

neap__s3_stats neap__s3_transfer_stats(neap__s3_transfer *t) {
  pthread_mutex_lock(&t->lock);
  neap__s3_stats stats = t->stats;
  pthread_mutex_unlock(&t->lock);
  return stats;
}

int neap__s3_transfer_open(neap__s3 *s3, neap_error *err) {
  neap__s3_transfer *t = calloc(1, sizeof *t);
  if (t) t->multi = curl_multi_init();
  if (!t || !t->multi) {
    free(t);
    snprintf(err->text, sizeof err->text, "out of memory");
    return NEAP_ENOMEM;
  }
  t->s3 = s3;
  t->seed = (unsigned)(now_ns(t) ^ (uint64_t)getpid());
  pthread_mutex_init(&t->lock, NULL);
  curl_multi_setopt(t->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)s3->settings.connections);
  curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long)s3->settings.connections);
  if (pthread_create(&t->thread, NULL, transfer_thread, t) != 0) {
    snprintf(err->text, sizeof err->text, "cannot start the transfer thread");
    curl_multi_cleanup(t->multi);
    pthread_mutex_destroy(&t->lock);
    free(t);
    return NEAP_ENOMEM;
  }
  s3->transfer = t;
  return 0;
}

void neap__s3_transfer_close(neap__s3_transfer *t) {
  pthread_mutex_lock(&t->lock);
  t->stopping = true;
  pthread_mutex_unlock(&t->lock);
  curl_multi_wakeup(t->multi);
  pthread_join(t->thread, NULL);
  curl_multi_cleanup(t->multi);
  pthread_mutex_destroy(&t->lock);
  free(t);
}
