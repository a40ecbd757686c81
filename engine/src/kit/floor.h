/* SPDX-License-Identifier: MIT
 *
 * kit/floor.h - what the machine gives, to be held beside an adapter: copies of memory, raw O_DIRECT on the same disk,
 * bytes over loopback. Each measurement moves `total` bytes in pieces of `size`, as many at once as `depth`, and takes
 * what it takes; nothing is left behind. The calling thread waits; threads of its own do the work. */
#pragma once
#include "base/base.h"

typedef struct neap__floor_load {
  uint64_t size, total;
  uint32_t depth;
} neap__floor_load;

/* Bytes per second of memcpy by one thread, over memory that no cache holds when total is large. */
int neap__floor_memory(const neap__floor_load *load, double *rate, neap_error *err);
/* Writes a file in dir by O_DIRECT, then reads it back. NEAP_ENOTSUP where the file system has no O_DIRECT. */
int neap__floor_disk(const neap__floor_load *load, const char *dir, double *write_rate, double *read_rate,
                     neap_error *err);
/* Sends pieces over connected stream sockets and waits for a byte in answer to each. unix_socket: else TCP on
 * loopback. */
int neap__floor_wire(const neap__floor_load *load, bool unix_socket, double *rate, neap_error *err);
