/* SPDX-License-Identifier: MIT
 *
 * l1/tell.c - what L1 reports: events by value, made on the thread that caused them. Those that not everybody needs
 * are made only while somebody wants them.
 *
 * PIN and UNPIN alternate for a slot, though leases end without a lock and wishes change: what was told last is kept
 * per slot and compared, under the shard's lock, with what is. */
#include <string.h>

#include "l1/internal.h"

uint32_t neap__l1_now_ms(const neap__l1 *l1) { return (uint32_t)((neap__now_ns() - l1->opened_ns) / 1000000); }

static void emit(neap__l1 *l1, const neap_event *event) { l1->config.emit(l1->config.emit_ctx, event, 1); }

static void tell_moved(neap__l1 *l1, uint32_t slot, neap_remove_reason reason) {
  const neap__slot *s = &l1->slots[slot];
  if (l1->config.moved) l1->config.moved(l1->config.moved_ctx, &s->key, reason, s->bytes);
}

void neap__l1_tell_insert(neap__l1 *l1, uint32_t slot, uint32_t pos, uint32_t request) {
  tell_moved(l1, slot, 0);
  if (!l1->config.emit) return;
  neap_event event = neap__l1_slot_event(l1, NEAP_EV_INSERT, slot, pos, neap__l1_now_ms(l1));
  event.request = request;
  emit(l1, &event);
}

void neap__l1_tell_remove(neap__l1 *l1, uint32_t slot, neap_remove_reason reason) {
  if (l1->told_pinned[slot]) l1->told_pinned[slot] = 0; /* reading costs no page of it */
  tell_moved(l1, slot, reason);
  if (!l1->config.emit) return;
  neap_event event = neap__l1_slot_event(l1, NEAP_EV_REMOVE, slot, 0, neap__l1_now_ms(l1));
  event.detail = (uint8_t)reason;
  emit(l1, &event);
}

void neap__l1_tell_pin(neap__l1 *l1, uint32_t slot) {
  uint8_t pinned = atomic_load(&l1->pins[slot]) != 0;
  if (l1->told_pinned[slot] == pinned) return;
  l1->told_pinned[slot] = pinned;
  neap_event event = neap__l1_slot_event(l1, pinned ? NEAP_EV_PIN : NEAP_EV_UNPIN, slot, 0, neap__l1_now_ms(l1));
  emit(l1, &event);
}

void neap__l1_tell_pins(neap__l1 *l1) {
  if (!neap__l1_wants(l1, NEAP__WANTS_PINS)) return;
  uint32_t high = atomic_load(&l1->segment.header->slots_high);
  for (uint32_t slot = 0; slot < high; slot++) {
    uint32_t state;
    neap__shard *shard = neap__l1_lock_slot(l1, slot, &state);
    if (!shard) continue;
    if (state == NEAP_SLOT_RESIDENT) neap__l1_tell_pin(l1, slot);
    pthread_mutex_unlock(&shard->lock);
  }
}

void neap__l1_tell_tier(neap__l1 *l1, neap__lease lease, neap_event_type type, uint32_t tier) {
  uint64_t word;
  if (!neap__l1_wants(l1, 1u << type)) return;
  const neap__lease_record *record = neap__l1_record(l1, lease, &word);
  if (!record) return;
  uint32_t state, slot = neap__lease_slot(record);
  neap__shard *shard = neap__l1_lock_slot(l1, slot, &state);
  if (!shard) return;
  if (state == NEAP_SLOT_RESIDENT && neap__l1_record(l1, lease, &word)) {
    neap_event event = neap__l1_slot_event(l1, type, slot, 0, neap__l1_now_ms(l1));
    event.detail = (uint8_t)tier;
    emit(l1, &event);
  }
  pthread_mutex_unlock(&shard->lock);
}

void neap__l1_tell_miss(neap__l1 *l1, const neap__key *key, uint32_t pos, uint32_t request) {
  if (!neap__l1_wants(l1, NEAP_WANTS(MISS))) return;
  neap_event event = {.slot = NEAP_POLICY_NO_SLOT,
                      .type = NEAP_EV_MISS,
                      .pos = (uint16_t)NEAP_MIN(pos, UINT16_MAX),
                      .request = request,
                      .tenant = key->tenant,
                      .time_ms = neap__l1_now_ms(l1)};
  memcpy(&event.h1, key->hash, sizeof(event.h1));
  memcpy(&event.h2, key->hash + sizeof(event.h1), sizeof(event.h2));
  emit(l1, &event);
}

void neap__l1_tell_request(neap__l1 *l1, uint32_t tenant, uint32_t request, uint64_t session, uint32_t chunks) {
  if (!neap__l1_wants(l1, NEAP_WANTS(REQUEST))) return;
  const neap_event event = {.slot = NEAP_POLICY_NO_SLOT,
                            .type = NEAP_EV_REQUEST,
                            .pos = (uint16_t)NEAP_MIN(chunks, UINT16_MAX),
                            .h1 = (uint32_t)session,
                            .h2 = (uint32_t)(session >> 32),
                            .request = request,
                            .tenant = tenant,
                            .time_ms = neap__l1_now_ms(l1)};
  emit(l1, &event);
}

void neap__l1_tell_tick(neap__l1 *l1) {
  if (!neap__l1_wants(l1, NEAP_WANTS(TICK))) return;
  const neap_event event = {.slot = NEAP_POLICY_NO_SLOT, .type = NEAP_EV_TICK, .time_ms = neap__l1_now_ms(l1)};
  emit(l1, &event);
}
