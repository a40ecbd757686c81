/* SPDX-License-Identifier: MIT
 *
 * script/lua_policy.h - policies in Lua (lua/neap/policy.lua) behind the table that C policies use.
 *
 * Loading runs the file once in a VM that is thrown away: what it declares, and which hooks `new` makes of 64 slots,
 * become the table. create runs the text that was loaded in a VM of its own, on the thread that calls it; that thread
 * alone may enter the instance. A hook is one protected call; events are kept (256 at most) and told together with the
 * next question, so an error in a handler may come back from a later hook. Errors are NEAP_ESCRIPT or NEAP_ENOMEM with
 * file and line. Not here: a bound in time for compiled code, see policy/remote.h. */
#pragma once
#include <neap/policy.h>

#include "policy/registry.h"

/* The loader of FILE.lua, for neap__policy_add_loader. neap__lua_setup (script.h) comes first. */
extern neap__policy_loader neap__lua_policy_loader;

typedef struct neap__lua_policy_source {
  const char *path; /* for messages, and modules beside it are found */
  const char *text; /* what the file has; NULL: read path */
  bool sandboxed;   /* no FFI, no files, no processes; interpreted, and stopped after a slice */
} neap__lua_policy_source;

/* The table of a policy; it lives as long as the process, and equal sources share one. 0, NEAP_ENOENT, NEAP_ENOMEM,
 * NEAP_ESCRIPT, NEAP_EINVAL (no text, or too long), NEAP_ELIMIT: 64 MiB of different ones have been loaded. Any
 * thread. */
int neap__lua_policy_load(const neap__lua_policy_source *source, const neap_policy **out, neap_error *err);

/* "FILE:LINE" where a hook of a Lua policy begins, hook being a member of neap_policy ("victims"); NULL if the policy
 * is not in Lua or has no such hook. Lives as long as the process. Any thread. */
const char *neap__lua_policy_place(const neap_policy *policy, const char *hook);

/* Bytes that the Lua values of an instance take now. */
uint64_t neap__lua_policy_memory(const void *self);

/* core.policy_natives: a table of C functions for lua/neap/policy_parts.lua. */
void *neap__lua_policy_natives(void);
