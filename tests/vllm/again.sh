#!/bin/sh
# SPDX-License-Identifier: MIT
#
# again.sh PIDFILE COMMAND...: runs a command again whenever it is killed, as a supervisor would; its pid is in PIDFILE.
pidfile=$1
shift
trap 'kill "$pid"; exit' TERM INT
while :; do
  "$@" &
  pid=$!
  echo "$pid" >"$pidfile"
  wait "$pid"
  status=$?
  [ "$status" = 137 ] || exit "$status"
done
