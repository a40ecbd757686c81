/* SPDX-License-Identifier: MIT
 *
 * list.c - a listing by ListObjectsV2, page by page: names that are no keys are passed over.
 *
 * Transfer thread; the sink is called there. Names come percent-encoded (encoding-type=url), for XML cannot carry all
 * of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "s3.h"

typedef struct listing {
  neap__s3_call call; /* first */
  neap__s3_request request;
  neap__s3 *s3;
  neap_op *op;
  bool truncated, stopped;
  char token[1024]; /* of the next page */
  char key[NEAP_KEY_TEXT_MAX * 3];
  uint64_t bytes;
  int64_t modified;
} listing;

static void ended(listing *l, int result) {
  neap__s3 *s3 = l->s3;
  neap_op *op = l->op;
  op->list_result = result;
  neap__s3_request_clear(&l->request);
  free(l);
  s3->host->done(s3->host->engine, op);
}

static int64_t time_of(const char *text) {
  struct tm tm = {.tm_isdst = 0};
  return strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) : 0;
}

/* Percent-decodes in place. */
static void unescape(char *text) {
  char *out = text;
  for (const char *at = text; *at; out++) {
    unsigned byte;
    if (*at == '%' && sscanf(at + 1, "%2x", &byte) == 1) {
      *out = (char)byte;
      at += 3;
    } else {
      *out = *at == '+' ? ' ' : *at;
      at++;
    }
  }
  *out = 0;
}

static void tell(listing *l) {
  char strings[NEAP_KEY_TEXT_MAX];
  neap_list_entry entry = {.bytes = l->bytes, .used_unix_s = l->modified};
  size_t prefix = strlen(l->s3->settings.prefix);
  unescape(l->key);
  if (strncmp(l->key, l->s3->settings.prefix, prefix) != 0) return;
  const neap_host *host = l->s3->host;
  if (host->key_parse(l->key + prefix, NEAP_KEY_NATIVE, &entry.key, strings, sizeof strings) != 0) return;
  l->stopped = l->op->sink(l->op, &entry) != 0;
}

static void on_element(void *ctx, const char *name, const char *text) {
  listing *l = ctx;
  if (strcmp(name, "Key") == 0) {
    snprintf(l->key, sizeof l->key, "%s", text);
  } else if (strcmp(name, "Size") == 0) {
    l->bytes = strtoull(text, NULL, 10);
  } else if (strcmp(name, "LastModified") == 0) {
    l->modified = time_of(text);
  } else if (strcmp(name, "Contents") == 0) {
    if (!l->stopped) tell(l);
    l->modified = 0;
    l->bytes = 0;
  } else if (strcmp(name, "IsTruncated") == 0) {
    l->truncated = strcmp(text, "true") == 0;
  } else if (strcmp(name, "NextContinuationToken") == 0) {
    snprintf(l->token, sizeof l->token, "%s", text);
  }
}

static void ask(listing *l);

static void on_page(neap__s3_request *r) {
  listing *l = r->ctx;
  l->truncated = false;
  int result = r->result;
  if (result == 0) result = r->text ? neap__s3_xml(r->text, r->text_bytes, on_element, l) : NEAP_EIO;
  if (result) neap__s3_say(l->s3, NEAP_WARNING, "listing: status %ld %s%s", r->status, r->error_code, r->curl_error);
  bool more = result == 0 && !l->stopped && l->truncated && l->token[0];
  if (more)
    ask(l);
  else
    ended(l, result);
}

/* The parameters in the order of their names, as the signature wants them. */
static void ask(listing *l) {
  char target[6000];
  char *token = neap__s3_escape(l->token, ""), *prefix = neap__s3_escape(l->s3->settings.prefix, "");
  int n = -1;
  if (token && prefix)
    n = snprintf(target, sizeof target, "/?%s%s%sencoding-type=url&list-type=2&prefix=%s",
                 token[0] ? "continuation-token=" : "", token, token[0] ? "&" : "", prefix);
  free(token);
  free(prefix);
  neap__s3_request_clear(&l->request);
  l->request = (neap__s3_request){.method = "GET", .done = on_page, .ctx = l, .deadline_ns = l->op->deadline_ns};
  if (n > 0 && (size_t)n < sizeof target) l->request.target = strdup(target);
  l->token[0] = 0;
  if (l->request.target)
    neap__s3_submit(l->s3->transfer, &l->request);
  else
    ended(l, NEAP_ENOMEM);
}

static void start(neap__s3_call *call) { ask((listing *)call); }

void neap__s3_list(neap__s3 *s3, neap_op *op) {
  listing *l = calloc(1, sizeof *l);
  if (!l) {
    op->list_result = NEAP_ENOMEM;
    s3->host->done(s3->host->engine, op);
    return;
  }
  l->call.run = start;
  l->s3 = s3;
  l->op = op;
  neap__s3_transfer_call(s3->transfer, &l->call);
}
