/* SPDX-License-Identifier: MIT
 *
 * cli/ctl_http.c - see cli/ctl_http.h. Bounded: JSON of ANSWER_MAX bytes, CONNECT_S to connect, ANSWER_S for the
 * answer, for a change waits until an adapter is open or has given back what it has. */
#include "ctl_http.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (16u << 20)
#define CONNECT_S 5L
#define ANSWER_S 660L

typedef struct received {
  char *at;
  size_t bytes, most;
} received;

static size_t take(char *data, size_t size, size_t count, void *ctx) {
  received *t = ctx;
  size_t more = size * count;
  if (more > t->most - t->bytes) return 0;
  char *grown = realloc(t->at, t->bytes + more + 1);
  if (!grown) return 0;
  memcpy(grown + t->bytes, data, more);
  t->at = grown;
  t->bytes += more;
  grown[t->bytes] = '\0';
  return more;
}

static int explain(CURLcode code, const char *base, const char *why, neap_error *err) {
  const char *text = *why ? why : curl_easy_strerror(code);
  if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
    return neap__fail(err, NEAP_EINVAL, "--url: '%.128s' is not valid; expected http://HOST:PORT", base);
  if (code == CURLE_OUT_OF_MEMORY) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  if (code == CURLE_OPERATION_TIMEDOUT) return neap__fail(err, NEAP_ETIMEDOUT, "%s: %s", base, text);
  return neap__fail(err, NEAP_ECLOSED, "no server answers at %s: %s", base, text);
}

int neap__ctl_fetch(const char *base, const char *method, const char *path, const char *body, size_t most, long *status,
                    char **answer, size_t *bytes, neap_error *err) {
  char url[4096], why[CURL_ERROR_SIZE] = "";
  received got = {.most = most};
  size_t length = strlen(base);
  while (length && base[length - 1] == '/') length--;
  *answer = NULL;
  int n = snprintf(url, sizeof url, "%.*s%s", (int)NEAP_MIN(length, sizeof url), base, path);
  if (n < 0 || (size_t)n >= sizeof url) return neap__fail(err, NEAP_EINVAL, "--url: longer than %zu bytes", sizeof url);
  struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
  CURL *curl = curl_easy_init();
  CURLcode code = curl && headers ? CURLE_OK : CURLE_OUT_OF_MEMORY;
  if (code == CURLE_OK) {
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* it is this machine, most of the time */
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, ANSWER_S);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &got);
    if (body) curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (body) curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
  }
  curl_easy_cleanup(curl);
  curl_slist_free_all(headers);
  if (code != CURLE_OK) {
    free(got.at);
    return explain(code, base, why, err);
  }
  *answer = got.at ? got.at : strdup("");
  *bytes = got.bytes;
  return *answer ? 0 : neap__fail(err, NEAP_ENOMEM, "out of memory");
}

int neap__ctl_request(const char *base, const char *method, const char *path, const char *body, long *status,
                      cJSON **answer, neap_error *err) {
  char *text = NULL;
  size_t bytes;
  *answer = NULL;
  int rc = neap__ctl_fetch(base, method, path, body, ANSWER_MAX, status, &text, &bytes, err);
  if (rc == 0) *answer = cJSON_Parse(text);
  free(text);
  return rc;
}

char *neap__ctl_escape(const char *word) {
  static const char hex[] = "0123456789ABCDEF";
  char *out = malloc(3 * strlen(word) + 1), *to = out;
  for (const unsigned char *c = (const unsigned char *)word; out && *c; c++) {
    bool plain = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '-' ||
                 *c == '_' || (*c == '.' && c != (const unsigned char *)word);
    if (plain) {
      *to++ = (char)*c;
      continue;
    }
    *to++ = '%';
    *to++ = hex[*c >> 4];
    *to++ = hex[*c & 15];
  }
  if (out) *to = '\0';
  return out;
}
