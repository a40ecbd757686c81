/* SPDX-License-Identifier: MIT
 *
 * cli/top.c - `neap top`: what a running server does, once a second, on a terminal: throughput, hit ratios beside what
 * other policies would have had, L1, misses and why, tiers. Asks GET /status and GET /metrics; needs nothing but ANSI
 * sequences, and puts the terminal back however it ends. Single-threaded. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "ctl.h"
#include "options.h"
#include "plot.h"

#define HISTORY 60u
#define SERIES 6u /* the live engine, four shadows, one spare */
#define ANSWER_MAX (16u << 20)

typedef struct series {
  char name[256];
  uint32_t count;
  double value[HISTORY]; /* the last one last */
  bool seen;
} series;

/* What one look at the server brought. */
typedef struct sample {
  uint64_t at_ns;
  cJSON *status;
  char *metrics;
} sample;

typedef struct top {
  const char *url;
  double interval_s;
  bool once, json;
  neap__plot_style style;
  sample before, now;
  series history[SERIES];
  uint32_t columns, rows, row;
  neap_error err;
} top;

static volatile sig_atomic_t ended;

static void on_signal(int number) { ended = number; }

/* --- looking --------------------------------------------------------------------------------------------------- */

static void drop(sample *s) {
  cJSON_Delete(s->status);
  free(s->metrics);
  *s = (sample){0};
}

/* 0, or an error with its text in t->err. */
static int look(top *t) {
  sample fresh = {.at_ns = neap__now_ns()};
  long code = 0;
  size_t bytes = 0;
  int rc = neap__ctl_request(t->url, "GET", "/status", NULL, &code, &fresh.status, &t->err);
  if (rc == 0 && (code != 200 || !cJSON_IsObject(fresh.status)))
    rc = neap__fail(&t->err, NEAP_EIO, "GET /status: HTTP %ld; expected a neap server", code);
  if (rc == 0)
    rc = neap__ctl_fetch(t->url, "GET", "/metrics", NULL, ANSWER_MAX, &code, &fresh.metrics, &bytes, &t->err);
  if (rc == 0 && code != 200) fresh.metrics[0] = '\0'; /* --disable-metrics: what /status has is shown */
  if (rc) {
    drop(&fresh);
    return rc;
  }
  drop(&t->before);
  t->before = t->now;
  t->now = fresh;
  return 0;
}

/* The value of a sample line, 0 if there is none. name: with its labels, if it has any. */
static double metric(const sample *s, const char *name) {
  size_t length = strlen(name);
  for (const char *line = s->metrics; line && *line;) {
    if (strncmp(line, name, length) == 0 && line[length] == ' ') return strtod(line + length, NULL);
    line = strchr(line, '\n');
    if (line) line++;
  }
  return 0;
}

static double seconds(const top *t) { return (double)(t->now.at_ns - t->before.at_ns) / 1e9; }

/* Per second, since the look before; 0 at the first. */
static double rate(const top *t, const char *name) {
  double more = metric(&t->now, name) - metric(&t->before, name);
  return t->before.metrics && more > 0 ? more / seconds(t) : 0;
}

static const cJSON *member(const cJSON *object, const char *name) {
  return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const cJSON *policy_of(const sample *s) { return member(member(s->status, "neap"), "policy"); }

/* NAN if it is no number. */
static double ratio(const cJSON *tally, const char *name) {
  const cJSON *item = member(tally, name);
  return cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
}

static series *remember(top *t, const char *name, double value) {
  series *s = NULL;
  for (uint32_t i = 0; i < SERIES && !s; i++)
    if (t->history[i].count && strcmp(t->history[i].name, name) == 0) s = &t->history[i];
  for (uint32_t i = 0; i < SERIES && !s; i++)
    if (t->history[i].count == 0) s = &t->history[i];
  if (!s) return NULL;
  snprintf(s->name, sizeof s->name, "%s", name);
  if (s->count == HISTORY) memmove(s->value, s->value + 1, (HISTORY - 1) * sizeof s->value[0]);
  s->count = NEAP_MIN(s->count + 1, HISTORY);
  s->value[s->count - 1] = value;
  s->seen = true;
  return s;
}

static void remember_all(top *t) {
  const cJSON *policy = policy_of(&t->now), *shadow;
  for (uint32_t i = 0; i < SERIES; i++) t->history[i].seen = false;
  remember(t, "", ratio(member(policy, "window"), "actual_l1_prefix_hit_ratio"));
  cJSON_ArrayForEach(shadow, member(policy, "shadows"))
      remember(t, neap__ctl_text(shadow, "policy"), ratio(member(shadow, "window"), "prefix_hit_ratio"));
  for (uint32_t i = 0; i < SERIES; i++)
    if (!t->history[i].seen) t->history[i].count = 0;
}

/* --- drawing --------------------------------------------------------------------------------------------------- */

static void put(top *t, const char *fmt, ...) NEAP_PRINTF(2, 3);

/* One line, cut to the width of the terminal; control characters of what a server says are shown as '?'. */
static void put(top *t, const char *fmt, ...) {
  char line[2048];
  va_list args;
  if (t->row >= t->rows) return;
  va_start(args, fmt);
  vsnprintf(line, sizeof line, fmt, args);
  va_end(args);
  t->row++;
  uint32_t column = 0;
  for (const char *c = line; *c; c++) {
    unsigned char byte = (unsigned char)*c;
    if (byte == '\033') { /* a colour of ours: no column */
      while (*c && *c != 'm') putchar(*c++);
      if (!*c) break;
      putchar('m');
      continue;
    }
    if ((byte & 0xc0) != 0x80 && ++column > t->columns) break;
    putchar(byte < 32 || byte == 127 ? '?' : byte);
  }
  fputs(t->style.colour ? "\033[0m" : "", stdout);
  fputs(t->style.terminal && !t->once ? "\033[K\n" : "\n", stdout);
}

static const char *sgr(const top *t, const char *code) {
  static char text[4][16];
  static unsigned next;
  char *out = text[next++ % 4];
  snprintf(out, sizeof text[0], "\033[%sm", code);
  return t->style.colour ? out : "";
}

/* A name that a server gave goes into a line without escapes of its own. */
static const char *plain(const char *name, char *out, size_t room) {
  snprintf(out, room, "%s", name);
  for (char *c = out; *c; c++)
    if ((unsigned char)*c < 32 || *c == 127) *c = '?';
  return out;
}

/* The last values as bars of eighths, from 0 to 1; "" before the first. */
static const char *spark(const top *t, const series *s, char *out, size_t room) {
  static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static const char ascii[] = "_.-:=+*#";
  size_t used = 0;
  uint32_t most = NEAP_MIN(HISTORY, t->columns > 70 ? t->columns - 64 : 8);
  out[0] = '\0';
  for (uint32_t i = s && s->count > most ? s->count - most : 0; s && i < s->count && used + 4 < room; i++) {
    double v = s->value[i];
    int bar = isnan(v) ? -1 : (int)NEAP_MIN(7, v * 8);
    if (bar < 0)
      used += (size_t)snprintf(out + used, room - used, " ");
    else if (t->style.unicode)
      used += (size_t)snprintf(out + used, room - used, "%s", bars[bar]);
    else
      used += (size_t)snprintf(out + used, room - used, "%c", ascii[bar]);
  }
  return out;
}

static const char *percent(double value, char *text, size_t room) {
  snprintf(text, room, isnan(value) ? "-" : "%.1f %%", value * 100);
  return text;
}

static const series *history_of(const top *t, const char *name) {
  for (uint32_t i = 0; i < SERIES; i++)
    if (t->history[i].count && strcmp(t->history[i].name, name) == 0) return &t->history[i];
  return NULL;
}

static void draw_traffic(top *t) {
  put(t, "%straffic%s    %8.1f lookups/s  %9.0f tokens/s stored  %9.0f tokens/s retrieved", sgr(t, "1"), sgr(t, "0"),
      rate(t, "lmcache_mp_lookups_requests_total"), rate(t, "neap_stored_tokens_total"),
      rate(t, "neap_retrieved_tokens_total"));
}

static void draw_l1(top *t) {
  const cJSON *l1 = member(member(t->now.status, "storage_manager"), "l1_manager");
  double used = neap__ctl_number(l1, "memory_used_bytes"), total = neap__ctl_number(l1, "memory_total_bytes");
  char used_text[32], total_text[32], bar[64] = "";
  int full = total > 0 ? (int)(used / total * 20 + 0.5) : 0;
  for (int i = 0; i < 20; i++)
    snprintf(bar + strlen(bar), sizeof bar - strlen(bar), "%s",
             i < full           ? t->style.unicode ? "█" : "#"
             : t->style.unicode ? "░"
                                : ".");
  put(t, "%sL1%s         %s %s of %s  %.0f objects, %.0f leased  %.1f evicted/s", sgr(t, "1"), sgr(t, "0"), bar,
      neap__ctl_bytes(used, used_text, sizeof used_text), neap__ctl_bytes(total, total_text, sizeof total_text),
      neap__ctl_number(l1, "total_object_count"), neap__ctl_number(l1, "read_locked_count"),
      rate(t, "lmcache_mp_l1_evicted_chunks_total{l1_tag=\"_default\"}"));
}

static void draw_hits(top *t) {
  const cJSON *policy = policy_of(&t->now), *window = member(policy, "window");
  char l1[16], all[16], bars[4 * HISTORY + 8], name[256];
  bool out = cJSON_IsTrue(member(policy, "out"));
  put(t, "%shits%s       %s with L2, of the last %.0f lookups", sgr(t, "1"), sgr(t, "0"),
      percent(ratio(window, "actual_prefix_hit_ratio"), all, sizeof all), neap__ctl_number(window, "requests"));
  put(t, "%s", "");
  put(t, "%s%-24s  %-8s  %9s  %9s  %6s%s", sgr(t, "1"), "POLICY", "STATE", "PREDICTED", "ACTUAL", "CPU", sgr(t, "0"));
  put(t, "%-24.24s  %s%-8s%s  %9s  %9s  %6s  %s", plain(neap__ctl_text(policy, "policy"), name, sizeof name),
      sgr(t, out ? "31" : "32"), out ? "out" : "live", sgr(t, "0"), "",
      percent(ratio(window, "actual_l1_prefix_hit_ratio"), l1, sizeof l1), "",
      spark(t, history_of(t, ""), bars, sizeof bars));
  if (out) put(t, "  %s", neap__ctl_text(policy, "why"));
}

static void draw_shadow(top *t, const cJSON *shadow, const char *state) {
  const cJSON *window = member(shadow, "window");
  char predicted[16], actual[16], bars[4 * HISTORY + 8], name[256];
  const char *spec = neap__ctl_text(shadow, "policy");
  size_t length = strlen(spec);
  bool runs = strcmp(state, "running") == 0 || strcmp(state, "trial") == 0, warms = strcmp(state, "warming") == 0;
  put(t, "%-24s  %s%-8s%s  %9s  %9s  %5.1f%%  %s%s", plain(length > 24 ? spec + length - 24 : spec, name, sizeof name),
      sgr(t, runs    ? "36"
             : warms ? "33"
                     : "31"),
      state, sgr(t, "0"), percent(ratio(window, "prefix_hit_ratio"), predicted, sizeof predicted),
      percent(ratio(window, "actual_l1_prefix_hit_ratio"), actual, sizeof actual),
      neap__ctl_number(shadow, "cpu_share") * 100, spark(t, history_of(t, spec), bars, sizeof bars),
      neap__ctl_number(shadow, "dropped_requests") > 0 ? " loses requests" : "");
  if (!runs && !warms) put(t, "  %s", neap__ctl_text(shadow, "why"));
}

static void draw_shadows(top *t) {
  const cJSON *policy = policy_of(&t->now), *shadow, *trial = member(policy, "trial");
  if (cJSON_IsObject(member(trial, "reference"))) draw_shadow(t, member(trial, "reference"), "trial");
  cJSON_ArrayForEach(shadow, member(policy, "shadows")) draw_shadow(t, shadow, neap__ctl_text(shadow, "state"));
}

static void draw_misses(top *t) {
  const cJSON *reason;
  char line[512] = "";
  cJSON_ArrayForEach(reason, member(policy_of(&t->now), "missed_chunks")) {
    char name[128];
    snprintf(name, sizeof name, "neap_missed_chunks_total{reason=\"%s\"}", reason->string);
    size_t used = strlen(line);
    if (reason->valuedouble > 0)
      snprintf(line + used, sizeof line - used, "%s %.0f (%.1f/s)  ", reason->string, reason->valuedouble,
               rate(t, name));
  }
  put(t, "%s", "");
  put(t, "%smissed%s     %s", sgr(t, "1"), sgr(t, "0"), line[0] ? line : "nothing so far");
}

static void draw_tiers(top *t) {
  const cJSON *tiers = member(member(t->now.status, "storage_manager"), "l2_adapters"), *tier;
  if (!cJSON_GetArraySize(tiers)) return;
  put(t, "%s", "");
  put(t, "%s%-24s  %-8s  %10s  %10s%s", sgr(t, "1"), "TIER", "HEALTH", "USED", "CAPACITY", sgr(t, "0"));
  cJSON_ArrayForEach(tier, tiers) {
    bool good = cJSON_IsTrue(member(tier, "is_healthy"));
    double most = neap__ctl_number(tier, "max_capacity_bytes");
    char used[32], capacity[32] = "-", name[256];
    if (most > 0) neap__ctl_bytes(most, capacity, sizeof capacity);
    put(t, "%-24.24s  %s%-8s%s  %10s  %10s", plain(neap__ctl_text(tier, "type"), name, sizeof name),
        sgr(t, good ? "32" : "31"), good ? "ok" : "failing", sgr(t, "0"),
        neap__ctl_bytes(neap__ctl_number(tier, "current_size_bytes"), used, sizeof used), capacity);
  }
}

static void draw(top *t) {
  char clock[16];
  time_t now = time(NULL);
  struct tm local;
  struct winsize size = {0};
  t->columns = 100, t->rows = UINT32_MAX;
  if (t->style.terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col) {
    t->columns = size.ws_col;
    if (!t->once) t->rows = NEAP_MAX(size.ws_row, 2) - 1u;
  }
  t->row = 0;
  strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&now, &local));
  bool live = t->style.terminal && !t->once;
  if (live) fputs("\033[H", stdout);
  put(t, "%sneap top%s   %s  %s%s", sgr(t, "1"), sgr(t, "0"), t->url, clock, live ? "  q: quit" : "");
  if (t->now.status) {
    draw_traffic(t);
    draw_l1(t);
    draw_hits(t);
    draw_shadows(t);
    draw_misses(t);
    draw_tiers(t);
  }
  if (t->err.text[0]) put(t, "%s%s; trying again%s", sgr(t, "31"), t->err.text, sgr(t, "0"));
  if (live)
    fputs("\033[J", stdout);
  else if (!t->once)
    putchar('\n');
  fflush(stdout);
}

static void print_json(const top *t) {
  static const struct {
    const char *name, *metric;
  } rates[] = {{"lookups_per_s", "lmcache_mp_lookups_requests_total"},
               {"stored_tokens_per_s", "neap_stored_tokens_total"},
               {"retrieved_tokens_per_s", "neap_retrieved_tokens_total"},
               {"evicted_per_s", "lmcache_mp_l1_evicted_chunks_total{l1_tag=\"_default\"}"}};
  const cJSON *storage = member(t->now.status, "storage_manager");
  cJSON *json = cJSON_CreateObject();
  cJSON_AddNumberToObject(json, "time", (double)neap__unix_s());
  cJSON_AddNumberToObject(json, "seconds", t->before.metrics ? seconds(t) : 0);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(rates); i++)
    cJSON_AddNumberToObject(json, rates[i].name, rate(t, rates[i].metric));
  cJSON_AddItemToObject(json, "l1", cJSON_Duplicate(member(storage, "l1_manager"), true));
  cJSON_AddItemToObject(json, "policy", cJSON_Duplicate(policy_of(&t->now), true));
  cJSON_AddItemToObject(json, "tiers", cJSON_Duplicate(member(storage, "l2_adapters"), true));
  char *text = cJSON_PrintUnformatted(json);
  if (text) puts(text);
  fflush(stdout);
  free(text);
  cJSON_Delete(json);
}

/* --- the terminal ---------------------------------------------------------------------------------------------- */

static struct termios saved;

static bool enter_terminal(void) {
  struct termios raw;
  if (tcgetattr(STDIN_FILENO, &saved) != 0) return false;
  raw = saved;
  raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  fputs("\033[?1049h\033[?25l\033[2J", stdout); /* another screen, no cursor */
  return true;
}

static void leave_terminal(void) {
  fputs("\033[?25h\033[?1049l", stdout);
  fflush(stdout);
  tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}

/* False: it is over. */
static bool rest(const top *t, bool keys) {
  uint64_t until = neap__now_ns() + (uint64_t)(t->interval_s * 1e9);
  while (!ended) {
    uint64_t now = neap__now_ns();
    if (now >= until) return true;
    struct pollfd key = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
    char byte = 0;
    if (poll(&key, 1, (int)((until - now) / 1000000) + 1) <= 0) continue;
    if (read(STDIN_FILENO, &byte, 1) != 1 || byte == 'q' || byte == 'Q' || byte == 3) return false;
  }
  return false;
}

/* --- the command ----------------------------------------------------------------------------------------------- */

static int run(top *t) {
  bool live = t->style.terminal && !t->once && !t->json && isatty(STDIN_FILENO);
  int rc = look(t);
  if (rc && t->once) {
    fprintf(stderr, "neap top: %s\n", t->err.text);
    return rc == NEAP_EINVAL ? 2 : 1;
  }
  if (live) live = enter_terminal();
  if (!live) t->style.terminal = t->style.terminal && t->once;
  bool more = !t->once || rest(t, false); /* once: what happens within an interval */
  if (t->once && more) rc = look(t);
  while (more) {
    if (t->now.status) remember_all(t);
    if (t->json && rc == 0)
      print_json(t);
    else if (!t->json)
      draw(t);
    more = !t->once && rest(t, live);
    t->err.text[0] = '\0';
    if (more) rc = look(t);
  }
  if (live) leave_terminal();
  return ended || rc == 0 ? 0 : 1;
}

static void print_help(void) {
  printf(
      "usage: neap top [OPTIONS]\n\n"
      "Shows what a running server does: traffic, hits in L1 and what they would be under the policies that run as\n"
      "shadows, why lookups miss, tiers. q quits.\n\n"
      "options:\n"
      "  --url URL           of the server's HTTP API (default: NEAP_URL, else %s)\n"
      "  --interval SECONDS  between two looks (default 1)\n"
      "  --once              one look, over one interval, and end\n"
      "  --json              an object per look instead of a screen\n"
      "  --help              show this and exit\n",
      neap__ctl_default_url());
}

int neap__cmd_top(int argc, char **argv) {
  top *t = calloc(1, sizeof *t);
  bool help = false;
  const char *word = NULL;
  size_t words = 0;
  neap_error err = {""};
  if (!t) return 1;
  t->url = neap__ctl_default_url();
  t->interval_s = 1;
  const neap__option options[] = {
      {"url", NEAP_OPTION_TEXT, &t->url, 0, 0},     {"interval", NEAP_OPTION_NUMBER, &t->interval_s, 0.05, 3600},
      {"once", NEAP_OPTION_SWITCH, &t->once, 0, 0}, {"json", NEAP_OPTION_SWITCH, &t->json, 0, 0},
      {"help", NEAP_OPTION_SWITCH, &help, 0, 0},
  };
  int rc = neap__options_parse(argc, argv, options, NEAP_ARRAY_LEN(options), &word, 1, &words, &err);
  if (rc == 0 && words) rc = neap__fail(&err, NEAP_EINVAL, "'%s': expected no word", word);
  if (rc) fprintf(stderr, "neap top: %s (see neap help top)\n", err.text);
  int status = rc ? 2 : 0;
  if (rc == 0 && help) print_help();
  if (rc == 0 && !help) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    neap__plot_style_of(stdout, &t->style);
    status = run(t);
  }
  drop(&t->before);
  drop(&t->now);
  free(t);
  return status;
}
