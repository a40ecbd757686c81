/* SPDX-License-Identifier: MIT
 *
 * trace/trace.c - see trace.h: a trace in memory. Files are file.c's. */
#include "trace/trace.h"

#include <stdlib.h>
#include <string.h>

#include "trace/format.h"

/* Makes room for `need` elements of `size` bytes in a growing array. */
static int reserve(void *array, uint64_t need, uint64_t room_now, size_t size) {
  void *old = *(void **)array;
  if (need <= room_now && old) return 0;
  void *bigger = realloc(old, need * size);
  if (!bigger) return NEAP_ENOMEM;
  *(void **)array = bigger;
  return 0;
}

/* Arrays double: their room is the power of two at or above what they hold. */
static uint64_t room_of(uint64_t count) {
  uint64_t room = 64;
  while (room < count) room *= 2;
  return room;
}

neap__trace *neap__trace_new(const char *name, const char *format) {
  neap__trace *trace = calloc(1, sizeof(*trace));
  if (!trace) return NULL;
  trace->name = strdup(name);
  trace->format = format;
  trace->tenants = calloc(room_of(0), sizeof(*trace->tenants));
  if (trace->tenants) trace->tenants[trace->tenant_count++] = strdup("");
  if (!trace->name || !trace->tenants || !trace->tenants[0] || neap__lineage_open(&trace->lineage, 0) != 0 ||
      neap__lineage_open(&trace->tenant_index, 0) != 0) {
    neap__trace_free(trace);
    return NULL;
  }
  return trace;
}

void neap__trace_free(neap__trace *trace) {
  if (!trace) return;
  for (uint32_t i = 0; i < trace->tenant_count; i++) free(trace->tenants[i]);
  free(trace->tenants);
  free(trace->name);
  free(trace->requests);
  free(trace->chunk);
  free(trace->units);
  neap__lineage_close(&trace->lineage);
  neap__lineage_close(&trace->tenant_index);
  free(trace);
}

static uint64_t tenant_hash(const char *name, uint64_t seed) { return neap__hash64(name, strlen(name), seed); }

/* The number of a tenant. "" is the only one until a request names another. */
static int intern(neap__trace *trace, const char *name, uint32_t *tenant) {
  bool first = trace->tenant_index.count == 0;
  for (uint64_t seed = 0;; seed++) { /* another seed if two names share a hash */
    uint32_t before = trace->tenant_index.count;
    int rc = neap__lineage_add(&trace->tenant_index, tenant_hash(name, seed), NEAP__NO_CHUNK, tenant);
    if (rc != 0) return rc;
    if (trace->tenant_index.count > before) break;
    if (strcmp(trace->tenants[*tenant], name) == 0) return 0;
  }
  char *copy = strdup(name);
  uint64_t room = room_of(trace->tenant_count);
  if (!first && *tenant == room && reserve(&trace->tenants, 2 * room, room, sizeof(*trace->tenants)) != 0) {
    free(copy);
    copy = NULL;
  }
  if (!copy) return NEAP_ENOMEM;
  if (first) free(trace->tenants[0]);
  trace->tenants[*tenant] = copy;
  trace->tenant_count = *tenant + 1;
  return 0;
}

/* Sizes go by chunk number; a chunk keeps the first that it was given. */
static int note_units(neap__trace *trace, uint32_t before, uint32_t number, uint32_t units) {
  if (number < before) return 0;
  uint64_t room = room_of(number);
  if (!trace->units || number == room) {
    int rc = reserve(&trace->units, room_of(number + 1ull), 0, sizeof(*trace->units));
    if (rc != 0) return rc;
  }
  trace->units[number] = NEAP_MAX(units, 1u);
  return 0;
}

int neap__trace_append(neap__trace *trace, const char *tenant, uint64_t session, const uint64_t *hashes,
                       const uint32_t *units, uint32_t chunks, bool chained, uint32_t output_tokens) {
  neap__trace_request request = {trace->references, session, 0, chunks, 0, output_tokens};
  uint32_t parent = NEAP__NO_CHUNK;
  if (trace->request_count == UINT32_MAX) return NEAP_ELIMIT;
  if (trace->references > 0 && !trace->units != !units && chunks > 0) return NEAP_EINVAL;
  int rc = intern(trace, tenant ? tenant : "", &request.tenant);
  if (rc != 0) return rc;
  uint64_t room = room_of(trace->request_count), need = trace->references + chunks, held = room_of(trace->references);
  if (trace->request_count == room || !trace->requests)
    rc = reserve(&trace->requests, room_of(trace->request_count + 1ull), 0, sizeof(*trace->requests));
  if (rc == 0 && (need > held || !trace->chunk)) rc = reserve(&trace->chunk, room_of(need), 0, sizeof(*trace->chunk));
  for (uint32_t i = 0; i < chunks && rc == 0; i++) {
    uint32_t before = trace->lineage.count, number = 0;
    rc = neap__lineage_add(&trace->lineage, hashes[i], parent, &number);
    if (rc == 0 && units) rc = note_units(trace, before, number, units[i]);
    if (rc != 0) return rc;
    trace->chunk[trace->references + i] = number;
    if (chained) parent = number;
  }
  if (rc != 0) return rc;
  trace->references = need;
  trace->requests[trace->request_count++] = request;
  return 0;
}

int neap__trace_add(neap__trace *trace, uint64_t time_us, const char *tenant, uint64_t session, const uint64_t *hashes,
                    const uint32_t *units, uint32_t chunks, bool chained, uint32_t output_tokens) {
  uint64_t began = trace->request_count ? NEAP_MIN(trace->began_us, time_us) : time_us;
  uint64_t earlier_ms = trace->request_count ? (trace->began_us - began) / 1000 : 0;
  for (uint32_t i = 0; i < trace->request_count && earlier_ms; i++)
    if (trace->requests[i].time_ms + earlier_ms > UINT32_MAX) return NEAP_ELIMIT;
  if ((time_us - began) / 1000 > UINT32_MAX) return NEAP_ELIMIT;
  int rc = neap__trace_append(trace, tenant, session, hashes, units, chunks, chained, output_tokens);
  if (rc != 0) return rc;
  trace->began_us = began;
  for (uint32_t i = 0; i + 1 < trace->request_count && earlier_ms; i++)
    trace->requests[i].time_ms += (uint32_t)earlier_ms;
  trace->requests[trace->request_count - 1].time_ms = (uint32_t)((time_us - began) / 1000);
  return 0;
}
