/* SPDX-License-Identifier: MIT
 *
 * serve/http_call.c - reading and answering one request; see serve/http_call.h. */
#include "serve/http_call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- answering ------------------------------------------------------------------------------------------------ */

void neap__http_reply(neap__http_call *call, unsigned status, const char *content_type, char *text) {
  NEAP_ASSERT(call->text == NULL);
  call->status = status;
  call->content_type = content_type;
  call->text = text;
  call->text_bytes = text ? strlen(text) : 0;
}

void neap__http_reply_json(neap__http_call *call, unsigned status, cJSON *json) {
  neap__http_reply(call, status, "application/json", cJSON_PrintUnformatted(json));
  cJSON_Delete(json);
}

void neap__http_reply_failure(neap__http_call *call, unsigned status, int code, const char *text) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "error", text[0] ? text : neap_strerror(code));
  cJSON_AddStringToObject(json, "code", neap_err_name(code));
  neap__http_reply_json(call, status, json);
}

unsigned neap__http_status_of(int code) {
  switch (code) {
    case NEAP_ENOENT: return MHD_HTTP_NOT_FOUND;
    case NEAP_EINVAL:
    case NEAP_ENOTSUP:
    case NEAP_EABI:
    case NEAP_ESCRIPT: return MHD_HTTP_BAD_REQUEST;
    case NEAP_EPERM: return MHD_HTTP_FORBIDDEN;
    case NEAP_EBUSY:
    case NEAP_EEXIST:
    case NEAP_ELIMIT: return MHD_HTTP_CONFLICT;
    case NEAP_ETIMEDOUT: return MHD_HTTP_GATEWAY_TIMEOUT;
    case NEAP_ENOMEM: return MHD_HTTP_SERVICE_UNAVAILABLE;
    default: return MHD_HTTP_BAD_GATEWAY;
  }
}

void neap__http_reply_file(neap__http_call *call, unsigned status, const char *content_type, int fd) {
  call->status = status;
  call->content_type = content_type;
  call->fd = fd;
}

static void reply_member(neap__http_call *call, unsigned status, const char *member, const char *fmt, va_list args) {
  char text[2048];
  vsnprintf(text, sizeof(text), fmt, args);
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, member, text);
  neap__http_reply_json(call, status, json);
}

void neap__http_reply_detail(neap__http_call *call, unsigned status, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  reply_member(call, status, "detail", fmt, args);
  va_end(args);
}

void neap__http_reply_error(neap__http_call *call, unsigned status, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  reply_member(call, status, "error", fmt, args);
  va_end(args);
}

void neap__http_reply_text(neap__http_call *call, unsigned status, const char *fmt, ...) {
  va_list args;
  char *text = NULL;
  va_start(args, fmt);
  if (vasprintf(&text, fmt, args) < 0) text = NULL;
  va_end(args);
  neap__http_reply(call, status, "text/plain; charset=utf-8", text);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

const char *neap__http_query(neap__http_call *call, const char *name) {
  return MHD_lookup_connection_value(call->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool neap__http_says_json(neap__http_call *call) {
  const char *type = MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
  if (call->body_bytes == 0 || (type && strncasecmp(type, "application/json", 16) == 0)) return true;
  neap__http_reply_failure(call, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, NEAP_EINVAL,
                           "Content-Type must be application/json for a request with a body");
  return false;
}

bool neap__http_body(neap__http_call *call, cJSON **out) {
  neap__http_complaints complaints = {0};
  const char *end = NULL;
  *out = NULL;
  if (call->body_bytes == 0) return true;
  cJSON *json = cJSON_ParseWithLengthOpts(call->body, call->body_bytes + 1, &end, true);
  if (!json) {
    cJSON *loc = neap__http_loc("body", NULL);
    cJSON_AddItemToArray(loc, cJSON_CreateNumber(end ? (double)(end - call->body) : 0));
    neap__http_complain(&complaints, "json_invalid", "JSON decode error", NULL, loc);
  } else if (!cJSON_IsObject(json)) {
    neap__http_complain(&complaints, "model_attributes_type", "Input should be a valid dictionary", json,
                        neap__http_loc("body", NULL));
    cJSON_Delete(json);
  } else {
    *out = json;
  }
  return !neap__http_reply_complaints(call, &complaints);
}

cJSON *neap__http_loc(const char *first, const char *second) {
  cJSON *loc = cJSON_CreateArray();
  cJSON_AddItemToArray(loc, cJSON_CreateString(first));
  if (second) cJSON_AddItemToArray(loc, cJSON_CreateString(second));
  return loc;
}

void neap__http_complain(neap__http_complaints *complaints, const char *type, const char *msg, const cJSON *input,
                         cJSON *loc) {
  cJSON *complaint = cJSON_CreateObject();
  cJSON_AddStringToObject(complaint, "type", type);
  cJSON_AddItemToObject(complaint, "loc", loc);
  cJSON_AddStringToObject(complaint, "msg", msg);
  cJSON_AddItemToObject(complaint, "input", input ? cJSON_Duplicate(input, true) : cJSON_CreateObject());
  if (!complaints->list) complaints->list = cJSON_CreateArray();
  cJSON_AddItemToArray(complaints->list, complaint);
}

bool neap__http_reply_complaints(neap__http_call *call, neap__http_complaints *complaints) {
  if (!complaints->list) return false;
  cJSON *json = cJSON_CreateObject();
  cJSON_AddItemToObject(json, "detail", complaints->list);
  complaints->list = NULL;
  neap__http_reply_json(call, 422, json);
  return true;
}

bool neap__http_integer(const cJSON *value, double min, double max, uint32_t *out) {
  if (!cJSON_IsNumber(value) || !(value->valuedouble >= min && value->valuedouble <= max)) return false;
  *out = (uint32_t)value->valuedouble;
  return (double)*out == value->valuedouble;
}

uint32_t *neap__http_tokens(neap__http_complaints *complaints, const cJSON *ids, cJSON *loc, uint32_t *count) {
  uint32_t i = 0;
  uint32_t *tokens = calloc((size_t)cJSON_GetArraySize(ids) + 1, sizeof(*tokens));
  const cJSON *id;
  cJSON_ArrayForEach(id, ids) {
    if (!tokens) break;
    if (!neap__http_integer(id, 0, UINT32_MAX, &tokens[i])) {
      cJSON *at = cJSON_Duplicate(loc, true);
      cJSON_AddItemToArray(at, cJSON_CreateNumber(i));
      neap__http_complain(complaints, NEAP_HTTP_NO_UINT, id, at);
      break;
    }
    i++;
  }
  cJSON_Delete(loc);
  *count = i;
  return tokens;
}

/* --- building ------------------------------------------------------------------------------------------------- */

void neap__http_json_u64(cJSON *object, const char *name, uint64_t value) {
  char digits[24];
  snprintf(digits, sizeof(digits), "%" PRIu64, value);
  cJSON_AddItemToObject(object, name, cJSON_CreateRaw(digits));
}
