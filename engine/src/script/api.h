/* SPDX-License-Identifier: MIT
 *
 * script/api.h - the table `neap.core`: what C gives to lua/neap/. Scripts use it through require 'neap'. */
#pragma once
#include "script/vm.h"

/* Pushes the table. Raises. */
void neap__api_open(lua_State *L, neap__vm *vm);
