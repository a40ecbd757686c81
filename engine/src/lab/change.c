/* SPDX-License-Identifier: MIT
 *
 * lab/change.c - the live policy is changed, watched while it is on trial, and changed back. Changes run on the thread
 * of whoever asks for them; the watch, and with it a roll-back, on the lab thread. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lab/lab_defs.h"
#include "policy/remote.h"

static bool is_file(const char *spec) { return strstr(spec, ".lua") != NULL || strstr(spec, ".so") != NULL; }

int neap__lab_find(const char *spec, neap__lab_place place, neap__lab_policy *out, neap_error *err) {
  out->loaded_ns = neap__lab_time_of_day_ns();
  int rc = neap__policy_find(spec, &out->spec, err);
  if (rc) return rc;
  const neap_policy *inner = out->spec.policy;
  const char *at = place ? place(inner, inner->victims ? "victims" : "score") : NULL;
  const neap__remote_config config = {.inner = inner, .place = place};
  snprintf(out->place, sizeof(out->place), "%s", at ? at : "");
  return is_file(spec) ? neap__remote_wrap(&config, &out->spec.policy, err) : 0;
}

/* --- the list of changes; under lock --------------------------------------------------------------------------- */

static void add_change(neap__lab *lab, const char *how, const char *from, const char *to, const char *outcome) {
  memmove(&lab->changes[1], &lab->changes[0], (NEAP_SWITCHES_KEPT - 1) * sizeof(lab->changes[0]));
  neap__lab_change *c = &lab->changes[0];
  *c = (neap__lab_change){.unix_s = neap__unix_s(), .how = how, .outcome = outcome};
  snprintf(c->from, sizeof(c->from), "%s", from);
  snprintf(c->to, sizeof(c->to), "%s", to);
  lab->change_count = NEAP_MIN(lab->change_count + 1, NEAP_SWITCHES_KEPT);
}

/* The change that is on trial is the last one. The reference is the caller's to close, without the lock. */
static neap__shadow *end_trial(neap__lab *lab, const char *outcome, const neap_error *why) {
  neap__shadow *reference = lab->reference;
  if (!lab->trial.on) return NULL;
  lab->trial.on = false;
  lab->reference = NULL;
  lab->changes[0].outcome = outcome;
  if (why) lab->changes[0].why = *why;
  return reference;
}

/* --- changing; under change_lock ------------------------------------------------------------------------------- */

/* The new policy is live when this returns 0. */
static int put(neap__lab *lab, const neap__lab_policy *policy, neap_error *err) {
  int rc = neap__stream_switch(lab->config.stream, policy->spec.policy, policy->spec.params, err);
  if (rc == 0) neap__fate_policy(lab->config.fate, policy->spec.text, policy->place);
  return rc;
}

/* The one of whom nothing bad is known. */
static void find_lru(neap__lab_policy *out) {
  neap_error err = {""};
  NEAP_ASSERT(neap__lab_find("LRU", NULL, out, &err) == 0);
}

static int change(neap__lab *lab, const neap__lab_policy *policy, const neap__lab_trial *order, const char *how,
                  neap_error *err) {
  neap__lab_policy before = lab->policy;
  neap__shadow *reference = NULL, *old;
  neap_error ignored = {""};
  bool trial = order->seconds > 0;
  neap__stream_stats live;
  neap__stream_stats_get(lab->config.stream, &live);
  if (live.instance.out) find_lru(&before); /* which is at work now */
  int rc = put(lab, policy, err);
  if (rc) return rc;
  if (trial && neap__lab_open_shadow(lab, &before.spec, before.loaded_ns, order->warm, &reference, &ignored) != 0)
    NEAP_LOG_WARN("policy %s is on trial without a reference: %s", policy->spec.text, ignored.text);
  pthread_mutex_lock(&lab->lock);
  old = end_trial(lab, "superseded", NULL);
  add_change(lab, how, lab->policy.spec.text, policy->spec.text, trial ? "on trial" : "settled");
  lab->policy = *policy;
  lab->said_out = false;
  lab->reference = reference;
  lab->trial = (lab_trial){
      .on = trial, .before = before, .order = *order, .until_ns = neap__now_ns() + (uint64_t)(order->seconds * 1e9)};
  pthread_mutex_unlock(&lab->lock);
  neap__shadow_close(old);
  NEAP_LOG_INFO("policy %s takes over from %s%s", policy->spec.text, before.spec.text, trial ? ", on trial" : "");
  return 0;
}

static int check_order(const neap__lab_trial *order, neap_error *err) {
  if (!(order->seconds >= 0 && order->seconds <= 86400))
    return neap__fail(err, NEAP_EINVAL, "trial is %g; expected seconds from 0 (none) to 86400", order->seconds);
  if (!(order->bound >= 0 && order->bound <= 1))
    return neap__fail(err, NEAP_EINVAL, "bound is %g; expected a share from 0 to 1", order->bound);
  return 0;
}

int neap__lab_switch(neap__lab *lab, const char *spec, const neap__lab_trial *trial, neap_error *err) {
  neap__lab_policy found;
  int rc = check_order(trial, err);
  if (rc) return rc;
  pthread_mutex_lock(&lab->change_lock);
  rc = neap__lab_find(spec, lab->config.place, &found, err);
  if (rc == 0) rc = change(lab, &found, trial, "switch", err);
  pthread_mutex_unlock(&lab->change_lock);
  return rc;
}

int neap__lab_reload(neap__lab *lab, const neap__lab_trial *trial, neap_error *err) {
  neap__lab_policy found;
  int rc = check_order(trial, err);
  if (rc) return rc;
  pthread_mutex_lock(&lab->change_lock);
  rc = neap__lab_find(lab->policy.spec.text, lab->config.place, &found, err);
  if (rc == 0) rc = change(lab, &found, trial, "reload", err);
  pthread_mutex_unlock(&lab->change_lock);
  return rc;
}

/* --- the trial; lab thread -------------------------------------------------------------------------------------- */

/* The one before again, or the built-in LRU if that cannot be. */
static void roll_back(neap__lab *lab, const neap_error *why) {
  neap__lab_policy bad = lab->policy, before = lab->trial.before;
  neap_error err = {""};
  NEAP_LOG_ERROR("policy %s is rolled back to %s: %s", bad.spec.text, before.spec.text, why->text);
  if (put(lab, &before, &err) != 0) {
    NEAP_LOG_ERROR("policy %s cannot be put back: %s; LRU takes over", before.spec.text, err.text);
    find_lru(&before);
    if (put(lab, &before, &err) != 0) return; /* no memory: what is out stays out, its LRU goes on */
  }
  pthread_mutex_lock(&lab->lock);
  neap__shadow *reference = end_trial(lab, "rolled back", why);
  add_change(lab, "roll-back", bad.spec.text, before.spec.text, "settled");
  lab->changes[0].why = *why;
  lab->policy = before;
  lab->said_out = false;
  pthread_mutex_unlock(&lab->lock);
  neap__shadow_close(reference);
}

/* True: L1's hit ratio over a full window has passed the bound. A reference that still fills says nothing. */
static bool worse(neap__lab *lab, neap_error *why) {
  neap__shadow_stats stats;
  if (lab->reference == NULL) return false;
  neap__shadow_stats_get(lab->reference, &stats);
  const neap__tally *w = &stats.window;
  if (stats.state != NEAP__SHADOW_RUNNING || w->asked == 0 || stats.total.requests < lab->window.requests_max)
    return false;
  double now = (double)w->found_l1 / (double)w->asked, then = (double)w->prefix / (double)w->asked;
  if (now >= then - lab->trial.order.bound) return false;
  neap__fail(why, NEAP_ELIMIT,
             "prefix hit ratio of L1 is %.3f over the last %" PRIu64 " lookups; %s would have had %.3f, bound %.3f",
             now, w->requests, lab->trial.before.spec.text, then, lab->trial.order.bound);
  return true;
}

static void watch_trial(neap__lab *lab) {
  neap__stream_stats live;
  neap_error why = {""};
  neap__stream_stats_get(lab->config.stream, &live);
  if (live.instance.out && !lab->said_out) {
    lab->said_out = true;
    neap__fate_policy(lab->config.fate, "LRU (built-in, taking over)", "");
  }
  if (!lab->trial.on) return;
  if (live.instance.out) {
    roll_back(lab, &live.instance.why);
  } else if (worse(lab, &why)) {
    roll_back(lab, &why);
  } else if (neap__now_ns() >= lab->trial.until_ns) {
    pthread_mutex_lock(&lab->lock);
    neap__shadow *reference = end_trial(lab, "kept", NULL);
    pthread_mutex_unlock(&lab->lock);
    neap__shadow_close(reference);
    NEAP_LOG_INFO("policy %s is kept: its trial is over", lab->policy.spec.text);
  }
}

/* A change under way is not waited for: what it brings is looked at next time. */
void neap__lab_watch(neap__lab *lab) {
  if (pthread_mutex_trylock(&lab->change_lock) != 0) return;
  watch_trial(lab);
  pthread_mutex_unlock(&lab->change_lock);
}
