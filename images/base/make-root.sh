#!/usr/bin/env bash
# Usage: make-root.sh IMAGE PULL_REFERENCE
# Makes sure that IMAGE, a minimal Debian 12, is in the local image store: pulled as PULL_REFERENCE where a container
# registry answers, else built from Debian's packages with debootstrap, from the apt mirror this machine uses.
set -euo pipefail
image=$1 pull_reference=$2 suite=bookworm

say() { printf '%s\n' "base image: $*"; }

if docker image inspect "$image" >/dev/null 2>&1; then say "$image is there"; exit 0; fi

if timeout 120 docker pull --quiet "$pull_reference" >/dev/null 2>&1; then
  docker tag "$pull_reference" "$image"
  say "pulled $pull_reference"
  exit 0
fi

say "no container registry answers; building $image from Debian's packages (about a minute)"
command -v debootstrap >/dev/null || {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
    printf 'ERROR 10: no way to a base image\n  saw:  no container registry, no debootstrap, user %s\n  do:   apt-get install debootstrap as root, or connect to a registry once\n' "$(id -un)" >&2
    exit 10
  }
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q debootstrap
}
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m1 '/debian$' || true)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root/debian" ${mirror:+"$mirror"}
rm -rf "$root/debian/var/cache/apt/archives" "$root/debian/var/lib/apt/lists"/*
tar -C "$root/debian" -c . | docker import - "$image"
