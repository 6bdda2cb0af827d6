#!/bin/bash
# SPDX-License-Identifier: MIT
#
# installed.sh SOURCE BUILD: installs BUILD into a prefix of its own, moves it, builds examples/ outside the tree with
# find_package and with pkg-config, and runs pairs of them against a private broker from that prefix.
set -euo pipefail
source_dir=$1 build_dir=$2

work=$(mktemp -d)
export HOLDFAST_INSTANCE=packaging-$$
pids=()
tidy_up() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap tidy_up EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }

cmake --install "$build_dir" --prefix "$work/elsewhere" >"$work/install.log"
grep -q "^ExecStart=$work/elsewhere/bin/holdfastd$" "$work/elsewhere/lib/systemd/system/holdfastd.service" ||
  fail "the unit starts another program"
mv "$work/elsewhere" "$work/prefix"  # nothing else in it may know where it was put first
prefix=$work/prefix
for file in bin/holdfastd bin/holdfast lib/libholdfast.so lib/libholdfast.so.1 include/holdfast/holdfast.h \
  include/holdfast/holdfast.hpp lib/cmake/holdfast/holdfast-config.cmake lib/pkgconfig/holdfast.pc \
  lib/systemd/system/holdfastd.service lib/systemd/system/holdfastd.socket; do
  [[ -e $prefix/$file ]] || fail "$file is not installed"
done
if grep -rIl --exclude=holdfastd.service "$work/elsewhere\|$source_dir" "$prefix"; then fail "these files hold a path of the build"; fi

echo "-- the library exports hf_* and nothing else"
others=$(nm -D --defined-only "$prefix/lib/libholdfast.so.1" | awk '$2 != "A" && $3 !~ /^hf_/ {print $3}')
[[ -z $others ]] || fail "exported: $others"

echo "-- the headers are clean under -pedantic"
for compiler in gcc clang-19; do
  printf '#include <holdfast/holdfast.h>\n' |
    "$compiler" -std=c11 -pedantic -Wall -Wextra -Wconversion -Werror -I"$prefix/include" -fsyntax-only -x c -
done
for compiler in g++ clang++-19; do
  for header in holdfast.h holdfast.hpp; do
    printf '#include <holdfast/%s>\n' "$header" |
      "$compiler" -std=c++17 -pedantic -Wall -Wextra -Wconversion -Werror -I"$prefix/include" -fsyntax-only -x c++ -
  done
done

echo "-- examples: find_package"
cp -r "$source_dir/examples" "$work/examples"
cmake -S "$work/examples" -B "$work/with-cmake" -DCMAKE_PREFIX_PATH="$prefix" >"$work/cmake.log" 2>&1 ||
  { cat "$work/cmake.log"; fail "find_package"; }
cmake --build "$work/with-cmake" -j "$(nproc)" >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; fail "the build"; }
echo "-- examples: pkg-config"
PKG_CONFIG_PATH=$prefix/lib/pkgconfig make -C "$work/examples" -j "$(nproc)" >"$work/make.log" 2>&1 ||
  { cat "$work/make.log"; fail "pkg-config"; }

echo "-- pairs of them, and a private broker"
mkdir "$work/run"
export HOLDFAST_SOCKET=$work/run/$HOLDFAST_INSTANCE.sock LD_LIBRARY_PATH=$prefix/lib
"$prefix/bin/holdfastd" --instance "$HOLDFAST_INSTANCE" --runtime-dir "$work/run" >"$work/broker.log" 2>&1 &
broker=$!
pids+=("$broker")
for ((i = 0; i < 200; ++i)); do
  if "$prefix/bin/holdfast" ping >/dev/null 2>&1; then break; fi
  kill -0 "$broker" || { cat "$work/broker.log"; fail "the broker ended"; }
  sleep 0.05  # for the socket to appear
done
"$prefix/bin/holdfast" ping

# pair FOLDER PUBLISHER SUBSCRIBER: ten samples arrive, and both end by themselves.
pair() {
  local topic=test/$RANDOM out=$work/out.txt count
  timeout 30 "$1/$3" "$topic" >"$out" &
  local subscriber=$!
  pids+=("$subscriber")
  timeout 30 "$1/$2" "$topic" || { cat "$out"; fail "$2 -> $3 ($1)"; }
  wait "$subscriber" || { cat "$out"; fail "$3 ($1)"; }
  count=$(grep -c '^sample' "$out" || true)
  [[ $count == 10 ]] || { cat "$out"; fail "$2 -> $3: $count samples, not 10"; }
  echo "$2 -> $3: 10 samples"
}
for folder in "$work/with-cmake" "$work/examples"; do
  pair "$folder" publish subscribe
  pair "$folder" publish_c subscribe
  pair "$folder" publish subscribe_c
  pair "$folder" publish_c subscribe_c
  pair "$folder" publish event_loop
done
timeout 30 "$work/with-cmake/typed" || fail "typed"
timeout 30 "$work/with-cmake/request_response" serve &
server=$!
pids+=("$server")
answer=$(timeout 30 "$work/with-cmake/request_response" Holdfast moves data)
[[ $answer == $'1: tsafdloH\n2: sevom\n3: atad' ]] || fail "request_response: $answer"
wait "$server" || fail "request_response serve"
echo "request_response: $answer"

kill -TERM "$broker"
wait "$broker" || fail "the broker left with status $?"
if compgen -G "/dev/shm/holdfast.$HOLDFAST_INSTANCE.*"; then fail "left in /dev/shm"; fi
echo "ok"
