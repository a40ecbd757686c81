/* SPDX-License-Identifier: MIT
 *
 * neap/policy.h - the contract between the engine and a replacement policy.
 *
 * A policy keeps its own order over dense slot numbers. The engine tells it what happened, in batches, and asks for
 * victims; the policy proposes, the engine checks each proposal (alive, unpinned, allowed), acts, and reports what it
 * did as further events. A proposal that could not be carried out comes back as KEEP; a short answer is completed by
 * the built-in tail-first LRU. The policy never frees anything.
 *
 * Events carry everything by value: when an event is read, its slot may already hold another object. Inside one
 * request events come tail first (last chunk of the prompt first), so a plain LRU evicts leaves before prefixes.
 *
 * Threads: the engine enters one policy instance from one thread at a time, never two.
 */
#ifndef NEAP_POLICY_H
#define NEAP_POLICY_H

#include <neap/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NEAP_POLICY_MAGIC 0x4e504f4cu /* "NPOL" */
#define NEAP_POLICY_ABI 1u

typedef enum neap_event_type {
  NEAP_EV_INSERT = 1, /* slot became resident; aux = tenant, kib = size in KiB rounded up */
  NEAP_EV_HIT = 2,    /* slot was used by a request */
  NEAP_EV_REMOVE = 3, /* slot is gone; reason says why */
  NEAP_EV_KEEP = 4,   /* a proposed victim was not evicted (pinned, gone, or foreign) */
} neap_event_type;

typedef enum neap_remove_reason {
  NEAP_REMOVE_EVICT = 1,
  NEAP_REMOVE_DELETE = 2,
  NEAP_REMOVE_CLEAR = 3,
  NEAP_REMOVE_EXPIRE = 4, /* a temporary object whose last lease ended */
} neap_remove_reason;

typedef struct neap_event {
  uint32_t slot;    /* 0 .. slots-1 */
  uint8_t type;     /* neap_event_type */
  uint8_t reason;   /* neap_remove_reason of a REMOVE */
  uint16_t pos;     /* position of the chunk in its request, saturating */
  uint32_t h1, h2;  /* first eight bytes of the chunk hash */
  uint32_t request; /* hash of the request id, 0 if none */
  uint32_t tenant;  /* dense tenant number */
  uint32_t kib;     /* size of the object in KiB, rounded up */
  uint32_t time_ms; /* milliseconds since the engine was opened */
} neap_event;

#define NEAP_SCOPE_ALL UINT32_MAX

/* slots  how many slot numbers exist; per-slot arrays of this size suffice for ever */
typedef struct neap_policy_context {
  uint32_t size;
  uint32_t slots;
} neap_policy_context;

/* create     on failure returns an error code, fills err and leaves nothing behind
 * on_events  count events in the order in which they happened
 * victims    writes at most max distinct slot numbers to out, best victim first; scope is a tenant number or
 *            NEAP_SCOPE_ALL; returns how many. All events so far have been delivered. A slot proposed stays in the
 *            policy's care until a REMOVE or KEEP for it arrives. */
typedef struct neap_policy {
  uint32_t magic, abi;
  uint32_t size;
  uint32_t reserved;
  const char *name;
  int (*create)(const neap_policy_context *context, void **self, neap_error *err);
  void (*on_events)(void *self, const neap_event *events, uint32_t count);
  uint32_t (*victims)(void *self, uint32_t scope, uint32_t *out, uint32_t max);
  void (*destroy)(void *self);
} neap_policy;

#ifdef __cplusplus
}
#endif
#endif
