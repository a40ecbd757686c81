/* SPDX-License-Identifier: MIT
 *
 * Which resident chunks are leaves: against a model that counts everything anew after each step, and what is forgotten
 * when more is told than may be remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/tree.h"
#include "support/random.h"

enum { SLOTS = 96, CHUNKS = 40, TENANTS = 2, NOBODY = -1 };

static neap_chunk rows[SLOTS];
static bool told_inner[SLOTS]; /* by events: it is no leaf */
static uint32_t told_twice;

static void note(void *ctx, neap_event_type change, uint32_t slot, uint64_t hash, uint32_t tenant) {
  (void)ctx, (void)hash, (void)tenant;
  assert_true(change == NEAP_EV_LEAF || change == NEAP_EV_UNLEAF);
  told_twice += told_inner[slot] == (change == NEAP_EV_UNLEAF);
  told_inner[slot] = change == NEAP_EV_UNLEAF;
}

static neap__tree *open_tree(void) {
  neap__tree *tree = NULL;
  memset(rows, 0, sizeof(rows));
  memset(told_inner, 0, sizeof(told_inner));
  told_twice = 0;
  assert_int_equal(neap__tree_open(SLOTS, rows, note, NULL, &tree), 0);
  return tree;
}

static void insert(neap__tree *tree, uint32_t slot, uint64_t hash, uint32_t tenant) {
  told_inner[slot] = false; /* who arrives is a leaf */
  neap__tree_insert(tree, slot, hash, tenant);
}

static void learn(neap__tree *tree, uint32_t tenant, uint32_t count, const uint64_t *hashes) {
  for (uint32_t i = 0; i < count; i++)
    neap__tree_learn(tree, hashes[i], tenant, i == 0 ? NEAP__TREE_FIRST : NEAP__TREE_NEXT);
}

static void a_chunk_is_a_leaf_while_nothing_resident_continues_it(void **state) {
  (void)state;
  neap__tree *tree = open_tree();
  learn(tree, 0, 3, (const uint64_t[]){10, 11, 12});
  insert(tree, 2, 12, 0); /* tail first */
  insert(tree, 1, 11, 0);
  insert(tree, 0, 10, 0);
  assert_true(told_inner[0] && told_inner[1] && !told_inner[2]);
  assert_int_equal(rows[1].children, 1);
  neap__tree_remove(tree, 1); /* a hole: the head is a leaf now, the tail stays one */
  assert_true(!told_inner[0] && !told_inner[2]);
  insert(tree, 7, 11, 0);
  assert_true(told_inner[0] && told_inner[7]);
  neap__tree_close(tree);
  assert_int_equal(rows[0].children + rows[7].children, 0);
}

static void all_ranks_of_a_chunk_are_leaves_or_none_is(void **state) {
  (void)state;
  neap__tree *tree = open_tree();
  learn(tree, 0, 2, (const uint64_t[]){10, 11});
  for (uint32_t rank = 0; rank < 2; rank++) insert(tree, rank, 10, 0), insert(tree, 2 + rank, 11, 0);
  assert_true(told_inner[0] && told_inner[1]);
  assert_int_equal(rows[0].children, 1); /* one chunk, however many slots */
  neap__tree_remove(tree, 2);
  assert_true(told_inner[0] && told_inner[1]);
  neap__tree_remove(tree, 3);
  assert_true(!told_inner[0] && !told_inner[1]);
  insert(tree, 4, 10, 1); /* another tenant's is another chunk */
  insert(tree, 5, 11, 0);
  assert_true(told_inner[0] && !told_inner[4]);
  assert_int_equal(told_twice, 0);
  neap__tree_close(tree);
}

static void what_is_learnt_of_residents_counts_at_once(void **state) {
  (void)state;
  neap__tree *tree = open_tree();
  insert(tree, 0, 10, 0);
  insert(tree, 1, 11, 0);
  assert_false(told_inner[0]);
  neap__tree_learn(tree, 10, 0, NEAP__TREE_RESUME);
  assert_false(told_inner[0]);
  neap__tree_learn(tree, 11, 0, NEAP__TREE_NEXT);
  assert_true(told_inner[0]);
  learn(tree, 0, 2, (const uint64_t[]){10, 11});
  assert_int_equal(rows[0].children, 1);
  neap__tree_learn(tree, 12, 0, NEAP__TREE_NEXT);
  insert(tree, 2, 12, 0); /* what came in between does not confuse the next prompt */
  neap__tree_learn(tree, 13, 0, NEAP__TREE_NEXT);
  insert(tree, 3, 13, 0);
  assert_false(told_inner[2]);
  neap__tree_close(tree);
}

/* --- the model ------------------------------------------------------------------------------------------------ */

typedef struct model {
  int parent[CHUNKS];          /* fixed, lower than its child's number */
  bool known[TENANTS][CHUNKS]; /* that it continues its parent */
  int chunk[SLOTS];
  uint32_t tenant[SLOTS];
} model;

static bool resident(const model *m, uint32_t tenant, int chunk) {
  for (uint32_t slot = 0; slot < SLOTS; slot++)
    if (m->chunk[slot] == chunk && m->tenant[slot] == tenant) return true;
  return false;
}

static uint32_t children(const model *m, uint32_t slot) {
  uint32_t count = 0, tenant = m->tenant[slot];
  for (int c = 0; c < CHUNKS; c++)
    count += m->parent[c] == m->chunk[slot] && m->known[tenant][c] && resident(m, tenant, c);
  return count;
}

static void learn_path(neap__tree *tree, model *m, uint32_t tenant, int chunk, uint32_t length) {
  uint64_t path[CHUNKS];
  uint32_t count = 0;
  for (int c = chunk; c != NOBODY && count < length; c = m->parent[c]) path[CHUNKS - ++count] = (uint64_t)c;
  bool whole = m->parent[path[CHUNKS - count]] == NOBODY;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t c = path[CHUNKS - count + i];
    neap__tree_learn(tree, c, tenant, i > 0 ? NEAP__TREE_NEXT : whole ? NEAP__TREE_FIRST : NEAP__TREE_RESUME);
    if (i > 0) m->known[tenant][c] = true;
  }
}

static void agrees_with_a_model_that_counts(void **state) {
  (void)state;
  uint64_t random = random_seed("test_tree");
  model m = {.parent = {0}};
  neap__tree *tree = open_tree();
  for (int c = 0; c < CHUNKS; c++) m.parent[c] = c < 3 ? NOBODY : (int)random_below(&random, (uint32_t)c);
  for (uint32_t slot = 0; slot < SLOTS; slot++) m.chunk[slot] = NOBODY;
  for (uint32_t step = 0; step < 20000; step++) {
    uint32_t slot = random_below(&random, SLOTS), tenant = random_below(&random, TENANTS);
    int chunk = (int)random_below(&random, CHUNKS);
    if (random_below(&random, 8) == 0) {
      learn_path(tree, &m, tenant, chunk, 1 + random_below(&random, CHUNKS));
    } else if (m.chunk[slot] == NOBODY) {
      m.chunk[slot] = chunk, m.tenant[slot] = tenant;
      insert(tree, slot, (uint64_t)chunk, tenant);
    } else {
      neap__tree_remove(tree, slot);
      m.chunk[slot] = NOBODY;
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
      if (m.chunk[i] == NOBODY) continue;
      assert_int_equal(rows[i].children, children(&m, i));
      assert_int_equal(told_inner[i], children(&m, i) != 0);
    }
    if (step % 5000 == 4999) memset(m.known, 0, sizeof(m.known)), neap__tree_close(tree), tree = open_tree();
    for (uint32_t i = 0; step % 5000 == 4999 && i < SLOTS; i++) m.chunk[i] = NOBODY;
  }
  assert_int_equal(told_twice, 0);
  neap__tree_close(tree);
}

/* --- forgetting ----------------------------------------------------------------------------------------------- */

static void what_is_known_is_bounded_and_residents_are_kept(void **state) {
  (void)state;
  neap__tree *tree = open_tree();
  neap__tree_stats stats;
  learn(tree, 0, 3, (const uint64_t[]){10, 11, 12});
  insert(tree, 2, 12, 0);
  for (uint64_t prompt = 0; prompt < 1000; prompt++)
    for (uint64_t i = 0; i < 100; i++)
      neap__tree_learn(tree, 1000 + prompt * 100 + i, 0, i == 0 ? NEAP__TREE_FIRST : NEAP__TREE_NEXT);
  neap__tree_stats_get(tree, &stats);
  assert_int_equal(stats.families, 1);
  assert_true(stats.chunks <= 16384 + 4);
  insert(tree, 1, 11, 0); /* what a resident continues was not forgotten */
  insert(tree, 0, 10, 0);
  assert_true(told_inner[0] && told_inner[1]);
  insert(tree, 3, 1000 + 999 * 100 + 99, 0); /* nor was the last prompt */
  insert(tree, 4, 1000 + 999 * 100 + 98, 0);
  assert_true(told_inner[4]);
  insert(tree, 5, 1099, 0); /* the first one was */
  insert(tree, 6, 1098, 0);
  assert_false(told_inner[6]);
  neap__tree_close(tree);
}

static void a_prompt_longer_than_what_may_be_known_ends_somewhere(void **state) {
  (void)state;
  neap__tree *tree = open_tree();
  neap__tree_stats stats;
  for (uint32_t i = 0; i < 3 * 16384; i++)
    neap__tree_learn(tree, 5 + i, 1, i == 0 ? NEAP__TREE_FIRST : NEAP__TREE_NEXT);
  neap__tree_stats_get(tree, &stats);
  assert_true(stats.chunks <= 16384);
  insert(tree, 0, 5, 1);
  insert(tree, 1, 6, 1);
  assert_int_equal(rows[0].children, 1);
  neap__tree_close(tree);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_chunk_is_a_leaf_while_nothing_resident_continues_it),
      cmocka_unit_test(all_ranks_of_a_chunk_are_leaves_or_none_is),
      cmocka_unit_test(what_is_learnt_of_residents_counts_at_once),
      cmocka_unit_test(agrees_with_a_model_that_counts),
      cmocka_unit_test(what_is_known_is_bounded_and_residents_are_kept),
      cmocka_unit_test(a_prompt_longer_than_what_may_be_known_ends_somewhere),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
