/* SPDX-License-Identifier: MIT
 *
 * script/console.h - a Lua session: text in, values printed out, one evaluation at a time.
 *
 *   any thread    submit: post ------------> loop thread of the session: a coroutine runs the text
 *                 interrupt: flag, post ---> the guard's hook, or the await in progress, raises
 *                 done(call) <-------------- the answer, pretty printed by lua/neap/console/
 *
 * A session has a loop, a thread and a VM of its own. An evaluation is a coroutine, so it may await. Three modes:
 *   OPEN     the whole library; interpreted, so that an interrupt stops any Lua code
 *   TRUSTED  the same, compiled: an interrupt is seen where the code awaits, and nowhere else
 *   GUARDED  interpreted; no files, sockets, processes, FFI, bytecode or modules, and bounds on time and memory. It
 *            limits accidents; it is no wall against hostile code
 * Nothing stops C that does not come back: a pattern that backtracks for ages keeps the session, and only it, busy.
 *
 * Not here: what the session sees of an engine (console/bind.h), where text comes from (cli/, console/server.h). */
#pragma once
#include "script/vm.h"

typedef struct neap__console neap__console;

typedef enum neap__console_mode {
  NEAP_CONSOLE_OPEN,
  NEAP_CONSOLE_TRUSTED,
  NEAP_CONSOLE_GUARDED,
} neap__console_mode;

/* Strings are borrowed until close.
 * memory   bytes of Lua values, and again of buffers; 0: 1 GiB
 * slice_ns processor time without awaiting, of modes that are interpreted; 0: not bounded
 * time_ns  of one evaluation, awaits included; 0: not bounded
 * bind     pushes one value on L, which lua/neap/console/session.lua gets as `engine`; may raise. NULL: nil
 * write    what print writes; loop thread; must not block for long
 * args     of the script, argc of them */
typedef struct neap__console_config {
  neap__console_mode mode;
  const char *name;        /* of the session, in log lines */
  const char *script_path; /* require finds modules beside this file; NULL: the folder that the program runs in */
  const char *plugin_dirs; /* for neap.open */
  uint64_t memory, slice_ns, time_ns;
  void (*bind)(lua_State *L, neap__vm *vm, void *ctx);
  void *bind_ctx;
  void (*write)(void *ctx, const char *text, size_t bytes);
  void *write_ctx;
  bool colour;
  uint32_t columns; /* 0: 100 */
  const char *const *args;
  uint32_t argc;
} neap__console_config;

/* 0, NEAP_ENOENT (lua/neap/ is not there), NEAP_ENOMEM, NEAP_EIO (no thread), NEAP_ESCRIPT. */
int neap__console_open(const neap__console_config *config, neap__console **out, neap_error *err);
/* Interrupts what runs and frees the session, from any thread but its own. False: it does not come back within
 * grace_ms and is left to the end of the process, together with what config points to. */
bool neap__console_close(neap__console *console, uint64_t grace_ms);

typedef enum neap__console_kind {
  NEAP_CONSOLE_EVAL,     /* an expression or statements; its values are the answer */
  NEAP_CONSOLE_SCRIPT,   /* a chunk that gets config.args; what it returns is the answer, nothing is printed for nil */
  NEAP_CONSOLE_COMPLETE, /* text up to the cursor; the answer is: bytes to replace, then candidates, one per line */
} neap__console_kind;

typedef enum neap__console_status {
  NEAP_CONSOLE_OK,
  NEAP_CONSOLE_INCOMPLETE, /* the text ends too early: ask for more */
  NEAP_CONSOLE_FAILED,     /* the answer is the message, with a traceback where there is one */
} neap__console_status;

/* One evaluation. The caller owns it and fills in the first part; it stays where it is until done. */
typedef struct neap__console_call {
  neap__console_kind kind;
  const char *text;
  size_t bytes;
  const char *name;                              /* of the chunk, as Lua wants it: "=prompt", "@file.lua" */
  bool json;                                     /* the values as JSON, one per line */
  void (*done)(struct neap__console_call *call); /* loop thread; call may be freed in it */
  void *ctx;
  /* the answer */
  neap__console_status status;
  char *answer; /* malloc'd, NUL-terminated; NULL: there was no memory for it */
  size_t answer_bytes;
  /* private */
  neap__job job;
  neap__console *console;
  uint64_t number;
  bool called;
} neap__console_call;

/* Starts an evaluation; any thread. 0, or NEAP_EBUSY: another one is not done. */
int neap__console_submit(neap__console *console, neap__console_call *call);
/* The same, and waits for its end; done is not used. Not on the session's thread. */
int neap__console_wait(neap__console *console, neap__console_call *call);
/* Makes the evaluation under way fail with "interrupted". Any thread; no effect when there is none. */
void neap__console_interrupt(neap__console *console);
