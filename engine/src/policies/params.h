/* SPDX-License-Identifier: MIT
 *
 * policies/params.h - what an operator writes behind a policy's name: "name=value,name=value". Any thread. */
#pragma once
#include <neap/policy.h>

#include "base/base.h"

/* Where they begin in a spec: behind the first ':' that a name and '=' follow. NULL: there are none. */
const char *neap__policy_params_in(const char *spec);

/* Whether params is such a list at all. 0, or NEAP_EINVAL with spec in err. */
int neap__policy_params_check(const char *spec, const char *params, neap_error *err);

/* Reads "name=value,..." of the policy of that name: numbers, each from min to max; *value stays where it is not given.
 * 0, or NEAP_EINVAL naming the parameter, the value and what was expected. */
typedef struct neap__policy_param {
  const char *name;
  double *value, min, max;
} neap__policy_param;
int neap__policy_params(const char *policy, const char *params, const neap__policy_param *known, uint32_t count,
                        neap_error *err);
