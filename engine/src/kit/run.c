/* SPDX-License-Identifier: MIT
 *
 * kit/run.c - see run.h. */
#include "kit/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS 100
#define GRACE_MS 1000u /* beyond the time of a step, which the process itself watches where it can */
#define GROWTH_MAX_BYTES (UINT64_C(1) << 30)

/* --- the process of the check ----------------------------------------------------------------------------------- */

static neap__kit_report *faulted;
static const int faults[] = {SIGSEGV, SIGBUS};
static struct sigaction before[NEAP_ARRAY_LEN(faults)];

/* A touch of a fence is a finding; any other fault is left to who was there before, which ends the process. */
static void on_fault(int number, siginfo_t *info, void *context) {
  char text[160];
  (void)context;
  const char *what = neap__fence_explain(info->si_addr, text, sizeof(text));
  if (!what) {
    for (size_t i = 0; i < NEAP_ARRAY_LEN(faults); i++)
      if (faults[i] == number) sigaction(number, &before[i], NULL);
    if (info->si_code <= 0) raise(number); /* sent, not caused: it will not come again by itself */
    return;
  }
  snprintf(faulted->reason, sizeof(faulted->reason), "the adapter %s, while %s", what, faulted->step);
  atomic_store(&faulted->result, NEAP_KIT_FAILED);
  _exit(0);
}

static void prepare_process(neap__kit_report *report, int output) {
  struct rlimit none = {0, 0};
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) dup2(null, STDIN_FILENO);
  if (null > STDERR_FILENO) close(null);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  if (output > STDERR_FILENO) close(output);
  setrlimit(RLIMIT_CORE, &none);
  signal(SIGPIPE, SIG_IGN);
  faulted = report;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(faults); i++) sigaction(faults[i], &action, &before[i]);
}

static _Noreturn void run_process(const neap__kit_options *options, uint32_t index, neap__kit_report *report,
                                  int output) {
  static neap__kit kit;
  kit = (neap__kit){.options = options, .report = report, .index = index};
  pthread_mutex_init(&kit.lock, NULL);
  snprintf(kit.model, sizeof(kit.model), "neap-check/%016llx", (unsigned long long)options->run);
  prepare_process(report, output);
  neap__kit_step(&kit, "the check began");
  neap__checks[index].run(&kit);
  neap__kit_forget(&kit);
  neap__kit_close(&kit);
  atomic_store(&report->result, NEAP_KIT_PASSED);
  _exit(0);
}

/* --- watching it ------------------------------------------------------------------------------------------------ */

static uint64_t resident_bytes(pid_t pid) {
  char path[64];
  unsigned long long total = 0, resident = 0;
  snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
  FILE *file = fopen(path, "re");
  if (!file) return 0;
  if (fscanf(file, "%llu %llu", &total, &resident) != 2) resident = 0;
  fclose(file);
  return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void stop(neap__kit_report *report, pid_t pid, const char *fmt, ...) NEAP_PRINTF(3, 4);
static void stop(neap__kit_report *report, pid_t pid, const char *fmt, ...) {
  va_list args;
  int running = NEAP_KIT_RUNNING;
  if (!atomic_compare_exchange_strong(&report->result, &running, NEAP_KIT_FAILED)) return;
  va_start(args, fmt);
  vsnprintf(report->reason, sizeof(report->reason), fmt, args);
  va_end(args);
  kill(pid, SIGKILL);
}

/* Whether the process may go on; else it was stopped and its report says why. */
static void judge(const neap__kit_options *options, neap__kit_report *report, pid_t pid, uint64_t resident_before) {
  uint64_t step_ns = atomic_load(&report->step_ns), age_ms = (neap__now_ns() - step_ns) / 1000000u;
  if (age_ms > options->timeout_ms + GRACE_MS)
    stop(report, pid, "it did not come back within %g s while %s", (double)options->timeout_ms / 1e3, report->step);
  if (resident_bytes(pid) > resident_before + GROWTH_MAX_BYTES)
    stop(report, pid, "its memory grew by more than %llu MiB while %s", (unsigned long long)(GROWTH_MAX_BYTES >> 20),
         report->step);
}

static void tell_end(neap__kit_report *report, int status) {
  int running = NEAP_KIT_RUNNING;
  if (!atomic_compare_exchange_strong(&report->result, &running, NEAP_KIT_FAILED)) return;
  if (WIFSIGNALED(status))
    snprintf(report->reason, sizeof(report->reason), "the process ended by signal %d (%s) while %s", WTERMSIG(status),
             strsignal(WTERMSIG(status)), report->step);
  else
    snprintf(report->reason, sizeof(report->reason), "the adapter ended the process with exit status %d while %s",
             WEXITSTATUS(status), report->step);
}

static void read_output(int fd, char *text, size_t cap) {
  ssize_t n = pread(fd, text, cap - 1, 0);
  text[NEAP_MAX(n, (ssize_t)0)] = '\0';
}

static int watch(const neap__kit_options *options, neap__kit_report *report, pid_t pid, uint64_t started_ns,
                 void (*progress)(void *ctx, const char *step, double ms), void *ctx) {
  int status = 0;
  uint64_t resident_before = resident_bytes(getpid());
  struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
  while (waitpid(pid, &status, WNOHANG) != pid) {
    if (poll(&ended, ended.fd >= 0, TICK_MS) > 0) continue;
    judge(options, report, pid, resident_before);
    if (progress) progress(ctx, report->step, (double)(neap__now_ns() - started_ns) / 1e6);
  }
  if (ended.fd >= 0) close(ended.fd);
  return status;
}

int neap__kit_check(const neap__kit_options *options, uint32_t index, neap__kit_outcome *outcome,
                    void (*progress)(void *ctx, const char *step, double ms), void *ctx, neap_error *err) {
  uint64_t started_ns = neap__now_ns();
  neap__kit_report *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (report == MAP_FAILED) return neap__fail(err, NEAP_ENOMEM, "no shared memory for the report: %m");
  int output = memfd_create("neap-check-output", MFD_CLOEXEC), rc = 0;
  pid_t parent = getpid(), pid = output >= 0 ? fork() : -1;
  if (pid < 0) {
    rc = neap__fail(err, NEAP_ELIMIT, "no process for a check: %s", strerror(errno));
    goto out;
  }
  atomic_store(&report->step_ns, started_ns);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    run_process(options, index, report, output);
  }
  tell_end(report, watch(options, report, pid, started_ns, progress, ctx));
  memcpy(&outcome->report, report, sizeof(*report));
  read_output(output, outcome->output, sizeof(outcome->output));
  outcome->ms = (double)(neap__now_ns() - started_ns) / 1e6;
out:
  if (output >= 0) close(output);
  munmap(report, sizeof(*report));
  return rc;
}
