/* SPDX-License-Identifier: MIT
 *
 * cli/cli.h - what the subcommands of the `neap` program share: the table of commands and the folders that the program
 * finds relative to itself. Everything here runs on the main thread. */
#pragma once
#include "base/base.h"

/* One subcommand. run gets the words from its own name on (argv[0] is "server") and returns the exit status: 0 done,
 * 1 failed, 2 the command line was wrong. */
typedef struct neap__command {
  const char *name, *summary;
  int (*run)(int argc, char **argv);
} neap__command;

int neap__cmd_server(int argc, char **argv);
int neap__cmd_ctl(int argc, char **argv);
int neap__cmd_top(int argc, char **argv);
int neap__cmd_check(int argc, char **argv);
int neap__cmd_new(int argc, char **argv);
int neap__cmd_bench(int argc, char **argv);
int neap__cmd_repl(int argc, char **argv);
int neap__cmd_eval(int argc, char **argv);
int neap__cmd_run(int argc, char **argv);
int neap__cmd_replay(int argc, char **argv);
int neap__cmd_trace(int argc, char **argv);

/* Folders of the running program: of the build tree when it runs from one, else of the installation.
 * lua: the folder that holds neap/ (NEAP_LUA_DIR overrides); plugins: colon-separated; templates: of `neap new`. */
typedef struct neap__dirs {
  char lua[512];
  char plugins[4096];
  char templates[512];
} neap__dirs;

/* Fills in what exists; a folder that does not exist is left out. */
void neap__dirs_find(neap__dirs *dirs);
/* Puts colon-separated folders before those of plugins; NULL: none. NEAP_ELIMIT with err when they are too many. */
int neap__dirs_add_plugins(neap__dirs *dirs, const char *folders, neap_error *err);
