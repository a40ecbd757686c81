/* SPDX-License-Identifier: MIT
 *
 * replay/report_page.h - the frame of the report: head, style, headings. One thread. */
#pragma once
#include <stdio.h>

#include "replay/report.h"

void neap__page_open(FILE *out);
void neap__page_study_open(FILE *out, uint32_t number, const neap__replay_study *study);
void neap__page_chart_open(FILE *out, const char *title, const char *about);
void neap__page_chart_close(FILE *out);
void neap__page_study_close(FILE *out);
void neap__page_close(FILE *out);
