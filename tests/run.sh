#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Everything that is checked, in one command: installs what is missing, builds with sanitizers, runs every test, builds
# a release with warnings as errors and plays the quickstart with it. The last line is `N passed, N failed`.
#
#   tests/run.sh           what a change must pass, a few minutes on two cores
#   tests/run.sh --slow    the same with more seeds and more kills
#
# kill -9 comes 500 times in the build with AddressSanitizer: NEAP_KILLS (150) in each of unit/test_l1_takeover and
# unit/test_log_kill, NEAP_PROCESS_KILLS (100) in each of spec/process/crash (the server) and spec/process/store_kill
# (the server and redis, in the middle of writes to the second level); a quarter of it again with ThreadSanitizer.
set -u
cd "$(dirname "$0")/.." || exit 2
. examples/setup.sh

case "${1:-}" in
'') export NEAP_SLOW=0 NEAP_KILLS="${NEAP_KILLS:-150}" NEAP_PROCESS_KILLS="${NEAP_PROCESS_KILLS:-100}" ;;
--slow) export NEAP_SLOW=1 NEAP_KILLS="${NEAP_KILLS:-500}" NEAP_PROCESS_KILLS="${NEAP_PROCESS_KILLS:-300}" ;;
*)
  complain "unknown argument '$1'; expected nothing or --slow"
  exit 2
  ;;
esac

install_missing "$build_needs
$test_needs"
(install_missing 'chromium-headless-shell|command -v chromium-headless-shell || command -v chromium') ||
  say "no headless Chromium: the report of neap replay is not opened"

say "servers for tests"
tests/peers.sh build/peers

passed=0 failed=0 skipped=0
pass() { passed=$((passed + 1)); }
fail() {
  failed=$((failed + 1))
  complain "$1 failed"
}

# check NAME COMMAND...: one result of its own.
check() {
  local name=$1
  shift
  if "$@"; then pass; else fail "$name"; fi
}

# attribute FILE NAME: a number out of the head of ctest's JUnit report.
attribute() { sed -n "s/^[[:space:]]*$2=\"\([0-9]*\)\".*/\1/p" "$1" | head -n 1; }

# What a sanitizer found counts however often it does not find it again.
sanitizers='ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:'

# suite DIR CTEST-ARGUMENTS...: runs ctest in a build and adds its counts. Tests that start servers have deadlines, and
# two at a time they may miss one: what fails without a sanitizer's report runs once more alone, and is named.
suite() {
  local dir=$1 report=$PWD/$1/report.xml runner='' all bad off again
  shift
  rm -f "$report"
  # ThreadSanitizer of GCC 12 cannot place its shadow where the kernel randomises addresses widely.
  setarch "$(uname -m)" -R true 2>/dev/null && runner="setarch $(uname -m) -R"
  $runner ctest --test-dir "$dir" -j "$(jobs)" --output-on-failure --no-tests=ignore --output-junit "$report" "$@"
  all=$(attribute "$report" tests) bad=$(attribute "$report" failures) off=$(attribute "$report" skipped)
  if [ -z "$all" ]; then
    fail "ctest in $dir"
    return
  fi
  if [ "$bad" -gt 0 ] && ! grep -qE "$sanitizers" "$dir/Testing/Temporary/LastTest.log"; then
    say "what failed in $dir, again, one at a time"
    $runner ctest --test-dir "$dir" --rerun-failed --output-on-failure --output-junit "$report"
    again=$(attribute "$report" failures)
    complain "$((bad - ${again:-$bad})) of $bad passed alone: they depend on how busy the machine is"
    bad=${again:-$bad}
  fi
  passed=$((passed + all - bad - off)) failed=$((failed + bad)) skipped=$((skipped + off))
}

export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp

say "AddressSanitizer and UndefinedBehaviorSanitizer: every test"
if build build/asan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DNEAP_SANITIZE=address -DNEAP_TESTS=ON; then
  suite build/asan
else
  fail "the build with AddressSanitizer"
fi

say "ThreadSanitizer: tests that use threads"
if build build/tsan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DNEAP_SANITIZE=thread -DNEAP_TESTS=ON; then
  NEAP_KILLS=$((NEAP_KILLS / 4)) NEAP_PROCESS_KILLS=$((NEAP_PROCESS_KILLS / 4)) suite build/tsan -L threads
else
  fail "the build with ThreadSanitizer"
fi

say "release, warnings are errors"
check "the release build" build build -DNEAP_WERROR=ON
check "examples/quickstart.sh" examples/quickstart.sh

skips=''
[ "$skipped" = 0 ] || skips=", $skipped skipped"
echo "$passed passed, $failed failed$skips"
[ "$failed" = 0 ]
