/* SPDX-License-Identifier: MIT
 *
 * trace/block.h - headers of a recording's file and its blocks, as bytes (record.h has the layout). Internal to
 * trace/. */
#pragma once
#include "base/base.h"

#define NEAP__FILE_MAGIC "neap-rec"
#define NEAP__FILE_HEADER_BYTES 24u
#define NEAP__BLOCK_HEADER_BYTES 28u
#define NEAP__BLOCK_BYTES_MAX (64u << 20) /* of payload */
#define NEAP__BLOCK_REQUESTS_MAX (1u << 16)
#define NEAP__BLOCK_REFERENCES_MAX (1u << 22)

typedef struct neap__block_header {
  uint32_t bytes, requests, references;
  bool anew;
  uint64_t time_us;
} neap__block_header;

void neap__file_header_write(uint8_t *to, uint32_t chunk_tokens, bool salted);
/* NEAP_EINVAL with a reason: no recording, of another version, or damaged. */
int neap__file_header_read(const uint8_t *from, uint32_t *chunk_tokens, bool *salted, neap_error *err);

/* Writes the header of the payload that lies behind it. */
void neap__block_seal(uint8_t *block, const neap__block_header *header);
/* NEAP_EINVAL if the lengths cannot be. The payload need not be there yet. */
int neap__block_header_read(const uint8_t *from, neap__block_header *header);
bool neap__block_is_whole(const uint8_t *block, const neap__block_header *header);
