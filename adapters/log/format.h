/* SPDX-License-Identifier: MIT
 *
 * format.h - the bytes of a segment file. Little-endian; each structure starts at a multiple of 4096 and carries its
 * own CRC-32C, the salt of its segment and (records) its own offset, so that bytes which merely look like a record, in
 * a payload or left over from another file, are not taken for one.
 *
 *   0            segment header
 *   4096 ...     records: a header block, then the payload, padded with zeros to the next block
 *   footer       entries, spaces (keys' common parts), tombstones; the trailer in the last 64 bytes of the file */
#pragma once
#include "log.h"

#define NEAP__LS_SEGMENT_MAGIC UINT64_C(0x31474f4c5041454e) /* "NEAPLOG1" */
#define NEAP__LS_RECORD_MAGIC 0x4345526eu                   /* "nREC" */
#define NEAP__LS_FOOTER_MAGIC 0x52544f4f464c4e31u           /* "1NLFOOTR" */
#define NEAP__LS_VERSION 1u

typedef struct neap__ls_segment_header {
  uint64_t magic, salt;
  uint32_t version, number;
  uint64_t created_s;
  uint32_t reserved, crc; /* of what stands before it */
} neap__ls_segment_header;

enum { NEAP__LS_OBJECT = 1, NEAP__LS_TOMBSTONES = 2 };

/* Followed by model and salt (an object) or by tombstones. */
typedef struct neap__ls_record_header {
  uint32_t magic, crc; /* crc: of the bytes from version on, header_bytes - 8 of them */
  uint16_t version, type;
  uint32_t header_bytes;
  uint64_t salt, offset;
  uint64_t payload_bytes;
  uint32_t payload_crc, written_s;
  uint32_t rank, group;
  uint16_t model_bytes, salt_bytes;
  uint32_t tombs;         /* number of tombstones behind this structure */
  neap__ls_tomb replaces; /* dead since this record is complete; number 0: none */
  uint8_t hash[NEAP_HASH_BYTES];
} neap__ls_record_header;

typedef struct neap__ls_footer_entry {
  uint8_t hash[NEAP_HASH_BYTES];
  uint32_t space, block, bytes, crc, used_s, reserved;
} neap__ls_footer_entry;

/* Then the strings: model and salt, each with its NUL. */
typedef struct neap__ls_footer_space {
  uint32_t rank, group;
  uint16_t model_bytes, salt_bytes;
} neap__ls_footer_space;

/* The last bytes of a sealed file. */
typedef struct neap__ls_trailer {
  uint64_t magic, salt;
  uint64_t offset, bytes; /* of the footer, without padding and trailer */
  uint32_t number, version;
  uint32_t entries, spaces, tombs;
  uint32_t footer_crc;
  uint32_t reserved, crc; /* of what stands before it */
} neap__ls_trailer;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "segments are little-endian");
_Static_assert(sizeof(neap__ls_segment_header) == 40, "on disk");
_Static_assert(sizeof(neap__ls_record_header) == 104, "on disk");
_Static_assert(sizeof(neap__ls_footer_entry) == 56, "on disk");
_Static_assert(sizeof(neap__ls_trailer) == 64, "on disk");
_Static_assert(sizeof(neap__ls_record_header) + NEAP__LS_TOMBS_PER_RECORD * sizeof(neap__ls_tomb) <= NEAP__LS_BLOCK &&
                   sizeof(neap__ls_record_header) + NEAP_MODEL_BYTES_MAX + NEAP_SALT_BYTES_MAX <= NEAP__LS_BLOCK,
               "a header fits into its block");

void neap__ls_segment_header_make(const neap_host *host, neap__ls_segment_header *header, uint32_t number,
                                  uint64_t salt, uint64_t created_s);
bool neap__ls_segment_header_ok(const neap_host *host, const neap__ls_segment_header *header, uint32_t number);
/* Into a block: what is known before the record has a place, then place and checksum. */
bool neap__ls_object_header_make(uint8_t block[NEAP__LS_BLOCK], const neap_object_key *key, uint64_t bytes,
                                 uint32_t crc, uint32_t written_s, neap__ls_tomb replaces);
void neap__ls_tombs_header_make(uint8_t block[NEAP__LS_BLOCK], const neap__ls_tomb *tombs, uint32_t count,
                                uint32_t written_s);
void neap__ls_record_header_place(const neap_host *host, uint8_t block[NEAP__LS_BLOCK], uint64_t salt, uint64_t offset);
/* Whether a block is the header of a record at that offset; *salt 0 takes the salt from the record. */
bool neap__ls_record_header_ok(const neap_host *host, const uint8_t block[NEAP__LS_BLOCK], uint64_t *salt,
                               uint64_t offset);
/* The key of an object's header; its strings are put into strings[NEAP_KEY_TEXT_MAX]. */
neap_object_key neap__ls_record_key(const uint8_t block[NEAP__LS_BLOCK], char *strings);
/* The footer of a segment that nothing is written to, as one allocation of whole blocks, trailer included; NULL: out of
 * memory. No lock held. */
uint8_t *neap__ls_footer_make(neap__ls *ls, const neap__ls_segment *segment, uint64_t *bytes);
bool neap__ls_trailer_ok(const neap_host *host, const neap__ls_trailer *trailer, uint32_t number, uint64_t file_bytes);
/* What a footer holds; pointers into it. False: it contradicts itself. */
typedef struct neap__ls_footer {
  const uint8_t *entries, *tombs;
  uint32_t entries_count, tombs_count;
  neap_object_key *spaces; /* without hash; the caller frees it */
  uint32_t spaces_count;
} neap__ls_footer;
bool neap__ls_footer_read(const neap_host *host, const neap__ls_trailer *trailer, const uint8_t *bytes,
                          neap__ls_footer *out);
