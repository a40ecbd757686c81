/* SPDX-License-Identifier: MIT
 *
 * kit/host.h - the engine's side of neap/adapter.h, small enough to hold one adapter alone.
 *
 * It lends a real worker pool, counts the ends of every operation, keeps what was logged, and writes down what no
 * adapter may do: an end too many, an entry after the end of a listing, work that starts after close. It never ends the
 * program: what it saw is asked for. Operations belong to the host and live until it closes, so that a late second
 * done() is counted instead of touching freed memory.
 *
 * Any thread may call; one operation is filled in and waited for by one thread. Not here: what an adapter should have
 * answered (kit/case.h), and what the engine adds around an adapter (l2/tier.h). */
#pragma once
#include <semaphore.h>
#include <stdatomic.h>

#include "base/base.h"

typedef struct neap__kit_host neap__kit_host;

/* One line of a listing; strings belong to the operation. */
typedef struct neap__kit_entry {
  neap_list_entry entry;
  char *model, *salt;
} neap__kit_entry;

typedef struct neap__kit_op {
  neap_op op; /* first: the host gets from the op to this struct */
  neap_object *objects;
  neap__kit_entry *entries;             /* what a listing yielded */
  uint32_t entries_count, entries_stop; /* the sink asks to stop after entries_stop entries (0 = never) */
  const char *entries_model;            /* keep only entries of this model; NULL = all */
  sem_t ended;
  atomic_uint done_count;
  uint64_t done_ns;             /* when done was called first */
  atomic_bool in_sink, stopped; /* stopped: the sink has asked to stop */
  neap__kit_host *host;
  struct neap__kit_op *next;
} neap__kit_op;

/* threads: of the worker pool behind queue_work. 0, or NEAP_ENOMEM / NEAP_ELIMIT. */
int neap__kit_host_open(uint32_t threads, neap__kit_host **out);
/* Joins the workers, then returns how many operations were not ended exactly once (0 is right) and frees all. */
uint32_t neap__kit_host_close(neap__kit_host *host);
const neap_host *neap__kit_host_table(neap__kit_host *host);

/* From now on queue_work answers NEAP_ELIMIT (true) or works (false). */
void neap__kit_host_refuse_work(neap__kit_host *host, bool refuse);
/* What memory() offers; bytes = 0: NEAP_ENOTSUP, as after open. */
void neap__kit_host_set_memory(neap__kit_host *host, neap_memory memory);
/* Operations that the adapter is given at once, at most; 0: any number, as after open. Before the first submit. */
void neap__kit_host_set_depth(neap__kit_host *host, uint32_t operations);
/* Where inner adapters are looked for; none after open. Borrowed until close. */
void neap__kit_host_set_plugin_dirs(neap__kit_host *host, const char *dirs);
/* The adapter's close has returned: work that starts from now on is a breach. Until the next adapter is opened. */
void neap__kit_host_set_closed(neap__kit_host *host, bool closed);

/* Copies the log from its first line that contains text ("" = all) into out, cut to cap; false if there is none. */
bool neap__kit_host_logged(neap__kit_host *host, const char *text, char *out, size_t cap);
/* The first breach of the contract that the host saw, or NULL; the text lives as long as the host. */
const char *neap__kit_host_breach(neap__kit_host *host);
/* Pieces of work that the adapter queued and that have not ended. */
uint32_t neap__kit_host_queued(neap__kit_host *host);
/* Inner adapters that were opened and not closed, of all hosts of the process. */
uint32_t neap__kit_host_inner_open(void);

/* A new operation with `count` zeroed objects whose results are preset to NEAP_EIO. NULL when out of memory. */
neap__kit_op *neap__kit_op_new(neap__kit_host *host, neap_op_kind kind, uint32_t count);
/* Makes an operation that has ended usable once more; results and what a store reported are as in a new one. */
void neap__kit_op_again(neap__kit_op *op);
/* Calls the adapter's function for op, when there is room in the depth. NEAP_ENOTSUP where it has none, NEAP_ETIMEDOUT
 * when no operation has ended for a minute. */
int neap__kit_op_submit(const neap_adapter *adapter, void *self, neap__kit_op *op);
/* Waits for its end. False: it was not ended in that time. */
bool neap__kit_op_wait(neap__kit_op *op, uint64_t timeout_ms);

/* True if the adapter has an operation of this kind. */
bool neap__kit_can(const neap_adapter *adapter, neap_op_kind kind);
/* "store", "lookup", "load", "delete", "list". */
const char *neap__kit_kind_name(uint32_t kind);
