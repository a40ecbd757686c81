/* SPDX-License-Identifier: MIT
 *
 * lab/recording.c - the recording of what a running server is asked for: written by the lab thread, read by whoever
 * saves it or warms a shadow with it. Names are salted before they come here, tenants too. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/lab_defs.h"

int neap__lab_record_open(neap__lab *lab, neap_error *err) {
  const neap__record_options options = {
      .bytes_max = lab->config.record_bytes, .chunk_tokens = lab->config.chunk_tokens, .salted = true};
  lab->began_us = (uint64_t)neap__unix_s() * 1000000;
  return lab->config.record_bytes ? neap__record_open(&options, &lab->recording, err) : 0;
}

void neap__lab_record_append(neap__lab *lab, const neap__lab_record *r, uint32_t chunks) {
  char tenant[20];
  const uint64_t number = r->tenant;
  if (!lab->recording || chunks == 0) return; /* a lookup that found nothing, and nothing was stored */
  if (r->tenant > atomic_load(&lab->tenant_high)) atomic_store(&lab->tenant_high, r->tenant);
  snprintf(tenant, sizeof(tenant), "%016" PRIx64, neap__salted(&lab->salt, &number, 1));
  for (uint32_t i = 0; i < chunks; i++) lab->units[i] = NEAP_MAX(r->kib, 1);
  const neap__model_request request = {.time_us = lab->began_us + (uint64_t)r->time_ms * 1000,
                                       .session = r->session,
                                       .tenant = r->tenant ? tenant : "",
                                       .hashes = r->chunk,
                                       .units = lab->units,
                                       .chunks = chunks,
                                       .chained = true};
  (void)neap__record_append(lab->recording, &request); /* what is lost is counted there */
}

int neap__lab_record_save(neap__lab *lab, const char *path, neap_error *err) {
  if (!lab->recording) return neap__fail(err, NEAP_ENOTSUP, "nothing is recorded: the server runs with --no-record");
  return neap__record_save(lab->recording, path, err);
}

int neap__lab_record_file(neap__lab *lab, int *fd, neap_error *err) {
  char path[512];
  const char *dir = getenv("TMPDIR");
  snprintf(path, sizeof(path), "%s/neap-record-XXXXXX", dir && *dir ? dir : "/tmp");
  int made = lab->recording ? mkstemp(path) : -1;
  if (lab->recording && made < 0)
    return neap__fail(err, NEAP_EIO, "cannot make a file like %s: %s", path, strerror(errno));
  int rc = neap__lab_record_save(lab, path, err);
  if (made >= 0) close(made);
  *fd = rc == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (rc == 0 && *fd < 0) rc = neap__fail(err, NEAP_EIO, "%s: %s", path, strerror(errno));
  if (made >= 0) unlink(path);
  return rc;
}

/* Tenants by the numbers that they have here, for policies that tell tenants apart. */
static void number_tenants(const neap__lab *lab, neap__trace *trace) {
  uint32_t *number = calloc(trace->tenant_count, sizeof(*number)), high = atomic_load(&lab->tenant_high);
  if (number == NULL) return;
  for (uint32_t i = 0; i < trace->tenant_count; i++) {
    uint64_t name = strtoull(trace->tenants[i], NULL, 16);
    for (uint64_t n = 1; n <= high && number[i] == 0 && trace->tenants[i][0]; n++)
      if (neap__salted(&lab->salt, &n, 1) == name) number[i] = (uint32_t)n;
  }
  for (uint32_t i = 0; i < trace->request_count; i++) trace->requests[i].tenant = number[trace->requests[i].tenant];
  free(number);
}

neap__trace *neap__lab_record_trace(neap__lab *lab) {
  char path[64];
  int fd = -1;
  neap__trace *trace = NULL;
  neap_error err = {""};
  neap__trace_options options = {.format = "neap"};
  if (!lab->recording) return NULL;
  int rc = neap__lab_record_file(lab, &fd, &err);
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  if (rc == 0) rc = neap__trace_load(path, &options, &trace, &err);
  if (fd >= 0) close(fd);
  if (rc == 0) {
    number_tenants(lab, trace);
    return trace;
  }
  NEAP_LOG_WARN("the recorded traffic cannot be used: %s", err.text);
  return NULL;
}

void neap__lab_record_stats_get(neap__lab *lab, neap__lab_record_stats *out) {
  *out = (neap__lab_record_stats){.on = lab->recording != NULL, .bytes_max = lab->config.record_bytes};
  if (!lab->recording) return;
  neap__record_stats stats;
  neap__record_stats_get(lab->recording, &stats);
  out->requests = stats.requests;
  out->bytes = stats.bytes;
  out->forgotten = stats.dropped;
  out->lost = stats.lost;
  out->references = stats.references;
  out->repeated = stats.repeated;
}
