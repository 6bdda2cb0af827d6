#!/bin/bash
# SPDX-License-Identifier: MIT
#
# restarts.sh SOURCE BUILD: the installed service under a real systemd, with a publisher and subscribers of two other
# users. The broker is killed and restarted under load, several times: every sample arrives, once, in order, and names
# and sessions are as before. All memory between them is sealed, so it comes back from systemd's descriptor store.
#
# systemd boots in a container over an overlay of this machine's root: nothing is written to it. Says `not_run: reason`
# (status 77) where the machine does not allow that.
set -euo pipefail
build_dir=$2
samples=${HOLDFAST_RESTART_SAMPLES:-12000} rate=1000 rounds=${HOLDFAST_RESTART_ROUNDS:-6}

not_run() { echo "not_run: $*"; exit 77; }
fail() {
  echo "FAILED: $*" >&2
  if [[ -n $leader ]]; then inside journalctl --no-pager -u holdfastd.service | tail -n 40 >&2 || true; fi
  exit 1
}

for program in systemd-nspawn unshare nsenter setpriv jq; do
  command -v "$program" >/dev/null || not_run "$program is not installed (packages systemd-container, util-linux, jq)"
done
((EUID == 0)) || not_run "a container needs root"
[[ -x /lib/systemd/systemd ]] || not_run "systemd is not installed (package systemd-sysv)"

work=$(mktemp -d)
machine=holdfast-$$
nspawn='' leader=''
# Its mounts go with it: they are in a namespace of its own.
tidy_up() {
  if [[ -n $nspawn ]]; then
    # Nothing in there is worth an orderly end.
    if [[ -n $leader ]]; then kill -KILL "$leader" 2>/dev/null || true; fi
    kill -KILL "$nspawn" 2>/dev/null || true
    wait "$nspawn" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap tidy_up EXIT

echo "-- systemd boots"
# shellcheck disable=SC2016
unshare -m --propagation private sh -c '
  mount -t tmpfs tmpfs "$1" && mkdir "$1/u" "$1/w" "$1/m" &&
  mount -t overlay overlay -o "lowerdir=/,upperdir=$1/u,workdir=$1/w" "$1/m" &&
  DESTDIR="$1/m" cmake --install "$2" --prefix /usr >"$1/install.log" &&
  mkdir -p "$1/m/etc/systemd/system/holdfastd.service.d" &&
  printf "[Unit]\nStartLimitIntervalSec=0\n" >"$1/m/etc/systemd/system/holdfastd.service.d/test.conf" &&
  mount -t tmpfs tmpfs /run && umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
  exec systemd-nspawn -D "$1/m" --register=no --keep-unit --console=pipe "--machine=$3" --boot
' sh "$work" "$build_dir" "$machine" </dev/null >"$work/boot.log" 2>&1 &
nspawn=$!

for ((i = 0; i < 300; ++i)); do
  leader=$(pgrep -P "$nspawn" 2>/dev/null | head -n 1 || true)
  state=
  if [[ -n $leader ]]; then state=$(nsenter -t "$leader" -a systemctl is-system-running 2>/dev/null || true); fi
  if [[ $state == running || $state == degraded ]]; then break; fi
  kill -0 "$nspawn" 2>/dev/null || {
    nspawn=''
    tail -n 5 "$work/boot.log"
    not_run "systemd does not boot in a container here"
  }
  leader=''
  sleep 0.1  # for it to boot
done
[[ -n $leader ]] || { tail -n 5 "$work/boot.log"; not_run "systemd did not come up in 30 s"; }
inside() { nsenter -t "$leader" -a "$@"; }

inside systemd-sysusers
inside systemctl daemon-reload
inside systemctl start holdfastd.socket holdfastd.service || fail "the service does not start"
group=$(inside getent group holdfast | cut -d : -f 3)
as() { local user=$1; shift; inside setpriv --reuid="$user" --regid="$user" --groups="$group" "$@"; }
as 61001 holdfast ping || fail "another user cannot connect"

echo "-- a publisher and two subscribers of two other users, $samples samples"
expected=$work/expected
# Too long to be inline: each sample is a chunk of the lane.
seq -f 'sample %08g of a line that does not fit a slot of the ring ......' "$samples" >"$expected"
readers=()
for reader in 1 2; do
  as 61002 holdfast sub load --lossless --count "$samples" >"$work/got.$reader" 2>"$work/err.$reader" &
  readers+=($!)
done
# The last of them come when the restarts are done, however slow the machine is.
feed() {
  head -n "$((samples - 1000))" "$expected"
  while [[ ! -e $work/done ]]; do sleep 0.1; done
  tail -n 1000 "$expected"
}
feed | as 61001 holdfast pub load --lines --rate "$rate" --wait-subscribers 2 --linger 0 2>"$work/err.pub" &
writer=$!
facts() {
  as 61001 holdfast --json ls --sessions | jq -c '[.session, .pid, .uid, .name]' | sort
  as 61001 holdfast --json info load | jq -c '[.name, .publishers, .subscribers, .lanes[0].lane, .lanes[0].segment, .lanes[0].backing]'
}
for ((i = 0; i < 300; ++i)); do
  if [[ $(as 61001 holdfast --json info load 2>/dev/null | jq '.publishers + .subscribers' || true) == 3 ]]; then break; fi
  sleep 0.1  # for them to attach
done
before=$(facts)
[[ $before == *sealed* ]] || fail "the lane is not sealed: $before"
echo "$before"

for ((round = 1; round <= rounds; ++round)); do
  epoch=$(as 61001 holdfast --json stats | jq .epoch)
  if ((round % 2 == 1)); then
    inside systemctl kill -s KILL holdfastd.service
  else
    inside systemctl restart holdfastd.service
  fi
  for ((i = 0; i < 300; ++i)); do
    now=$(as 61001 holdfast --json stats 2>/dev/null | jq .epoch || true)
    if [[ -n $now && $now -gt $epoch ]]; then break; fi
    sleep 0.1  # for the next broker
  done
  after=$(facts) || fail "after restart $round the load is not there"
  [[ $after == "$before" ]] || fail "after restart $round it is another world: $after"
done
touch "$work/done"
wait "$writer" || { cat "$work/err.pub"; fail "the publisher ended with status $?"; }
for reader in 1 2; do
  wait "${readers[reader - 1]}" || { cat "$work/err.$reader"; fail "a subscriber ended with status $?"; }
  tr -d '\n' <"$expected" | cmp - "$work/got.$reader" || fail "subscriber $reader did not get what was published"
done
echo "-- $rounds restarts, $samples samples to each of two subscribers: none lost, none twice, in order"

# What nobody needs any more is kept no longer.
for ((i = 0; i < 100; ++i)); do
  kept=$(inside systemctl show -P NFileDescriptorStore holdfastd.service)
  if [[ $kept == 0 ]]; then break; fi
  sleep 0.1  # for the broker to see their ends
done
[[ $kept == 0 ]] || fail "$kept descriptors are left in the store"
inside systemctl stop holdfastd.socket holdfastd.service
left=$(inside find /dev/shm -name "holdfast.*")
[[ -z $left ]] || fail "left in /dev/shm: $left"
echo "ok"
