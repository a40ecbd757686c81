/* SPDX-License-Identifier: MIT
 *
 * trace/format.h - what the formats of trace/ share: a load in progress, a save in progress, and their table. A format
 * is one file with a row here. Internal to trace/. */
#pragma once
#include "trace/sink.h"
#include "trace/source.h"

/* A load: the reader of a format fills in one request after another. */
typedef struct neap__load {
  neap__source *source;
  neap__trace *trace;
  const neap__trace_options *options;
  const char *unit; /* "line" or "record": what errors count */
  neap_error *err;
  uint64_t *hashes; /* of the request that is being read */
  uint32_t *units;
  uint32_t count, room;
  uint64_t *times_us; /* of all requests: time_ms is told when the earliest is known */
  uint32_t times_room;
  uint64_t progress_at;
} neap__load;

/* neap__trace_add without a time: the caller fills it in. */
int neap__trace_append(neap__trace *trace, const char *tenant, uint64_t session, const uint64_t *hashes,
                       const uint32_t *units, uint32_t chunks, bool chained, uint32_t output_tokens);

/* neap__source_line and neap__source_record, with the place in their errors. */
int neap__load_line(neap__load *load, char **line, size_t *bytes);
int neap__load_record(neap__load *load, size_t bytes, const uint8_t **record);

/* Adds a chunk to the request that is being read; bytes 0: no size. 0 or an error. */
int neap__load_chunk(neap__load *load, uint64_t hash, uint64_t bytes);

typedef struct neap__load_request {
  uint64_t time_us, session;
  const char *tenant;
  bool chained, sized;
  uint32_t output_tokens;
} neap__load_request;

/* Ends the request. 0, 1 (as many as were asked for: stop), or an error. */
int neap__load_end(neap__load *load, const neap__load_request *request);

/* An error at the place that is being read: "line 12: ...". */
int neap__load_fail(neap__load *load, int code, const char *fmt, ...) NEAP_PRINTF(3, 4);

typedef struct neap__format {
  neap__trace_format is;
  const char *unit, *endings; /* endings: " .csv .txt" of file names, for content that is like no format */
  /* True if the first bytes of a file look like it; have is at least 4096 unless the file is shorter. */
  bool (*told)(const char *head, size_t have);
  int (*read)(neap__load *load);
  int (*write)(const neap__trace *trace, neap__sink *sink, neap_error *err);
} neap__format;

extern const neap__format neap__format_neap, neap__format_mooncake, neap__format_agent, neap__format_lookup,
    neap__format_oracle, neap__format_csv;

/* True if the first line of a file is an object of JSON that has these fields, as far as head shows it. */
bool neap__head_has(const char *head, size_t have, const char *const *fields);
