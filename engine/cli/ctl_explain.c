/* SPDX-License-Identifier: MIT
 *
 * cli/ctl_explain.c - `neap ctl explain`: where chunks are, and why they are there or not. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

#define TOKENS_MAX (16u << 20)

static const cJSON *member(const cJSON *object, const char *name) {
  return cJSON_GetObjectItemCaseSensitive(object, name);
}

static void print_tiers(const cJSON *object) {
  const cJSON *tier;
  char text[256] = "";
  cJSON_ArrayForEach(tier, member(object, "tiers")) {
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "%s%s", used ? "," : "", tier->valuestring);
  }
  neap__ctl_cell(text[0] ? text : "-", 12, "");
}

static void print_explained(const cJSON *answer) {
  const cJSON *chunk, *object;
  bool colour = neap__ctl_coloured();
  printf("%5s  %-16s  %6s  %-8s  %6s  %-12s  %s\n", "CHUNK", "HASH", "WORKER", "L1", "LEASES", "TIERS", "WHY");
  cJSON_ArrayForEach(chunk, member(answer, "chunks")) {
    cJSON_ArrayForEach(object, member(chunk, "objects")) {
      const char *l1 = neap__ctl_text(object, "l1");
      printf("%5.0f  %.16s  %6.0f  ", neap__ctl_number(chunk, "index"), neap__ctl_text(chunk, "hash"),
             neap__ctl_number(object, "worker"));
      neap__ctl_cell(l1, 8, !colour ? "" : strcmp(l1, "resident") == 0 ? "32" : "31");
      printf("%6.0f  ", neap__ctl_number(object, "leases"));
      print_tiers(object);
      neap__ctl_cell(neap__ctl_text(object, "why"), 0, "");
      putchar('\n');
    }
  }
}

/* Integers between anything that is neither digit, letter nor sign. NULL: said what is wrong. */
static cJSON *read_tokens(const char *path) {
  FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
  cJSON *tokens = cJSON_CreateArray();
  int c = 0, line = 1;
  uint32_t count = 0;
  bool good = file != NULL;
  if (!file) fprintf(stderr, "neap ctl: --tokens %s: %s\n", path, strerror(errno));
  while (good && (c = getc(file)) != EOF) {
    uint64_t value = 0;
    line += c == '\n';
    if (isspace(c) || strchr(",;[]", c)) continue;
    for (; isdigit(c) && value <= UINT32_MAX; c = getc(file)) value = value * 10 + (uint64_t)(c - '0');
    good = value <= UINT32_MAX && count < TOKENS_MAX && (c == EOF || isspace(c) || strchr(",;[]", c));
    if (!good)
      fprintf(stderr, "neap ctl: --tokens %s:%d: '%c' behind %" PRIu32 " tokens; expected integers up to 4294967295\n",
              path, line, isprint(c) ? c : '?', count);
    line += c == '\n';
    cJSON_AddItemToArray(tokens, cJSON_CreateNumber((double)value));
    count++;
  }
  if (file && file != stdin) fclose(file);
  if (good) return tokens;
  cJSON_Delete(tokens);
  return NULL;
}

static int explain_tokens(const neap__ctl *r) {
  cJSON *tokens = read_tokens(r->tokens), *body = cJSON_CreateObject();
  int status = tokens ? 0 : 1;
  if (tokens) cJSON_AddItemToObject(body, "token_ids", tokens);
  if (r->model) cJSON_AddStringToObject(body, "model_name", r->model);
  if (r->world) cJSON_AddNumberToObject(body, "world_size", strtod(r->world, NULL));
  if (r->salt) cJSON_AddStringToObject(body, "cache_salt", r->salt);
  char *text = status == 0 ? cJSON_PrintUnformatted(body) : NULL;
  if (text) status = neap__ctl_ask(r, "POST", "/policy/explain", text, print_explained);
  free(text);
  cJSON_Delete(body);
  return status;
}

/* "NAME=value" behind path, the value escaped. False: it does not fit. */
static bool add_query(char *path, size_t room, const char *name, const char *value) {
  char *escaped = value ? neap__ctl_escape(value) : NULL;
  size_t used = strlen(path);
  if (!value) return true;
  int n = escaped ? snprintf(path + used, room - used, "%c%s=%s", strchr(path, '?') ? '&' : '?', name, escaped) : -1;
  free(escaped);
  return n > 0 && (size_t)n < room - used;
}

int neap__ctl_explain(const neap__ctl *r) {
  const char *key = r->count == 2 ? r->words[1] : NULL;
  char path[4096] = "/policy/explain";
  if ((key != NULL) + (r->hash != NULL) + (r->tokens != NULL) != 1)
    return neap__ctl_usage("explain: expected one of a key, --hash HEX and --tokens FILE");
  if (r->tokens) return explain_tokens(r);
  bool fits = add_query(path, sizeof path, "key", key) && add_query(path, sizeof path, "hash", r->hash) &&
              add_query(path, sizeof path, "model_name", r->model) &&
              add_query(path, sizeof path, "world_size", r->world) &&
              add_query(path, sizeof path, "cache_salt", r->salt);
  return fits ? neap__ctl_ask(r, "GET", path, NULL, print_explained) : neap__ctl_usage("explain: the key is too long");
}
