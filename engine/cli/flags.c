/* SPDX-License-Identifier: MIT
 *
 * cli/flags.c - parsing and printing by the table of cli/flag_table.c; see flags.h. */
#include "flags.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct flag_value {
  bool given, on;
  const char *text;
  double number;
  uint32_t first, count; /* of a list: its words in neap__flags.words */
} flag_value;

struct neap__flags {
  const neap__flag *table;
  size_t count;
  flag_value *values;
  const char **given_words, **words; /* of all lists: as given, and those of one flag together */
  uint32_t *owners;                  /* whose given_words[i] is */
  uint32_t word_count;
};

/* --- one value ------------------------------------------------------------------------------------------------ */

static bool in_choices(const char *choices, const char *word) {
  size_t n = strlen(word);
  for (const char *at = choices; at && n; at = strchr(at, '|')) {
    if (*at == '|') at++;
    if (strncmp(at, word, n) == 0 && (at[n] == '|' || !at[n])) return true;
  }
  return false;
}

static int set_number(const neap__flag *flag, flag_value *value, const char *word, neap_error *err) {
  bool whole = flag->kind == NEAP_FLAG_INT;
  char *end = NULL;
  double x = strtod(word, &end);
  bool plain = word[strspn(word, "0123456789+-.eE_")] == '\0'; /* no hexadecimal, no "inf", no leading space */
  if (end == word || *end || !plain || !isfinite(x) || (whole && x != floor(x)) || x < flag->min || x > flag->max)
    return neap__fail(err, NEAP_EINVAL, "--%s: '%s' is not valid; expected %s from %.15g to %.15g", flag->name, word,
                      whole ? "an integer" : "a number", flag->min, flag->max);
  value->number = x;
  return 0;
}

/* Sets everything but lists. */
static int set_value(const neap__flag *flag, flag_value *value, const char *word, neap_error *err) {
  if (flag->kind == NEAP_FLAG_SWITCH || flag->kind == NEAP_FLAG_BOOL) {
    value->on = strcmp(word, "on") == 0;
    return 0;
  }
  value->text = word;
  if (flag->kind == NEAP_FLAG_CHOICE && !in_choices(flag->range, word))
    return neap__fail(err, NEAP_EINVAL, "--%s: '%s' is not valid; expected %s", flag->name, word, flag->range);
  if (flag->kind == NEAP_FLAG_INT || flag->kind == NEAP_FLAG_NUMBER) return set_number(flag, value, word, err);
  return 0;
}

/* --- the command line ----------------------------------------------------------------------------------------- */

static const neap__flag *find_flag(const neap__flags *flags, const char *name, size_t bytes) {
  for (size_t i = 0; i < flags->count; i++)
    if (strncmp(flags->table[i].name, name, bytes) == 0 && !flags->table[i].name[bytes]) return &flags->table[i];
  return NULL;
}

static int unknown_flag(const neap__flags *flags, const char *word, neap_error *err) {
  const char *names[256];
  size_t count = NEAP_MIN(flags->count, NEAP_ARRAY_LEN(names));
  for (size_t i = 0; i < count; i++) names[i] = flags->table[i].name;
  char name[128];
  snprintf(name, sizeof(name), "%s", word + strspn(word, "-"));
  name[strcspn(name, "=")] = '\0';
  const char *near = neap__nearest(name, names, count);
  if (word[0] != '-') return neap__fail(err, NEAP_EINVAL, "unexpected argument '%s'; expected a flag", word);
  return neap__fail(err, NEAP_EINVAL, "unknown flag '%s'%s%s%s", word, near ? "; did you mean '--" : "",
                    near ? near : "", near ? "'?" : "");
}

/* Words of all lists in the order given; group_words then puts those of one flag together. */
static void add_word(neap__flags *flags, const neap__flag *flag, const char *word) {
  flags->owners[flags->word_count] = (uint32_t)(flag - flags->table);
  flags->given_words[flags->word_count++] = word;
  flags->values[flag - flags->table].count++;
}

static void group_words(neap__flags *flags) {
  uint32_t next = 0;
  for (uint32_t i = 0; i < flags->count; i++) {
    flags->values[i].first = next;
    for (uint32_t w = 0; w < flags->word_count; w++)
      if (flags->owners[w] == i) flags->words[next++] = flags->given_words[w];
  }
}

/* Takes the value of a flag that needs one: what follows '=', or the next word. */
static int take_value(neap__flags *flags, const neap__flag *flag, const char *inline_value, int argc, char **argv,
                      int *at, neap_error *err) {
  flag_value *value = &flags->values[flag - flags->table];
  bool list = flag->kind == NEAP_FLAG_LIST || flag->kind == NEAP_FLAG_WORDS;
  if (!inline_value && flag->kind == NEAP_FLAG_WORDS) {
    while (*at + 1 < argc && argv[*at + 1][0] != '-') add_word(flags, flag, argv[++*at]);
    return 0;
  }
  const char *word = inline_value;
  if (!word && (*at + 1 >= argc || strncmp(argv[*at + 1], "--", 2) == 0))
    return neap__fail(err, NEAP_EINVAL, "--%s: no value given; expected %s", flag->name, flag->range);
  if (!word) word = argv[++*at];
  if (!list) return set_value(flag, value, word, err);
  add_word(flags, flag, word);
  return 0;
}

static int parse_word(neap__flags *flags, int argc, char **argv, int *at, neap_error *err) {
  const char *word = strcmp(argv[*at], "-q") == 0 ? "--quiet" : argv[*at];
  if (strncmp(word, "--", 2) != 0) return unknown_flag(flags, word, err);
  const char *equals = strchr(word, '=');
  size_t bytes = equals ? (size_t)(equals - word) - 2 : strlen(word) - 2;
  const neap__flag *flag = bytes ? find_flag(flags, word + 2, bytes) : NULL;
  bool negated = false;
  if (!flag && bytes > 3 && strncmp(word + 2, "no-", 3) == 0) {
    flag = find_flag(flags, word + 5, bytes - 3);
    negated = flag && flag->kind == NEAP_FLAG_BOOL;
    if (!negated) flag = NULL;
  }
  if (!flag) return unknown_flag(flags, word, err);
  flag_value *value = &flags->values[flag - flags->table];
  value->given = true;
  if (flag->kind != NEAP_FLAG_SWITCH && flag->kind != NEAP_FLAG_BOOL)
    return take_value(flags, flag, equals ? equals + 1 : NULL, argc, argv, at, err);
  if (equals)
    return neap__fail(err, NEAP_EINVAL, "--%s: '%s' is not valid; this flag takes no value", flag->name, equals + 1);
  value->on = !negated;
  return 0;
}

/* What a single value cannot tell. */
static int check_together(const neap__flags *flags, neap_error *err) {
  const char *required[] = {"l1-size-gb", "eviction-policy"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(required); i++)
    if (!neap__flags_given(flags, required[i]))
      return neap__fail(err, NEAP_EINVAL, "--%s: missing; it is required", required[i]);
  if (strcmp(neap__flags_text(flags, "supported-transfer-mode"), "lmcache_driven") == 0)
    return neap__fail(err, NEAP_EINVAL,
                      "--supported-transfer-mode: 'lmcache_driven' is not served, for neap never "
                      "touches a worker's own memory; expected engine_driven or auto");
  if (strcmp(neap__flags_text(flags, "transport"), "grpc") == 0)
    return neap__fail(err, NEAP_EINVAL, "--transport: 'grpc' is not served; expected zmq");
  uint64_t align = (uint64_t)neap__flags_int(flags, "l1-align-bytes");
  if (align & (align - 1))
    return neap__fail(err, NEAP_EINVAL, "--l1-align-bytes: '%llu' is not valid; expected a power of two",
                      (unsigned long long)align);
  double reap = neap__flags_number(flags, "worker-reap-timeout-seconds");
  double grace = neap__flags_number(flags, "worker-registration-grace-seconds");
  if (reap != 0 && reap < 30)
    return neap__fail(err, NEAP_EINVAL,
                      "--worker-reap-timeout-seconds: '%g' is not valid; expected 0 or at least 30, "
                      "three heartbeats of a worker",
                      reap);
  if (grace < reap)
    return neap__fail(err, NEAP_EINVAL,
                      "--worker-registration-grace-seconds: '%g' is not valid; expected at least "
                      "--worker-reap-timeout-seconds (%g)",
                      grace, reap);
  return 0;
}

static bool wants_help(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
  return false;
}

int neap__flags_parse(int argc, char **argv, neap__flags **out, bool *help, neap_error *err) {
  *out = NULL;
  *help = wants_help(argc, argv);
  if (*help) return 0;
  neap__flags *flags = calloc(1, sizeof(*flags));
  if (!flags) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  int rc = NEAP_ENOMEM;
  flags->table = neap__flag_table(&flags->count);
  flags->values = calloc(flags->count, sizeof(*flags->values));
  flags->given_words = calloc((size_t)argc + 1, sizeof(*flags->given_words));
  flags->words = calloc((size_t)argc + 1, sizeof(*flags->words));
  flags->owners = calloc((size_t)argc + 1, sizeof(*flags->owners));
  if (!flags->values || !flags->given_words || !flags->words || !flags->owners) {
    neap__fail(err, rc, "out of memory");
    goto out;
  }
  for (size_t i = 0; i < flags->count; i++) {
    const neap__flag *flag = &flags->table[i];
    rc = flag->fallback ? set_value(flag, &flags->values[i], flag->fallback, err) : 0;
    if (rc != 0) goto out;
  }
  for (int at = 1; at < argc; at++) {
    rc = parse_word(flags, argc, argv, &at, err);
    if (rc != 0) goto out;
  }
  group_words(flags);
  rc = check_together(flags, err);
out:
  if (rc != 0)
    neap__flags_free(flags);
  else
    *out = flags;
  return rc;
}

void neap__flags_free(neap__flags *flags) {
  if (!flags) return;
  free(flags->values);
  free(flags->given_words);
  free(flags->words);
  free(flags->owners);
  free(flags);
}

/* --- looking at values ---------------------------------------------------------------------------------------- */

static const flag_value *value_of(const neap__flags *flags, const char *name, const neap__flag **flag) {
  *flag = find_flag(flags, name, strlen(name));
  NEAP_ASSERT(*flag != NULL);
  return &flags->values[*flag - flags->table];
}

bool neap__flags_given(const neap__flags *flags, const char *name) {
  const neap__flag *flag;
  return value_of(flags, name, &flag)->given;
}

bool neap__flags_on(const neap__flags *flags, const char *name) {
  const neap__flag *flag;
  const flag_value *value = value_of(flags, name, &flag);
  NEAP_ASSERT(flag->kind == NEAP_FLAG_SWITCH || flag->kind == NEAP_FLAG_BOOL);
  return value->on;
}

int64_t neap__flags_int(const neap__flags *flags, const char *name) {
  const neap__flag *flag;
  const flag_value *value = value_of(flags, name, &flag);
  NEAP_ASSERT(flag->kind == NEAP_FLAG_INT);
  return (int64_t)value->number;
}

double neap__flags_number(const neap__flags *flags, const char *name) {
  const neap__flag *flag;
  const flag_value *value = value_of(flags, name, &flag);
  NEAP_ASSERT(flag->kind == NEAP_FLAG_NUMBER);
  return value->number;
}

const char *neap__flags_text(const neap__flags *flags, const char *name) {
  const neap__flag *flag;
  const flag_value *value = value_of(flags, name, &flag);
  NEAP_ASSERT(flag->kind == NEAP_FLAG_TEXT || flag->kind == NEAP_FLAG_CHOICE);
  return value->text;
}

const char *const *neap__flags_list(const neap__flags *flags, const char *name, uint32_t *count) {
  const neap__flag *flag;
  const flag_value *value = value_of(flags, name, &flag);
  NEAP_ASSERT(flag->kind == NEAP_FLAG_LIST || flag->kind == NEAP_FLAG_WORDS);
  *count = value->count;
  return flags->words + value->first;
}

/* --- telling the operator ------------------------------------------------------------------------------------- */

void neap__flags_warn(const neap__flags *flags) {
  for (size_t i = 0; i < flags->count; i++) {
    const neap__flag *flag = &flags->table[i];
    if (flags->values[i].given && flag->effect != NEAP_FLAG_ACTS)
      NEAP_LOG_WARN("--%s has no effect here (%s)", flag->name, flag->help);
  }
}

static void print_flag(FILE *out, const neap__flag *flag) {
  const char *no = flag->kind == NEAP_FLAG_BOOL ? ", --no-" : "";
  bool words = flag->kind == NEAP_FLAG_WORDS;
  fprintf(out, "  --%s%s%s%s%s%s\n", flag->name, no, *no ? flag->name : "", flag->range ? " " : "",
          flag->range ? flag->range : "", words ? " ..." : "");
  fprintf(out, "      %s", flag->help);
  if (flag->fallback && *flag->fallback) fprintf(out, " (default %s)", flag->fallback);
  fputc('\n', out);
}

void neap__flags_print_help(FILE *out) {
  size_t count;
  const neap__flag *flags = neap__flag_table(&count);
  fputs(
      "usage: neap server --l1-size-gb X --eviction-policy NAME [FLAGS]\n\n"
      "Runs the cache server: LMCache's multiprocess protocol and HTTP API. Flags are those of `lmcache server`.\n",
      out);
  static const char *const titles[] = {
      "\nflags:\n  --help\n      show this and exit\n",
      "\naccepted and shown in /config, without effect here:\n",
      "\naccepted without effect, for parts of LMCache that neap does not have:\n",
  };
  for (size_t effect = 0; effect < NEAP_ARRAY_LEN(titles); effect++) {
    fputs(titles[effect], out);
    for (size_t i = 0; i < count; i++)
      if ((size_t)flags[i].effect == effect) print_flag(out, &flags[i]);
  }
}
