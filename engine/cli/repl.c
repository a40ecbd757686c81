/* SPDX-License-Identifier: MIT
 *
 * cli/repl.c - `neap repl`: lines in, values out. What is typed is collected until it is a complete chunk; lines that
 * begin with a dot and a letter are commands of the prompt itself. Main thread; evaluation is the target's business. */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "interrupt.h"
#include "line_edit.h"
#include "read_file.h"

#define FILE_BYTES_MAX (16u << 20)
#define TYPED_BYTES_MAX (1u << 20)

extern char **environ;

static const char help_head[] =
    "usage: neap repl [OPTIONS]\n\n"
    "A Lua prompt over an engine of its own, or over a live server. .help at the prompt tells more.\n"
    "Without a terminal it evaluates its standard input and ends at the first error.\n\n"
    "options:\n"
    "  --no-history         neither read nor write the history\n";
static const char help_tail[] = "\nExit status: 0 done, 1 something failed, 2 the command line was wrong.\n";

typedef struct repl {
  neap__target_config config;
  bool no_history, interactive, failed, quit;
  neap__target *target;
  neap__line_edit *edit;
  char history[4096];
  char *typed; /* what is not complete yet; NULL: nothing */
  size_t typed_bytes;
  char *last; /* what was evaluated last, for .edit */
} repl;

/* --- evaluating --------------------------------------------------------------------------------------------------- */

static void show_error(const repl *r, const char *text) {
  const char *no = getenv("NO_COLOR");
  bool colour = isatty(STDERR_FILENO) && !(no && *no);
  fflush(stdout);
  fprintf(stderr, "%s%s%s\n", colour ? "\x1b[31m" : "", text, colour ? "\x1b[0m" : "");
  (void)r;
}

/* Prints the answer. INCOMPLETE is left to the caller. */
static neap__console_status evaluate(repl *r, neap__console_kind kind, const char *text, const char *name) {
  neap__console_status status = NEAP_CONSOLE_FAILED;
  neap_error err = {0};
  char *answer = NULL;
  neap__interrupt_target(r->target);
  int rc = neap__target_eval(r->target, kind, text, name, r->config.json, &status, &answer, &err);
  neap__interrupt_target(NULL);
  if (rc != 0) {
    show_error(r, err.text);
    r->quit = true; /* the server is gone */
  } else if (status == NEAP_CONSOLE_FAILED) {
    show_error(r, answer ? answer : "out of memory");
  } else if (status == NEAP_CONSOLE_OK && answer && *answer) {
    puts(answer);
  }
  fflush(stdout);
  free(answer);
  if (status == NEAP_CONSOLE_FAILED) r->failed = true;
  return status;
}

static void remember(repl *r, char *text) {
  free(r->last);
  r->last = text;
}

static void drop_typed(repl *r) {
  free(r->typed);
  r->typed = NULL;
  r->typed_bytes = 0;
}

static void add_line(repl *r, const char *line) {
  size_t bytes = strlen(line);
  char *typed = r->typed_bytes + bytes + 2 <= TYPED_BYTES_MAX ? realloc(r->typed, r->typed_bytes + bytes + 2) : NULL;
  if (!typed) {
    show_error(r, "what is typed is too long; it is dropped");
    r->failed = true;
    drop_typed(r);
    return;
  }
  r->typed = typed;
  if (r->typed_bytes) r->typed[r->typed_bytes++] = '\n';
  memcpy(r->typed + r->typed_bytes, line, bytes + 1);
  r->typed_bytes += bytes;
  if (evaluate(r, NEAP_CONSOLE_EVAL, r->typed, "=prompt") == NEAP_CONSOLE_INCOMPLETE) return;
  remember(r, r->typed);
  r->typed = NULL;
  r->typed_bytes = 0;
}

/* --- commands ------------------------------------------------------------------------------------------------------
 */

static void run_file(repl *r, const char *path) {
  neap_error err = {0};
  char *text = NULL, *name = NULL;
  int rc = neap__read_file(path, FILE_BYTES_MAX, &text, &err);
  if (rc == 0 && asprintf(&name, "@%s", path) < 0) rc = neap__fail(&err, NEAP_ENOMEM, "out of memory");
  if (rc != 0) {
    show_error(r, err.text);
    r->failed = true;
  } else {
    evaluate(r, NEAP_CONSOLE_SCRIPT, text, name);
    free(name);
  }
  free(text);
}

static void do_load(repl *r, const char *word) {
  if (*word) {
    run_file(r, word);
  } else {
    show_error(r, ".load: expected a file");
    r->failed = true;
  }
}

/* The topic goes to Lua as a string of word characters only. */
static void do_help(repl *r, const char *word) {
  char code[128];
  size_t bytes = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
  snprintf(code, sizeof(code), "help(%s%.*s%s)", bytes ? "'" : "", (int)NEAP_MIN(bytes, 64u), word, bytes ? "'" : "");
  evaluate(r, NEAP_CONSOLE_EVAL, code, "=help");
}

static void do_time(repl *r, const char *code) {
  uint64_t start = neap__now_ns();
  if (evaluate(r, NEAP_CONSOLE_EVAL, code, "=prompt") == NEAP_CONSOLE_INCOMPLETE) {
    show_error(r, ".time: the code is not complete");
    r->failed = true;
  }
  printf("%.3f ms\n", (double)(neap__now_ns() - start) / 1e6);
}

static void do_quit(repl *r, const char *word) {
  (void)word;
  r->quit = true;
}

/* $VISUAL or $EDITOR may hold options, so the shell splits them; the path is a parameter of its own. */
static int run_editor(const char *path) {
  const char *editor = getenv("VISUAL");
  if (!editor || !*editor) editor = getenv("EDITOR");
  if (!editor || !*editor) editor = "vi";
  char command[1024];
  int n = snprintf(command, sizeof(command), "%s \"$1\"", editor);
  if (n <= 0 || (size_t)n >= sizeof(command)) return -1;
  const char *const argv[] = {"sh", "-c", command, "sh", path, NULL};
  posix_spawnattr_t attr;
  sigset_t none, defaults;
  pid_t pid;
  int status = -1;
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_init(&attr);
  posix_spawnattr_setsigmask(&attr, &none);
  posix_spawnattr_setsigdefault(&attr, &defaults);
  posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  neap__interrupt_ignore(true);
  if (posix_spawn(&pid, "/bin/sh", NULL, &attr, (char *const *)(uintptr_t)argv, environ) == 0)
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  neap__interrupt_ignore(false);
  posix_spawnattr_destroy(&attr);
  return status;
}

static bool write_text(int fd, const char *text) {
  size_t bytes = strlen(text);
  return write(fd, text, bytes) == (ssize_t)bytes;
}

static void do_edit(repl *r, const char *word) {
  char path[] = "/tmp/neap-edit-XXXXXX.lua";
  bool ours = !*word;
  if (ours) {
    int fd = mkstemps(path, 4);
    bool written = fd >= 0 && write_text(fd, r->last ? r->last : "");
    if (fd >= 0) close(fd);
    if (!written) {
      show_error(r, ".edit: cannot write a file in /tmp");
      r->failed = true;
      return;
    }
  }
  const char *file = ours ? path : word;
  if (run_editor(file) == 0) {
    run_file(r, file);
    neap_error ignored;
    char *text = NULL;
    if (ours && neap__read_file(file, FILE_BYTES_MAX, &text, &ignored) == 0) remember(r, text);
  } else {
    show_error(r, ".edit: the editor failed (VISUAL, EDITOR); nothing is run");
    r->failed = true;
  }
  if (ours) unlink(path);
}

static const struct {
  const char *name;
  void (*run)(repl *r, const char *rest);
} commands[] = {{"edit", do_edit}, {"help", do_help}, {"load", do_load}, {"quit", do_quit}, {"time", do_time}};

static void run_command(repl *r, char *line) {
  const char *names[NEAP_ARRAY_LEN(commands)];
  size_t bytes = strcspn(line + 1, " \t");
  char *rest = line + 1 + bytes, text[160];
  rest += strspn(rest, " \t");
  for (size_t n = strlen(rest); n > 0 && isspace((unsigned char)rest[n - 1]); n--) rest[n - 1] = '\0';
  line[1 + bytes] = '\0';
  for (size_t i = 0; i < NEAP_ARRAY_LEN(commands); i++) {
    names[i] = commands[i].name;
    if (strcmp(line + 1, commands[i].name) == 0) {
      commands[i].run(r, rest);
      return;
    }
  }
  const char *near = neap__nearest(line + 1, names, NEAP_ARRAY_LEN(names));
  snprintf(text, sizeof(text), "unknown command '.%.40s'%s%s%s (.help commands tells them)", line + 1,
           near ? "; did you mean '." : "", near ? near : "", near ? "'?" : "");
  show_error(r, text);
  r->failed = true;
}

/* --- the loop ------------------------------------------------------------------------------------------------------
 */

/* Commands by name, everything else is asked of the session, which never calls anything for it. */
static char *complete(void *ctx, const char *text, size_t *replaced) {
  repl *r = ctx;
  neap__console_status status;
  neap_error err;
  char *answer = NULL, *rest = NULL;
  if (text[0] == '.' && !strpbrk(text, " \t") && !r->typed) {
    char *names = calloc(1, 256);
    *replaced = strlen(text);
    for (size_t i = 0, at = 0; names && i < NEAP_ARRAY_LEN(commands); i++)
      if (strncmp(commands[i].name, text + 1, *replaced - 1) == 0)
        at += (size_t)snprintf(names + at, 256 - at, "%s.%s", at ? "\n" : "", commands[i].name);
    return names;
  }
  if (neap__target_eval(r->target, NEAP_CONSOLE_COMPLETE, text, "=complete", false, &status, &answer, &err) != 0)
    return NULL;
  if (answer && status == NEAP_CONSOLE_OK) {
    *replaced = strtoul(answer, &rest, 10);
    rest = rest && *rest == '\n' ? strdup(rest + 1) : NULL;
  }
  free(answer);
  return rest;
}

static void take_line(repl *r, const char *line) {
  if (!r->typed && line[0] == '.' && isalpha((unsigned char)line[1])) {
    char *copy = strdup(line);
    if (copy) run_command(r, copy);
    free(copy);
  } else if (r->typed || line[strspn(line, " \t\r")]) {
    add_line(r, line);
  }
}

static void loop(repl *r) {
  while (!r->quit && (r->interactive || !r->failed)) {
    const char *line;
    if (r->interactive) neap__interrupt_ignore(true);
    neap__line what = neap__line_edit_read(r->edit, r->typed ? "  ..> " : "neap> ", &line);
    if (r->interactive) neap__interrupt_ignore(false);
    if (what == NEAP_LINE_END) break;
    if (what == NEAP_LINE_CANCEL)
      drop_typed(r);
    else
      take_line(r, line);
  }
  if (r->typed) { /* the input ended in the middle of something */
    show_error(r, "the input ends before the code is complete");
    r->failed = true;
  }
}

static void find_history(repl *r) {
  const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
  char *path = r->history;
  int n = 0;
  if (r->no_history) return;
  if (state && state[0] == '/')
    n = snprintf(path, sizeof(r->history), "%s/neap/history", state);
  else if (home && home[0] == '/')
    n = snprintf(path, sizeof(r->history), "%s/.local/state/neap/history", home);
  if (n <= 0 || (size_t)n >= sizeof(r->history)) {
    *path = '\0';
    return;
  }
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    (void)mkdir(path, 0700); /* what fails here shows when the history is written: then there is none */
    *slash = '/';
  }
}

static int session(repl *r, neap_error *err) {
  struct winsize size = {0};
  const char *no = getenv("NO_COLOR");
  r->interactive = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  r->config.colour = isatty(STDOUT_FILENO) && !(no && *no);
  if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) r->config.columns = size.ws_col;
  int rc = neap__interrupt_start(err);
  if (rc == 0) rc = neap__target_open(&r->config, &r->target, err);
  if (rc != 0) return rc;
  if (r->interactive) find_history(r);
  const neap__line_config lines = {
      .interactive = r->interactive, .history = r->history[0] ? r->history : NULL, .complete = complete, .ctx = r};
  rc = neap__line_edit_open(&lines, &r->edit);
  if (rc != 0) return neap__fail(err, rc, "out of memory, or a terminal that cannot be used");
  if (r->interactive)
    printf("neap %s%s%s; .help tells more\n", NEAP_VERSION, r->config.connect ? " at " : "",
           r->config.connect ? r->config.connect : "");
  loop(r);
  if (r->interactive) putchar('\n');
  return 0;
}

int neap__cmd_repl(int argc, char **argv) {
  repl r = {0};
  neap_error err = {0};
  neap__option table[NEAP_TARGET_OPTIONS + 1];
  size_t words = 0;
  neap__target_defaults(&r.config);
  size_t count = neap__target_options(&r.config, table);
  table[count++] = (neap__option){.name = "no-history", .kind = NEAP_OPTION_SWITCH, .value = &r.no_history};
  int rc = neap__options_parse(argc, argv, table, count, NULL, 0, &words, &err);
  if (rc == 0 && r.config.help) {
    printf("%s%s%s", help_head, neap__target_help, help_tail);
    return 0;
  }
  if (rc == 0) rc = session(&r, &err);
  neap__line_edit_close(r.edit);
  neap__target_close(r.target);
  free(r.typed);
  free(r.last);
  if (rc != 0) fprintf(stderr, "neap repl: %s%s\n", err.text, rc == NEAP_EINVAL ? " (see neap help repl)" : "");
  if (rc != 0) return rc == NEAP_EINVAL ? 2 : 1;
  return r.failed && !r.interactive ? 1 : 0;
}
