/* SPDX-License-Identifier: MIT
 *
 * script/coro.h - coroutines of hooks on the loop: they await C work and are resumed from the loop, never inline.
 *
 *   neap__coro_start -> job -> [next -> resume -> returned|failed]* -> finished
 *                               |  ^
 *               await: yields   v  | job, when the uv callback came
 *
 * One coro runs the calls of one operation in turn. It is anchored in the registry from start to finish and reused for
 * the next operation. A cancel (or a deadline) makes the await in progress, or else the next one, fail; work that a
 * request does in memory is always waited for first. Everything here is called on the loop's thread. */
#pragma once
#include "script/vm.h"

/* Work that a coroutine waits for. Lives in C memory; embedded in the request. */
typedef struct neap__await {
  int (*push)(lua_State *L, struct neap__await *await); /* pushes the results on L, returns how many; may raise */
  void (*cancel)(struct neap__await *await);            /* a hint; neap__coro_wake is still owed. May be NULL */
  void (*release)(struct neap__await *await);           /* the last call */
  void (*expire)(struct neap__await *await);            /* timeout_ns has passed; neap__coro_wake is still owed */
  uint64_t timeout_ns;                                  /* on the clock of neap__now_ns; 0 = none */
  neap__coro *coro;                                     /* set by neap__coro_wait */
  bool cleanup; /* allowed after a cancel, and its results are delivered: closing and removing what was begun */
  bool counts;  /* told of a cancel, but its results are delivered all the same: what was done, was done */
} neap__await;

/* What the owner of a coro supplies. owner is given to neap__coro_start. */
typedef struct neap__coro_calls {
  /* Pushes a function and its arguments on L and returns the number of arguments, or -1 when there is nothing left to
   * call. May raise. *what: static text that names the call. */
  int (*next)(lua_State *L, neap__coro *coro, const char **what);
  /* The call returned: its results are all that is on the stack R. Must not raise. */
  void (*returned)(lua_State *R, neap__coro *coro);
  /* The call raised: code and text with traceback. Or it could not be made, and no other will be: then `next` is not
   * asked again. Must not raise or enter the VM. */
  void (*failed)(neap__coro *coro, int code, const char *text);
  /* No call is left; the coro is no longer the owner's. */
  void (*finished)(void *owner);
} neap__coro_calls;

/* Starts running calls, from the loop. deadline_ns 0 = none. 0, or NEAP_ENOMEM: nothing will be called. */
int neap__coro_start(neap__vm *vm, const neap__coro_calls *calls, void *owner, uint64_t deadline_ns, neap__coro **out);
/* The same for a part of what parent does: it may await with parent's leases. The starter passes on a cancel, and lets
 * parent go on only after `finished`. NEAP_ELIMIT: too many live below one root. */
int neap__coro_start_child(neap__coro *parent, const neap__coro_calls *calls, void *owner, neap__coro **out);
/* Is coro the same as ancestor, or below it? */
bool neap__coro_below(const neap__coro *coro, const neap__coro *ancestor);
/* code: NEAP_ECANCELED or NEAP_ETIMEDOUT. The first one counts. */
void neap__coro_cancel(neap__coro *coro, int code);
int neap__coro_canceled(const neap__coro *coro); /* that code, or 0 */
/* True, once: the deadline passed while the coroutine ran, which is now canceled with NEAP_ETIMEDOUT. */
bool neap__coro_overdue(neap__coro *coro, uint64_t now_ns);
uint64_t neap__coro_deadline(const neap__coro *coro); /* 0 = none */
void *neap__coro_owner(const neap__coro *coro);

/* For C functions that await; to be called before any work is begun. Raises outside a coro and in a coroutine of the
 * script's own. Returns 0: go on and end with `return neap__coro_wait(...)`; otherwise the function's return value.
 * cleanup: goes on even after a cancel. */
int neap__coro_enter(lua_State *L, const char *function, bool cleanup, neap__coro **out);
int neap__coro_wait(lua_State *L, neap__coro *coro, neap__await *await);
/* Results are there. Usually from a uv callback; before neap__coro_wait has returned it is allowed too, if await->coro
 * is set by then. */
void neap__coro_wake(neap__await *await);
/* Has the coro that runs kept the loop for so long that work which is done at once should be awaited all the same? */
bool neap__coro_slice_over(const neap__coro *coro);

/* Pushes nil, the errno name of a libuv code, and "VERB[ SUBJECT]: sentence". Returns 3. */
int neap__push_failure(lua_State *L, const char *verb, const char *subject, ssize_t code);

/* core.sleep(seconds). */
int neap__l_sleep(lua_State *L);

/* Closes the timers of idle coros; none is active. closed(arg) is called from the loop when that is done. */
void neap__coros_close(neap__vm *vm, void (*closed)(void *arg), void *arg);
