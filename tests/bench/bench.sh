#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench.sh [REPETITIONS [control] [data] [start] [pressure] [disk]]: neap beside LMCache's own server (when
# examples/vllm/run.sh has installed it) and a null server, in one run; see bench.lua. Best on an idle machine.
set -u
cd "$(dirname "$0")/../.." || exit 2
. examples/setup.sh

install_missing "$build_needs"
install_missing "$test_needs"
build build/bench -DCMAKE_BUILD_TYPE=Release -DNEAP_TESTS=ON || exit 1
export NEAP_BUILD=$PWD/build/bench NEAP_BIN=${NEAP_BIN:-$PWD/build/bench/bin/neap}
peer=${NEAP_VLLM_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/neap/vllm}/venv/bin/lmcache
[ ! -x "$peer" ] || export NEAP_PEER=$peer
exec luajit tests/bench/bench.lua "${1:-3}" "${@:2}"
