/* SPDX-License-Identifier: MIT
 *
 * console/bind.h - what a Lua session sees of an engine: the functions under `engine` (lua/neap/console/engine.lua is
 * their front, with types and checks).
 *
 * A guarded session looks, drives stores and loads of a tenant and a model of its own (NEAP_CONSOLE_TENANT), asks by
 * lookups what is there of anybody's (which brings it from L2 to L1), runs built-in policies, live and as shadows, and
 * clears, reloads and detaches what is configured. It never reads a byte of payload of another tenant, and it can
 * neither attach nor run a policy from a file: these name files and modules. Functions run on the session's thread;
 * flows and changes are awaited there and run where they always do. */
#pragma once
#include "engine.h"
#include "script/console.h"

/* The tenant and the model of what guarded sessions store. Nobody else's prompt is looked up under them. */
#define NEAP_CONSOLE_TENANT "neap-console"

typedef struct neap__bind neap__bind;

/* engine outlives the bind. scratch: a folder below the plugin path where engine:define writes modules, NULL: none;
 * borrowed. 0 or NEAP_ENOMEM. */
int neap__bind_open(neap__engine *engine, bool guarded, const char *scratch, neap__bind **out);
/* From now on calls raise. Waits until none is inside the engine, awaited changes and lookups included; false if some
 * are even after timeout_ms. Before the session closes. */
bool neap__bind_shut(neap__bind *bind, uint64_t timeout_ms);
/* After the session has closed. NULL is nothing. */
void neap__bind_free(neap__bind *bind);
/* For neap__console_config.bind, with the bind as ctx: pushes the table of functions. */
void neap__bind_push(lua_State *L, neap__vm *vm, void *bind);
