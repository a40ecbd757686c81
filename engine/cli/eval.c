/* SPDX-License-Identifier: MIT
 *
 * cli/eval.c - `neap eval` and `neap run`: one evaluation, with an engine of its own or on a live server, and the exit
 * status that says how it went. Main thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "interrupt.h"
#include "read_file.h"

#define FILE_BYTES_MAX (16u << 20)

static const char eval_help[] =
    "usage: neap eval [OPTIONS] CODE\n\n"
    "Evaluates Lua as `neap repl` does and prints its values; CODE - is read from the standard input.\n\n"
    "options:\n";
static const char run_help[] =
    "usage: neap run [OPTIONS] SCRIPT.lua [ARGUMENT...]\n\n"
    "Runs a Lua script with `neap` and `engine`; it gets its arguments as ... and in `arg`. What it returns is "
    "printed.\n"
    "Its modules are found beside it. SCRIPT - is read from the standard input.\n\n"
    "options:\n";
static const char status_help[] = "\nExit status: 0 done, 1 the code failed, 2 the command line was wrong.\n";

typedef struct job {
  const char *command, *help;
  neap__console_kind kind;
  neap__target_config config;
  const char *word; /* code, or a path */
  char *text, *name;
} job;

static int complain(const job *j, int rc, const neap_error *err) {
  bool usage = rc == NEAP_EINVAL;
  fprintf(stderr, "neap %s: %s%s%s%s\n", j->command, err->text, usage ? " (see neap help " : "",
          usage ? j->command : "", usage ? ")" : "");
  return usage ? 2 : 1;
}

static int evaluate(job *j, neap__target *target, neap_error *err) {
  neap__console_status status;
  char *answer = NULL;
  neap__interrupt_target(target);
  int rc = neap__target_eval(target, j->kind, j->text, j->name, j->config.json, &status, &answer, err);
  neap__interrupt_target(NULL);
  if (rc != 0) return rc;
  if (!answer || status != NEAP_CONSOLE_OK)
    rc = neap__fail(err, NEAP_ESCRIPT, "%s", answer ? answer : "out of memory");
  else if (*answer)
    puts(answer);
  free(answer);
  if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout)))
    rc = neap__fail(err, NEAP_EIO, "cannot write what it prints: %s", strerror(errno));
  return rc;
}

static int perform(job *j) {
  neap_error err = {0};
  neap__target *target = NULL;
  bool code = j->kind == NEAP_CONSOLE_EVAL, read = !code || strcmp(j->word, "-") == 0;
  int rc = read ? neap__read_file(j->word, FILE_BYTES_MAX, &j->text, &err) : 0;
  if (!read) j->text = strdup(j->word);
  if (asprintf(&j->name, code ? "=eval" : "@%s", j->word) < 0) j->name = NULL;
  if (rc == 0 && (!j->text || !j->name)) rc = neap__fail(&err, NEAP_ENOMEM, "out of memory");
  if (rc == 0) rc = neap__interrupt_start(&err);
  if (rc == 0) rc = neap__target_open(&j->config, &target, &err);
  if (rc == 0) {
    rc = evaluate(j, target, &err);
    if (rc == NEAP_EINVAL) rc = NEAP_ESCRIPT;
  }
  neap__target_close(target);
  free(j->text);
  free(j->name);
  return rc == 0 ? 0 : complain(j, rc, &err);
}

static int run(job *j, int argc, char **argv) {
  neap_error err = {0};
  neap__option table[NEAP_TARGET_OPTIONS];
  int rest = argc;
  neap__target_defaults(&j->config);
  size_t count = neap__target_options(&j->config, table);
  int rc = neap__options_before(argc, argv, table, count, &rest, &err);
  if (rc == 0 && j->config.help) {
    printf("%s%s%s", j->help, neap__target_help, status_help);
    return 0;
  }
  bool code = j->kind == NEAP_CONSOLE_EVAL;
  if (rc == 0 && rest == argc) rc = neap__fail(&err, NEAP_EINVAL, code ? "expected CODE" : "expected SCRIPT.lua");
  if (rc == 0 && code && rest + 1 < argc)
    rc = neap__fail(&err, NEAP_EINVAL, "unexpected argument '%s'; options come before CODE", argv[rest + 1]);
  if (rc != 0) return complain(j, rc, &err);
  const char *coloured = getenv("NO_COLOR");
  j->word = argv[rest];
  j->config.colour = isatty(STDOUT_FILENO) && !(coloured && *coloured);
  if (!code) {
    j->config.script_path = strcmp(j->word, "-") == 0 ? NULL : j->word;
    j->config.args = (const char *const *)(argv + rest + 1);
    j->config.argc = (uint32_t)(argc - rest - 1);
  }
  return perform(j);
}

int neap__cmd_eval(int argc, char **argv) {
  job j = {.command = "eval", .help = eval_help, .kind = NEAP_CONSOLE_EVAL};
  return run(&j, argc, argv);
}

int neap__cmd_run(int argc, char **argv) {
  job j = {.command = "run", .help = run_help, .kind = NEAP_CONSOLE_SCRIPT};
  return run(&j, argc, argv);
}
