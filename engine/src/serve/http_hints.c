/* SPDX-License-Identifier: MIT
 *
 * serve/http_hints.c - what somebody outside knows of chunks to come, for the policy's on_hint.
 *
 *   POST /policy/hints {"hints": [{"hash": "5a0c...", "score": 0.9, "within_ms": 2000},
 *                                 {"token_ids": [1, 2, ...], "score": 0}, ...]}
 *
 * A hint is about one chunk, by its hash in hex (the first 16 digits count), or about each whole chunk of a prompt.
 * score is from 0, never again, to 1, certainly; within_ms 0 or absent: no idea when. */
#include <stdlib.h>
#include <string.h>

#include "chunk/tokens.h"
#include "serve/http_call.h"

#define HINTS_MAX 65536u
#define DIGITS 16u /* of a hash */

typedef struct hint_list {
  neap_hint *hint;
  uint32_t count, room;
} hint_list;

static cJSON *loc_of(uint32_t index, const char *name) {
  cJSON *loc = neap__http_loc("body", "hints");
  cJSON_AddItemToArray(loc, cJSON_CreateNumber(index));
  if (name) cJSON_AddItemToArray(loc, cJSON_CreateString(name));
  return loc;
}

/* False without memory, or past the bound. */
static bool add(hint_list *list, const uint8_t *hash, const neap_hint *like) {
  if (list->count == list->room) {
    uint32_t room = NEAP_MIN(NEAP_MAX(list->room * 2, 64u), HINTS_MAX);
    neap_hint *hints = room > list->room ? realloc(list->hint, room * sizeof(*hints)) : NULL;
    if (!hints) return false;
    list->hint = hints;
    list->room = room;
  }
  neap_hint *hint = &list->hint[list->count++];
  *hint = *like;
  memcpy(&hint->h1, hash, sizeof(hint->h1));
  memcpy(&hint->h2, hash + sizeof(hint->h1), sizeof(hint->h2));
  return true;
}

static bool read_hash(const char *text, uint8_t hash[DIGITS / 2]) {
  static const char digits[] = "0123456789abcdef0123456789ABCDEF";
  if (strlen(text) < DIGITS) return false;
  for (uint32_t i = 0; i < DIGITS; i++) {
    const char *digit = strchr(digits, text[i]);
    if (!digit) return false;
    uint8_t value = (uint8_t)((digit - digits) % 16);
    hash[i / 2] = (uint8_t)(i % 2 ? hash[i / 2] | value : value << 4);
  }
  return true;
}

static bool add_prompt(hint_list *list, uint32_t chunk_tokens, const uint32_t *tokens, uint32_t count,
                       const neap_hint *like) {
  uint8_t hash[NEAP_HASH_BYTES];
  memcpy(hash, neap__chain_seed(), sizeof(hash));
  for (uint32_t at = 0; at + chunk_tokens <= count; at += chunk_tokens) {
    uint8_t next[1][NEAP_HASH_BYTES];
    neap__chain(hash, tokens + at, chunk_tokens, 1, next);
    memcpy(hash, next[0], sizeof(hash));
    if (!add(list, hash, like)) return false;
  }
  return true;
}

/* How likely and how soon. */
static neap_hint read_expectation(neap__http_complaints *complaints, const cJSON *json, uint32_t index) {
  neap_hint hint = {0};
  const cJSON *score = cJSON_GetObjectItemCaseSensitive(json, "score");
  const cJSON *within = cJSON_GetObjectItemCaseSensitive(json, "within_ms");
  if (!score)
    neap__http_complain(complaints, NEAP_HTTP_MISSING, json, loc_of(index, "score"));
  else if (!cJSON_IsNumber(score) || !(score->valuedouble >= 0 && score->valuedouble <= 1))
    neap__http_complain(complaints, "float_type", "Input should be a number from 0 to 1", score,
                        loc_of(index, "score"));
  else
    hint.score = (float)score->valuedouble;
  if (within && !neap__http_integer(within, 0, UINT32_MAX, &hint.within_ms))
    neap__http_complain(complaints, NEAP_HTTP_NO_UINT, within, loc_of(index, "within_ms"));
  return hint;
}

/* False: there is no room for more; what is wrong with the hint is among the complaints. */
static bool read_hint(neap__http_complaints *complaints, const cJSON *json, uint32_t index, uint32_t chunk_tokens,
                      hint_list *list) {
  const cJSON *text = cJSON_GetObjectItemCaseSensitive(json, "hash");
  const cJSON *ids = cJSON_GetObjectItemCaseSensitive(json, "token_ids");
  uint8_t hash[DIGITS / 2];
  uint32_t count = 0;
  if (!cJSON_IsObject(json) || !text == !ids) {
    neap__http_complain(complaints, "value_error", "Input should be an object with 'hash' or 'token_ids'", json,
                        loc_of(index, NULL));
    return true;
  }
  neap_hint hint = read_expectation(complaints, json, index);
  if (text) {
    if (cJSON_IsString(text) && read_hash(text->valuestring, hash)) return add(list, hash, &hint);
    neap__http_complain(complaints, "value_error", "Input should be a chunk hash of 16 or more hexadecimal digits",
                        text, loc_of(index, "hash"));
    return true;
  }
  if (!cJSON_IsArray(ids)) {
    neap__http_complain(complaints, NEAP_HTTP_NO_LIST, ids, loc_of(index, "token_ids"));
    return true;
  }
  uint32_t *tokens = neap__http_tokens(complaints, ids, loc_of(index, "token_ids"), &count);
  bool added = tokens && add_prompt(list, chunk_tokens, tokens, count, &hint);
  free(tokens);
  return added;
}

/* False: answered. */
static bool read_hints(neap__http_call *call, const cJSON *body, hint_list *list) {
  neap__http_complaints complaints = {0};
  const cJSON *hints = cJSON_GetObjectItemCaseSensitive(body, "hints"), *json = NULL;
  uint32_t index = 0, chunk_tokens = call->http->config.engine->config.l1.chunk_tokens;
  bool room = true;
  if (!hints)
    neap__http_complain(&complaints, NEAP_HTTP_MISSING, body, neap__http_loc("body", "hints"));
  else if (!cJSON_IsArray(hints))
    neap__http_complain(&complaints, NEAP_HTTP_NO_LIST, hints, neap__http_loc("body", "hints"));
  if (!cJSON_IsArray(hints)) hints = NULL;
  cJSON_ArrayForEach(json, hints) {
    room = room && read_hint(&complaints, json, index, chunk_tokens, list);
    index++;
  }
  if (neap__http_reply_complaints(call, &complaints)) return false;
  if (!room) neap__http_reply_detail(call, MHD_HTTP_CONTENT_TOO_LARGE, "more than %u chunks", HINTS_MAX);
  return room;
}

void neap__http_hints(neap__http_call *call) {
  neap__stream *stream = call->http->config.engine->stream;
  hint_list list = {0};
  cJSON *body;
  if (!neap__http_body(call, &body)) return;
  if (read_hints(call, body, &list)) {
    if (neap__stream_hint(stream, list.hint, list.count)) {
      cJSON *json = cJSON_CreateObject();
      cJSON_AddNumberToObject(json, "chunks", list.count);
      neap__http_reply_json(call, MHD_HTTP_ACCEPTED, json);
    } else {
      neap__stream_stats stats;
      neap__stream_stats_get(stream, &stats);
      neap__http_reply_detail(call, MHD_HTTP_CONFLICT, "policy %s takes no hints", stats.policy);
    }
  }
  free(list.hint);
  cJSON_Delete(body);
}
