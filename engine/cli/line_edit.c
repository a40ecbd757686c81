/* SPDX-License-Identifier: MIT
 *
 * cli/line_edit.c - see line_edit.h. While a line is edited the terminal sends no signals: Ctrl-C and Ctrl-Z are keys
 * bound here.
 */
#include "line_edit.h"

#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HISTORY_LINES 2000
#define LISTED_MAX 200u

struct neap__line_edit {
  neap__line_config config;
  EditLine *el; /* NULL: not interactive */
  History *history;
  const char *prompt;
  bool canceled;
  char *line; /* not interactive: getline's; else a copy without the newline */
  size_t line_cap;
};

static char *show_prompt(EditLine *el) {
  neap__line_edit *e;
  el_get(el, EL_CLIENTDATA, &e);
  return (char *)(uintptr_t)e->prompt; /* libedit only reads it */
}

static unsigned char on_interrupt(EditLine *el, int key) {
  neap__line_edit *e;
  (void)key;
  el_get(el, EL_CLIENTDATA, &e);
  e->canceled = true;
  fputs("^C\n", stdout);
  return CC_EOF;
}

/* libedit's handler of that signal sets the terminal back and up again (EL_SIGNAL). */
static unsigned char on_suspend(EditLine *el, int key) {
  (void)el, (void)key;
  raise(SIGTSTP);
  return CC_REFRESH;
}

/* --- completion --------------------------------------------------------------------------------------------------- */

/* How many bytes all candidates begin with. */
static size_t common_bytes(const char *candidates) {
  size_t common = strcspn(candidates, "\n");
  for (const char *at = candidates; *at; at += strspn(at, "\n")) {
    size_t n = strcspn(at, "\n"), same = 0;
    while (same < n && same < common && at[same] == candidates[same]) same++;
    common = same;
    at += n;
  }
  return common;
}

static void list_candidates(const char *candidates) {
  size_t column = 0, listed = 0;
  putchar('\n');
  for (const char *at = candidates; *at && listed < LISTED_MAX; at += strspn(at, "\n"), listed++) {
    int n = (int)strcspn(at, "\n");
    if (column + (size_t)n + 2 > 80 && column > 0) {
      putchar('\n');
      column = 0;
    }
    column += (size_t)printf("%-*.*s", NEAP_MAX((n + 2 + 15) / 16 * 16, 16), n, at);
    at += n;
  }
  fputs(listed == LISTED_MAX ? "\n...\n" : "\n", stdout);
  fflush(stdout);
}

static unsigned char on_tab(EditLine *el, int key) {
  neap__line_edit *e;
  (void)key;
  el_get(el, EL_CLIENTDATA, &e);
  const LineInfo *info = el_line(el);
  size_t bytes = (size_t)(info->cursor - info->buffer), replaced = 0;
  if (strspn(info->buffer, " \t") >= bytes) return el_insertstr(el, "  ") == 0 ? CC_REFRESH : CC_ERROR;
  char *text = strndup(info->buffer, bytes);
  char *candidates = text ? e->config.complete(e->config.ctx, text, &replaced) : NULL;
  free(text);
  unsigned char done = CC_ERROR;
  if (candidates && *candidates && replaced <= bytes) {
    size_t common = common_bytes(candidates);
    bool several = strchr(candidates, '\n') != NULL;
    if (common > replaced) {
      char *more = strndup(candidates + replaced, common - replaced);
      if (more && el_insertstr(el, more) == 0) done = CC_REFRESH;
      free(more);
    } else if (several) {
      list_candidates(candidates);
      done = CC_REDISPLAY;
    }
  }
  free(candidates);
  return done;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static bool open_editor(neap__line_edit *e) {
  HistEvent event;
  setlocale(LC_CTYPE, ""); /* how many columns a character takes */
  e->el = el_init("neap", stdin, stdout, stderr);
  e->history = history_init();
  if (!e->el || !e->history) return false;
  history(e->history, &event, H_SETSIZE, HISTORY_LINES);
  history(e->history, &event, H_SETUNIQUE, 1);
  if (e->config.history) history(e->history, &event, H_LOAD, e->config.history);
  el_set(e->el, EL_CLIENTDATA, e);
  el_set(e->el, EL_EDITOR, "emacs");
  el_set(e->el, EL_SIGNAL, 1);
  el_set(e->el, EL_PROMPT, show_prompt);
  el_set(e->el, EL_HIST, history, e->history);
  el_set(e->el, EL_SETTY, "-d", "-isig", NULL);
  el_set(e->el, EL_ADDFN, "neap-interrupt", "give the line up", on_interrupt);
  el_set(e->el, EL_ADDFN, "neap-complete", "complete what is before the cursor", on_tab);
  el_set(e->el, EL_ADDFN, "neap-suspend", "stop until SIGCONT", on_suspend);
  el_set(e->el, EL_BIND, "^C", "neap-interrupt", NULL);
  el_set(e->el, EL_BIND, "^Z", "neap-suspend", NULL);
  el_set(e->el, EL_BIND, "^I", "neap-complete", NULL);
  el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
  el_source(e->el, NULL); /* ~/.editrc */
  return true;
}

int neap__line_edit_open(const neap__line_config *config, neap__line_edit **out) {
  neap__line_edit *e = calloc(1, sizeof(*e));
  if (!e) return NEAP_ENOMEM;
  e->config = *config;
  if (config->interactive && !open_editor(e)) {
    neap__line_edit_close(e);
    return NEAP_ENOMEM;
  }
  *out = e;
  return 0;
}

void neap__line_edit_close(neap__line_edit *e) {
  HistEvent event;
  if (!e) return;
  if (e->history && e->config.history) history(e->history, &event, H_SAVE, e->config.history);
  if (e->history) history_end(e->history);
  if (e->el) el_end(e->el);
  free(e->line);
  free(e);
}

neap__line neap__line_edit_read(neap__line_edit *e, const char *prompt, const char **text) {
  HistEvent event;
  int n = 0;
  *text = NULL;
  if (!e->el) {
    ssize_t bytes = getline(&e->line, &e->line_cap, stdin);
    if (bytes < 0) return NEAP_LINE_END;
    if (bytes > 0 && e->line[bytes - 1] == '\n') e->line[bytes - 1] = '\0';
    *text = e->line;
    return NEAP_LINE;
  }
  e->prompt = prompt;
  e->canceled = false;
  const char *line = el_gets(e->el, &n);
  if (e->canceled) {
    el_reset(e->el);
    return NEAP_LINE_CANCEL;
  }
  if (!line || n <= 0) return NEAP_LINE_END;
  if (strspn(line, " \t\r\n") < (size_t)n) history(e->history, &event, H_ENTER, line);
  free(e->line);
  e->line = strndup(line, strcspn(line, "\r\n"));
  *text = e->line;
  return e->line ? NEAP_LINE : NEAP_LINE_END;
}
