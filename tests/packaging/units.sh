#!/bin/bash
# SPDX-License-Identifier: MIT
#
# units.sh SOURCE BUILD: systemd accepts the units, and calls their exposure low.
set -euo pipefail
build_dir=$2

if ! command -v systemd-analyze >/dev/null; then
  echo "not_run: systemd-analyze is not installed (package systemd)"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build_dir" --prefix "$work/prefix" >/dev/null
units=$work/prefix/lib/systemd/system
kept=$(sed -n 's/^FileDescriptorStoreMax=//p' "$units/holdfastd.service")
told=$(sed -n 's/^Environment=FDSTORE=//p' "$units/holdfastd.service")
if [[ -z $kept || $kept != "$told" ]]; then
  echo "FAILED: systemd keeps ${kept:-no} descriptors, and the broker is told ${told:-nothing}"
  exit 1
fi
# The user comes from sysusers.d, which only a system that boots applies.
sed -i -e '/^User=/d' -e '/^Group=/d' "$units/holdfastd.service"
sed -i -e '/^SocketUser=/d' -e '/^SocketGroup=/d' "$units/holdfastd.socket"
if ! systemd-analyze verify --man=no --recursive-errors=no "$units/holdfastd.service" "$units/holdfastd.socket" \
  >"$work/verify" 2>&1 || [[ -s $work/verify ]]; then
  cat "$work/verify"
  echo "FAILED: systemd does not like the units"
  exit 1
fi
sed -i 's|^\[Service\]|[Service]\nUser=holdfast|' "$units/holdfastd.service"
systemd-analyze security --offline=yes --threshold=20 --no-pager "$units/holdfastd.service"
