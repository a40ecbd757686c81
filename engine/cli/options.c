/* SPDX-License-Identifier: MIT
 *
 * cli/options.c - see options.h. */
#include "options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 32

static const neap__option *find(const neap__option *table, size_t count, const char *name, size_t bytes) {
  for (size_t i = 0; i < count; i++)
    if (strncmp(table[i].name, name, bytes) == 0 && !table[i].name[bytes]) return &table[i];
  return NULL;
}

static int unknown(const neap__option *table, size_t count, const char *word, neap_error *err) {
  const char *names[OPTIONS_MAX];
  char name[64];
  for (size_t i = 0; i < count && i < OPTIONS_MAX; i++) names[i] = table[i].name;
  snprintf(name, sizeof(name), "%s", word + strspn(word, "-"));
  name[strcspn(name, "=")] = '\0';
  const char *near = neap__nearest(name, names, NEAP_MIN(count, (size_t)OPTIONS_MAX));
  return neap__fail(err, NEAP_EINVAL, "unknown option '%s'%s%s%s", word, near ? "; did you mean '--" : "",
                    near ? near : "", near ? "'?" : "");
}

static double unit_of(const char *text) {
  switch (*text) {
    case '\0': return 1;
    case 'K': return text[1] ? 0 : 1024.0;
    case 'M': return text[1] ? 0 : 1048576.0;
    case 'G': return text[1] ? 0 : 1073741824.0;
    default: return 0;
  }
}

static int set_number(const neap__option *option, const char *word, neap_error *err) {
  bool bytes = option->kind == NEAP_OPTION_BYTES;
  char *end = NULL;
  double x = strtod(word, &end), unit = bytes ? unit_of(end) : (double)!*end;
  bool plain = word[0] >= '0' && word[0] <= '9' && !strpbrk(word, "xXpP");
  x *= unit;
  if (!plain || end == word || unit == 0 || x < option->min || x > option->max || (bytes && x != floor(x)))
    return neap__fail(err, NEAP_EINVAL, "--%s: '%s' is not valid; expected %s from %.15g to %.15g", option->name, word,
                      bytes ? "bytes, such as 64K or 1M," : "a number", option->min, option->max);
  if (bytes)
    *(uint64_t *)option->value = (uint64_t)x;
  else
    *(double *)option->value = x;
  return 0;
}

static int take(const neap__option *option, const char *inline_value, int argc, char **argv, int *at, neap_error *err) {
  if (option->kind == NEAP_OPTION_SWITCH) {
    if (inline_value) return neap__fail(err, NEAP_EINVAL, "--%s takes no value, got '%s'", option->name, inline_value);
    *(bool *)option->value = true;
    return 0;
  }
  const char *word = inline_value ? inline_value : *at + 1 < argc ? argv[++*at] : NULL;
  if (!word) return neap__fail(err, NEAP_EINVAL, "--%s: no value given", option->name);
  if (option->kind == NEAP_OPTION_LIST) {
    neap__option_list *list = option->value;
    if (list->count == NEAP_OPTION_LIST_MAX)
      return neap__fail(err, NEAP_EINVAL, "--%s: given more than %u times", option->name, NEAP_OPTION_LIST_MAX);
    list->words[list->count++] = word;
    return 0;
  }
  if (option->kind != NEAP_OPTION_TEXT) return set_number(option, word, err);
  *(const char **)option->value = word;
  return 0;
}

/* The option in argv[*at], with its value. */
static int take_word(const neap__option *table, size_t count, int argc, char **argv, int *at, neap_error *err) {
  const char *word = argv[*at], *name = strcmp(word, "-h") == 0 ? "help" : word + 2, *equals = strchr(name, '=');
  const neap__option *option = NULL;
  if (word[1] == '-' || name != word + 2)
    option = find(table, count, name, equals ? (size_t)(equals - name) : strlen(name));
  return option ? take(option, equals ? equals + 1 : NULL, argc, argv, at, err) : unknown(table, count, word, err);
}

int neap__options_before(int argc, char **argv, const neap__option *table, size_t count, int *rest, neap_error *err) {
  int rc = 0, at = 1;
  for (; rc == 0 && at < argc && argv[at][0] == '-' && argv[at][1]; at++) {
    if (strcmp(argv[at], "--") == 0) {
      at++;
      break;
    }
    rc = take_word(table, count, argc, argv, &at, err);
  }
  *rest = at;
  return rc;
}

int neap__options_parse(int argc, char **argv, const neap__option *table, size_t count, const char **words,
                        size_t words_max, size_t *words_count, neap_error *err) {
  bool only_words = false;
  *words_count = 0;
  for (int at = 1; at < argc; at++) {
    const char *word = argv[at];
    if (only_words || word[0] != '-' || !word[1]) {
      if (*words_count == words_max) return neap__fail(err, NEAP_EINVAL, "unexpected argument '%s'", word);
      words[(*words_count)++] = word;
      continue;
    }
    if (strcmp(word, "--") == 0) {
      only_words = true;
      continue;
    }
    int rc = take_word(table, count, argc, argv, &at, err);
    if (rc != 0) return rc;
  }
  return 0;
}
