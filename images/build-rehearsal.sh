#!/usr/bin/env bash
# Builds the rehearsal's images on this machine. Safe to run again: what has not changed takes a second or two.
#
# Reads from the environment (glue sets them; `make setup` is the way to call this):
#   REHEARSAL_*_IMAGE  the references of env/images.env
#   WHEELHOUSE         a folder of Python wheels to look in before the package index, or empty
#   EXTRA_CA           a CA bundle that builds must trust, such as an office's own, or empty
set -euo pipefail
cd "$(dirname "$0")"

wheelhouse=${WHEELHOUSE:-no-wheelhouse}
build() { # image, folder, further arguments
  local image=$1 folder=$2 started=$SECONDS
  shift 2
  printf 'image %s ...\n' "$image"
  docker build --quiet --tag "$image" "$@" \
    --build-context "wheelhouse=$wheelhouse" \
    ${EXTRA_CA:+--secret "id=extra_ca,src=$EXTRA_CA"} \
    "$folder" >/dev/null
  printf 'image %s: ready (%d s)\n' "$image" $((SECONDS - started))
}

base/make-root.sh dual-use/root:bookworm "$REHEARSAL_ROOT_IMAGE"
build "$REHEARSAL_BASE_IMAGE" base --target base --build-arg ROOT_IMAGE=dual-use/root:bookworm
build "$REHEARSAL_TORCH_IMAGE" base --target torch --build-arg ROOT_IMAGE=dual-use/root:bookworm
build "$REHEARSAL_TRAINER_IMAGE" trainer --build-arg "BASE_IMAGE=$REHEARSAL_TORCH_IMAGE" --build-arg KERNELS=skip
build "$REHEARSAL_VLLM_IMAGE" vllm --build-arg "TORCH_IMAGE=$REHEARSAL_TORCH_IMAGE"
build "$REHEARSAL_OPEN_WEBUI_IMAGE" open-webui --build-arg "TORCH_IMAGE=$REHEARSAL_TORCH_IMAGE"
