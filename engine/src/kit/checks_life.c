/* SPDX-License-Identifier: MIT
 *
 * kit/checks_life.c - what is left of an adapter after close, after a restart and after kill -9: objects that are whole
 * or absent, and no thread, descriptor, memory or printed line. */
#include <dirent.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kit/checks.h"

#define KEPT 16u
#define KEPT_BYTES(i) (50000u + (i)*4096u)
#define VICTIMS 64u
#define VICTIM_BYTES 300000u
#define ROUNDS 4u
#define CYCLES 40u
#define HEAP_PER_CYCLE 512u     /* of open and close alone */
#define HEAP_PER_EXERCISE 8192u /* the check's own records of the operations are among it */

/* --- restart ------------------------------------------------------------------------------------------------------ */

/* One check is one process, with static data of its own. */
static neap_object_key kept[NEAP_MAX(KEPT, VICTIMS)];

/* How many of the first `count` keys are there; each is whole. bytes(i), content first + i. */
static uint32_t count_whole(neap__kit *kit, uint32_t count, uint64_t bytes, uint64_t step, const char *after) {
  uint32_t whole = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t size = bytes + i * step;
    int looked = neap__kit_lookup(kit, kept[i], size), loaded = neap__kit_loaded(kit, kept[i], size, i);
    NEAP_KIT_NEED(kit, (looked == 0) == (loaded == 0), "%s, the lookup of an object ended with %s and its load with %s",
                  after, neap_err_name(looked), neap_err_name(loaded));
    NEAP_KIT_NEED(kit, loaded == 0 || loaded == NEAP_ENOENT,
                  "%s, the load of an object ended with %s; expected the whole object, or NEAP_ENOENT", after,
                  neap_err_name(loaded));
    whole += loaded == 0;
  }
  return whole;
}

static void store_kept(neap__kit *kit) {
  neap__kit_open(kit);
  for (uint32_t i = 0; i < KEPT; i++)
    neap__kit_expect(kit, neap__kit_store(kit, kept[i], KEPT_BYTES(i), i), 0, "a store");
  kit->stored_count = 0;
  neap__kit_close(kit);
}

void neap__check_restart(neap__kit *kit) {
  for (uint32_t i = 0; i < KEPT; i++) kept[i] = neap__kit_key(kit);
  neap__kit_elsewhere(kit, store_kept);
  neap__kit_open(kit);
  uint32_t whole = count_whole(kit, KEPT, KEPT_BYTES(0), 4096, "after close and open in another process");
  for (uint32_t i = 0; i < KEPT; i++) {
    neap__kit_call *store = neap__kit_call_new(kit, NEAP_OP_STORE, 1);
    neap__kit_put(kit, store, 0, kept[i], KEPT_BYTES(i), i);
    neap__kit_run(kit, store);
    neap__kit_expect(kit, store->op->objects[0].result, 0, "a store after a restart");
    uint64_t added = store->op->objects[0].stored_bytes;
    NEAP_KIT_NEED(kit, whole != KEPT || added == 0,
                  "an object survived the restart, but a store of its key says stored_bytes %llu; expected 0",
                  (unsigned long long)added);
  }
  NEAP_KIT_NEED(kit, count_whole(kit, KEPT, KEPT_BYTES(0), 4096, "after storing again") == KEPT,
                "after a restart and storing again, not all objects are there");
  neap__kit_note(kit, "persistent: %s, %u of %u", whole == KEPT ? "yes" : whole ? "partly" : "no", whole, KEPT);
}

/* Stores until it is killed; progress counts what was acknowledged. */
static void store_victims(neap__kit *kit) {
  neap__kit_call *calls[VICTIMS];
  neap__kit_open(kit);
  for (uint32_t i = 0; i < VICTIMS; i++) {
    calls[i] = neap__kit_call_new(kit, NEAP_OP_STORE, 1);
    neap__kit_put(kit, calls[i], 0, kept[i], VICTIM_BYTES, i);
  }
  for (uint32_t i = 0; i < VICTIMS + 4; i++) {
    if (i < VICTIMS) neap__kit_submit(kit, calls[i]);
    if (i < 4) continue;
    neap__kit_wait(kit, calls[i - 4]);
    atomic_fetch_add(&kit->report->progress, 1);
  }
  for (;;) pause();
}

static void nap_us(long us) { nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL); }

static uint32_t kill_while_storing(neap__kit *kit, uint32_t round) {
  int status = 0;
  atomic_store(&kit->report->progress, 0);
  pid_t pid = fork();
  NEAP_KIT_NEED(kit, pid >= 0, "the check itself cannot start a process: %m");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    store_victims(kit);
  }
  while (atomic_load(&kit->report->progress) < 3 + 15 * round && waitpid(pid, &status, WNOHANG) == 0) nap_us(100);
  kill(pid, SIGKILL);
  while (waitpid(pid, &status, 0) > 0) continue;
  if (atomic_load(&kit->report->result) != NEAP_KIT_RUNNING) _exit(0);
  return atomic_load(&kit->report->progress);
}

/* The other process opens; so that this one stays without threads, each round looks in a process of its own, too. */
static void look_after_kill(neap__kit *kit) {
  uint32_t acknowledged = atomic_load(&kit->report->progress);
  neap__kit_open(kit);
  uint32_t whole = count_whole(kit, VICTIMS, VICTIM_BYTES, 0, "after kill -9 in the middle of stores");
  neap__kit_note(kit, "%u of %u acknowledged objects were there after the last kill", NEAP_MIN(whole, acknowledged),
                 acknowledged);
  for (uint32_t i = 0; i < VICTIMS; i++)
    neap__kit_expect(kit, neap__kit_store(kit, kept[i], VICTIM_BYTES, i), 0, "a store after kill -9");
  NEAP_KIT_NEED(kit, count_whole(kit, VICTIMS, VICTIM_BYTES, 0, "after storing again") == VICTIMS,
                "after kill -9 and storing again, not all objects are there");
  neap__kit_forget(kit);
  neap__kit_close(kit);
}

void neap__check_killed(neap__kit *kit) {
  for (uint32_t round = 0; round < ROUNDS; round++) {
    for (uint32_t i = 0; i < VICTIMS; i++) kept[i] = neap__kit_key(kit);
    (void)kill_while_storing(kit, round);
    neap__kit_elsewhere(kit, look_after_kill);
  }
}

/* --- traces ------------------------------------------------------------------------------------------------------- */

void neap__kit_exercise(neap__kit *kit) {
  neap_object_key key = neap__kit_key(kit), other = neap__kit_key(kit);
  neap__kit_expect(kit, neap__kit_store(kit, key, 70000, 1), 0, "a store");
  neap__kit_expect(kit, neap__kit_lookup(kit, key, 70000), 0, "a lookup");
  neap__kit_expect(kit, neap__kit_loaded(kit, key, 70000, 1), 0, "a load");
  neap__kit_expect(kit, neap__kit_loaded(kit, key, 70001, 1), NEAP_ECORRUPT, "a load of another length");
  neap__kit_expect(kit, neap__kit_lookup(kit, other, 0), NEAP_ENOENT, "a lookup of nothing");
  if (neap__kit_offers(kit, NEAP_OP_LIST)) {
    neap__kit_call *list = neap__kit_call_new(kit, NEAP_OP_LIST, 0);
    list->op->entries_stop = 3;
    neap__kit_run(kit, list);
  }
  neap__kit_forget(kit);
}

void neap__check_quiet(neap__kit *kit) {
  char text[200];
  struct stat st;
  neap__kit_open(kit);
  neap__kit_exercise(kit);
  neap__kit_close(kit);
  fflush(NULL);
  if (fstat(STDOUT_FILENO, &st) != 0 || st.st_size == 0) return;
  ssize_t n = pread(STDOUT_FILENO, text, sizeof(text) - 1, 0);
  text[NEAP_MAX(n, (ssize_t)0)] = '\0';
  text[strcspn(text, "\n")] = '\0';
  neap__kit_fail(kit, "%lld bytes were written to standard output or error, beginning with: %s; use host->log",
                 (long long)st.st_size, text);
}

static uint32_t count_names(const char *path) {
  uint32_t count = 0;
  DIR *dir = opendir(path);
  if (!dir) return 0;
  for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

static void one_cycle(neap__kit *kit) {
  neap__kit_open(kit);
  neap__kit_exercise(kit);
  neap__kit_close(kit);
}

/* A joined thread may stand in /proc for a moment longer. */
static uint32_t settled(neap__kit *kit, const char *path, uint32_t most) {
  uint32_t count = count_names(path);
  neap__kit_step(kit, "%s was counted", path);
  for (int i = 0; i < 500 && count > most; i++) {
    nap_us(1000);
    count = count_names(path);
  }
  return count;
}

void neap__check_leaves_nothing(neap__kit *kit) {
  for (int i = 0; i < 2; i++) one_cycle(kit); /* what a library starts once and keeps */
  uint32_t threads = count_names("/proc/self/task"), fds = count_names("/proc/self/fd"), cycles = 8;
  for (uint32_t i = 0; i < cycles; i++) one_cycle(kit);
  uint32_t threads_now = settled(kit, "/proc/self/task", threads), fds_now = settled(kit, "/proc/self/fd", fds);
  NEAP_KIT_NEED(kit, threads_now <= threads, "after opening and closing %u times, %u threads are left behind", cycles,
                threads_now - threads);
  NEAP_KIT_NEED(kit, fds_now <= fds, "after opening and closing %u times, %u file descriptors are left behind", cycles,
                fds_now - fds);
}

/* Bytes in use of the heap. Under a sanitizer, malloc is its own. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static uint64_t heap_bytes(void) {
  if (__sanitizer_get_current_allocated_bytes) return __sanitizer_get_current_allocated_bytes();
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

/* What a cycle leaves on the heap, on average. */
static uint64_t heap_per_cycle(neap__kit *kit, bool exercise) {
  uint64_t before = 0;
  for (uint32_t i = 0; i < CYCLES + 5; i++) {
    if (i == 5) before = heap_bytes(); /* after what is allocated once */
    neap__kit_open(kit);
    if (exercise) neap__kit_exercise(kit);
    neap__kit_close(kit);
  }
  uint64_t after = heap_bytes();
  return after > before ? (after - before) / CYCLES : 0;
}

void neap__check_memory(neap__kit *kit) {
  uint64_t idle = heap_per_cycle(kit, false);
  NEAP_KIT_NEED(kit, idle < HEAP_PER_CYCLE, "each open and close leaves %llu bytes on the heap",
                (unsigned long long)idle);
  uint64_t used = heap_per_cycle(kit, true);
  NEAP_KIT_NEED(kit, used < HEAP_PER_EXERCISE, "each open, some operations and close leave %llu bytes on the heap",
                (unsigned long long)used);
}
