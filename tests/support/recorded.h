/* SPDX-License-Identifier: MIT
 *
 * support/recorded.h - the argument frames that vLLM sent in the recorded conversations (data/wire). */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct recorded {
  char op[64];
  uint32_t arg; /* which argument */
  uint8_t *at;
  size_t bytes;
} recorded;

typedef struct recording {
  recorded *frames;
  uint32_t count, cap;
} recording;

static inline int hex_digit(char c) {
  const char *digits = "0123456789abcdef", *at = strchr(digits, c);
  return c && at ? (int)(at - digits) : -1;
}

/* Adds the frames of one line behind uid and operation. */
static inline void record_line(recording *r, const char *line) {
  const char *op = strstr(line, "\"op\":\""), *at = strstr(line, "\"frames\":[");
  if (!op || !at || !strstr(line, "\"dir\":\"c2s\"")) return;
  at += strlen("\"frames\":[");
  for (uint32_t i = 0; *at == '"' || *at == ','; i++) {
    if (*at == ',') at++;
    const char *end = strchr(++at, '"');
    recorded frame = {.arg = i - 2, .at = malloc((size_t)(end - at) / 2 + 1)};
    for (; at < end; at += 2) frame.at[frame.bytes++] = (uint8_t)(hex_digit(at[0]) << 4 | hex_digit(at[1]));
    at++;
    sscanf(op, "\"op\":\"%63[^\"]", frame.op);
    if (i < 2) {
      free(frame.at);
      continue;
    }
    if (r->count == r->cap) {
      r->cap = r->cap ? 2 * r->cap : 256;
      r->frames = realloc(r->frames, r->cap * sizeof(*r->frames));
    }
    r->frames[r->count++] = frame;
  }
}

/* All of them; NEAP_SOURCE names the source tree. */
static inline recording recording_read(void) {
  recording r = {0};
  char command[4096], *line = NULL;
  size_t cap = 0;
  const char *source = getenv("NEAP_SOURCE");
  snprintf(command, sizeof(command), "xz -dc '%s'/tests/data/wire/*.jsonl.xz", source ? source : ".");
  FILE *file = popen(command, "r");
  while (file && getline(&line, &cap, file) > 0) record_line(&r, line);
  free(line);
  if (file) pclose(file);
  return r;
}

static inline void recording_free(recording *r) {
  for (uint32_t i = 0; i < r->count; i++) free(r->frames[i].at);
  free(r->frames);
}
