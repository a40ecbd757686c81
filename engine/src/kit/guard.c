/* SPDX-License-Identifier: MIT
 *
 * kit/guard.c - see guard.h. All guards are on one list under a mutex; the fault handler reads it without, for the
 * process ends there. */
#include "kit/guard.h"

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
static neap__guard *guards;

neap__guard *neap__guard_new(uint64_t bytes, bool at_end) {
  neap__guard *guard = calloc(1, sizeof(*guard));
  if (!guard) return NULL;
  uint64_t room = (bytes + PAGE - 1) / PAGE * PAGE;
  guard->map_bytes = FRONT + room + BACK;
  guard->map = mmap(NULL, guard->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (guard->map == MAP_FAILED) {
    free(guard);
    return NULL;
  }
  memset(guard->map + FRONT, CANARY, room);
  mprotect(guard->map, FRONT, PROT_NONE);
  mprotect(guard->map + FRONT + room, BACK, PROT_NONE);
  guard->data = guard->map + FRONT + (at_end ? room - bytes : 0);
  guard->bytes = bytes;
  neap__guard_look(guard);
  pthread_mutex_lock(&lock);
  guard->next = guards;
  guards = guard;
  pthread_mutex_unlock(&lock);
  return guard;
}

void neap__guard_free(neap__guard *guard) {
  if (!guard) return;
  pthread_mutex_lock(&lock);
  neap__guard **at = &guards;
  while (*at != guard) at = &(*at)->next;
  *at = guard->next;
  pthread_mutex_unlock(&lock);
  munmap(guard->map, guard->map_bytes);
  free(guard);
}

void neap__guard_seal(neap__guard *guard, bool sealed) {
  guard->to_store = sealed;
  mprotect(guard->map + FRONT, guard->map_bytes - FRONT - BACK, sealed ? PROT_READ : PROT_READ | PROT_WRITE);
}

void neap__guard_look(neap__guard *guard) { guard->seen = neap__crc32c(0, guard->data, guard->bytes); }

bool neap__guard_changed(const neap__guard *guard) { return neap__crc32c(0, guard->data, guard->bytes) != guard->seen; }

bool neap__guard_broken(const neap__guard *guard) {
  const uint8_t *first = guard->map + FRONT, *last = guard->map + guard->map_bytes - BACK;
  for (const uint8_t *at = first; at < guard->data; at++)
    if (*at != CANARY) return true;
  for (const uint8_t *at = guard->data + guard->bytes; at < last; at++)
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

void neap__guard_fill(neap__guard *guard, uint64_t fill) {
  for (uint64_t i = 0; i < guard->bytes; i += 8) {
    uint64_t word = word_of(fill, i);
    memcpy(guard->data + i, &word, NEAP_MIN(guard->bytes - i, (uint64_t)8));
  }
  neap__guard_look(guard);
}

bool neap__guard_filled(const neap__guard *guard, uint64_t fill, uint64_t *at) {
  for (uint64_t i = 0; i < guard->bytes; i += 8) {
    uint64_t word = word_of(fill, i), n = NEAP_MIN(guard->bytes - i, (uint64_t)8);
    if (memcmp(guard->data + i, &word, n) == 0) continue;
    for (*at = i; guard->data[*at] == ((const uint8_t *)&word)[*at - i];) ++*at;
    return false;
  }
  return true;
}

const char *neap__guard_explain(const void *address, char *text, size_t cap) {
  const uint8_t *at = address;
  for (const neap__guard *guard = guards; guard; guard = guard->next) {
    if (at < guard->map || at >= guard->map + guard->map_bytes) continue;
    bool before = at < guard->data, behind = at >= guard->data + guard->bytes;
    snprintf(text, cap, "touched a byte %s the %llu bytes of a buffer to %s",
             before   ? "before"
             : behind ? "past the end of"
                      : "it may only read of",
             (unsigned long long)guard->bytes, guard->to_store ? "store" : "load into");
    return text;
  }
  return NULL;
}
