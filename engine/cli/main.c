/* SPDX-License-Identifier: MIT
 *
 * cli/main.c - the `neap` program: finds the subcommand and runs it. One file per subcommand; a new one is a line in
 * the table below. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const neap__command commands[] = {
    {"server", "run the cache server: LMCache's multiprocess protocol and HTTP API", neap__cmd_server},
    {"ctl", "look at a running server, change its adapters and its policy, explain its misses", neap__cmd_ctl},
    {"top", "watch a running server: traffic, hits, shadows, misses", neap__cmd_top},
    {"check", "run the conformance kit on one adapter", neap__cmd_check},
    {"new", "write a working adapter to start from", neap__cmd_new},
    {"bench", "measure one adapter beside the limits of the machine", neap__cmd_bench},
    {"repl", "a Lua prompt over an engine of its own, or over a live server", neap__cmd_repl},
    {"eval", "evaluate Lua as the prompt does, and print its values", neap__cmd_eval},
    {"run", "run a Lua script as the prompt does", neap__cmd_run},
    {"replay", "tell what policies would have made of recorded requests", neap__cmd_replay},
    {"trace", "look at traces and recordings, convert them", neap__cmd_trace},
};

static void print_help(FILE *out) {
  fputs(
      "usage: neap COMMAND [OPTIONS]\n"
      "       neap help COMMAND\n\n"
      "A Lua-scriptable KV-cache engine for LLM serving.\n\n"
      "commands:\n",
      out);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(commands); i++)
    fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
  fputs(
      "\noptions:\n"
      "  --help     show this and exit\n"
      "  --version  show the version and exit\n",
      out);
}

static int run_command(const char *name, int argc, char **argv) {
  const char *names[NEAP_ARRAY_LEN(commands)];
  for (size_t i = 0; i < NEAP_ARRAY_LEN(commands); i++) {
    if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc, argv);
    names[i] = commands[i].name;
  }
  const char *near = neap__nearest(name, names, NEAP_ARRAY_LEN(commands));
  fprintf(stderr, "neap: unknown command '%s'%s%s%s (see neap --help)\n", name, near ? "; did you mean '" : "",
          near ? near : "", near ? "'?" : "");
  return 2;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    print_help(stderr);
    return 2;
  }
  if (strcmp(argv[1], "--version") == 0) {
    puts("neap " NEAP_VERSION);
    return 0;
  }
  bool help = strcmp(argv[1], "help") == 0;
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || (help && argc == 2)) {
    print_help(stdout);
    return 0;
  }
  if (!help) return run_command(argv[1], argc - 1, argv + 1);
  char option[] = "--help";
  char *words[] = {argv[2], option, NULL};
  return run_command(argv[2], 2, words);
}
