/* SPDX-License-Identifier: MIT
 *
 * policy/registry.h - from what an operator writes to a policy table.
 *
 *   NAME                 a built-in; case, '-' and '_' do not matter: lru, LRU, S3-FIFO, s3fifo
 *   FILE.lua, FILE.so    a policy in Lua, a native one
 *   isolated:POLICY      one instance of POLICY per tenant; IsolatedLRU is isolated:lru
 *   ...:name=value,...   parameters, at the end: s3fifo:small=0.2,ghost=0.9 */
#pragma once
#include <neap/policy.h>

#include "base/base.h"

typedef struct neap__policy_spec {
  const neap_policy *policy;
  char params[256];
  char text[256]; /* the spec as it was written */
} neap__policy_spec;

/* Finds a policy; a file is loaded now. Tables live as long as the process. Errors: NEAP_EINVAL (unknown name with the
 * nearest one, bad parameter syntax), NEAP_ENOENT (no such file), NEAP_EABI, NEAP_ESCRIPT (file, line, what),
 * NEAP_ELIMIT (too many versions of files). Any thread. */
int neap__policy_find(const char *spec, neap__policy_spec *out, neap_error *err);

/* Names of the built-ins, NULL-terminated. */
const char *const *neap__policy_names(void);

/* Whether a table may be worked with: 0, or NEAP_EABI naming the member, NEAP_EINVAL for NULL. */
int neap__policy_check(const neap_policy *policy, neap_error *err);

/* What loads a FILE with that ending ("lua"); script/ plugs itself in, once or more often. load has the errors above.
 */
typedef struct neap__policy_loader {
  const char *ending;
  int (*load)(const char *path, const neap_policy **out, neap_error *err);
  struct neap__policy_loader *next; /* registry's */
} neap__policy_loader;
void neap__policy_add_loader(neap__policy_loader *loader);
