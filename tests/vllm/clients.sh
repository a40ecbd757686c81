#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# LMCache's own client tools against neap: its protocol benchmark must pass every check, its commands must succeed and
# say what they say about LMCache's server. Prints PASS.
set -u
cd "$(dirname "$0")/../.." || exit 2
. examples/setup.sh
. examples/vllm/peers.sh

peers_begin clients
say "logs: $logs"
install_peers
[ -n "${NEAP_BIN:-}" ] || build build -DCMAKE_BUILD_TYPE=Release || fail "neap does not build"

read -r port http_port <<<"$(free_ports 2)"
start_server "${1:-neap}" --l1-size-gb 2
export LMCACHE_TRACK_USAGE=false DO_NOT_TRACK=1 LMCACHE_DISABLE_BANNER=1 PYTHONWARNINGS=ignore

# lmcache NAME EXPECTED ARGUMENTS...: runs a command; its output, kept in NAME.log, must match EXPECTED.
lmcache() {
  local name=$1 expected=$2
  shift 2
  timeout 180 "$vllm_dir/venv/bin/lmcache" "$@" >"$logs/$name.log" 2>&1 ||
    { cat "$logs/$name.log" >&2; fail "lmcache $* ended with an error"; }
  grep -qE "$expected" "$logs/$name.log" || { cat "$logs/$name.log" >&2; fail "lmcache $*: no line with '$expected'"; }
  say "lmcache ${*%%http:*}"
}

url=http://127.0.0.1:$http_port
lmcache ping 'Status: *OK' ping kvcache --url "$url"
lmcache bench '"pass_rate": 100' bench server --rpc-url "tcp://127.0.0.1:$port" --url "$url" --mode cpu \
  --transfer-mode engine_driven --tp-size 1 --end 8 --interval 0 --format json \
  --kvcache-shape-spec '(2,256,16,4,32):float16:8' --num-blocks 256
lmcache describe 'Health: *OK' describe kvcache --url "$url"
lmcache clear 'Status: *OK' kvcache clear --url "$url"
lmcache quota-set 'tenantA' quota set tenantA --limit-gb 1.5 --url "$url"
lmcache quota-get '1\.5' quota get tenantA --url "$url"
lmcache quota-list 'tenantA' quota list --url "$url"
lmcache quota-delete 'tenantA' quota delete tenantA --url "$url"
printf '%s%sPASS%s  logs: %s\n' "$green" "$bold" "$plain" "$logs"
