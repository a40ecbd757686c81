#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# The house rules that a machine can check. Prints each breach as `file:line: what` and ends with 1 if there is one.
set -u
cd "$(dirname "$0")/.." || exit 2
export LC_ALL=C.UTF-8

all_files() {
  if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard
  else
    find . -path ./build -prune -o -type f -print | sed 's|^\./||'
  fi
}

# list PATTERN...: the files that match one of them.
list() {
  local file pattern
  all_files | while read -r file; do
    for pattern; do
      # shellcheck disable=SC2254  # a pattern is wanted
      case $file in $pattern) [ -f "$file" ] && echo "$file" && break ;; esac
    done
  done
}

mapfile -t sources < <(list '*.c' '*.h' '*.lua' '*.sh' '*CMakeLists.txt')
mapfile -t c_files < <(list '*.c' '*.h')
mapfile -t lua_files < <(list '*.lua')
mapfile -t public_headers < <(list 'engine/include/*.h')
if [ "${#sources[@]}" = 0 ]; then
  echo "tidy: no sources found" >&2
  exit 2
fi

breaches=$(
  for f in "${sources[@]}"; do
    awk -v f="$f" 'END { if (NR > 700) print f ":" NR ": more than 700 lines" }' "$f"
    head -n 3 "$f" | grep -q 'SPDX-License-Identifier: MIT' || echo "$f:1: no SPDX line among the first three"
  done

  # banned PATTERN REASON EXCEPT FILE...: the words are split in this file, which is a source like any other.
  banned() {
    local pattern=$1 reason=$2 except=$3
    shift 3
    [ "$#" = 0 ] || grep -nHE "$pattern" "$@" | grep -vE "^($except):" | sed -E "s/^([^:]*:[0-9]+):.*/\1: $reason/"
  }
  banned '^.{121,}$' 'longer than 120 columns' 'none' "${sources[@]}"
  banned '[[:space:]]+$' 'blanks at the end of the line' 'none' "${sources[@]}"
  banned '\b(TO''DO|FIX''ME|HA''CK)\b' 'left unfinished' 'none' "${sources[@]}"
  banned '\b(sprintf|vsprintf|strcpy|strcat|strtok|gets|tmpnam|atoi|atof)\(' 'unbounded or silent; use a checked form' \
    'none' "${c_files[@]}"
  banned '\b(lua_call|luaL_dostring|luaL_dofile|luaL_loadstring)\(' 'Lua is entered through protected calls of vm.c' \
    'engine/src/script/vm\.c' "${c_files[@]}"
  banned "ffi\.cast\(['\"][^'\"]*\(\s*\*" 'callbacks made by the FFI are not allowed' 'none' "${lua_files[@]}"

  # An exported prototype follows a comment, or another one that shares its comment.
  for f in "${public_headers[@]}"; do
    awk -v f="$f" '
      /^NEAP_EXPORT/ && !explained { print f ":" FNR ": a public prototype without a comment" }
      { explained = /\*\/[[:space:]]*$/ || (explained && /^(NEAP_EXPORT|[[:space:]]+[^[:space:]])/) }' "$f"
  done

  mapfile -t tree < <(git ls-files 2>/dev/null | cut -d/ -f1 | sort -u)
  for entry in "${tree[@]}"; do
    case $entry in
    engine | lua | adapters | examples | spec | tests | CMakeLists.txt | README.md | LICENSE | .*) ;;
    *) echo "$entry:1: outside the layout of the tree" ;;
    esac
  done
)
[ -z "$breaches" ] && exit 0
echo "$breaches"
exit 1
