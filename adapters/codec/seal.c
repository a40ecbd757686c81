/* SPDX-License-Identifier: MIT
 *
 * seal.c - the type "seal": objects encrypted and authenticated by AES-256-GCM (NIST SP 800-38D), in any store.
 *
 *   {"type": "seal", "key_file": "/etc/neap/keys", "inner": {"type": "s3", ...}}
 *
 * The key file has one key per line, `ID HEX` (a number below 2^32, 64 hexadecimal digits); its first key seals, all of
 * them open, so a new key is put on top and an old one stays until nothing sealed by it is left. Only its owner may
 * have access to it. The body is a random nonce of 96 bits, the ciphertext, and the tag of 128; header and identity of
 * the object are authenticated with it, so that objects cannot be exchanged for each other. With random nonces one key
 * may seal 2^32 objects. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec.h"

#define KEYS_MAX 64u
#define KEY_BYTES 32u
#define NONCE_BYTES 12u
#define TAG_BYTES 16u
#define OVERHEAD (NEAP_ENVELOPE_HEADER + NONCE_BYTES + TAG_BYTES)
#define FILE_BYTES_MAX 8192u
#define UPDATE_MAX (1u << 30) /* OpenSSL counts in int */

typedef struct sealer {
  uint32_t count;
  uint32_t ids[KEYS_MAX], marks[KEYS_MAX];
  uint8_t keys[KEYS_MAX][KEY_BYTES];
} sealer;

static int fail(neap_error *err, int code, const char *path, const char *what) {
  snprintf(err->text, sizeof err->text, "key_file %.300s: %s", path, what);
  return code;
}

/* --- keys --------------------------------------------------------------------------------------------------------- */

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Tells keys of one number apart: the start of a block of zeroes encrypted by the key (a key check value). */
static bool mark_of(const uint8_t *key, uint32_t *mark) {
  static const uint8_t zeroes[16];
  uint8_t block[32];
  int n;
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  bool ok = ctx && EVP_EncryptInit_ex(ctx, EVP_aes_256_ecb(), NULL, key, NULL) == 1 &&
            EVP_EncryptUpdate(ctx, block, &n, zeroes, (int)sizeof zeroes) == 1 && n == (int)sizeof zeroes;
  EVP_CIPHER_CTX_free(ctx);
  if (ok) *mark = (uint32_t)block[0] | (uint32_t)block[1] << 8 | (uint32_t)block[2] << 16 | (uint32_t)block[3] << 24;
  return ok;
}

/* "ID HEX"; false if it is anything else. */
static bool read_key(sealer *s, char *line) {
  char *end;
  if (*line < '0' || *line > '9' || s->count == KEYS_MAX) return false;
  errno = 0;
  unsigned long long id = strtoull(line, &end, 10);
  char *hex = end + strspn(end, " \t");
  if (errno || id > UINT32_MAX || hex == end) return false;
  for (uint32_t i = 0; i < s->count; i++)
    if (s->ids[i] == id) return false;
  for (uint32_t i = 0; i < KEY_BYTES; i++) {
    int high = digit(hex[2 * i]), low = high < 0 ? -1 : digit(hex[2 * i + 1]);
    if (low < 0) return false;
    s->keys[s->count][i] = (uint8_t)(high << 4 | low);
  }
  if (hex[2 * KEY_BYTES + strspn(hex + 2 * KEY_BYTES, " \t\r")]) return false;
  s->ids[s->count] = (uint32_t)id;
  if (!mark_of(s->keys[s->count], &s->marks[s->count])) return false;
  s->count++;
  return true;
}

static int read_keys(sealer *s, const char *path, char *text, neap_error *err) {
  char what[96];
  uint32_t number = 1;
  for (char *line = strsep(&text, "\n"); line; line = strsep(&text, "\n"), number++) {
    if (!line[strspn(line, " \t\r")] || *line == '#' || read_key(s, line)) continue;
    snprintf(what, sizeof what, "line %u is not a new key; expected ID and 64 hexadecimal digits", number);
    return fail(err, NEAP_EINVAL, path, what);
  }
  return s->count ? 0 : fail(err, NEAP_EINVAL, path, "holds no key; expected lines of ID and 64 hexadecimal digits");
}

static int read_file(sealer *s, const char *path, neap_error *err) {
  char text[FILE_BYTES_MAX + 1];
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(err, errno == ENOENT ? NEAP_ENOENT : NEAP_EPERM, path, strerror(errno));
  int rc = 0;
  ssize_t n = 0;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    rc = fail(err, NEAP_EINVAL, path, "is not a regular file");
  } else if ((st.st_mode & 077) || (st.st_uid != geteuid() && st.st_uid != 0)) {
    rc = fail(err, NEAP_EPERM, path, "others have access to it; expected a file of this user with mode 0600 or 0400");
  } else if (st.st_size > (off_t)FILE_BYTES_MAX || (n = read(fd, text, FILE_BYTES_MAX)) < 0) {
    rc = fail(err, NEAP_EINVAL, path, "cannot be read as a file of at most 8192 bytes");
  }
  close(fd);
  if (rc == 0) {
    text[n] = '\0';
    rc = strlen(text) == (size_t)n ? read_keys(s, path, text, err)
                                   : fail(err, NEAP_EINVAL, path, "holds a NUL; expected text");
  }
  OPENSSL_cleanse(text, sizeof text);
  return rc;
}

static void codec_close(void *self) {
  OPENSSL_cleanse(self, sizeof(sealer));
  free(self);
}

static int codec_open(const cJSON *params, const neap_host *host, void **self, neap_error *err) {
  (void)host;
  const char *path = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "key_file"));
  sealer *s = calloc(1, sizeof *s);
  if (!s) return fail(err, NEAP_ENOMEM, path, "out of memory");
  int rc = read_file(s, path, err);
  if (rc) {
    codec_close(s);
    return rc;
  }
  *self = s;
  return 0;
}

/* --- objects ------------------------------------------------------------------------------------------------------ */

/* Runs all of the object through the cipher. */
static bool update(EVP_CIPHER_CTX *ctx, uint8_t *out, const uint8_t *in, uint64_t bytes) {
  int n;
  while (bytes) {
    int part = (int)(bytes < UPDATE_MAX ? bytes : UPDATE_MAX);
    if (EVP_CipherUpdate(ctx, out, &n, in, part) != 1 || n != part) return false;
    out += part;
    in += part;
    bytes -= (uint64_t)part;
  }
  return true;
}

/* A cipher that has seen header and identity. */
static EVP_CIPHER_CTX *begin(const uint8_t *key, const uint8_t *header, const neap_object_key *object, bool seals) {
  uint8_t identity[NEAP_IDENTITY_MAX];
  int n, identity_bytes = (int)neap__identity(object, identity);
  const uint8_t *nonce = header + NEAP_ENVELOPE_HEADER;
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  if (ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, seals) == 1 &&
      EVP_CipherUpdate(ctx, NULL, &n, header, (int)NEAP_ENVELOPE_HEADER) == 1 &&
      EVP_CipherUpdate(ctx, NULL, &n, identity, identity_bytes) == 1) {
    return ctx;
  }
  EVP_CIPHER_CTX_free(ctx);
  return NULL;
}

static int64_t encode(void *self, const neap_object_key *key, const void *data, uint64_t bytes, uint8_t *out) {
  const sealer *s = self;
  neap__envelope envelope = {.codec = NEAP_CODEC_SEAL, .bytes = bytes, .check = s->marks[0], .key_id = s->ids[0]};
  uint8_t *body = out + NEAP_ENVELOPE_HEADER + NONCE_BYTES;
  int n;
  neap__envelope_write(out, &envelope);
  if (RAND_bytes(out + NEAP_ENVELOPE_HEADER, (int)NONCE_BYTES) != 1) return NEAP_EIO;
  EVP_CIPHER_CTX *ctx = begin(s->keys[0], out, key, true);
  bool ok = ctx && update(ctx, body, data, bytes) && EVP_CipherFinal_ex(ctx, body + bytes, &n) == 1 &&
            EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, (int)TAG_BYTES, body + bytes) == 1;
  EVP_CIPHER_CTX_free(ctx);
  return ok ? (int64_t)(bytes + OVERHEAD) : NEAP_EIO;
}

static const uint8_t *key_of(const sealer *s, const neap__envelope *envelope) {
  for (uint32_t i = 0; i < s->count; i++)
    if (s->ids[i] == envelope->key_id && s->marks[i] == envelope->check) return s->keys[i];
  return NULL;
}

static int decode(void *self, const neap_object_key *key, const uint8_t *in, uint64_t in_bytes, void *data,
                  uint64_t bytes) {
  neap__envelope envelope;
  int n;
  if (neap__envelope_read(in, in_bytes, NEAP_CODEC_SEAL, bytes, &envelope) || in_bytes != bytes + OVERHEAD ||
      envelope.flags) {
    return NEAP_ECORRUPT;
  }
  const uint8_t *cipher_key = key_of(self, &envelope), *body = in + NEAP_ENVELOPE_HEADER + NONCE_BYTES;
  if (!cipher_key) return NEAP_EPERM; /* not ECORRUPT: what cannot be opened now is not to be thrown away */
  uint8_t tag[TAG_BYTES], none[TAG_BYTES];
  memcpy(tag, body + bytes, sizeof tag);
  EVP_CIPHER_CTX *ctx = begin(cipher_key, in, key, false);
  if (!ctx) return NEAP_ENOMEM;
  bool ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, (int)TAG_BYTES, tag) == 1 &&
            update(ctx, data, body, bytes) && EVP_CipherFinal_ex(ctx, none, &n) == 1;
  EVP_CIPHER_CTX_free(ctx);
  return ok ? 0 : NEAP_ECORRUPT;
}

static const neap__codec seal = {
    .table = {NEAP_ADAPTER_INIT("seal", "1.0"),
              .schema_json = "{\"key_file\":{\"type\":\"string\",\"required\":true,"
                             "\"doc\":\"file of keys, the first of which seals\"}," NEAP_WRAP_SCHEMA "}",
              NEAP_WRAP_FUNCTIONS},
    .overhead = OVERHEAD,
    .fixed = true,
    .open = codec_open,
    .close = codec_close,
    .encode = encode,
    .decode = decode,
};

NEAP_CODEC_BUILTIN(seal)
