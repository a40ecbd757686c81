/* SPDX-License-Identifier: MIT
 *
 * script/vm.h - one Lua VM, and the two protected ways into it.
 *
 * A VM is entered by one thread only: the thread of its loop, or, for a VM without a loop, the thread that opened it.
 * Every entry is neap__vm_call or neap__vm_enter, so that no Lua error, not even a failed allocation, can unwind
 * through libuv. C that runs below it may raise; such functions hold neither locks nor memory across a raising call. */
#pragma once
#include <lua.h>

#include "base/loop.h"
#include "script/guard.h"
#include "script/watchdog.h"

typedef struct neap__coro neap__coro;

/* Owned by one adapter; members after `L` belong to the files named.
 * native_...    C memory that buffers of this VM hold, its bound, and when to collect (buffer.c)
 * current       the coroutine that runs now, NULL outside (coro.c)
 * stores        what neap.open opened (inner.c) */
typedef struct neap__vm {
  lua_State *L;
  neap__loop *loop;      /* NULL: modules can be loaded, nothing can be awaited */
  const neap_host *host; /* NULL: log lines go to the process log */
  neap__pulse pulse;
  neap__guard guard;
  uint64_t native_bytes, native_bytes_max, native_collect_at;
  neap__coro *current, *idle;
  struct neap__store *stores;
  uint32_t coros;
  void (*coros_closed)(void *arg);
  void *coros_closed_arg;
} neap__vm;

/* Opens a VM, guarded (guard.h) until neap__guard_set says otherwise, whose `require` sees only lua_dir and the
 * directory of script_path (may be NULL). name is borrowed until close. 0, NEAP_ENOENT (no lua_dir), NEAP_ENOMEM,
 * NEAP_ESCRIPT. On the thread that will enter it. */
int neap__vm_open(neap__vm *vm, neap__loop *loop, const neap_host *host, const char *name, const char *script_path,
                  neap_error *err);
/* Runs the finalizers and frees the VM. No coroutine is alive and coros are closed (coro.h). */
void neap__vm_close(neap__vm *vm);

/* Runs body(L) with arg as light userdata at index 1. what: static text, told by the watchdog when the body is stuck.
 * 0, or NEAP_ESCRIPT or NEAP_ENOMEM with the message in err. The stack is empty afterwards. */
int neap__vm_call(neap__vm *vm, const char *what, lua_CFunction body, void *arg, neap_error *err);

/* The short way, for a function that is called millions of times: calls what was pushed (lua_rawgeti from the registry)
 * below `args` numbers, booleans or nils; leaves `results` values on an otherwise empty stack, for the caller to take
 * and to settop(0), or none after an error. It allocates nothing itself; garbage is collected now and then. Errors as
 * above. */
int neap__vm_enter(neap__vm *vm, const char *what, int args, int results, neap_error *err);

/* Below neap__vm_call: calls the function below its arguments. Raises what it raises; it cannot await. */
void neap__vm_invoke(lua_State *L, int args, int results);

/* The VM of a C function that was registered by neap__vm_register. */
neap__vm *neap__vm_of(lua_State *L);
/* Adds functions to the table on top, each with the VM as its first upvalue. Raises. */
struct luaL_Reg;
void neap__vm_register(lua_State *L, neap__vm *vm, const struct luaL_Reg *functions);

/* One line under the adapter's name; newlines become " < ". */
void neap__vm_log(const neap__vm *vm, neap_log_level level, const char *text);
