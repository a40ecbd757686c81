/* SPDX-License-Identifier: MIT
 *
 * cli/prompt_lab.h - replays and plots for the prompt: the functions under `policy` (lua/neap/console/policy.lua is
 * their front). For sessions that may read files. */
#pragma once
#include "script/vm.h"

/* Pushes the table of functions. A replay runs on threads of its own and is awaited; when it is interrupted it is left
 * to end by itself, unheard. Raises. */
void neap__prompt_lab_push(lua_State *L, neap__vm *vm);
