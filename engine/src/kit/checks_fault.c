/* SPDX-License-Identifier: MIT
 *
 * kit/checks_fault.c - what an adapter does when its surroundings fail: no worker, no room for files, no descriptors,
 * errors of the disk, nobody at the other end. An operation may fail then, with a code; it may not hang, leave
 * something half there, or go on failing afterwards.
 *
 * Faults are made with what a process may do to itself: limits (setrlimit) and a filter of system calls (seccomp). */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/json.h"
#include "kit/checks.h"

#define BEFORE 4u /* objects that are there when the fault begins */
#define DURING 6u /* that are stored while it lasts */
#define SMALL 5000u
#define LARGE 600000u
#define FILE_LIMIT 65536u

static neap_object_key before[BEFORE], during[DURING]; /* of this process's check */
static bool stored[DURING];

static void make_keys(neap__kit *kit) {
  for (uint32_t i = 0; i < BEFORE; i++) before[i] = neap__kit_key(kit);
  for (uint32_t i = 0; i < DURING; i++) during[i] = neap__kit_key(kit);
}

static void store_before(neap__kit *kit) {
  for (uint32_t i = 0; i < BEFORE; i++) neap__kit_expect(kit, neap__kit_store(kit, before[i], SMALL, i), 0, "a store");
}

/* A load of what is there gives its bytes or a code; 1 if it failed. */
static uint32_t load_faulty(neap__kit *kit, neap_object_key key, uint64_t bytes, uint64_t fill, const char *fault) {
  int got = neap__kit_loaded(kit, key, bytes, fill);
  NEAP_KIT_NEED(kit, got != NEAP_ECORRUPT,
                "%s, the load of an object that is whole ended with NEAP_ECORRUPT; it would "
                "be thrown away",
                fault);
  return got != 0;
}

/* Stores and loads while the fault lasts. Returns how many of them failed. */
static uint32_t work_faulty(neap__kit *kit, const char *fault) {
  uint32_t failed = 0;
  for (uint32_t i = 0; i < DURING; i++) {
    int rc = neap__kit_store(kit, during[i], LARGE, i);
    stored[i] = rc == 0;
    failed += rc != 0;
    int looked = neap__kit_lookup(kit, during[i], LARGE);
    NEAP_KIT_NEED(kit, rc == 0 || looked != 0, "%s, a store ended with %s, but its lookup with NEAP_OK", fault,
                  neap_err_name(rc));
    if (stored[i]) failed += load_faulty(kit, during[i], LARGE, i, fault);
  }
  for (uint32_t i = 0; i < BEFORE; i++) failed += load_faulty(kit, before[i], SMALL, i, fault);
  return failed;
}

/* When the fault is over: nothing half there, and what failed before works. evicts: a store may have made room by
 * dropping what was there. */
static void work_again(neap__kit *kit, const char *fault, bool evicts) {
  for (uint32_t i = 0; i < BEFORE; i++) {
    int got = neap__kit_loaded(kit, before[i], SMALL, i);
    NEAP_KIT_NEED(kit, got == 0 || (evicts && got == NEAP_ENOENT),
                  "after %s, the load of an object that was there before ended with %s", fault, neap_err_name(got));
  }
  for (uint32_t i = 0; i < DURING; i++) {
    int want = stored[i] ? 0 : NEAP_ENOENT, got = neap__kit_loaded(kit, during[i], LARGE, i);
    NEAP_KIT_NEED(kit, got == want || (evicts && got == NEAP_ENOENT),
                  "after %s, the load of an object whose store %s ended with %s; expected %s", fault,
                  stored[i] ? "had succeeded" : "had failed", neap_err_name(got), neap_err_name(want));
    got = neap__kit_store(kit, during[i], LARGE, i);
    NEAP_KIT_NEED(kit, got == 0, "after %s, a store still ended with %s", fault, neap_err_name(got));
    got = neap__kit_loaded(kit, during[i], LARGE, i);
    NEAP_KIT_NEED(kit, got == 0, "after %s, the load of what was stored then ended with %s", fault, neap_err_name(got));
  }
}

static void note_failed(neap__kit *kit, uint32_t failed) {
  if (failed)
    neap__kit_note(kit, "%u operations failed meanwhile", failed);
  else
    neap__kit_note(kit, "it was not touched by that");
}

/* --- no worker ---------------------------------------------------------------------------------------------------- */

void neap__check_no_workers(neap__kit *kit) {
  make_keys(kit);
  neap__kit_open(kit);
  store_before(kit);
  neap__kit_host_refuse_work(kit->host, true);
  uint32_t failed = work_faulty(kit, "while host->queue_work refused");
  neap__kit_host_refuse_work(kit->host, false);
  work_again(kit, "host->queue_work had refused", false);
  note_failed(kit, failed);
}

/* --- limits ------------------------------------------------------------------------------------------------------- */

static void limit(neap__kit *kit, __rlimit_resource_t what, rlim_t most, struct rlimit *old) {
  struct rlimit now;
  NEAP_KIT_NEED(kit, getrlimit(what, old) == 0, "the check cannot read a limit of its process: %m");
  now = (struct rlimit){.rlim_cur = most, .rlim_max = old->rlim_max};
  NEAP_KIT_NEED(kit, setrlimit(what, &now) == 0, "the check cannot set a limit of its process: %m");
}

void neap__check_full_disk(neap__kit *kit) {
  struct rlimit old;
  make_keys(kit);
  signal(SIGXFSZ, SIG_IGN);
  neap__kit_open(kit);
  store_before(kit);
  limit(kit, RLIMIT_FSIZE, FILE_LIMIT, &old);
  uint32_t failed = work_faulty(kit, "while files could not grow beyond 64 KiB");
  setrlimit(RLIMIT_FSIZE, &old);
  work_again(kit, "files could not grow", true);
  note_failed(kit, failed);
}

void neap__check_no_descriptors(neap__kit *kit) {
  struct rlimit old;
  make_keys(kit);
  neap__kit_open(kit);
  store_before(kit);
  int lowest_free = dup(STDIN_FILENO);
  NEAP_KIT_NEED(kit, lowest_free >= 0, "the check has no descriptor itself: %m");
  close(lowest_free);
  limit(kit, RLIMIT_NOFILE, (rlim_t)lowest_free, &old);
  uint32_t failed = work_faulty(kit, "while the process had no free file descriptor");
  setrlimit(RLIMIT_NOFILE, &old);
  work_again(kit, "the process had no free file descriptor", false);
  note_failed(kit, failed);
}

/* --- errors of the disk ------------------------------------------------------------------------------------------- */

static const int file_calls[] = {SYS_pread64, SYS_preadv,   SYS_preadv2, SYS_pwrite64,
                                 SYS_pwritev, SYS_pwritev2, SYS_fsync,   SYS_fdatasync};

/* From now on the calls above end with EIO, in all threads, until the process ends. read and write are left alone:
 * event loops wake each other with them. */
static bool break_files(void) {
  enum { CALLS = NEAP_ARRAY_LEN(file_calls) };
  struct sock_filter code[CALLS + 3];
  code[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (unsigned i = 0; i < CALLS; i++)
    code[1 + i] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)file_calls[i], (uint8_t)(CALLS - i), 0);
  code[CALLS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  code[CALLS + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO);
  struct sock_fprog program = {.len = CALLS + 3, .filter = code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

static void work_broken(neap__kit *kit) {
  neap__kit_open(kit);
  store_before(kit);
  if (!break_files()) neap__kit_skip(kit, "the kernel takes no filter of system calls here");
  uint32_t failed = work_faulty(kit, "while the disk gave errors");
  note_failed(kit, failed);
  kit->stored_count = 0;
  neap__kit_close(kit);
}

void neap__check_io_errors(neap__kit *kit) {
  make_keys(kit);
  neap__kit_elsewhere(kit, work_broken);
  neap__kit_open(kit);
  for (uint32_t i = 0; i < BEFORE; i++) {
    int got = neap__kit_loaded(kit, before[i], SMALL, i);
    NEAP_KIT_NEED(kit, got == 0 || got == NEAP_ENOENT, "after errors of the disk and a restart, a load ended with %s",
                  neap_err_name(got));
    neap__kit_expect(kit, neap__kit_store(kit, before[i], SMALL, i), 0, "after errors of the disk, a store");
  }
  for (uint32_t i = 0; i < DURING; i++) {
    int got = neap__kit_loaded(kit, during[i], LARGE, i);
    NEAP_KIT_NEED(kit, got == 0 || got == NEAP_ENOENT,
                  "after errors of the disk and a restart, the load of an object whose store may have failed ended "
                  "with %s; expected the whole object, or NEAP_ENOENT",
                  neap_err_name(got));
    neap__kit_expect(kit, neap__kit_store(kit, during[i], LARGE, i), 0, "after errors of the disk, a store");
    neap__kit_expect(kit, neap__kit_loaded(kit, during[i], LARGE, i), 0, "after errors of the disk, a load");
  }
}

/* --- nobody there --------------------------------------------------------------------------------------------------
 */

/* A port of loopback on which nobody listens. */
static uint16_t closed_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof(address);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) != 0) address.sin_port = htons(1);
  if (fd >= 0) getsockname(fd, (struct sockaddr *)&address, &length);
  if (fd >= 0) close(fd);
  return ntohs(address.sin_port);
}

/* "host:123", "http://host:123/path": the 123 becomes port. NULL if there is none. */
static char *with_port(const char *text, uint16_t port) {
  char *out = NULL;
  for (const char *at = strrchr(text, ':'); at; at = NULL) {
    size_t digits = strspn(at + 1, "0123456789");
    const char *rest = at + 1 + digits;
    if (!digits || (*rest && *rest != '/')) return NULL;
    if (asprintf(&out, "%.*s:%u%s", (int)(at - text), text, port, rest) < 0) return NULL;
  }
  return out;
}

/* Puts places that cannot be reached in the place of paths and ports, at any depth. Returns how many. */
static uint32_t misdirect(cJSON *item, uint16_t port) {
  struct stat st;
  uint32_t count = 0;
  for (cJSON *child = item->child; child; child = child->next) count += misdirect(child, port);
  if (cJSON_IsNumber(item) && item->string && strstr(item->string, "port")) {
    cJSON_SetNumberValue(item, port);
    return count + 1;
  }
  if (!cJSON_IsString(item)) return count;
  const char *text = item->valuestring;
  char *other = text[0] == '/' && stat(text, &st) == 0 ? strdup("/dev/null/neap-check") : with_port(text, port);
  if (!other) return count;
  cJSON_SetValuestring(item, other);
  free(other);
  return count + 1;
}

void neap__check_unreachable(neap__kit *kit) {
  cJSON *params = NULL;
  neap_error err = {0};
  neap__kit_load(kit);
  NEAP_KIT_NEED(kit, neap__json_parse(kit->config.params_json, &params, &err) == 0, "%s", err.text);
  if (misdirect(params, closed_port()) == 0) neap__kit_skip(kit, "no parameter is an existing path or a port");
  char *text = cJSON_PrintUnformatted(params);
  int rc = neap__kit_try_open(kit, text, &err);
  if (rc != 0) {
    NEAP_KIT_NEED(kit, err.text[0], "open with %s ended with %s, but gave no reason", text, neap_err_name(rc));
    neap__kit_note(kit, "open: %.200s", err.text);
    return;
  }
  for (uint64_t i = 0; i < 3; i++) {
    neap_object_key key = neap__kit_key(kit);
    int stored_rc = neap__kit_store(kit, key, SMALL, i), looked = neap__kit_lookup(kit, key, SMALL);
    int loaded = neap__kit_loaded(kit, key, SMALL, i);
    NEAP_KIT_NEED(kit, stored_rc != 0 && looked != 0 && loaded != 0,
                  "with %s, where nobody can answer: store %s, lookup %s, load %s; expected errors", text,
                  neap_err_name(stored_rc), neap_err_name(looked), neap_err_name(loaded));
    neap__kit_note(kit, "open succeeds, then: store %s, lookup %s", neap_err_name(stored_rc), neap_err_name(looked));
  }
}
