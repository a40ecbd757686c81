#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Checks the example adapter against the real runtime: builds what its specs need, if it is not built yet, and runs
# them. Nothing is installed outside the build folder. BUILD names another build folder than <tree>/build.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
build=${BUILD:-$PWD/build}

for program in luajit busted; do
  command -v "$program" >/dev/null || { echo "$0: '$program' is needed (Debian: luajit, lua-busted)" >&2; exit 1; }
done
if [ ! -e "$build/lib/libneap_adapter_driver.so" ]; then
  cmake -S . -B "$build" -DNEAP_TESTS=ON
  cmake --build "$build" --target neap_adapter_driver --parallel 2
fi
NEAP_SOURCE=$PWD NEAP_BUILD=$build exec luajit "$(command -v busted)" "$@" examples/lmc_external_l2_adapter/spec
