#!/usr/bin/env bash
# Builds the missing images of the rehearsal. A tag is a hash of what an image is
# built from (glue/core/image_tags.py), so an existing image is not built again.
#
# Reads from the environment (glue sets them; `make setup` is the way to call this):
#   REHEARSAL_*_IMAGE  the references of env/images.env, with their tags
#   MODEL_IMAGE        the one of them that brings the model, MODEL_FOLDER of its Dockerfile, and MODEL_CONTEXT
#   WHEELHOUSE         a folder of Python wheels to look in before the package index, or empty
#   EXTRA_CA           a CA bundle that builds must trust, such as an office's own, or empty
set -euo pipefail
cd "$(dirname "$0")"

wheelhouse=${WHEELHOUSE:-no-wheelhouse}
root=dual-use/root:${REHEARSAL_ROOT_IMAGE##*:}
there() { docker image inspect "$1" >/dev/null 2>&1; }
build() { # image, context, further arguments
  local image=$1 context=$2 started=$SECONDS
  shift 2
  if there "$image"; then return; fi
  printf 'image %s ...\n' "$image"
  docker build --quiet --tag "$image" "$@" \
    --build-context "wheelhouse=$wheelhouse" \
    ${EXTRA_CA:+--secret "id=extra_ca,src=$EXTRA_CA"} \
    "$context" >/dev/null
  printf 'image %s: ready (%d s)\n' "$image" $((SECONDS - started))
}
night() {
  build "$REHEARSAL_TRAINER_IMAGE" trainer --build-arg "BASE_IMAGE=$REHEARSAL_TORCH_IMAGE" --build-arg KERNELS=skip
  build "$MODEL_IMAGE" "../$MODEL_CONTEXT" --file "$MODEL_FOLDER/Dockerfile" --build-arg "TRAINER_IMAGE=$REHEARSAL_TRAINER_IMAGE"
}
day() {
  build "$REHEARSAL_VLLM_IMAGE" vllm --build-arg "TORCH_IMAGE=$REHEARSAL_TORCH_IMAGE"
  build "$REHEARSAL_OPEN_WEBUI_IMAGE" open-webui --build-arg "TORCH_IMAGE=$REHEARSAL_TORCH_IMAGE"
}

there "$REHEARSAL_BASE_IMAGE" && there "$REHEARSAL_TORCH_IMAGE" || base/make-root.sh "$root" "$REHEARSAL_ROOT_IMAGE"
build "$REHEARSAL_BASE_IMAGE" base --target base --build-arg "ROOT_IMAGE=$root"
build "$REHEARSAL_TORCH_IMAGE" base --target torch --build-arg "ROOT_IMAGE=$root"
# in parallel: packages are written to disk while the practice model trains
night & night=$!
day & day=$!
failed=0
wait "$night" || failed=1
wait "$day" || failed=1
exit "$failed"
