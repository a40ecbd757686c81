#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What the policy lab costs a server that is kept busy: requests per second without a recording, with it, and with one
# and four shadows, each measured in turn, ROUNDS times, and compared by the best round: what else the machine does only
# makes a round slower. Prints one JSON object per journey, and one with the share of the processor time that went to
# shadows.
#
# usage: shadows.sh BUILD_DIRECTORY [ROUNDS] [MILLISECONDS]
set -euo pipefail
build=$1 rounds=${2:-7} ms=${3:-1500}
work=$(mktemp -d)
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$work"' EXIT

# start NAME FLAG...: a server on free ports; sets port and http.
start() {
  local name=$1
  shift
  "$build/bin/neap" server --host 127.0.0.1 --port 0 --http-port 0 --chunk-size 256 --l1-size-gb 0.25 \
    --eviction-policy LRU --shm-name "shadows-$$-$name" --disable-logging --no-l1-use-lazy "$@" >"$work/$name" 2>&1 &
  pids+=($!)
  local tries=0
  until grep -q 'Uvicorn running' "$work/$name" || [ $((tries += 1)) = 200 ]; do sleep 0.05; done
  http=$(sed -n 's/.*Uvicorn running on \(http:[^ ]*\).*/\1/p' "$work/$name")
  port=$(sed -n 's/.*zmq cache server is running on [^ ]*:\([0-9]*\) .*/\1/p' "$work/$name")
}

declare -A ports urls
for kind in bare record one four; do
  if [ "$kind" = bare ]; then start "$kind" --no-record; else start "$kind"; fi
  ports[$kind]=$port urls[$kind]=$http
  case $kind in
  one) specs=(lru) ;;
  four) specs=(lru arc s3fifo lirs) ;;
  *) specs=() ;;
  esac
  for spec in "${specs[@]}"; do "$build/bin/neap" ctl --url "$http" policy shadow add "$spec" >/dev/null; done
done

for journey in hit mixed; do
  for ((round = 0; round < rounds; round++)); do
    for kind in bare record one four; do
      "$build/bench/load" "$journey" --endpoint "tcp://127.0.0.1:${ports[$kind]}" --chunks 16 --prompts 400 \
        --chunk-bytes 32768 --depth 8 --ms "$ms" --verify 0 >>"$work/$journey-$kind"
    done
  done
  luajit - "$work/$journey" "$journey" <<'LUA'
local path, journey = arg[1], arg[2]
local function best(kind)
  local values = {}
  for line in io.lines(path .. '-' .. kind) do values[#values + 1] = tonumber(line:match '"per_s":([%d.e+]+)') end
  return math.max(unpack(values))
end
local bare = best 'bare'
local parts = { ('"journey": "%s", "journeys_per_s": %.0f'):format(journey, bare) }
for _, kind in ipairs { 'record', 'one', 'four' } do
  parts[#parts + 1] = ('"%s_share": %.4f'):format(kind, best(kind) / bare)
end
print('{' .. table.concat(parts, ', ') .. '}')
LUA
done
for kind in one four; do
  curl -s "${urls[$kind]}/metrics" | awk -v kind="$kind" '
    /^neap_shadow_cpu_seconds_total/ { shadows += $2 } /^neap_shadow_dropped_requests_total/ { dropped += $2 }
    /^process_cpu_seconds_total/ { process = $2 }
    END { printf "{\"shadows\": \"%s\", \"cpu_share\": %.4f, \"dropped\": %d}\n", kind, shadows / process, dropped }'
done
