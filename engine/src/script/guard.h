/* SPDX-License-Identifier: MIT
 *
 * script/guard.h - what a script may take: memory always, time while it is guarded.
 *
 * Memory: what Lua values need is counted and bounded. Over the bound an allocation fails, the hook ends with
 * NEAP_ENOMEM, the VM goes on. Machine code, neap.buffer (bounded apart, buffer.c) and what the FFI takes from C are
 * not counted.
 * Time: a guarded VM interprets, and looks at the clock every thousand instructions. A hook that has run for a slice of
 * processor time (or taken ten by the clock) without awaiting, or is beyond its operation's deadline, gets an error
 * where it is; an error that is caught comes again with the next instruction. Modules are always loaded guarded. A
 * trusted VM compiles: nothing can stop a loop there, the watchdog tells of it. Neither can stop C (a pattern that
 * backtracks, an FFI call) or a finalizer. It limits accidents; it is no wall against hostile code. VM thread only, but
 * for `starved` and neap__guard_interrupt. */
#pragma once
#include <lua.h>
#include <stdatomic.h>

#include "base/base.h"

#define NEAP__GUARD_MEMORY (UINT64_C(1) << 30) /* of a script that declares nothing */
#define NEAP__GUARD_SLICE_NS UINT64_C(1000000000)
#define NEAP__GUARD_LOAD_NS (10 * UINT64_C(1000000000)) /* slice of a module that is loaded */

struct neap__vm;

typedef struct neap__guard {
  uint64_t heap, heap_max, collect_at; /* bytes; heap_max 0: not bounded yet */
  bool relaxed;                        /* a little more may be taken */
  bool on, tripped;
  bool raised; /* the hook has raised, and has not run since */
  uint64_t slice_ns, began_ns; /* processor time: of a slice; of the thread when this one began */
  atomic_bool starved;         /* memory is short, and was so after the last collection */
  atomic_bool interrupted;     /* somebody asked for an end */
} neap__guard;

/* What a class declares; zeros are the defaults above. */
typedef struct neap__guard_limits {
  bool guarded;
  uint64_t memory;
  uint64_t slice_ns;
} neap__guard_limits;

/* A state whose memory is counted; NULL if there is none. vm->guard is zero. */
lua_State *neap__guard_open(struct neap__vm *vm);
/* Interpret and watch the clock; the library is loaded. memory counts from here. */
void neap__guard_on(struct neap__vm *vm, uint64_t memory, uint64_t slice_ns);
/* The module is loaded: what its class wants from here on. Below neap__vm_call. */
void neap__guard_set(struct neap__vm *vm, const neap__guard_limits *limits);
/* A new slice begins. */
void neap__guard_rearm(struct neap__vm *vm);
/* Any thread: what runs guarded gets an error within a thousand instructions, and again until its call is over. */
void neap__guard_interrupt(neap__guard *guard);
/* Takes that back, before another call. */
void neap__guard_resume(neap__guard *guard);
/* Below neap__vm_call, between calls of hooks: collects garbage if it takes too much. Raises. */
void neap__guard_collect(struct neap__vm *vm);
/* Around making a call and telling an error, when a little beyond the bound may be taken; memory: the error was one of
 * memory, so collect afterwards. Below neap__vm_call; the second raises. */
void neap__guard_relax(struct neap__vm *vm);
void neap__guard_tighten(struct neap__vm *vm, bool memory);
