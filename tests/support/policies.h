/* SPDX-License-Identifier: MIT
 *
 * support/policies.h - a policy by what an operator would write. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/registry.h"

static inline neap__policy_spec spec_of(const char *text) {
  neap_error err = {""};
  neap__policy_spec spec;
  if (neap__policy_find(text, &spec, &err) != 0) fail_msg("%s", err.text);
  return spec;
}

static inline const neap_policy *policy_of(const char *text) { return spec_of(text).policy; }
