/* SPDX-License-Identifier: MIT
 *
 * The policy lab: the ring, numbers that are used again, shadows against a ghost cache that nothing limits, policies
 * that fail or hang, what became of chunks, and switches with their trials. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
/* cmocka wants what is above first */
#include <cmocka.h>

#include "lab/lab.h"
#include "lab/ring.h"
#include "lab/salt.h"
#include "policy/ghost_cache.h"

static uint64_t random_state = 1;

static uint64_t random64(void) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (random_state ^ random_state >> 33) * UINT64_C(0xff51afd7ed558ccd);
}

static uint32_t below(uint32_t n) { return (uint32_t)(random64() >> 33) % n; }

/* Polls until cond is true, for at most 10 s. */
#define EVENTUALLY(cond)                                                   \
  do {                                                                     \
    for (int tries_ = 0; !(cond) && tries_ < 2000; tries_++) usleep(5000); \
    assert_true(cond);                                                     \
  } while (0)

/* --- the ring -------------------------------------------------------------------------------------------------- */

#define RECORDS 200000u

static void *write_records(void *arg) {
  neap__ring *ring = arg;
  for (uint64_t i = 0; i < RECORDS;) {
    uint32_t words = 1 + (uint32_t)(i * 7 % 13);
    uint64_t *to = neap__ring_claim(ring, words);
    if (to == NULL) continue; /* dropped, and counted: here it is sent again */
    for (uint32_t w = 0; w < words; w++) to[w] = i + w;
    neap__ring_publish(ring);
    i++;
  }
  return NULL;
}

static void test_ring_between_threads(void **state) {
  (void)state;
  neap__ring *ring = NULL;
  pthread_t writer;
  assert_int_equal(neap__ring_open(1024, &ring), 0);
  assert_int_equal(pthread_create(&writer, NULL, write_records, ring), 0);
  for (uint64_t i = 0; i < RECORDS;) {
    uint32_t words = 0;
    const uint64_t *record = neap__ring_peek(ring, &words);
    if (record == NULL) {
      neap__ring_wait(ring, 1);
      continue;
    }
    assert_int_equal(words, 1 + i * 7 % 13);
    for (uint32_t w = 0; w < words; w++) assert_int_equal(record[w], i + w);
    neap__ring_pop(ring);
    i++;
  }
  pthread_join(writer, NULL);
  neap__ring_stats stats;
  neap__ring_stats_get(ring, &stats);
  assert_int_equal(stats.records, RECORDS);
  assert_int_equal(stats.waiting, 0);
  neap__ring_close(ring);
}

static void test_ring_drops(void **state) {
  (void)state;
  neap__ring *ring = NULL;
  assert_int_equal(neap__ring_open(64, &ring), 0);
  assert_null(neap__ring_claim(ring, 16)); /* with its length more than a quarter */
  uint32_t fit = 0;
  while (neap__ring_claim(ring, 7) != NULL) neap__ring_publish(ring), fit++;
  assert_int_equal(fit, 8);
  neap__ring_stats stats;
  neap__ring_stats_get(ring, &stats);
  assert_int_equal(stats.dropped, 2);
  assert_int_equal(stats.waiting, 8);
  uint32_t words;
  assert_non_null(neap__ring_peek(ring, &words));
  neap__ring_pop(ring);
  assert_non_null(neap__ring_claim(ring, 7));
  neap__ring_close(ring);
}

/* --- numbers --------------------------------------------------------------------------------------------------- */

static void test_lineage_uses_numbers_again(void **state) {
  (void)state;
  enum { MOST = 500, STEPS = 200000 };
  neap__lineage lineage;
  uint64_t there[MOST];
  uint32_t numbers[MOST], count = 0;
  assert_int_equal(neap__lineage_open(&lineage, 0), 0);
  for (uint32_t step = 0; step < STEPS; step++) {
    if (count < MOST && (count == 0 || below(2))) {
      uint64_t hash = random64();
      assert_int_equal(neap__lineage_find(&lineage, hash), NEAP__NO_CHUNK);
      assert_int_equal(neap__lineage_add(&lineage, hash, NEAP__NO_CHUNK, &numbers[count]), 0);
      assert_true(numbers[count] < MOST);
      for (uint32_t i = 0; step % 100 == 0 && i < count; i++) assert_int_not_equal(numbers[i], numbers[count]);
      there[count++] = hash;
    } else {
      uint32_t at = below(count);
      neap__lineage_remove(&lineage, numbers[at]);
      assert_int_equal(neap__lineage_find(&lineage, there[at]), NEAP__NO_CHUNK);
      there[at] = there[--count], numbers[at] = numbers[count];
    }
    uint32_t probe = count ? below(count) : 0;
    if (count) assert_int_equal(neap__lineage_find(&lineage, there[probe]), numbers[probe]);
  }
  for (uint32_t i = 0; i < count; i++) assert_int_equal(neap__lineage_find(&lineage, there[i]), numbers[i]);
  assert_true(lineage.count <= MOST);
  neap__lineage_close(&lineage);
}

/* The vectors of the paper's reference implementation: key 00 01 .. 0f, input of 8 bytes 00 .. 07. */
static void test_salt_is_siphash(void **state) {
  (void)state;
  const neap__salt salt = {{UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}};
  const uint64_t word = UINT64_C(0x0706050403020100);
  assert_int_equal(neap__salted(&salt, &word, 1), UINT64_C(0x93f5f5799a932462));
  assert_int_equal(neap__salted(&salt, &word, 0), UINT64_C(0x726fdb47dd0e0e31));
}

/* --- shadows --------------------------------------------------------------------------------------------------- */

#define CHUNKS_MAX 12u

typedef struct record {
  neap__lab_record head;
  uint64_t chunk[CHUNKS_MAX];
} record;

/* A prompt of a tree of prompts: 40 begin, each goes four ways after six chunks. Returns its chunks. */
static uint32_t random_prompt(record *r, uint32_t time_ms) {
  uint32_t chunks = 1 + below(CHUNKS_MAX);
  uint64_t root = below(40) + 1, way = below(4) + 1;
  for (uint32_t i = 0; i < chunks; i++)
    r->head.chunk[i] = (root * 10000 + i * 100 + (i < 6 ? 0 : way)) * UINT64_C(0x9e3779b97f4a7c15);
  r->head.session = below(100) + 1;
  r->head.model = 0;
  r->head.tenant = 0;
  r->head.time_ms = time_ms;
  r->head.asked = chunks;
  r->head.found = r->head.found_l1 = below(chunks + 1);
  r->head.kib = 4;
  return chunks;
}

/* What a ghost cache makes of the same requests, given all the numbers that it wants. */
static neap__tally replay(const neap__policy_spec *spec, uint64_t capacity_kib, uint32_t requests) {
  enum { NUMBERS = 1 << 20 };
  neap__lineage lineage;
  neap__ghost_cache *ghost = NULL;
  neap__tally sum = {0};
  uint32_t *units = malloc(NUMBERS * sizeof(*units)), number[CHUNKS_MAX];
  neap_error err = {""};
  assert_int_equal(neap__lineage_open(&lineage, NUMBERS), 0);
  for (uint32_t i = 0; i < NUMBERS; i++) units[i] = 4;
  const neap__ghost_config config = {.policy = spec->policy,
                                     .params = spec->params,
                                     .lineage = &lineage,
                                     .numbers = NUMBERS,
                                     .slots = (uint32_t)capacity_kib / 4 * 2 + 16,
                                     .capacity = capacity_kib,
                                     .seed = 1};
  assert_int_equal(neap__ghost_open(&config, &ghost, &err), 0);
  for (uint32_t i = 0; i < requests; i++) {
    record r;
    neap__ghost_answer answer;
    uint32_t chunks = random_prompt(&r, i);
    for (uint32_t c = 0; c < chunks; c++) {
      uint32_t parent = c ? number[c - 1] : NEAP__NO_CHUNK;
      assert_int_equal(neap__lineage_add(&lineage, r.head.chunk[c], parent, &number[c]), 0);
    }
    const neap__ghost_request request = {
        .chunk = number, .units = units, .chunks = chunks, .request = i + 1, .time_ms = i, .session = r.head.session};
    neap__ghost_use(ghost, &request, &answer);
    sum.requests++, sum.asked += chunks, sum.prefix += answer.prefix, sum.hits += answer.hits;
    sum.found += r.head.found, sum.found_l1 += r.head.found_l1;
  }
  neap__ghost_close(ghost);
  neap__lineage_close(&lineage);
  free(units);
  return sum;
}

static neap__shadow *open_shadow(neap__shadow_config *config, const char *spec) {
  neap__shadow *shadow = NULL;
  neap_error err = {""};
  if (spec) assert_int_equal(neap__policy_find(spec, &config->spec, &err), 0);
  if (neap__shadow_open(config, &shadow, &err) != 0) fail_msg("%s", err.text);
  return shadow;
}

static neap__shadow_stats stats_of(neap__shadow *shadow) {
  neap__shadow_stats stats;
  neap__shadow_stats_get(shadow, &stats);
  return stats;
}

static void test_shadow_is_a_replay(void **state) {
  (void)state;
  enum { REQUESTS = 20000, CAPACITY = 4 * 600 };
  static const char *const policies[] = {"LRU", "ARC", "S3FIFO", "LIRS", "LeafLRU", "GDSF"};
  for (size_t p = 0; p < NEAP_ARRAY_LEN(policies); p++) {
    neap__shadow_config config = {.capacity_kib = CAPACITY, .window = 1000, .chunk_kib = 4, .ring_words = 1u << 20};
    neap__shadow *shadow = open_shadow(&config, policies[p]);
    random_state = 7;
    for (uint32_t i = 0; i < REQUESTS; i++) {
      record r;
      uint32_t chunks = random_prompt(&r, i);
      neap__shadow_use(shadow, &r.head, chunks);
    }
    EVENTUALLY(stats_of(shadow).total.requests == REQUESTS);
    neap__shadow_stats stats = stats_of(shadow);
    random_state = 7;
    neap__tally expected = replay(&config.spec, CAPACITY, REQUESTS);
    if (memcmp(&stats.total, &expected, sizeof(expected)) != 0)
      fail_msg("%s: %llu prefix, %llu hits; expected %llu, %llu", policies[p], (unsigned long long)stats.total.prefix,
               (unsigned long long)stats.total.hits, (unsigned long long)expected.prefix,
               (unsigned long long)expected.hits);
    assert_true(stats.full && stats.evictions > 0 && stats.dropped == 0);
    assert_in_range(stats.window.requests, 900, 1100);
    assert_true(stats.cpu_ns > 0);
    neap__shadow_close(shadow);
  }
}

/* A stream of chunks that never come again, around some that do: the names that are remembered are bounded, and what
 * LRU would keep is remembered. */
static void test_shadow_forgets(void **state) {
  (void)state;
  enum { REQUESTS = 30000, CAPACITY = 4 * 64 };
  neap__shadow_config config = {.capacity_kib = CAPACITY, .window = 1000, .chunk_kib = 4, .ring_words = 1u << 20};
  neap__shadow *shadow = open_shadow(&config, "LRU");
  uint64_t prefix = 0;
  for (uint32_t i = 0; i < REQUESTS; i++) {
    record r = {.head = {.session = 1, .time_ms = i, .asked = 2, .kib = 4}};
    bool again = i % 2;
    r.head.chunk[0] = again ? 1 : 1000 + i;
    r.head.chunk[1] = again ? 2 : 500000 + i;
    neap__shadow_use(shadow, &r.head, 2);
    if (again && i > 1) prefix += 2;
  }
  EVENTUALLY(stats_of(shadow).total.requests == REQUESTS);
  neap__shadow_stats stats = stats_of(shadow);
  assert_int_equal(stats.total.prefix, prefix);
  assert_int_equal(stats.residents, CAPACITY / 4);
  assert_int_equal(stats.forgotten, REQUESTS + 2 - 4096); /* all but as many as are remembered at least */
  neap__shadow_close(shadow);
}

static void test_shadow_drops_and_does_not_wait(void **state) {
  (void)state;
  neap__shadow_config config = {.capacity_kib = 4000, .window = 100, .chunk_kib = 4, .ring_words = 64};
  neap__shadow *shadow = open_shadow(&config, "LRU");
  for (uint32_t i = 0; i < 1000; i++) {
    record r;
    uint32_t chunks = random_prompt(&r, i);
    neap__shadow_use(shadow, &r.head, chunks);
  }
  neap__shadow_stats stats = stats_of(shadow);
  assert_true(stats.dropped > 0);
  uint64_t dropped = stats.dropped;
  EVENTUALLY(stats_of(shadow).waiting == 0);
  EVENTUALLY(stats_of(shadow).total.requests == 1000 - dropped);
  neap__shadow_close(shadow);
}

/* --- policies that misbehave ------------------------------------------------------------------------------------ */

static atomic_bool hang, broken, refuse;

static int odd_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy;
  if (atomic_load(&refuse)) return neap__fail(err, NEAP_ESCRIPT, "odd.test:3: not today");
  *self = (void *)(uintptr_t)context->slots;
  return 0;
}

static void odd_destroy(void *self) { (void)self; }

static int odd_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)self, (void)events, (void)count;
  while (atomic_load(&hang)) usleep(1000);
  return atomic_load(&broken) ? neap__fail(err, NEAP_ESCRIPT, "odd.test:12: nil is no number") : 0;
}

static int odd_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)self, (void)scope, (void)out, (void)max, (void)err;
  return 0; /* whatever it is asked: the built-in completes */
}

static const neap_policy odd = {.magic = NEAP_POLICY_MAGIC,
                                .abi = NEAP_POLICY_ABI,
                                .size = sizeof(neap_policy),
                                .wants = NEAP_WANTS(INSERT) | NEAP_WANTS(HIT),
                                .name = "odd",
                                .create = odd_create,
                                .destroy = odd_destroy,
                                .on_events = odd_events,
                                .victims = odd_victims};

static int load_odd(const char *path, const neap_policy **out, neap_error *err) {
  (void)path, (void)err;
  *out = &odd;
  return 0;
}

static neap__policy_loader odd_loader = {.ending = "odd", .load = load_odd};
static char odd_path[64];

static int setup(void **state) {
  (void)state;
  snprintf(odd_path, sizeof(odd_path), "/tmp/neap-lab-%d.odd", (int)getpid());
  FILE *file = fopen(odd_path, "w");
  if (file) fclose(file);
  neap__policy_add_loader(&odd_loader);
  return file ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  return unlink(odd_path);
}

static void test_shadow_whose_policy_fails(void **state) {
  (void)state;
  neap__shadow_config config = {.spec = {.policy = &odd, .text = "odd"}, .capacity_kib = 4000, .window = 10};
  neap__shadow *shadow = open_shadow(&config, NULL);
  record r;
  uint32_t chunks = random_prompt(&r, 1);
  atomic_store(&broken, true);
  neap__shadow_use(shadow, &r.head, chunks);
  EVENTUALLY(stats_of(shadow).state == NEAP__SHADOW_FAILED);
  assert_non_null(strstr(stats_of(shadow).why.text, "odd.test:12: nil is no number"));
  for (uint32_t i = 0; i < 100; i++) neap__shadow_use(shadow, &r.head, chunks); /* nobody takes them, nothing breaks */
  atomic_store(&broken, false);
  neap__shadow_close(shadow);
}

static void test_shadow_whose_policy_hangs(void **state) {
  (void)state;
  neap__shadow_config config = {
      .spec = {.policy = &odd, .text = "odd"}, .capacity_kib = 4000, .window = 10, .stuck_ms = 100};
  neap__shadow *shadow = open_shadow(&config, NULL);
  record r;
  uint32_t chunks = random_prompt(&r, 1);
  atomic_store(&hang, true);
  neap__shadow_use(shadow, &r.head, chunks);
  for (int i = 0; i < 1000 && stats_of(shadow).state != NEAP__SHADOW_STUCK; i++) {
    neap__shadow_check(shadow);
    usleep(5000);
  }
  assert_int_equal(stats_of(shadow).state, NEAP__SHADOW_STUCK);
  assert_non_null(strstr(stats_of(shadow).why.text, "100 ms"));
  neap__shadow_close(shadow); /* leaves the thread to itself */
  atomic_store(&hang, false); /* which then cleans up: what is left would be a leak */
  usleep(200000);
}

static void test_shadow_whose_policy_cannot_be_created(void **state) {
  (void)state;
  neap__shadow_config config = {.spec = {.policy = &odd, .text = "odd"}, .capacity_kib = 4000, .window = 10};
  neap__shadow *shadow = NULL;
  neap_error err = {""};
  atomic_store(&refuse, true);
  assert_int_equal(neap__shadow_open(&config, &shadow, &err), NEAP_ESCRIPT);
  assert_non_null(strstr(err.text, "odd.test:3: not today"));
  assert_null(shadow);
  atomic_store(&refuse, false);
}

/* --- what became of chunks -------------------------------------------------------------------------------------- */

static neap__key key_of(uint32_t number) {
  neap__key key = {.space = 1, .tenant = number % 3};
  memcpy(key.hash, &number, sizeof(number));
  return key;
}

static void test_fates(void **state) {
  (void)state;
  enum { KEYS = 4000 };
  neap__fate *fate = NULL;
  neap__fate_entry entry;
  assert_int_equal(neap__fate_open(8 * KEYS, &fate), 0);
  neap__key key = key_of(1);
  assert_false(neap__fate_find(fate, &key, &entry));
  neap__fate_policy(fate, "./mine.lua", "mine.lua:12");
  neap__fate_moved(fate, &key, 0, 1 << 20);
  neap__fate_moved(fate, &key, NEAP_REMOVE_EVICT, 1 << 20);
  neap__fate_policy(fate, "LRU", "");
  for (uint32_t i = 0; i < 5; i++) {
    neap__key other = key_of(100 + i);
    neap__fate_moved(fate, &other, 0, 1 << 20);
  }
  assert_true(neap__fate_find(fate, &key, &entry));
  assert_int_equal(entry.reason, NEAP_FATE_EVICTED);
  assert_string_equal(entry.policy, "./mine.lua");
  assert_string_equal(entry.place, "mine.lua:12");
  assert_int_equal(entry.bytes, 1 << 20);
  assert_int_equal(entry.inserted_bytes, 5 << 20);
  neap__key other_tenant = key;
  other_tenant.tenant = 2;
  assert_false(neap__fate_find(fate, &other_tenant, &entry));
  static const struct {
    neap_remove_reason reason;
    neap__fate_reason fate;
  } ways[] = {{NEAP_REMOVE_DELETE, NEAP_FATE_DELETED},
              {NEAP_REMOVE_CLEAR, NEAP_FATE_CLEARED},
              {NEAP_REMOVE_EXPIRE, NEAP_FATE_EXPIRED}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(ways); i++) {
    neap__fate_moved(fate, &key, ways[i].reason, 4096);
    assert_true(neap__fate_find(fate, &key, &entry));
    assert_int_equal(entry.reason, ways[i].fate);
    assert_string_equal(entry.policy, ""); /* no policy's doing */
  }
  for (uint32_t i = 0; i < 100 * KEYS; i++) {
    neap__key later = key_of(1000 + i);
    neap__fate_note(fate, &later, NEAP_FATE_EVICTED, 4096);
  }
  uint32_t known = 0;
  for (uint32_t i = 99 * KEYS; i < 100 * KEYS; i++) {
    neap__key later = key_of(1000 + i);
    known += neap__fate_find(fate, &later, &entry);
  }
  assert_in_range(known, KEYS * 95 / 100, KEYS); /* the last ones; a set may be unlucky */
  neap__fate_close(fate);
}

/* --- the lab ---------------------------------------------------------------------------------------------------- */

typedef struct rig {
  neap__stream *stream;
  neap__fate *fate;
  neap__lab *lab;
} rig;

static void rig_open(rig *r, uint32_t window) {
  neap_error err = {""};
  neap__lab_config config = {.l1_bytes = 600 * 4096, .window = window, .record_bytes = 1u << 20};
  assert_int_equal(neap__lab_find("LRU", NULL, &config.policy, &err), 0);
  const neap__instance_config instance = {.policy = config.policy.spec.policy, .slots = 1000};
  assert_int_equal(neap__stream_open(&instance, &r->stream, &err), 0);
  assert_int_equal(neap__fate_open(1000, &r->fate), 0);
  config.stream = r->stream, config.fate = r->fate;
  assert_int_equal(neap__lab_open(&config, &r->lab, &err), 0);
}

static void rig_close(rig *r) {
  neap__lab_close(r->lab);
  neap__fate_close(r->fate);
  neap__stream_close(r->stream);
}

/* found: of 8 chunks; < 0: as many as random. */
static void tell(rig *r, uint32_t requests, int found) {
  for (uint32_t i = 0; i < requests; i++) {
    record prompt;
    uint8_t hashes[CHUNKS_MAX][NEAP_HASH_BYTES] = {{0}};
    uint32_t chunks = random_prompt(&prompt, i);
    for (uint32_t c = 0; c < chunks; c++) memcpy(hashes[c], &prompt.head.chunk[c], 8);
    uint32_t hit = found < 0 ? prompt.head.found : NEAP_MIN((uint32_t)found, chunks);
    const neap__lab_request request = {.session = prompt.head.session,
                                       .model = "demo",
                                       .asked = chunks,
                                       .found = hit,
                                       .found_l1 = hit,
                                       .chunk_bytes = 4096,
                                       .hashes = (const uint8_t(*)[NEAP_HASH_BYTES])hashes,
                                       .chunks = chunks};
    neap__lab_tell(r->lab, &request);
    if (i % 1000 == 999) usleep(30000); /* the ring is large, but not that large */
  }
}

static neap__lab_status status_of(rig *r) {
  neap__lab_status *status = malloc(sizeof(*status));
  assert_non_null(status);
  neap__lab_status_get(r->lab, status);
  neap__lab_status copy = *status;
  free(status);
  return copy;
}

static void test_lab_shadows_and_recording(void **state) {
  (void)state;
  rig r;
  neap_error err = {""};
  rig_open(&r, 500);
  tell(&r, 2000, -1);
  EVENTUALLY(status_of(&r).waiting == 0);
  assert_int_equal(neap__lab_shadow_add(r.lab, "lru", true, &err), 0);
  assert_int_equal(neap__lab_shadow_add(r.lab, "LRU", true, &err), NEAP_EEXIST);
  assert_int_equal(neap__lab_shadow_add(r.lab, "lro", true, &err), NEAP_EINVAL);
  assert_int_equal(neap__lab_shadow_add(r.lab, "./none.odd", true, &err), NEAP_ENOENT);
  EVENTUALLY(status_of(&r).shadows[0].state == NEAP__SHADOW_RUNNING);
  assert_true(status_of(&r).shadows[0].full); /* by what was recorded */
  assert_int_equal(status_of(&r).shadows[0].total.requests, 0);
  static const char *const more[] = {"ARC", "SIEVE", "fifo"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(more); i++)
    assert_int_equal(neap__lab_shadow_add(r.lab, more[i], false, &err), 0);
  assert_int_equal(neap__lab_shadow_add(r.lab, "2Q", false, &err), NEAP_ELIMIT);
  tell(&r, 2000, -1);
  for (uint32_t i = 0; i < 4; i++) EVENTUALLY(status_of(&r).shadows[i].total.requests == 2000);
  neap__lab_status status = status_of(&r);
  assert_int_equal(status.total.requests, 4000);
  assert_int_equal(status.requests, 4000);
  assert_int_equal(status.shadows[0].total.found, status.shadows[3].total.found);
  assert_true(status.shadows[0].total.prefix > 0);
  assert_int_equal(neap__lab_shadow_remove(r.lab, "sievo", &err), NEAP_ENOENT);
  assert_non_null(strstr(err.text, "did you mean 'SIEVE'?"));
  assert_int_equal(neap__lab_shadow_remove(r.lab, "sieve", &err), 0);
  assert_int_equal(neap__lab_shadow_remove(r.lab, "0", &err), 0);
  assert_int_equal(neap__lab_shadow_reload(r.lab, "fifo", &err), 0);
  assert_int_equal(status_of(&r).shadow_count, 2);
  assert_string_equal(status_of(&r).shadows[1].spec, "fifo");

  char path[64];
  neap__trace *trace = NULL;
  snprintf(path, sizeof(path), "/tmp/neap-lab-%d.neaprec", (int)getpid());
  assert_int_equal(neap__lab_record_save(r.lab, path, &err), 0);
  assert_int_equal(neap__trace_load(path, NULL, &trace, &err), 0);
  assert_int_equal(trace->request_count, 4000);
  assert_int_equal(trace->references, status.total.asked);
  for (uint32_t i = 0; i < 100; i++) { /* names are salted: not those that were told */
    record prompt;
    random_prompt(&prompt, 0);
    assert_int_equal(neap__lineage_find(&trace->lineage, prompt.head.chunk[0]), NEAP__NO_CHUNK);
  }
  neap__trace_free(trace);
  unlink(path);
  rig_close(&r);
}

static void test_lab_switches_and_keeps(void **state) {
  (void)state;
  rig r;
  neap_error err = {""};
  neap__lab_trial trial = {.seconds = 0.3, .bound = 0.05};
  rig_open(&r, 100);
  assert_int_equal(neap__lab_switch(r.lab, "arc", &trial, &err), 0);
  assert_string_equal(status_of(&r).policy, "arc");
  assert_true(status_of(&r).on_trial);
  assert_string_equal(status_of(&r).reference.spec, "LRU");
  EVENTUALLY(!status_of(&r).on_trial);
  assert_string_equal(status_of(&r).changes[0].outcome, "kept");
  trial.seconds = 0;
  assert_int_equal(neap__lab_switch(r.lab, "s3fifo:small=0.3", &trial, &err), 0);
  assert_string_equal(status_of(&r).changes[0].outcome, "settled");
  assert_string_equal(status_of(&r).stream.params, "small=0.3");
  assert_int_equal(neap__lab_switch(r.lab, "s3fifo:smal=0.3", &trial, &err), NEAP_EINVAL);
  assert_string_equal(status_of(&r).policy, "s3fifo:small=0.3");
  trial.bound = 2;
  assert_int_equal(neap__lab_switch(r.lab, "LRU", &trial, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "bound is 2; expected a share from 0 to 1"));
  assert_int_equal(status_of(&r).change_count, 2);
  rig_close(&r);
}

static void test_lab_rolls_back_what_fails(void **state) {
  (void)state;
  rig r;
  neap_error err = {""};
  const neap__lab_trial trial = {.seconds = 60, .bound = 0.05};
  rig_open(&r, 100);
  assert_int_equal(neap__lab_switch(r.lab, "ARC", &(neap__lab_trial){0}, &err), 0);
  assert_int_equal(neap__lab_switch(r.lab, odd_path, &trial, &err), 0);
  assert_string_equal(status_of(&r).policy, odd_path);
  atomic_store(&broken, true);
  const neap_event insert = {.type = NEAP_EV_INSERT, .slot = 3, .kib = 4};
  neap__stream_emit(r.stream, &insert, 1);
  EVENTUALLY(strcmp(status_of(&r).policy, "ARC") == 0);
  atomic_store(&broken, false);
  neap__lab_status status = status_of(&r);
  assert_false(status.on_trial || status.stream.instance.out);
  assert_string_equal(status.stream.policy, "ARC");
  assert_int_equal(status.stream.instance.residents, 1); /* nothing was forgotten */
  assert_string_equal(status.changes[0].how, "roll-back");
  assert_string_equal(status.changes[1].outcome, "rolled back");
  assert_non_null(strstr(status.changes[1].why.text, "odd.test:12: nil is no number"));
  rig_close(&r);
}

/* The live engine finds nothing, though LRU would have found much. */
static void test_lab_rolls_back_what_is_worse(void **state) {
  (void)state;
  rig r;
  neap_error err = {""};
  rig_open(&r, 200);
  tell(&r, 2000, -1);
  EVENTUALLY(status_of(&r).waiting == 0);
  assert_int_equal(neap__lab_switch(r.lab, "FIFO", &(neap__lab_trial){.seconds = 60, .bound = 0.1, .warm = true}, &err),
                   0);
  tell(&r, 1000, 0);
  EVENTUALLY(strcmp(status_of(&r).policy, "LRU") == 0);
  neap__lab_status status = status_of(&r);
  assert_string_equal(status.changes[1].outcome, "rolled back");
  assert_non_null(strstr(status.changes[1].why.text, "prefix hit ratio of L1 is 0.000"));
  /* Whoever finds as much as could be found stays. */
  assert_int_equal(neap__lab_switch(r.lab, "FIFO", &(neap__lab_trial){.seconds = 60, .bound = 0.1, .warm = true}, &err),
                   0);
  tell(&r, 1000, 12);
  EVENTUALLY(status_of(&r).reference.total.requests == 1000);
  usleep(300000);
  assert_string_equal(status_of(&r).policy, "FIFO");
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ring_between_threads),
      cmocka_unit_test(test_ring_drops),
      cmocka_unit_test(test_lineage_uses_numbers_again),
      cmocka_unit_test(test_salt_is_siphash),
      cmocka_unit_test(test_shadow_is_a_replay),
      cmocka_unit_test(test_shadow_forgets),
      cmocka_unit_test(test_shadow_drops_and_does_not_wait),
      cmocka_unit_test(test_shadow_whose_policy_fails),
      cmocka_unit_test(test_shadow_whose_policy_hangs),
      cmocka_unit_test(test_shadow_whose_policy_cannot_be_created),
      cmocka_unit_test(test_fates),
      cmocka_unit_test(test_lab_shadows_and_recording),
      cmocka_unit_test(test_lab_switches_and_keeps),
      cmocka_unit_test(test_lab_rolls_back_what_fails),
      cmocka_unit_test(test_lab_rolls_back_what_is_worse),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
