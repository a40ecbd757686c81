/* SPDX-License-Identifier: MIT
 *
 * kit/fence.c - see fence.h. All fences are on one list under a mutex; the fault handler reads it without, for the
 * process ends there. */
#include "kit/fence.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define FRONT (16u * PAGE) /* forbidden bytes before the data, */
#define BACK (512u * PAGE) /* and behind: copies may begin at their end */
#define CANARY 0xc5u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static neap__fence *fences;

neap__fence *neap__fence_new(uint64_t bytes, bool at_end) {
  neap__fence *fence = calloc(1, sizeof(*fence));
  if (!fence) return NULL;
  uint64_t room = (bytes + PAGE - 1) / PAGE * PAGE;
  fence->map_bytes = FRONT + room + BACK;
  fence->map = mmap(NULL, fence->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fence->map == MAP_FAILED) {
    free(fence);
    return NULL;
  }
  memset(fence->map + FRONT, CANARY, room);
  mprotect(fence->map, FRONT, PROT_NONE);
  mprotect(fence->map + FRONT + room, BACK, PROT_NONE);
  fence->data = fence->map + FRONT + (at_end ? room - bytes : 0);
  fence->bytes = bytes;
  neap__fence_look(fence);
  pthread_mutex_lock(&lock);
  fence->next = fences;
  fences = fence;
  pthread_mutex_unlock(&lock);
  return fence;
}

void neap__fence_free(neap__fence *fence) {
  if (!fence) return;
  pthread_mutex_lock(&lock);
  neap__fence **at = &fences;
  while (*at != fence) at = &(*at)->next;
  *at = fence->next;
  pthread_mutex_unlock(&lock);
  munmap(fence->map, fence->map_bytes);
  free(fence);
}

void neap__fence_seal(neap__fence *fence, bool sealed) {
  fence->to_store = sealed;
  mprotect(fence->map + FRONT, fence->map_bytes - FRONT - BACK, sealed ? PROT_READ : PROT_READ | PROT_WRITE);
}

void neap__fence_look(neap__fence *fence) { fence->seen = neap__crc32c(0, fence->data, fence->bytes); }

bool neap__fence_changed(const neap__fence *fence) { return neap__crc32c(0, fence->data, fence->bytes) != fence->seen; }

bool neap__fence_broken(const neap__fence *fence) {
  const uint8_t *first = fence->map + FRONT, *last = fence->map + fence->map_bytes - BACK;
  for (const uint8_t *at = first; at < fence->data; at++)
    if (*at != CANARY) return true;
  for (const uint8_t *at = fence->data + fence->bytes; at < last; at++)
    if (*at != CANARY) return true;
  return false;
}

/* One step of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). */
static uint64_t word_of(uint64_t fill, uint64_t i) {
  uint64_t z = fill * UINT64_C(0xd1342543de82ef95) + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

void neap__fence_fill(neap__fence *fence, uint64_t fill) {
  for (uint64_t i = 0; i < fence->bytes; i += 8) {
    uint64_t word = word_of(fill, i);
    memcpy(fence->data + i, &word, NEAP_MIN(fence->bytes - i, (uint64_t)8));
  }
  neap__fence_look(fence);
}

bool neap__fence_filled(const neap__fence *fence, uint64_t fill, uint64_t *at) {
  for (uint64_t i = 0; i < fence->bytes; i += 8) {
    uint64_t word = word_of(fill, i), n = NEAP_MIN(fence->bytes - i, (uint64_t)8);
    if (memcmp(fence->data + i, &word, n) == 0) continue;
    for (*at = i; fence->data[*at] == ((const uint8_t *)&word)[*at - i];) ++*at;
    return false;
  }
  return true;
}

const char *neap__fence_explain(const void *address, char *text, size_t cap) {
  const uint8_t *at = address;
  for (const neap__fence *fence = fences; fence; fence = fence->next) {
    if (at < fence->map || at >= fence->map + fence->map_bytes) continue;
    bool before = at < fence->data, behind = at >= fence->data + fence->bytes;
    snprintf(text, cap, "touched a byte %s the %llu bytes of a buffer to %s",
             before   ? "before"
             : behind ? "past the end of"
                      : "it may only read of",
             (unsigned long long)fence->bytes, fence->to_store ? "store" : "load into");
    return text;
  }
  return NULL;
}
