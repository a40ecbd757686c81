/* SPDX-License-Identifier: MIT
 *
 * kit/case.h - what one check of an adapter is written with. Each check runs in a process of its own (kit/run.h), which
 * ends at its first finding: neap__kit_fail does not return, so a check reads as what should happen.
 *
 *   check  --neap__kit_open-->  adapter        --neap__kit_call_new, put, run-->  its operations
 *   report (shared with the parent)  <-- what is being done, how it went
 *
 * Every operation is watched: ended once and in time, results of the interface only, buffers written only where and
 * when that is allowed. The main thread of the process; calls that say so from any thread. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "kit/fence.h"
#include "kit/host.h"
#include "l2/registry.h"

typedef enum neap__kit_result {
  NEAP_KIT_RUNNING,
  NEAP_KIT_PASSED,
  NEAP_KIT_FAILED,
  NEAP_KIT_SKIPPED,
} neap__kit_result;

/* In memory that the process of a check shares with its parent. */
typedef struct neap__kit_report {
  _Atomic int result;          /* neap__kit_result */
  _Atomic uint64_t step_ns;    /* when the step began */
  _Atomic uint32_t progress;   /* a check's own, across its processes */
  char step[256];              /* what is being done */
  char reason[2048];           /* of a failure or a skip */
  char note[512];              /* what is worth saying about a success */
  char log[2048];              /* the adapter's last lines */
  char name[128], version[64]; /* of the adapter */
} neap__kit_report;

/* What is to be checked. */
typedef struct neap__kit_options {
  const char *what;        /* a path to a .lua or .so file, or the name of a type */
  const char *class_name;  /* NULL: its only one */
  const char *params_json; /* a JSON object */
  const char *lua_dir, *plugin_dirs;
  uint64_t timeout_ms; /* of one step */
  uint64_t run;        /* a random number: keys of two runs are different */
} neap__kit_options;

typedef struct neap__kit_call {
  neap__kit_op *op;
  neap__fence **fences; /* one per object of a store or load */
  struct neap__kit_call *next;
} neap__kit_call;

typedef struct neap__kit {
  const neap__kit_options *options;
  neap__kit_report *report;
  neap__tier_config config;
  const neap_adapter *table; /* NULL before neap__kit_load */
  neap__kit_host *host;
  void *self;
  bool is_open, tight; /* tight: buffers end at a forbidden page and start anywhere */
  uint32_t batch_max;  /* objects of one operation, as the adapter declares it; at most 64 */
  uint32_t index;      /* number of the check: part of the keys */
  char model[64];
  pthread_mutex_t lock;
  uint64_t next_key;
  neap__kit_call *calls;
  neap_object_key *stored; /* to be deleted at the end */
  size_t stored_count;
} neap__kit;

/* --- the report; any thread ------------------------------------------------------------------------------------- */

_Noreturn void neap__kit_fail(neap__kit *kit, const char *fmt, ...) NEAP_PRINTF(2, 3);
_Noreturn void neap__kit_skip(neap__kit *kit, const char *fmt, ...) NEAP_PRINTF(2, 3);
void neap__kit_note(neap__kit *kit, const char *fmt, ...) NEAP_PRINTF(2, 3);
/* Says what happens next, in words that fit behind "while": a process that dies, hangs or is stopped did so there. */
void neap__kit_step(neap__kit *kit, const char *fmt, ...) NEAP_PRINTF(2, 3);
#define NEAP_KIT_NEED(kit, cond, ...) ((cond) ? (void)0 : neap__kit_fail((kit), __VA_ARGS__))

/* --- the adapter ------------------------------------------------------------------------------------------------ */

/* Finds and loads what the options name. 0 or the error. */
int neap__kit_find(const neap__kit_options *options, neap__tier_config *config, neap_error *err);
void neap__kit_load(neap__kit *kit);
/* Opens the adapter with the parameters of the options; params_json NULL. Else with these. 0 or its error. */
int neap__kit_try_open(neap__kit *kit, const char *params_json, neap_error *err);
void neap__kit_open(neap__kit *kit);
/* Closes it after a last look at everything that was done with it. */
void neap__kit_close(neap__kit *kit);
/* Skips the check if the adapter has no such operation. */
void neap__kit_require(neap__kit *kit, neap_op_kind kind);
bool neap__kit_offers(neap__kit *kit, neap_op_kind kind);
/* Runs part(kit) in another process, to its end; its findings are this one's. Before anything is opened. */
void neap__kit_elsewhere(neap__kit *kit, void (*part)(neap__kit *kit));
/* Deletes what was stored, if the adapter can. */
void neap__kit_forget(neap__kit *kit);

/* --- operations; any thread ------------------------------------------------------------------------------------- */

/* A key that no other check has. */
neap_object_key neap__kit_key(neap__kit *kit);
neap__kit_call *neap__kit_call_new(neap__kit *kit, neap_op_kind kind, uint32_t count);
/* Sets object i. store: a buffer of bytes filled with fill; load: a buffer of bytes; else the expected size. */
void neap__kit_put(neap__kit *kit, neap__kit_call *call, uint32_t i, neap_object_key key, uint64_t bytes,
                   uint64_t fill);
void neap__kit_submit(neap__kit *kit, neap__kit_call *call);
/* Waits for the end and looks at what came: once, in time, known codes, no byte outside. */
void neap__kit_wait(neap__kit *kit, neap__kit_call *call);
void neap__kit_run(neap__kit *kit, neap__kit_call *call);
/* Gives the buffers back now; else they are looked at once more when the adapter is closed, and given back then. */
void neap__kit_release(neap__kit_call *call);
/* Fails unless object i of a load is what neap__kit_put filled in with this number. */
void neap__kit_same(neap__kit *kit, const neap__kit_call *call, uint32_t i, uint64_t fill);

/* One-object operations, waited for; the results are those of the object. */
int neap__kit_store(neap__kit *kit, neap_object_key key, uint64_t bytes, uint64_t fill);
int neap__kit_lookup(neap__kit *kit, neap_object_key key, uint64_t bytes);
int neap__kit_loaded(neap__kit *kit, neap_object_key key, uint64_t bytes,
                     uint64_t fill); /* 0: and the bytes are right */
int neap__kit_remove(neap__kit *kit, neap_object_key key);

/* "got NEAP_EIO" and "expected ..." in one line. what: "the second store of a key". */
void neap__kit_expect(neap__kit *kit, int got, int want, const char *what);

/* --- the checks ------------------------------------------------------------------------------------------------- */

typedef struct neap__check {
  const char *name;     /* one word, for --only */
  const char *sentence; /* what the adapter does when it passes */
  const char *rule;     /* where that is written */
  void (*run)(neap__kit *kit);
} neap__check;

extern const neap__check neap__checks[];
extern const uint32_t neap__checks_count;
