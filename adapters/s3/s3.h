/* SPDX-License-Identifier: MIT
 *
 * s3.h - what the files of the built-in type "s3" share: objects in a bucket of any S3-compatible service.
 *
 *   MODEL@RRRRRRRR@G@HASH[@SALT]   the object's bytes and nothing else, under the NATIVE form of its key: the names of
 *                                  LMCache's s3 adapter, which reads and writes the same objects
 *   x-amz-meta-neap-crc32c         their CRC-32C, 8 hex digits, checked after a load; objects without it are taken
 *
 *   any thread                     the transfer thread (transfer.c)              libcurl
 *     operation --neap__s3_post--> object.c: requests of each object --submit--> connections, SigV4, HTTP/2
 *                                  object.c: answers -> results  <--done--       retries by S3's rules
 *                                  last object of an operation: host->done
 *
 * Everything below neap__s3_post runs on the transfer thread, one per opened store, which never blocks but in poll. */
#pragma once
#include <neap/adapter.h>

#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>

#define NEAP__S3_CRC_HEADER "x-amz-meta-neap-crc32c"

typedef struct neap__s3_settings {
  char *base_url;                                         /* scheme://host[/bucket], without a slash at its end */
  char *prefix;                                           /* of every object name, may be "" */
  char *region, *access_key, *secret_key, *session_token; /* session_token may be NULL */
  char *ca_file;                                          /* NULL: the system's */
  bool http2;
  uint32_t connections, attempts;
  uint64_t part_bytes; /* longer objects go up and come down in parts of this size, side by side */
} neap__s3_settings;

typedef struct neap__s3_job neap__s3_job; /* one operation on its way; object.c */
typedef struct neap__s3_transfer neap__s3_transfer;

typedef struct neap__s3_call {
  void (*run)(struct neap__s3_call *call);
  struct neap__s3_call *next;
} neap__s3_call;

typedef struct neap__s3_stats {
  uint64_t requests, retries, failures, sent_bytes, received_bytes;
} neap__s3_stats;

typedef struct neap__s3 {
  const neap_host *host;
  neap__s3_settings settings;
  neap__s3_transfer *transfer;
  neap__s3_job *jobs;    /* transfer thread */
  bool no_if_none_match; /* transfer thread: the service refuses conditional writes, so stores look first */
} neap__s3;

/* One HTTP request. The submitter fills in the first part, owns the struct, and may free it from `done` on. */
typedef struct neap__s3_request {
  const char *method;         /* "HEAD", "GET", "PUT", "POST", "DELETE" */
  char *target;               /* what follows base_url: "/name?query", encoded; malloc'd */
  struct curl_slist *headers; /* or NULL */
  const char *body;           /* lives until done */
  uint64_t body_bytes;
  char *into; /* a good answer's body goes here and must have into_bytes; NULL: it is text */
  uint64_t into_bytes;
  void (*done)(struct neap__s3_request *request); /* once, on the transfer thread */
  void *ctx;
  uint64_t deadline_ns; /* 0 = none */
  /* the answer, valid in done */
  int result;  /* 0 for a status below 300; NEAP_ENOENT for 404, NEAP_EEXIST for 412, ... */
  long status; /* 0: no answer */
  char etag[80];
  char error_code[64]; /* S3's, such as "SlowDown"; "" */
  uint64_t length;     /* of the body, as announced (also of a HEAD) */
  uint64_t total;      /* of the object, as Content-Range says; 0: it does not */
  bool has_crc;
  uint32_t crc;
  char *text; /* a text body, NUL-terminated; or NULL */
  size_t text_bytes;
  /* transfer.c's */
  CURL *easy;
  struct curl_slist *sent_headers;
  char curl_error[CURL_ERROR_SIZE];
  uint64_t moved;        /* of body or into */
  bool active, overflow; /* active: between submit and done */
  uint32_t attempt;
  uint64_t due_ns;
  struct neap__s3_request *next, *before;
} neap__s3_request;

/* transfer.c. The thread starts with open and ends with close; nothing is in flight then. */
int neap__s3_transfer_open(neap__s3 *s3, neap_error *err);
void neap__s3_transfer_close(neap__s3_transfer *transfer);
/* Runs call->run(call) on the transfer thread; the call is the caller's, and free once it runs. Any thread. */
void neap__s3_transfer_call(neap__s3_transfer *transfer, neap__s3_call *call);
/* Transfer thread. */
void neap__s3_submit(neap__s3_transfer *transfer, neap__s3_request *request);
void neap__s3_abort(neap__s3_transfer *transfer, neap__s3_request *request); /* done follows, with NEAP_ECANCELED */
void neap__s3_request_clear(neap__s3_request *request);                      /* frees what hangs on it */
neap__s3_stats neap__s3_transfer_stats(neap__s3_transfer *transfer);         /* any thread */

/* object.c: takes the operation over; any thread. */
void neap__s3_post(neap__s3 *s3, neap_op *op);
void neap__s3_cancel(neap__s3 *s3, neap_op *op);

/* list.c: a listing, page by page; any thread. */
void neap__s3_list(neap__s3 *s3, neap_op *op);

/* xml.c: calls element(ctx, name, text) at the end of each element of a document; text is trimmed, valid during the
 * call. 0, or NEAP_EIO for what is no XML. */
int neap__s3_xml(const char *document, size_t bytes, void (*element)(void *ctx, const char *name, const char *text),
                 void *ctx);

/* s3.c: one log line. */
void neap__s3_say(neap__s3 *s3, neap_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* text with all but unreserved characters (and those of `also`) as %XX, malloc'd, NULL without memory. */
char *neap__s3_escape(const char *text, const char *also);
