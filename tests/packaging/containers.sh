#!/bin/bash
# SPDX-License-Identifier: MIT
#
# containers.sh SOURCE BUILD: builds the Dockerfile, runs the broker in one container, and lets a second one, which has
# only the directory of the socket, talk to it: control and data.
#
# No image registry is needed: the base image is made with debootstrap, once, and kept with everything else below
# BUILD/../containers. Says `not_run: reason` (status 77) where the machine does not allow containers.
set -euo pipefail
source_dir=$1
home=$(dirname "$2")/containers

not_run() { echo "not_run: $*"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }

for program in podman buildah runc debootstrap; do
  command -v "$program" >/dev/null || not_run "$program is not installed (scripts/setup-debian containers)"
done
((EUID == 0)) || not_run "debootstrap and runc need root"
unshare --mount --pid --fork true 2>/dev/null || not_run "this machine gives no mount and pid namespaces"

mkdir -p "$home"
work=$(mktemp -d "$home/work.XXXXXX")
storage=(--root "$home/storage" --runroot "$home/run" --storage-driver overlay)
podman=(podman "${storage[@]}" --runtime runc --events-backend file --cgroup-manager cgroupfs --tmpdir "$home/tmp")
broker=
locks=/dev/shm/libpod_lock  # podman's own; it goes with us unless somebody had it before
if [[ -e $locks ]]; then locks=; fi
tidy_up() {
  if [[ -n $broker ]]; then "${podman[@]}" rm -f -t 1 "$broker" >/dev/null 2>&1 || true; fi
  umount "$home/storage/overlay" 2>/dev/null || true
  # podman's monitor may still be writing its last line.
  for ((i = 0; i < 20; ++i)); do
    if rm -rf "$work" ${locks:+"$locks"} 2>/dev/null; then break; fi
    sleep 0.1
  done
}
trap tidy_up EXIT

# What an earlier place of this tree left cannot be used: podman keeps full paths.
if ! "${podman[@]}" info >/dev/null 2>&1; then
  umount "$home/storage/overlay" 2>/dev/null || true
  rm -rf "$home/storage" "$home/run" "$home/tmp"
fi

base=docker.io/library/debian:bookworm-slim
if ! "${podman[@]}" image exists "$base"; then
  if [[ ! -s $home/base.tar ]]; then
    echo "-- base image: debootstrap"
    unshare --mount debootstrap --variant=minbase bookworm "$work/rootfs" >"$work/debootstrap.log" 2>&1 ||
      not_run "debootstrap could not make the base image: $(tail -n 1 "$work/debootstrap.log")"
    rm -rf "$work"/rootfs/var/cache/apt/archives/*.deb
    tar -C "$work/rootfs" -cf "$work/base.tar" .
    mv "$work/base.tar" "$home/base.tar"
    rm -rf "$work/rootfs"
  fi
  "${podman[@]}" import "$home/base.tar" "$base" >/dev/null
fi

echo "-- Dockerfile"
buildah "${storage[@]}" bud --isolation chroot --pull=never --network host --layers -t holdfast-test "$source_dir" \
  >"$work/bud.log" 2>&1 || { tail -n 60 "$work/bud.log"; fail "the Dockerfile does not build"; }

run_options=(--rm --ulimit nofile=20000:20000 --ulimit nproc=32768:32768 --network host)
user=$("${podman[@]}" run "${run_options[@]}" holdfast-test id -un)
[[ $user == holdfast ]] || fail "the image runs as $user"

echo "-- two containers"
socket_dir=$work/socket
mkdir "$socket_dir"
chown 10001:10001 "$socket_dir"
broker=$("${podman[@]}" run -d "${run_options[@]/--rm/--rm=false}" -v "$socket_dir:/run/holdfast" holdfast-test)
for ((i = 0; i < 200; ++i)); do
  if [[ -S $socket_dir/default.sock ]]; then break; fi
  sleep 0.1  # for the container to start
done
[[ -S $socket_dir/default.sock ]] || { "${podman[@]}" logs "$broker"; fail "the broker made no socket"; }
client() { "${podman[@]}" run "${run_options[@]}" -v "$socket_dir:/run/holdfast" holdfast-test holdfast "$@"; }
client ping || { "${podman[@]}" logs "$broker"; fail "ping"; }
client stats --json
"${podman[@]}" stop -t 10 "$broker" >/dev/null
status=$("${podman[@]}" inspect -f '{{.State.ExitCode}}' "$broker")
[[ $status == 0 ]] || { "${podman[@]}" logs "$broker"; fail "the broker left with status $status"; }
[[ ! -e $socket_dir/default.sock ]] || fail "the broker left its socket"
echo "ok"
