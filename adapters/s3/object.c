/* SPDX-License-Identifier: MIT
 *
 * object.c - what each operation asks of the service, object by object, all objects side by side.
 *
 *   lookup  HEAD
 *   load    GET, or one GET with a Range per part; the parts must be of one ETag
 *   store   PUT if there is none (If-None-Match: *), or HEAD, PUT where the service has no conditional writes
 *           HEAD, POST ?uploads, PUT of each part, POST of the list; DELETE of the upload after a failure
 *   remove  HEAD, DELETE (a DELETE alone does not tell whether there was anything)
 *
 * Transfer thread, but for post and cancel. A canceled operation starts nothing more, except that it takes an
 * unfinished upload back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "s3.h"

#define CLEANUP_NS UINT64_C(10000000000)
#define NAME_BYTES_MAX 1024u /* of S3; longer names have nothing under them */

typedef struct item {
  neap__s3_job *job;
  neap_object *object;
  char *path; /* "/PREFIXNAME", encoded */
  neap__s3_request request;
  neap__s3_request *parts;
  uint32_t part_count, parts_left;
  int code; /* the first failure of a part */
  char upload_id[512];
  char *manifest;
  uint32_t crc;
} item;

struct neap__s3_job {
  neap__s3_call call; /* first */
  neap__s3 *s3;
  neap_op *op;
  neap__s3_job *next, *before;
  uint32_t left;
  bool canceled;
  item items[];
};

/* --- ends ----------------------------------------------------------------------------------------------------- */

static void job_end(neap__s3_job *job) {
  const neap_host *host = job->s3->host;
  neap_op *op = job->op;
  *(job->before ? &job->before->next : &job->s3->jobs) = job->next;
  if (job->next) job->next->before = job->before;
  free(job);
  host->done(host->engine, op);
}

static void complain(const item *it, const neap__s3_request *r) {
  const char *why = r->curl_error[0] ? r->curl_error : r->error_code;
  neap__s3_say(it->job->s3, NEAP_WARNING, "%s %.120s: status %ld%s%s", r->method, it->path, r->status,
               why[0] ? ", " : "", why);
}

static void item_end(item *it, int result) {
  it->object->result = result;
  neap__s3_request_clear(&it->request);
  for (uint32_t i = 0; i < it->part_count; i++) neap__s3_request_clear(&it->parts[i]);
  free(it->parts);
  free(it->manifest);
  free(it->path);
  if (--it->job->left == 0) job_end(it->job);
}

/* Ends an item by the answer of r, telling what is unusual about it. */
static void item_end_by(item *it, const neap__s3_request *r) {
  if (r->result == NEAP_EIO || r->result == NEAP_EPERM || r->result == NEAP_ENOSPC || r->result == NEAP_ENOTSUP)
    complain(it, r);
  item_end(it, r->result);
}

/* --- requests ------------------------------------------------------------------------------------------------- */

static char *target_of(const item *it, const char *query) {
  size_t n = strlen(it->path) + strlen(query) + 1;
  char *target = malloc(n);
  if (target) snprintf(target, n, "%s%s", it->path, query);
  return target;
}

static bool add_header(neap__s3_request *r, const char *line) {
  struct curl_slist *longer = curl_slist_append(r->headers, line);
  if (longer) r->headers = longer;
  return longer != NULL;
}

/* Makes r a new request; what it was before is freed. false without memory. */
static bool make(item *it, neap__s3_request *r, const char *method, const char *query,
                 void (*done)(neap__s3_request *r)) {
  neap__s3_request_clear(r);
  *r = (neap__s3_request){.method = method, .done = done, .ctx = it, .deadline_ns = it->job->op->deadline_ns};
  r->target = target_of(it, query);
  return r->target != NULL;
}

static void dispatch(item *it, neap__s3_request *r) { neap__s3_submit(it->job->s3->transfer, r); }

static void ask(item *it, const char *method, void (*done)(neap__s3_request *r)) {
  if (it->job->canceled)
    item_end(it, NEAP_ECANCELED);
  else if (make(it, &it->request, method, "", done))
    dispatch(it, &it->request);
  else
    item_end(it, NEAP_ENOMEM);
}

static bool add_crc(item *it, neap__s3_request *r) {
  char line[64];
  snprintf(line, sizeof line, NEAP__S3_CRC_HEADER ": %08x", it->crc);
  return add_header(r, line);
}

/* --- lookup, remove ------------------------------------------------------------------------------------------- */

static void on_looked(neap__s3_request *r) {
  item *it = r->ctx;
  if (r->result == 0) {
    it->object->stored_bytes = r->length;
    if (it->object->bytes && it->object->bytes != r->length) r->result = NEAP_ECORRUPT;
  }
  item_end_by(it, r);
}

static void on_removed(neap__s3_request *r) { item_end_by(r->ctx, r); }

static void on_seen_before_remove(neap__s3_request *r) {
  if (r->result == 0)
    ask(r->ctx, "DELETE", on_removed);
  else
    item_end_by(r->ctx, r);
}

/* --- load ----------------------------------------------------------------------------------------------------- */

static uint64_t part_offset(const item *it, uint32_t i) { return i * it->job->s3->settings.part_bytes; }

static uint64_t part_length(const item *it, uint32_t i) {
  uint64_t left = it->object->bytes - part_offset(it, i), part = it->job->s3->settings.part_bytes;
  return left < part ? left : part;
}

static bool split(item *it) {
  uint64_t part = it->job->s3->settings.part_bytes;
  uint32_t count = it->object->bytes ? (uint32_t)((it->object->bytes + part - 1) / part) : 1;
  it->parts = calloc(count, sizeof *it->parts);
  it->part_count = it->parts ? count : 0;
  return it->parts != NULL;
}

/* Sends all parts, each made by `prepare`; `done` of each counts parts_left down. A part that cannot be made is a
 * failed one. parts_left is one too high meanwhile, so that no part ends the item under our feet. */
static void send_parts(item *it, bool (*prepare)(item *it, uint32_t i), void (*all_done)(item *it)) {
  it->parts_left = it->part_count + 1;
  it->code = 0;
  for (uint32_t i = 0; i < it->part_count; i++) {
    if (!it->code && prepare(it, i)) {
      dispatch(it, &it->parts[i]);
    } else {
      if (!it->code) it->code = NEAP_ENOMEM;
      it->parts_left--;
    }
  }
  if (--it->parts_left == 0) all_done(it);
}

static void loaded(item *it) {
  const neap__s3_request *first = &it->parts[0];
  for (uint32_t i = 0; i < it->part_count && !it->code; i++) {
    const neap__s3_request *r = &it->parts[i];
    bool same = strcmp(r->etag, first->etag) == 0 && (it->part_count == 1 || r->total == it->object->bytes);
    if (!same) it->code = NEAP_ECORRUPT; /* replaced while it was read, or of another length */
  }
  const neap_host *host = it->job->s3->host;
  if (!it->code && first->has_crc && host->crc32c(0, it->object->data, it->object->bytes) != first->crc)
    it->code = NEAP_ECORRUPT;
  item_end(it, it->code);
}

static void note_part(neap__s3_request *r) {
  item *it = r->ctx;
  if (r->result && !it->code) {
    it->code = r->result;
    if (r->result == NEAP_EIO || r->result == NEAP_EPERM) complain(it, r);
  }
}

static void on_part_loaded(neap__s3_request *r) {
  item *it = r->ctx;
  note_part(r);
  if (--it->parts_left == 0) loaded(it);
}

static bool prepare_load(item *it, uint32_t i) {
  static char none; /* an object of no bytes may have no buffer */
  neap__s3_request *r = &it->parts[i];
  uint64_t from = part_offset(it, i), bytes = part_length(it, i);
  char range[96];
  if (!make(it, r, "GET", "", on_part_loaded)) return false;
  r->into = bytes ? (char *)it->object->data + from : &none;
  r->into_bytes = bytes;
  if (it->part_count == 1) return true;
  snprintf(range, sizeof range, "Range: bytes=%llu-%llu", (unsigned long long)from,
           (unsigned long long)(from + bytes - 1));
  return add_header(r, range);
}

static void load(item *it) {
  if (split(it))
    send_parts(it, prepare_load, loaded);
  else
    item_end(it, NEAP_ENOMEM);
}

/* --- store in one piece --------------------------------------------------------------------------------------- */

static void put(item *it);

static void on_seen_before_put(neap__s3_request *r) {
  item *it = r->ctx;
  if (r->result == NEAP_ENOENT)
    put(it);
  else
    item_end_by(it, r); /* there already: stored_bytes stays 0 */
}

static void on_put(neap__s3_request *r) {
  item *it = r->ctx;
  if (r->result == NEAP_ENOTSUP && !it->job->s3->no_if_none_match) {
    neap__s3_say(it->job->s3, NEAP_INFO, "the service has no conditional writes; each store looks first");
    it->job->s3->no_if_none_match = true;
    ask(it, "HEAD", on_seen_before_put);
    return;
  }
  if (r->result == 0) it->object->stored_bytes = it->object->bytes;
  if (r->result == NEAP_EEXIST) r->result = 0;
  item_end_by(it, r);
}

static void put(item *it) {
  neap__s3_request *r = &it->request;
  if (it->job->canceled) {
    item_end(it, NEAP_ECANCELED);
    return;
  }
  bool ok = make(it, r, "PUT", "", on_put) && add_crc(it, r);
  if (!it->job->s3->no_if_none_match) ok = ok && add_header(r, "If-None-Match: *");
  if (!ok) {
    item_end(it, NEAP_ENOMEM);
    return;
  }
  r->body = it->object->data;
  r->body_bytes = it->object->bytes;
  dispatch(it, r);
}

/* --- store in parts ------------------------------------------------------------------------------------------- */

static void on_taken_back(neap__s3_request *r) { item_end(r->ctx, ((item *)r->ctx)->code); }

static bool upload_query(const item *it, char *query, size_t cap, uint32_t part) {
  char *id = neap__s3_escape(it->upload_id, "");
  int n = -1;
  if (id && part)
    n = snprintf(query, cap, "?partNumber=%u&uploadId=%s", part, id);
  else if (id)
    n = snprintf(query, cap, "?uploadId=%s", id);
  free(id);
  return n > 0 && (size_t)n < cap;
}

/* What was uploaded costs money until the upload ends. Goes on after a cancel, for a bounded time. */
static void take_back(item *it, int code) {
  char query[1600];
  it->code = code;
  if (!upload_query(it, query, sizeof query, 0) || !make(it, &it->request, "DELETE", query, on_taken_back)) {
    item_end(it, code);
    return;
  }
  const neap_host *host = it->job->s3->host;
  it->request.deadline_ns = host->now_ns(host->engine) + CLEANUP_NS;
  dispatch(it, &it->request);
}

/* The answer comes with status 200 before the service knows how it ends; a failure is in the body. */
static void on_failure_element(void *ctx, const char *name, const char *text) {
  (void)text;
  if (strcmp(name, "Error") == 0) *(bool *)ctx = true;
}

static void on_completed(neap__s3_request *r) {
  item *it = r->ctx;
  bool failed = false;
  if (r->result == 0 && r->text && neap__s3_xml(r->text, r->text_bytes, on_failure_element, &failed) == 0 && !failed) {
    it->object->stored_bytes = it->object->bytes;
    item_end(it, 0);
  } else if (r->result == NEAP_EEXIST) {
    take_back(it, 0);
  } else {
    complain(it, r);
    take_back(it, r->result ? r->result : NEAP_EIO);
  }
}

static bool write_manifest(item *it) {
  size_t cap = 64 + it->part_count * (sizeof it->parts->etag + 96), used = 0;
  it->manifest = malloc(cap);
  if (!it->manifest) return false;
  used += (size_t)snprintf(it->manifest, cap, "<CompleteMultipartUpload>");
  for (uint32_t i = 0; i < it->part_count; i++)
    used += (size_t)snprintf(it->manifest + used, cap - used, "<Part><ETag>%s</ETag><PartNumber>%u</PartNumber></Part>",
                             it->parts[i].etag, i + 1);
  used += (size_t)snprintf(it->manifest + used, cap - used, "</CompleteMultipartUpload>");
  return used < cap;
}

static void uploaded(item *it) {
  char query[1600];
  neap__s3_request *r = &it->request;
  if (it->code || it->job->canceled) {
    take_back(it, it->code ? it->code : NEAP_ECANCELED);
    return;
  }
  bool ok = write_manifest(it) && upload_query(it, query, sizeof query, 0) && make(it, r, "POST", query, on_completed);
  if (!ok) {
    take_back(it, NEAP_ENOMEM);
    return;
  }
  r->body = it->manifest;
  r->body_bytes = strlen(it->manifest);
  dispatch(it, r);
}

static void on_part_uploaded(neap__s3_request *r) {
  item *it = r->ctx;
  note_part(r);
  if (--it->parts_left == 0) uploaded(it);
}

static bool prepare_part(item *it, uint32_t i) {
  char query[1600];
  neap__s3_request *r = &it->parts[i];
  if (!upload_query(it, query, sizeof query, i + 1) || !make(it, r, "PUT", query, on_part_uploaded)) return false;
  r->body = (const char *)it->object->data + part_offset(it, i);
  r->body_bytes = part_length(it, i);
  return true;
}

static void on_upload_element(void *ctx, const char *name, const char *text) {
  item *it = ctx;
  if (strcmp(name, "UploadId") == 0) snprintf(it->upload_id, sizeof it->upload_id, "%s", text);
}

static void on_upload_created(neap__s3_request *r) {
  item *it = r->ctx;
  if (r->result == 0 && r->text) (void)neap__s3_xml(r->text, r->text_bytes, on_upload_element, it);
  if (r->result == 0 && !it->upload_id[0]) r->result = NEAP_EIO;
  if (r->result) {
    item_end_by(it, r);
  } else if (it->job->canceled || !split(it)) {
    take_back(it, it->job->canceled ? NEAP_ECANCELED : NEAP_ENOMEM);
  } else {
    send_parts(it, prepare_part, uploaded);
  }
}

static void on_seen_before_upload(neap__s3_request *r) {
  item *it = r->ctx;
  if (r->result != NEAP_ENOENT)
    item_end_by(it, r);
  else if (it->job->canceled)
    item_end(it, NEAP_ECANCELED);
  else if (make(it, &it->request, "POST", "?uploads=", on_upload_created) && add_crc(it, &it->request))
    dispatch(it, &it->request);
  else
    item_end(it, NEAP_ENOMEM);
}

/* --- operations ----------------------------------------------------------------------------------------------- */

static void store(item *it) {
  neap__s3 *s3 = it->job->s3;
  it->crc = s3->host->crc32c(0, it->object->data, it->object->bytes);
  if (it->object->bytes > s3->settings.part_bytes)
    ask(it, "HEAD", on_seen_before_upload);
  else if (s3->no_if_none_match)
    ask(it, "HEAD", on_seen_before_put);
  else
    put(it);
}

static void start_item(item *it) {
  char name[NEAP_KEY_TEXT_MAX], full[NAME_BYTES_MAX + 2];
  neap__s3 *s3 = it->job->s3;
  it->object->stored_bytes = 0;
  int n = s3->host->key_format(&it->object->key, NEAP_KEY_NATIVE, name, sizeof name);
  if (n > 0 && (size_t)snprintf(full, sizeof full, "/%s%s", s3->settings.prefix, name) >= sizeof full)
    n = it->job->op->kind == NEAP_OP_STORE ? NEAP_EINVAL : NEAP_ENOENT;
  it->path = n > 0 ? neap__s3_escape(full, "/") : NULL;
  if (!it->path) {
    item_end(it, n < 0 ? n : NEAP_ENOMEM);
    return;
  }
  switch ((neap_op_kind)it->job->op->kind) {
    case NEAP_OP_STORE: store(it); break;
    case NEAP_OP_LOOKUP: ask(it, "HEAD", on_looked); break;
    case NEAP_OP_LOAD: load(it); break;
    case NEAP_OP_REMOVE: ask(it, "HEAD", on_seen_before_remove); break;
    case NEAP_OP_LIST: break; /* list.c */
  }
}

static void job_start(neap__s3_call *call) {
  neap__s3_job *job = (neap__s3_job *)call;
  uint32_t count = job->op->count;
  job->next = job->s3->jobs;
  if (job->next) job->next->before = job;
  job->s3->jobs = job;
  job->left = count + 1;
  for (uint32_t i = 0; i < count; i++) {
    job->items[i].job = job;
    job->items[i].object = &job->op->objects[i];
    start_item(&job->items[i]);
  }
  if (--job->left == 0) job_end(job);
}

void neap__s3_post(neap__s3 *s3, neap_op *op) {
  neap__s3_job *job = calloc(1, sizeof *job + op->count * sizeof *job->items);
  if (!job) {
    for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = NEAP_ENOMEM;
    s3->host->done(s3->host->engine, op);
    return;
  }
  job->call.run = job_start;
  job->s3 = s3;
  job->op = op;
  neap__s3_transfer_call(s3->transfer, &job->call);
}

/* --- cancel --------------------------------------------------------------------------------------------------- */

typedef struct cancel {
  neap__s3_call call; /* first */
  neap__s3 *s3;
  neap_op *op; /* only compared: it may be done */
} cancel;

static void abort_item(item *it) {
  neap__s3_transfer *t = it->job->s3->transfer;
  uint32_t parts = it->part_count;
  if (it->request.active) {
    if (strcmp(it->request.method, "DELETE") != 0) neap__s3_abort(t, &it->request);
    return;
  }
  /* The last abort may end the item, so parts_left is asked before each. */
  for (uint32_t i = 0, left = it->parts_left; i < parts && left; i++) {
    if (!it->parts[i].active) continue;
    left--;
    neap__s3_abort(t, &it->parts[i]);
  }
}

static void cancel_run(neap__s3_call *call) {
  cancel *c = (cancel *)call;
  neap__s3_job *job = c->s3->jobs;
  while (job && job->op != c->op) job = job->next;
  if (job) {
    job->canceled = true;
    job->left++; /* stays until all of its items were visited */
    for (uint32_t i = 0; i < job->op->count; i++) abort_item(&job->items[i]);
    if (--job->left == 0) job_end(job);
  }
  free(c);
}

void neap__s3_cancel(neap__s3 *s3, neap_op *op) {
  cancel *c = malloc(sizeof *c);
  if (!c) return; /* a hint */
  *c = (cancel){.call = {.run = cancel_run}, .s3 = s3, .op = op};
  neap__s3_transfer_call(s3->transfer, &c->call);
}
