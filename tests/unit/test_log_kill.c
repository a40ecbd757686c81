/* SPDX-License-Identifier: MIT
 *
 * Built-in type "log": the process is killed at any moment; what it had acknowledged is there, and right.
 *
 * A child stores, loads and removes and notes each acknowledgement in memory shared with the parent, which kills it
 * after a random time and opens the directory. NEAP_KILLS rounds (20), NEAP_SEED to repeat one. */
#include "unit/log_rig.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define OBJECTS 4096u
#define BATCH 8u

enum { UNKNOWN = 0, STORED, REMOVING, REMOVED };

typedef struct shared {
  _Atomic uint8_t state[OBJECTS];
  atomic_uint acknowledged, opened, begun; /* begun: objects below it were offered */
} shared;

static uint64_t random_state;
static uint32_t random_below(uint32_t limit) { /* Knuth's MMIX constants */
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(random_state >> 33) % limit;
}

static uint64_t length_of(uint64_t n) { return 1 + n * 7919 % 30000; }

/* The child: batches of new objects, and now and then one is removed. */
static void work(rig *r, shared *s, const char *more) {
  r->host = test_host_open(2);
  if (rig_open(r, more) != 0) _exit(1);
  atomic_fetch_add(&s->opened, 1);
  uint8_t *data = malloc(BATCH * 30001u);
  uint64_t next = 0;
  while (next < OBJECTS && s->state[next] != UNKNOWN) next++;
  for (; next + BATCH <= OBJECTS; next += BATCH) {
    atomic_store(&s->begun, (unsigned)next + BATCH);
    test_op *op = test_op_new(r->host, NEAP_OP_STORE, BATCH);
    for (uint32_t i = 0; i < BATCH; i++) {
      test_fill(data + i * 30001u, length_of(next + i), next + i);
      op->objects[i] =
          (neap_object){.key = test_key(next + i), .data = data + i * 30001u, .bytes = length_of(next + i)};
    }
    test_op_run(&neap__ls_adapter, r->self, op);
    for (uint32_t i = 0; i < BATCH; i++) {
      if (op->objects[i].result != 0) _exit(2);
      s->state[next + i] = STORED;
      atomic_fetch_add(&s->acknowledged, 1);
    }
    uint64_t victim = random_below((uint32_t)next + BATCH);
    if (s->state[victim] != STORED) continue;
    s->state[victim] = REMOVING;
    if (rig_delete(r, victim) != 0) _exit(3);
    s->state[victim] = REMOVED;
  }
  for (;;) pause();
}

static void verify(rig *r, shared *s, const char *more) {
  assert_int_equal(rig_open(r, more), 0);
  for (uint64_t n = 0; n < atomic_load(&s->begun) + 3; n++) {
    int rc = rig_load(r, n, length_of(n));
    if (s->state[n] == STORED)
      assert_int_equal(rc, 0);
    else if (s->state[n] == REMOVED)
      assert_int_equal(rc, NEAP_ENOENT);
    else
      assert_true(rc == 0 || rc == NEAP_ENOENT); /* under way: whole, or not there */
    if (s->state[n] == REMOVING) s->state[n] = rc == 0 ? STORED : REMOVED;
    if (s->state[n] == UNKNOWN && rc == 0) s->state[n] = STORED;
  }
  rig_close(r);
}

static void rounds(rig *r, const char *more, unsigned count) {
  shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(s != MAP_FAILED);
  rig_close(r);
  for (unsigned round = 0; round < count; round++) {
    assert_int_equal(test_host_close(r->host), 0); /* no thread of ours while we fork */
    pid_t pid = fork();
    if (pid == 0) work(r, s, more);
    /* Most kills fall into the work, some into the open before it. */
    while (round % 8 && atomic_load(&s->opened) <= round && waitpid(pid, NULL, WNOHANG) == 0) sched_yield();
    atomic_store(&s->opened, round + 1);
    struct timespec moment = {.tv_nsec = (long)random_below(30) * 1000000 + random_below(1000000)};
    nanosleep(&moment, NULL);
    int status = 0;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status)); /* it had not ended by itself: no operation failed */
    r->host = test_host_open(2);
    verify(r, s, more);
    if (round % 16 != 15) continue; /* begin again: the objects are used up */
    rig_remove_tree(r->dir);
    memset(s->state, 0, sizeof(s->state));
    atomic_store(&s->begun, 0);
  }
  print_message("%u rounds with %s: %u objects acknowledged\n", count, more, atomic_load(&s->acknowledged));
  munmap(s, sizeof(*s));
}

static unsigned kills(void) {
  const char *text = getenv("NEAP_KILLS");
  unsigned long count = text ? strtoul(text, NULL, 10) : 20;
  return count ? (unsigned)count : 20;
}

static void what_was_acknowledged_survives_kill_9(void **state) { rounds(*state, "", (kills() + 1) / 2); }
static void what_was_synced_survives_kill_9(void **state) {
  rounds(*state, ",\"durability\":\"fsync\",\"use_odirect\":true", (kills() + 3) / 4);
}
static void what_worker_threads_wrote_survives_kill_9(void **state) {
  rounds(*state, ",\"io\":\"threads\",\"durability\":\"flush\"", (kills() + 3) / 4);
}

int main(void) {
  const char *seed = getenv("NEAP_SEED");
  random_state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
  print_message("NEAP_SEED=%llu\n", (unsigned long long)random_state);
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      T(what_was_acknowledged_survives_kill_9),
      T(what_was_synced_survives_kill_9),
      T(what_worker_threads_wrote_survives_kill_9),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
