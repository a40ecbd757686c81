#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# An unmodified vLLM in front of neap: installs vLLM's CPU build and LMCache's connector into a private folder, starts
# both servers on free loopback ports, asks two prompts twice each and checks that the second answers are the first
# ones and that the server stored, hit and retrieved. `run.sh lmcache` does the same with LMCache's own server.
set -u
cd "$(dirname "$0")/../.." || exit 2
. examples/setup.sh
. examples/vllm/peers.sh

program=${1:-neap}
case $program in
  neap) flags=(--l1-size-gb 1 --plugin-path examples --l2-adapter "$memory_adapter") ;;
  lmcache) flags=(--l1-size-gb 1) ;;
  *)
    complain "unknown server '$program'; expected neap or lmcache"
    exit 2
    ;;
esac

peers_begin vllm
say "logs: $logs"
install_peers
if [ "$program" = neap ] && [ -z "${NEAP_BIN:-}" ]; then
  install_missing "$build_needs"
  build build -DCMAKE_BUILD_TYPE=Release || fail "neap does not build"
fi

read -r port http_port vllm_port <<<"$(free_ports 3)"
say "$program server on port $port, HTTP on $http_port"
start_server "$program" "${flags[@]}"
start_vllm vllm ''

say "two prompts of 272 and 1200 tokens, twice each"
"$vllm_python" examples/vllm/ask.py "http://127.0.0.1:$vllm_port" 1:272 1:272 2:1200 2:1200 | tee "$logs/answers" |
  while read -r name status seconds cached answer; do
    printf '  | %s: HTTP %s in %s s, %s tokens from the cache: %s\n' "$name" "$status" "$seconds" "$cached" "$answer"
  done

# answers NAME CACHED: what was answered to a prompt when that many of its tokens came from the cache.
answers() {
  awk -v name="$1" -v cached="$2" '$1 == name && $2 == 200 && $4 == cached { $2 = $3 = $4 = ""; print }' "$logs/answers"
}
for pair in 1:272=256 2:1200=1024; do
  name=${pair%=*} hit=${pair#*=}
  cold=$(answers "$name" 0) warm=$(answers "$name" "$hit")
  [ -n "$cold" ] || fail "prompt $name: no first answer without the cache"
  [ -n "$warm" ] || fail "prompt $name: no second answer with $hit tokens from the cache"
  [ "$cold" = "$warm" ] || fail "prompt $name: answers differ: $cold and $warm"
done

say "what the server said"
for words in 'Stored 256 tokens' 'Stored 1024 tokens' 'Prefetch request completed.* 1/1 ' \
  'Prefetch request completed.* 4/4 ' 'Retrieved 256 tokens' 'Retrieved 1024 tokens'; do
  grep -m1 "$words" "$logs/server.log" | sed 's/^/  | /'
  grep -q "$words" "$logs/server.log" || fail "no line with '$words' in the server's log"
done
printf '%s%sPASS%s  vLLM stored, hit and retrieved through %s. Logs: %s\n' "$green" "$bold" "$plain" "$program" "$logs"
