/* SPDX-License-Identifier: MIT
 *
 * watch.h - reloads Lua adapters and policies when their file is saved (`neap server --watch`).
 *
 * Watched are the modules of the adapters that are attached, also of those that come later: NAME.lua, and every .lua
 * file beside a NAME/init.lua; and the files of the live policy and of its shadows. A file may be written in place or
 * replaced. What does not load, open or answer is reported in the log, with file and line, and the running instance
 * goes on. */
#pragma once
#include "engine.h"

typedef struct neap__watch neap__watch;

/* Starts a thread. 0, NEAP_ENOMEM, NEAP_EIO. */
int neap__watch_open(neap__engine *engine, neap__watch **out);
/* Waits for reloads under way. Before the engine closes. */
void neap__watch_close(neap__watch *watch);
