#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the servers that tests talk to and that no Debian package brings, into DIR (once): versitygw, an S3 service
# over a directory. Ends with 0 also when it cannot: the tests that need one say that they were skipped, and why.
#
#   tests/peers.sh DIR
set -u
dir=${1:?usage: tests/peers.sh DIR}
versitygw=v1.8.0

[ -x "$dir/versitygw" ] && exit 0
if ! command -v go >/dev/null; then
  echo "no Go: tests against an S3 service are skipped" >&2
  exit 0
fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
echo "building versitygw $versitygw, a minute or two the first time"
log=$dir/versitygw.log
if ! GOBIN=$dir GOFLAGS='' go install "github.com/versity/versitygw/cmd/versitygw@$versitygw" >"$log" 2>&1; then
  tail -n 5 "$log" >&2
  echo "versitygw was not built: tests against an S3 service are skipped" >&2
fi
