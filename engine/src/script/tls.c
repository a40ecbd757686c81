/* SPDX-License-Identifier: MIT
 *
 * script/tls.c - see tls.h. */
#include "script/tls.h"

#include <errno.h>
#include <lauxlib.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPE "neap.tls_context"
/* Records received with one system call; plain bytes that are sealed before they are sent. */
#define RECEIVE_BYTES 65536u
#define SEAL_BYTES 65536u
/* System calls for one look at what came unasked; session tickets take one. */
#define IDLE_LOOKS 16

struct neap__tls {
  SSL *ssl;
  BIO *in, *out; /* the session's: records received, records to be sent */
  unsigned char records[RECEIVE_BYTES];
};

/* --- sessions --------------------------------------------------------------------------------------------------- */

void neap__tls_free(neap__tls *tls) {
  if (!tls) return;
  SSL_free(tls->ssl); /* and the two BIOs */
  free(tls);
}

/* The reason of the first error in OpenSSL's queue, which is emptied. */
static void reason_text(char *text, size_t cap, const char *without) {
  unsigned long code = ERR_get_error();
  const char *reason = code ? ERR_reason_error_string(code) : NULL;
  snprintf(text, cap, "TLS: %s", reason ? reason : without);
  ERR_clear_error();
}

static int protocol_failure(neap__conn *c) {
  long verified = SSL_get_verify_result(c->tls->ssl);
  if (c->why[0]) return UV_EPROTO;
  if (verified != X509_V_OK && !SSL_is_init_finished(c->tls->ssl)) {
    snprintf(c->why, sizeof(c->why), "TLS: the peer's certificate is not accepted: %s",
             X509_verify_cert_error_string(verified));
    ERR_clear_error();
  } else {
    reason_text(c->why, sizeof(c->why), "protocol error");
  }
  return UV_EPROTO;
}

static bool is_address(const char *name) {
  ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);
  ASN1_OCTET_STRING_free(address);
  return address != NULL;
}

/* The name is sent (SNI), and the certificate must be for it. */
static bool expect_name(SSL *ssl, const char *name) {
  if (is_address(name)) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
  return SSL_set_tlsext_host_name(ssl, name) == 1 && SSL_set1_host(ssl, name) == 1;
}

int neap__tls_start(neap__conn *c, void *context, const char *name) {
  neap__tls *tls = calloc(1, sizeof(*tls));
  if (!tls) return UV_ENOMEM;
  tls->ssl = SSL_new(context);
  tls->in = BIO_new(BIO_s_mem());
  tls->out = BIO_new(BIO_s_mem());
  if (!tls->ssl || !tls->in || !tls->out || (name && !expect_name(tls->ssl, name))) {
    ERR_clear_error();
    SSL_free(tls->ssl);
    BIO_free(tls->in);
    BIO_free(tls->out);
    free(tls);
    return UV_ENOMEM;
  }
  SSL_set_bio(tls->ssl, tls->in, tls->out);
  if (name) {
    SSL_set_connect_state(tls->ssl);
  } else {
    SSL_set_accept_state(tls->ssl);
  }
  c->tls = tls;
  return 0;
}

/* 0: more records are there. Otherwise as neap__conn_receive. */
static int receive_records(neap__conn *c) {
  neap__tls *tls = c->tls;
  uint32_t in_cap = c->in_cap, in_end = c->in_end;
  c->in_cap = c->in_end; /* nothing of it is for the input buffer */
  ssize_t n = neap__conn_receive(c, tls->records, sizeof(tls->records));
  c->in_cap = in_cap;
  c->in_end = in_end;
  if (n < 0) return (int)n;
  return BIO_write(tls->in, tls->records, (int)n) == (int)n ? 0 : UV_ENOMEM;
}

int neap__tls_flush(neap__conn *c) {
  char *data;
  long left;
  while ((left = BIO_get_mem_data(c->tls->out, &data)) > 0) {
    struct iovec part = {.iov_base = data, .iov_len = (size_t)left};
    ssize_t n = neap__conn_send(c, &part, 1);
    if (n < 0) return (int)n;
    char gone[4096]; /* a memory BIO is moved on by reading it */
    if (n == left) {
      BIO_reset(c->tls->out);
      continue;
    }
    while (n > 0) n -= BIO_read(c->tls->out, gone, (int)NEAP_MIN((size_t)n, sizeof(gone)));
  }
  return 0;
}

int neap__tls_handshake(neap__conn *c, int *event) {
  for (;;) {
    ERR_clear_error();
    int done = SSL_do_handshake(c->tls->ssl);
    int wants = SSL_get_error(c->tls->ssl, done);
    int rc = neap__tls_flush(c); /* an alert too */
    if (done != 1 && wants != SSL_ERROR_WANT_READ) return protocol_failure(c);
    *event = UV_WRITABLE;
    if (rc != 0) return rc;
    if (done == 1) return 0;
    *event = UV_READABLE;
    rc = receive_records(c);
    if (rc == UV_EOF) snprintf(c->why, sizeof(c->why), "TLS: the peer closed the connection during the handshake");
    if (rc != 0) return rc;
  }
}

ssize_t neap__tls_receive(neap__conn *c, unsigned char *to, size_t want, bool more) {
  neap__tls *tls = c->tls;
  if (c->fd < 0) return UV_ECONNABORTED;
  for (;;) {
    size_t n;
    ERR_clear_error();
    int ok = want ? SSL_read_ex(tls->ssl, to, want, &n)
                  : SSL_read_ex(tls->ssl, c->in + c->in_end, c->in_cap - c->in_end, &n);
    if (ok) {
      if (!want) c->in_end += (uint32_t)n;
      return (ssize_t)n;
    }
    int wants = SSL_get_error(tls->ssl, 0);
    if (wants == SSL_ERROR_ZERO_RETURN) {
      c->eof = true;
      return UV_EOF;
    }
    if (wants != SSL_ERROR_WANT_READ) return protocol_failure(c);
    if (!more) return UV_EAGAIN;
    int rc = receive_records(c);
    if (rc == UV_EOF) {
      snprintf(c->why, sizeof(c->why), "TLS: the stream was cut off: the connection ended without a close_notify");
      return UV_ECONNRESET;
    }
    if (rc != 0) return rc;
  }
}

bool neap__tls_idle(neap__conn *c) {
  unsigned char byte;
  size_t n;
  for (int i = 0; i < IDLE_LOOKS; i++) {
    ERR_clear_error();
    int ok = SSL_peek_ex(c->tls->ssl, &byte, 1, &n);
    if (ok || SSL_get_error(c->tls->ssl, 0) != SSL_ERROR_WANT_READ) return false;
    int rc = receive_records(c);
    if (rc != 0) return rc == UV_EAGAIN && !SSL_has_pending(c->tls->ssl);
  }
  return false;
}

ssize_t neap__tls_send(neap__conn *c, const struct iovec *parts, uint32_t count) {
  (void)count;
  int rc = neap__tls_flush(c);
  if (rc != 0) return rc;
  size_t n;
  ERR_clear_error();
  if (!SSL_write_ex(c->tls->ssl, parts->iov_base, NEAP_MIN(parts->iov_len, (size_t)SEAL_BYTES), &n)) {
    return protocol_failure(c);
  }
  return (ssize_t)n;
}

void neap__tls_end(neap__conn *c) {
  ERR_clear_error();
  if (SSL_is_init_finished(c->tls->ssl)) SSL_shutdown(c->tls->ssl);
  ERR_clear_error();
}

/* --- contexts --------------------------------------------------------------------------------------------------- */

void *neap__tls_context_check(lua_State *L, int arg) {
  return lua_isnoneornil(L, arg) ? NULL : *(SSL_CTX **)luaL_checkudata(L, arg, TYPE);
}

void *neap__tls_context_hold(void *context) {
  if (context) SSL_CTX_up_ref(context);
  return context;
}

void neap__tls_context_drop(void *context) { SSL_CTX_free(context); }

static int l_collect(lua_State *L) {
  SSL_CTX **u = luaL_checkudata(L, 1, TYPE);
  SSL_CTX_free(*u);
  *u = NULL;
  return 0;
}

static const char *option(lua_State *L, const char *name) {
  lua_getfield(L, 1, name); /* stays on the stack, and in the table */
  return lua_isnil(L, -1) ? NULL : luaL_checkstring(L, -1);
}

/* What is wrong, or NULL. *file: the file that it is about. */
static const char *fill(SSL_CTX *context, bool verify, const char *ca, const char *cert, const char *key,
                        const char **file) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(context, verify ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE, NULL);
  *file = ca ? ca : "the system's certificates";
  if (ca && SSL_CTX_load_verify_locations(context, ca, NULL) != 1) return "cannot use the CA file";
  if (!ca && verify && SSL_CTX_set_default_verify_paths(context) != 1) return "cannot use the CA files";
  *file = cert;
  if (cert && SSL_CTX_use_certificate_chain_file(context, cert) != 1) return "cannot use the certificate";
  *file = key;
  if (key && SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) return "cannot use the key";
  if (cert && SSL_CTX_check_private_key(context) != 1) return "the key is not that of the certificate";
  return NULL;
}

int neap__l_tls_context(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  bool server = lua_toboolean(L, 2);
  lua_settop(L, 1);
  const char *ca = option(L, "ca"), *cert = option(L, "cert"), *key = option(L, "key"), *file = NULL;
  lua_getfield(L, 1, "verify");
  bool verify = lua_isnil(L, -1) ? !server || ca : lua_toboolean(L, -1);
  SSL_CTX **u = lua_newuserdata(L, sizeof(*u));
  *u = NULL;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  ERR_clear_error();
  *u = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  const char *wrong = *u ? fill(*u, verify, ca, cert, key ? key : cert, &file) : "no memory";
  if (!wrong) return 1;
  char reason[128];
  reason_text(reason, sizeof(reason), wrong);
  lua_pushnil(L);
  lua_pushliteral(L, "EINVAL");
  lua_pushfstring(L, "%s %s: %s", wrong, file ? file : "", reason);
  return 3;
}

void neap__tls_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg functions[] = {{"tls_context", neap__l_tls_context}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"__gc", l_collect}, {NULL, NULL}};
  luaL_newmetatable(L, TYPE);
  neap__vm_register(L, vm, methods);
  lua_pop(L, 1);
  neap__vm_register(L, vm, functions);
}
