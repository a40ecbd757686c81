/* SPDX-License-Identifier: MIT
 *
 * bench/figures.h - what the load generator counts, and how it is told. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct figures {
  float *latencies_us; /* of journeys that ended inside the measured time, in order */
  size_t done, room;
  uint64_t bytes, hit_chunks, asked_chunks, refused, wrong;
} figures;

static inline void figures_add_latency(figures *f, double us) {
  if (f->done == f->room) {
    f->room = f->room ? 2 * f->room : 4096;
    f->latencies_us = realloc(f->latencies_us, f->room * sizeof *f->latencies_us);
  }
  f->latencies_us[f->done++] = (float)us;
}

static inline void figures_add(figures *sum, const figures *f) {
  for (size_t i = 0; i < f->done; i++) figures_add_latency(sum, (double)f->latencies_us[i]);
  sum->bytes += f->bytes;
  sum->refused += f->refused;
  sum->wrong += f->wrong;
  sum->hit_chunks += f->hit_chunks;
  sum->asked_chunks += f->asked_chunks;
}

static inline void figures_reset(figures *f) {
  *f = (figures){.latencies_us = f->latencies_us, .room = f->room, .wrong = f->wrong};
}

/* User and system time of a process so far; 0 when it is not there. */
static inline double cpu_seconds(int64_t pid) {
  char path[64], line[1024];
  unsigned long user = 0, system = 0;
  snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
  FILE *file = pid ? fopen(path, "r") : NULL;
  if (!file) return 0;
  const char *rest = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
  if (rest) sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
  fclose(file);
  return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static inline int ascending(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* Prints the members of a JSON object; sorts the latencies. cpu: seconds of the server. */
static inline void figures_print(figures *f, double seconds, double cpu) {
  float hundredth[10] = {0}, first = 0;
  if (f->done >= 105) {
    first = f->latencies_us[0];
    memcpy(hundredth, f->latencies_us + 95, sizeof hundredth);
    qsort(hundredth, 10, sizeof *hundredth, ascending);
  }
  size_t measured = f->done, slow = 0, n = measured;
  if (n == 0) figures_add_latency(f, 0), n = 1;
  qsort(f->latencies_us, n, sizeof *f->latencies_us, ascending);
  const float *all = f->latencies_us;
  while (slow < n && all[n - 1 - slow] > 10000) slow++;
  printf("\"seconds\":%.3f,\"requests\":%zu,\"per_s\":%.1f,\"gb_s\":%.4f,", seconds, measured,
         (double)measured / seconds, (double)f->bytes / seconds / 1e9);
  printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"over_10ms\":%zu,", (double)all[n / 2],
         (double)all[n - 1 - n / 100], (double)all[n - 1], slow);
  printf("\"first_us\":%.1f,\"hundredth_us\":%.1f,\"hit_ratio\":%.4f,", (double)first, (double)hundredth[5],
         (double)f->hit_chunks / (double)(f->asked_chunks ? f->asked_chunks : 1));
  printf("\"refused\":%llu,\"wrong\":%llu,", (unsigned long long)f->refused, (unsigned long long)f->wrong);
  printf("\"server_cpu_ms_per_1000\":%.3f", cpu * 1e6 / (double)n);
}
