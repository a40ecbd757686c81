#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# One directory, two servers: what LMCache's fs adapter writes is served by neap byte for byte, and the other way
# around, with neap's checksums off and on. Prints PASS.
set -u
cd "$(dirname "$0")/../.." || exit 2
. examples/setup.sh
. examples/vllm/peers.sh

peers_begin interop
say "logs: $logs"
install_peers
[ -n "${NEAP_BIN:-}" ] || build build -DCMAKE_BUILD_TYPE=Release || fail "neap does not build"

# with PROGRAM DIRECTORY MORE-JSON store|check: does that with a fresh server over the directory.
with() {
  local adapter
  adapter=$(printf '{"type":"fs","base_path":"%s"%s}' "$2" "$3")
  read -r port http_port <<<"$(free_ports 2)"
  start_server "$1" --l1-size-gb 0.125 --l2-adapter "$adapter"
  luajit tests/vllm/files.lua "$4" "$port" || fail "$1 did not $4 all of it in $2"
  [ "$4" = check ] || await 30 server has_files "$2"
  end_group "$server"
  say "$1 $4: 8 chunks in $2"
}
has_files() { [ "$(find "$1" -name '*.data' | wc -l)" = 8 ]; }

with lmcache "$logs/theirs" '' store
with neap "$logs/theirs" '' check
diff -r "$logs/theirs" tests/data/lmcache_fs || fail "LMCache no longer writes what tests/data/lmcache_fs holds"
with neap "$logs/ours" '' store
diff -r "$logs/ours" "$logs/theirs" || fail "neap's files differ from LMCache's"
with lmcache "$logs/ours" '' check
with neap "$logs/checked" ',"checksum":"crc32"' store
with neap "$logs/checked" ',"checksum":"crc32"' check
with lmcache "$logs/checked" '' check
printf '%s%sPASS%s  logs: %s\n' "$green" "$bold" "$plain" "$logs"
