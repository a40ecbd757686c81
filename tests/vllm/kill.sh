#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# kill -9 of neap server under a running vLLM, in the middle of traffic, ten times; a loop starts it again. Every
# request must be answered with 200 and with the tokens that vLLM computes without a cache, and what was stored before a
# kill must still be hit after it. `kill.sh [ROUNDS [SEED]]` prints a table and PASS.
set -u
cd "$(dirname "$0")/../.." || exit 2
. examples/setup.sh
. examples/vllm/peers.sh

peers_begin kill
say "logs: $logs"
install_peers
[ -n "${NEAP_BIN:-}" ] || build build -DCMAKE_BUILD_TYPE=Release || fail "neap does not build"
export NEAP_BIN=${NEAP_BIN:-build/bin/neap}

read -r port http_port vllm_port <<<"$(free_ports 3)"
launch server tests/vllm/again.sh "$logs/server.pid" "$NEAP_BIN" server --host 127.0.0.1 --port "$port" \
  --http-host 127.0.0.1 --http-port "$http_port" --chunk-size 256 --l1-size-gb 2 --eviction-policy LRU \
  --supported-transfer-mode engine_driven --shm-name "$shm" --no-l1-use-lazy \
  --plugin-path examples --l2-adapter "$memory_adapter"
await 30 server listens "$port"
start_vllm vllm ',"kv_load_failure_policy":"recompute"'

"$vllm_python" tests/vllm/kill.py "http://127.0.0.1:$vllm_port" "$logs/server.pid" "${1:-10}" "${2:-$RANDOM}" ||
  fail "see the table"
printf '%s%sPASS%s  logs: %s\n' "$green" "$bold" "$plain" "$logs"
