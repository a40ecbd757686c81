#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# From a bare Debian 12 to a running cache: installs what is missing, builds, starts a server with a second level
# written in Lua, lets a worker store, hit and read back, shows what the server said, stops it and checks that nothing
# is left. A second run takes seconds.
set -u
cd "$(dirname "$0")/.." || exit 2
. examples/setup.sh

adapter='{"type":"plugin","module_path":"lmc_external_l2_adapter","class_name":"InMemoryL2Adapter",
  "adapter_params":{"max_size_gb":1.0,"mock_bandwidth_gb":20.0}}'
name=quickstart-$$
log=$(mktemp)
server=''

cleanup() {
  [ -z "$server" ] || kill -9 "$server" 2>/dev/null
  rm -f "$log"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

give_up() {
  complain "$1"
  [ ! -s "$log" ] || sed 's/^/  | /' "$log" >&2
  exit 1
}

free_port() {
  local port
  for _ in {1..50}; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || {
      echo "$port"
      return
    }
  done
}

install_missing "$build_needs"
build build || exit 1

port=$(free_port) http_port=$(free_port)
say "starting neap server on port $port, HTTP on $http_port"
build/bin/neap server --host 127.0.0.1 --port "$port" --http-host 127.0.0.1 --http-port "$http_port" \
  --chunk-size 256 --l1-size-gb 0.25 --eviction-policy LRU --supported-transfer-mode engine_driven \
  --shm-name "$name" --no-l1-use-lazy --l2-adapter "$adapter" >"$log" 2>&1 &
server=$!
for _ in {1..100}; do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
  kill -0 "$server" 2>/dev/null || give_up "the server ended before it listened; it said:"
  sleep 0.1
done

say "a worker stores, hits and reads back (examples/worker/worker.lua)"
luajit examples/worker/worker.lua "tcp://127.0.0.1:$port" || give_up "the worker was not content; the server said:"

say "stopping the server (SIGTERM)"
kill -TERM "$server"
wait "$server"
status=$?
server=''
[ "$status" = 0 ] || give_up "the server ended with $status; expected 0. It said:"
left=$(find /dev/shm -name "*$name*" 2>/dev/null)
[ -z "$left" ] || give_up "the server left $left behind"

say "what the server said"
for words in 'created' 'Stored 256 tokens' 'Prefetch request completed' 'Retrieved 256 tokens'; do
  grep -q "$words" "$log" || give_up "no line with '$words' in the server's log:"
done
grep -E 'created|Stored|Prefetch request completed|Retrieved' "$log" | sed 's/^/  | /'

cat <<END
${green}${bold}neap works here.${plain} The server ended cleanly and left nothing in /dev/shm.
Next:
  build/bin/neap server --help     the flags, those of lmcache server
  README.md                        point vLLM at it, write a store in Lua, embed the library
  tests/run.sh                     everything that is checked
END
