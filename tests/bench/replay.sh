#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# replay.sh [REPETITIONS]: `neap replay` beside libCacheSim, see replay.py; the peer comes from the Python package index
# into build/peers, once. Best on an idle machine.
set -u
cd "$(dirname "$0")/../.." || exit 2
. examples/setup.sh

install_missing "$build_needs"
install_missing 'python3-venv|python3 -c "import venv, ensurepip"'
build build/bench -DCMAKE_BUILD_TYPE=Release -DNEAP_TESTS=ON || exit 1
peer=build/peers/libcachesim
if ! "$peer/bin/python" -c 'import libcachesim' 2>/dev/null; then
  say "installing libCacheSim into $peer"
  python3 -m venv "$peer" && "$peer/bin/pip" install --quiet libcachesim==0.3.5 || exit 1
fi
exec "$peer/bin/python" tests/bench/replay.py build/bench/bin/neap "${1:-7}"
