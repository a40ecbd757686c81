# SPDX-License-Identifier: MIT
#
# What quickstart.sh and tests/run.sh share: messages, the packages neap is built from, the release build.
# Sourced from the root of the tree by a bash with `set -u`; not a program of its own.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
  bold='' green='' red='' plain=''
fi

say() { printf '%s==>%s %s\n' "$bold" "$plain" "$*"; }
complain() { printf '%serror:%s %s\n' "$red" "$plain" "$*" >&2; }
jobs() { nproc 2>/dev/null || echo 2; }

# package | how to tell that what it brings is there, on any distribution
build_needs='build-essential|command -v cc && command -v c++
cmake|command -v cmake
ninja-build|command -v ninja
pkg-config|command -v pkg-config
libluajit-5.1-dev|pkg-config --exists luajit
luajit|command -v luajit
libuv1-dev|pkg-config --exists libuv
libcjson-dev|pkg-config --exists libcjson
libzmq3-dev|pkg-config --exists libzmq
libmicrohttpd-dev|pkg-config --exists libmicrohttpd
libzstd-dev|pkg-config --exists libzstd
libcurl4-openssl-dev|pkg-config --exists libcurl
libexpat1-dev|pkg-config --exists expat
libedit-dev|pkg-config --exists libedit
libssl-dev|pkg-config --exists openssl
libarchive-dev|pkg-config --exists libarchive'
test_needs='libcmocka-dev|pkg-config --exists cmocka
lua-busted|command -v busted
lua-check|command -v luacheck
openssl|command -v openssl
xz-utils|command -v xz
curl|command -v curl
nginx-light|command -v nginx
python3|command -v python3
redis-server|command -v redis-server && command -v redis-cli
openssl|command -v openssl'

missing() {
  local package probe
  while IFS='|' read -r package probe; do
    (eval "$probe") >/dev/null 2>&1 </dev/null || printf '%s ' "$package"
  done <<<"$1"
}

# install_missing NEEDS: installs what is not there, or says what to install and ends the script with 2.
install_missing() {
  local list log
  list=$(missing "$1")
  [ -n "$list" ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    complain "these packages are missing and cannot be installed without root and apt-get: ${list% }"
    exit 2
  fi
  say "installing ${list}(apt-get, about a minute)"
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086  # one word per package
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $list; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    complain "apt-get could not install: ${list% }"
    exit 2
  fi
  rm -f "$log"
}

# configure DIR CMAKE-ARGUMENTS...: once, unless there are arguments. A second configuration would build everything
# anew, for CMake 3.25 then writes the flags that come from pkg-config in another order.
configure() {
  [ "$#" = 1 ] && [ -f "$1/build.ninja" ] && return
  cmake -S . -B "$1" -G Ninja "${@:2}"
}

# build DIR CMAKE-ARGUMENTS...: configures and builds; prints the log only when it fails.
build() {
  local dir=$1 log=$1/build.log started=$SECONDS
  mkdir -p "$dir"
  say "building $dir, a minute or two the first time (log: $log)"
  if ! { configure "$@" && cmake --build "$dir" -j "$(jobs)"; } >"$log" 2>&1; then
    grep -E -A 4 -m 12 'error:|undefined reference|CMake Error' "$log" >&2 || tail -n 40 "$log" >&2
    complain "building $dir failed; all of it is in $log"
    return 1
  fi
  say "built $dir in $((SECONDS - started)) s"
}
