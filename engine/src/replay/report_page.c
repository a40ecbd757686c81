/* SPDX-License-Identifier: MIT
 *
 * replay/report_page.c - see report_page.h.
 *
 * Colours follow the reader's choice of light or dark. Those of the series are of similar weight in either and told
 * apart with the common kinds of colour blindness (after Okabe and Ito, "Color universal design", 2008). */
#include "replay/report_page.h"

#include "replay/chart.h"

/* Nothing may be fetched or run: the page says so to the browser itself. */
static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n<title>neap replay</title>\n<style>\n";

static const char style[] =
    ":root{--page:#fbfbf9;--card:#fff;--ink:#1c1d21;--soft:#5d6068;--line:#e3e3de;--axis:#8a8d94;--good:#e4f3ea;"
    "--bad:#b3261e;--c0:#0b6fb8;--c1:#d5530a;--c2:#00875f;--c3:#b5478d;--c4:#a67c00;--c5:#2b9fd6;--c6:#6a4fc4;"
    "--c7:#55595f}\n"
    "@media (prefers-color-scheme:dark){:root{--page:#131417;--card:#1b1d21;--ink:#e8e8e6;--soft:#a3a6ad;"
    "--line:#2f3238;--axis:#7c8088;--good:#17382a;--bad:#ff8a80;--c0:#57aef0;--c1:#ff8d4f;--c2:#3ecf9f;--c3:#ee8cc8;"
    "--c4:#e4bd3f;--c5:#8fd3f7;--c6:#b3a0ff;--c7:#bfc3ca}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n"
    "main{max-width:1240px;margin:0 auto;padding:28px 20px 60px}\n"
    "h1{font-size:26px;margin:0 0 4px;letter-spacing:-.01em}\n"
    "h2{font-size:20px;margin:40px 0 2px;overflow-wrap:anywhere}\n"
    "p.facts,p.lead{color:var(--soft);margin:0 0 14px;max-width:75ch}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 20px;list-style:none;margin:0 0 16px;padding:0}\n"
    ".legend li{display:flex;align-items:center;gap:7px;overflow-wrap:anywhere}\n"
    ".key{width:24px;height:12px;flex:none}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px}\n"
    "figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 14px 8px}\n"
    "figcaption{margin:0 4px 8px}figcaption strong{display:block;font-size:15px}\n"
    "figcaption span{color:var(--soft);font-size:13px;display:block;min-height:2.9em;line-height:1.45}\n"
    "svg.chart{display:block;width:100%;height:auto}\n"
    ".chart text{fill:var(--soft);font:11px system-ui,sans-serif}\n"
    ".chart .x{text-anchor:middle}.chart .y.tick{text-anchor:end}.chart .y.name{text-anchor:middle}\n"
    ".chart .grid{stroke:var(--line);stroke-width:1}.chart .axis{stroke:var(--axis);stroke-width:1}\n"
    ".line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\n"
    ".again .line{stroke-dasharray:5 4}\n"
    ".chart .mark{fill:currentColor;stroke:var(--card);stroke-width:1.2}.key .mark{fill:currentColor}\n"
    ".chart .mark:hover{stroke:var(--ink);stroke-width:2}\n"
    ".guide .line{stroke:var(--axis);stroke-width:1.2;stroke-dasharray:2 3}\n"
    ".chart .bar{fill:currentColor}.chart .bar:hover{opacity:.75}.chart .bar.again{opacity:.6}\n"
    ".chart text.end{fill:currentColor;font-weight:600}\n"
    ".s0{color:var(--c0)}.s1{color:var(--c1)}.s2{color:var(--c2)}.s3{color:var(--c3)}.s4{color:var(--c4)}"
    ".s5{color:var(--c5)}.s6{color:var(--c6)}.s7{color:var(--c7)}\n"
    ".scroll{overflow-x:auto;margin-top:18px;background:var(--card);border:1px solid var(--line);border-radius:10px}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:5px 12px;text-align:right;white-space:nowrap}\n"
    "thead th{color:var(--soft);font-weight:600;font-size:13px;padding-top:9px}\n"
    "th:first-child{text-align:left;font-weight:600}tbody th .key{margin-right:8px;vertical-align:-1px}\n"
    "tbody{border-top:1px solid var(--line)}tbody tr:hover{background:color-mix(in srgb,var(--axis) 10%,transparent)}\n"
    "td.best{background:var(--good);font-weight:600}\n"
    "td.failed{color:var(--bad);text-align:left;white-space:normal}\n"
    "@media print{figure,.scroll{break-inside:avoid}}\n";

void neap__page_open(FILE *out) {
  fputs(head, out);
  fputs(style, out);
  fputs(
      "</style>\n</head>\n<body>\n<main>\n<h1>neap replay</h1>\n"
      "<p class=\"lead\">What each policy would have kept. A chunk counts as a prefix hit only if everything before it "
      "in its request is there as well: the rest has to be recomputed.</p>\n",
      out);
}

void neap__page_study_open(FILE *out, uint32_t number, const neap__replay_study *study) {
  const neap__replay_input *input = study->input;
  const neap__trace *trace = input->trace;
  const neap__replay_options *options = study->options;
  char a[32], b[32], c[32];
  fprintf(out, "<section aria-labelledby=\"t%u\">\n<h2 id=\"t%u\">", number, number);
  neap__chart_text(out, trace->name);
  fprintf(out, "</h2>\n<p class=\"facts\">%s requests, %s chunks, %s distinct",
          neap__chart_commas(trace->request_count, a), neap__chart_commas(trace->references, b),
          neap__chart_commas(input->distinct, c));
  if (input->units) fprintf(out, " of %.2f GiB", (double)input->units_total / 1048576);
  fprintf(out, "; the %s of a prompt is touched first; seed %llu.", input->head_first ? "head" : "tail",
          (unsigned long long)options->seed);
  fprintf(out, " Recomputing a chunk costs %g us + %g us for each one before it, loading it %g us.</p>\n",
          options->cost.base_us, options->cost.slope_us, options->load_us);
}

void neap__page_chart_open(FILE *out, const char *title, const char *about) {
  fputs("<figure>\n<figcaption><strong>", out);
  neap__chart_text(out, title);
  fputs("</strong><span>", out);
  neap__chart_text(out, about);
  fputs("</span></figcaption>\n", out);
}

void neap__page_chart_close(FILE *out) { fputs("</figure>\n", out); }

void neap__page_study_close(FILE *out) { fputs("</section>\n", out); }

void neap__page_close(FILE *out) { fputs("</main>\n</body>\n</html>\n", out); }
