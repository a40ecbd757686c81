/* SPDX-License-Identifier: MIT
 *
 * serve/http_console.c - GET /console: a console (console/server.h) over HTTP, for who has the token.
 *
 *   GET /console
 *   Connection: Upgrade
 *   Upgrade: neap-console
 *   Authorization: Bearer TOKEN        101, and the socket becomes the console's stream of lines
 *
 * A page in somebody's browser cannot send that header, nor this upgrade. The HTTP thread hands the socket over; its
 * close comes back from a thread of the console. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "console/token.h"
#include "serve/http_call.h"

static void give_back(void *ctx) { MHD_upgrade_action(ctx, MHD_UPGRADE_ACTION_CLOSE); }

static void upgraded(void *cls, struct MHD_Connection *connection, void *request, const char *head, size_t head_bytes,
                     MHD_socket fd, struct MHD_UpgradeResponseHandle *handle) {
  static const char refusal[] = "{\"error\":\"all sessions are taken; try again later\"}\n";
  neap__http *http = cls;
  (void)connection, (void)request;
  int flags = fcntl(fd, F_GETFL);
  if (flags >= 0) (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  if (neap__console_server_adopt(http->config.console, fd, head, head_bytes, give_back, handle) == 0) return;
  (void)send(fd, refusal, sizeof(refusal) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  give_back(handle);
}

static const char *header(neap__http_call *call, const char *name) {
  return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}

void neap__http_console(neap__http_call *call) {
  const neap__http_config *config = &call->http->config;
  const char *bearer = header(call, MHD_HTTP_HEADER_AUTHORIZATION), *protocol = header(call, MHD_HTTP_HEADER_UPGRADE);
  if (!config->console) {
    neap__http_reply_detail(call, MHD_HTTP_NOT_FOUND, "Not Found");
    return;
  }
  if (!bearer || strncmp(bearer, "Bearer ", 7) != 0 || !neap__console_token_is(config->console_token, bearer + 7)) {
    neap__http_reply_detail(call, MHD_HTTP_UNAUTHORIZED, "expected Authorization: Bearer and the console's token");
    return;
  }
  if (!protocol || strcmp(protocol, "neap-console") != 0) {
    neap__http_reply_detail(call, MHD_HTTP_UPGRADE_REQUIRED, "expected Upgrade: neap-console");
    return;
  }
  struct MHD_Response *response = MHD_create_response_for_upgrade(upgraded, call->http);
  if (!response) return; /* no memory, no answer: the connection ends */
  MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, "neap-console");
  call->queued = MHD_queue_response(call->connection, MHD_HTTP_SWITCHING_PROTOCOLS, response) == MHD_YES;
  MHD_destroy_response(response);
}
