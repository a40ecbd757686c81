#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# redis.sh [REPETITIONS]: the Redis store beside hiredis, and beside LMCache's client when NEAP_LMCACHE_PYTHON names a
# Python that has it; see redis.lua. Needs redis-server and libhiredis-dev. Best on an idle machine.
set -u
cd "$(dirname "$0")/../.." || exit 2
. examples/setup.sh

install_missing "$build_needs"
install_missing "$test_needs"
install_missing 'redis-server|command -v redis-server
libhiredis-dev|pkg-config --exists hiredis'
build build/bench -DCMAKE_BUILD_TYPE=Release -DNEAP_TESTS=ON || exit 1
export NEAP_BUILD=$PWD/build/bench NEAP_SOURCE=$PWD
exec luajit tests/bench/redis.lua "${1:-5}"
