/* SPDX-License-Identifier: MIT
 *
 * cli/server_config.h - from the flags of `neap server` to what the layers take, and to what GET /config shows. */
#pragma once
#include "engine.h"
#include "flags.h"

/* LMCache's form of a pool name: a leading slash goes, the prefix "lmcache_l1_pool_" comes unless it is there; ""
 * stays "". 0, or NEAP_EINVAL for a name that shm_open could not take. */
int neap__pool_name(const char *given, char *name, size_t cap, neap_error *err);

/* Fills the engine's configuration; its strings point into flags, pool_name and dirs. */
void neap__engine_config_fill(const neap__flags *flags, const char *pool_name, const char *lua_dir,
                              const char *plugin_dirs, neap__engine_config *out);

/* What the program found out beyond its flags. */
typedef struct neap__running {
  const neap__engine *engine;
  const char *instance_id;
  uint32_t port;
} neap__running;

/* The answer to GET /config, in LMCache's shape: malloc'd, indented JSON. NULL when out of memory. */
char *neap__config_json(const neap__flags *flags, const neap__running *running, uint32_t http_port);
