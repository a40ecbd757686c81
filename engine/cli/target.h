/* SPDX-License-Identifier: MIT
 *
 * cli/target.h - what `neap repl`, `eval` and `run` talk to: a session with an engine of its own in this process, or
 * a session of a live server. One thread evaluates; interrupts come from another. */
#pragma once
#include "options.h"
#include "script/console.h"

typedef struct neap__target neap__target;

/* The options that the three commands share. Strings point into argv. */
typedef struct neap__target_config {
  const char *connect, *token, *token_file; /* connect NULL: an engine of our own */
  bool trusted, guarded, json, help;
  uint64_t l1_bytes, memory;
  double time_s, chunk_tokens;
  const char *policy, *plugin_path, *log_level;
  neap__option_list l2_adapters;
  const char *script_path; /* of `neap run` */
  const char *const *args; /* of the script */
  uint32_t argc;
  bool colour;
  uint32_t columns;
} neap__target_config;

/* Defaults of everything. */
void neap__target_defaults(neap__target_config *config);
/* The options as rows for neap__options_*, at most NEAP_TARGET_OPTIONS; returns how many. */
#define NEAP_TARGET_OPTIONS 15u
size_t neap__target_options(neap__target_config *config, neap__option *table);
/* Their lines of --help. */
extern const char neap__target_help[];

/* Opens an engine and a session, or connects. What the session prints goes to stdout. config is borrowed until close.
 * NEAP_EINVAL: an option is wrong (exit status 2); other errors: exit status 1. */
int neap__target_open(const neap__target_config *config, neap__target **out, neap_error *err);
void neap__target_close(neap__target *target);

/* Runs text to its end. *answer is malloc'd (NULL: out of memory). NEAP_EIO: the server is gone, with err. */
int neap__target_eval(neap__target *target, neap__console_kind kind, const char *text, const char *name, bool json,
                      neap__console_status *status, char **answer, neap_error *err);
/* Interrupts the evaluation under way. Any thread. */
void neap__target_interrupt(neap__target *target);
