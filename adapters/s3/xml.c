/* SPDX-License-Identifier: MIT
 *
 * xml.c - the little of XML that S3 answers with, read by expat. No thread of its own, no state. */
#include <expat.h>
#include <string.h>

#include "s3.h"

#define TEXT_MAX 4096

typedef struct reader {
  void (*element)(void *ctx, const char *name, const char *text);
  void *ctx;
  size_t used;
  char text[TEXT_MAX];
} reader;

static void XMLCALL on_start(void *data, const XML_Char *name, const XML_Char **attributes) {
  (void)name, (void)attributes;
  ((reader *)data)->used = 0;
}

static void XMLCALL on_text(void *data, const XML_Char *text, int bytes) {
  reader *r = data;
  size_t n = (size_t)bytes, room = TEXT_MAX - 1 - r->used;
  if (n > room) n = room;
  memcpy(r->text + r->used, text, n);
  r->used += n;
}

static void XMLCALL on_end(void *data, const XML_Char *name) {
  reader *r = data;
  const char *at = r->text;
  while (r->used && strchr(" \t\r\n", r->text[r->used - 1])) r->used--;
  r->text[r->used] = 0;
  at += strspn(at, " \t\r\n");
  r->element(r->ctx, name, at);
  r->used = 0;
}

int neap__s3_xml(const char *document, size_t bytes, void (*element)(void *ctx, const char *name, const char *text),
                 void *ctx) {
  reader r = {.element = element, .ctx = ctx};
  XML_Parser parser = XML_ParserCreate(NULL);
  if (!parser) return NEAP_ENOMEM;
  XML_SetUserData(parser, &r);
  XML_SetElementHandler(parser, on_start, on_end);
  XML_SetCharacterDataHandler(parser, on_text);
  bool ok = bytes <= INT32_MAX && XML_Parse(parser, document, (int)bytes, 1) == XML_STATUS_OK;
  XML_ParserFree(parser);
  return ok ? 0 : NEAP_EIO;
}
