/* SPDX-License-Identifier: MIT
 *
 * trace/trace.h - requests that a cache was asked for, in memory: what replays read and recordings write.
 *
 * Chunks are dense numbers of a lineage; a format that knows no prefixes gives each chunk a request of its own and no
 * parent. A trace is not changed once it is loaded: any number of threads may read it. */
#pragma once
#include "policy/lineage.h"

typedef struct neap__trace_request {
  uint64_t first;   /* index into neap__trace.chunk */
  uint64_t session; /* 0: not told */
  uint32_t time_ms; /* since the earliest request; a file may be out of order */
  uint32_t chunks;
  uint32_t tenant; /* index into neap__trace.tenants */
  uint32_t output_tokens;
} neap__trace_request;

typedef struct neap__trace {
  char *name; /* file name without directories and endings */
  const char *format;
  uint64_t began_us;     /* of the earliest request, in the file's own clock */
  uint32_t chunk_tokens; /* 0: not told */
  uint32_t request_count, tenant_count;
  bool salted; /* hashes, tenants and sessions are those of a recording that can be shared */
  bool cut;    /* a recording whose end was lost: the file ended within a block */
  uint64_t references;
  neap__trace_request *requests; /* [request_count] in file order */
  uint32_t *chunk;               /* [references] chunk numbers, head of a prompt first */
  char **tenants;                /* [tenant_count], at least one: "" */
  uint32_t *units;               /* by chunk number: size in KiB (at least 1); NULL if the format tells none */
  neap__lineage lineage;
  neap__lineage tenant_index; /* of neap__trace_add: tenant numbers by hash of the name */
} neap__trace;

/* Said now and then while a file is read or written; done and total in bytes, total 0 if unknown. */
typedef void (*neap__trace_progress)(void *ctx, uint64_t done, uint64_t total);

typedef struct neap__trace_options {
  const char *format;    /* a name of neap__trace_formats, NULL: told by the file */
  const char *columns;   /* of "csv": "time,key,size,tenant"-like list; NULL: by its header line */
  uint64_t requests_max; /* 0: all */
  neap__trace_progress progress;
  void *ctx;
} neap__trace_options;

/* Loads a file, compressed (gzip, xz, zstd) or not. 0, NEAP_ENOENT, NEAP_EIO, NEAP_ENOMEM, or NEAP_EINVAL with the line
 * or record number, the field, the value and what was expected in err. */
int neap__trace_load(const char *path, const neap__trace_options *options, neap__trace **out, neap_error *err);

/* Writes a trace in a format that can be written; 0, NEAP_EIO, NEAP_ENOSPC, NEAP_ENOTSUP (the format cannot say what
 * the trace has), NEAP_EINVAL (no such format, with the nearest name). The file appears whole or not at all. */
int neap__trace_save(const neap__trace *trace, const char *path, const neap__trace_options *options, neap_error *err);

void neap__trace_free(neap__trace *trace);

/* A format: its name, one line about what it is, and what it has a place for. A trace with prefixes or tenants can be
 * written without; one with sizes cannot. */
typedef struct neap__trace_format {
  const char *name, *about;
  bool prefixes, tenants, sizes;
} neap__trace_format;

/* All of them; a NULL name ends the list. */
const neap__trace_format *neap__trace_formats(void);
/* The one of that name, or, if name is NULL, of the ending of a file's name. 0, or NEAP_EINVAL with the nearest name or
 * all of them. */
int neap__trace_format_find(const char *name, const char *path, const neap__trace_format **out, neap_error *err);

/* --- building one ----------------------------------------------------------------------------------------------- */

neap__trace *neap__trace_new(const char *name, const char *format); /* NULL: no memory */
/* Appends a request; hashes head first, parents follow from their order if chained. units may be NULL (all or none).
 * tenant: its name, NULL is "". */
int neap__trace_add(neap__trace *trace, uint64_t time_us, const char *tenant, uint64_t session, const uint64_t *hashes,
                    const uint32_t *units, uint32_t chunks, bool chained, uint32_t output_tokens);
