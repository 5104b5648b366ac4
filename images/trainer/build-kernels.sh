#!/usr/bin/env bash
# Builds wheels of causal-conv1d and mamba-ssm for one GPU architecture, with the installed torch and nvcc.
#
#   build-kernels.sh ARCHITECTURE CACHE_FOLDER [SOURCES_FOLDER]
#   build-kernels.sh 121 /var/cache/kernels      121 is a GB10, 90 an H100 or H200
#
# The last line of output is the folder of the wheels. Wheels that the cache has for this architecture, torch and kernels.txt
# are not built again. SOURCES_FOLDER: has the source archives of kernels.txt, for a machine that reaches no index.
set -euo pipefail
architecture=$1 cache=$2 sources=${3:-}
here=$(dirname "$(readlink -f "$0")")

versions=$(python3 -c 'import torch, sys; print(f"torch{torch.__version__}-cp{sys.version_info.major}{sys.version_info.minor}")')
wheels=$cache/sm$architecture-$versions-$(sha256sum "$here/kernels.txt" | cut -c1-8)
if [ -e "$wheels/complete" ]; then
  echo "kernels: found in the cache" >&2
  echo "$wheels"
  exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# never download the prebuilt wheel whose URL their setup.py guesses
export CAUSAL_CONV1D_FORCE_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE
# one large translation unit takes up to 4 GB, and two packages build at once
available=$(awk '/^MemAvailable:/ {print int($2 / 8000000)}' /proc/meminfo)
export MAX_JOBS=${MAX_JOBS:-$(printf '%s\n' $(($(nproc) / 2)) "$available" | sort -n | awk 'NR == 1 {print $1 > 0 ? $1 : 1}')}

# SKIP_CUDA_BUILD: pip runs setup.py for the metadata before it returns the archive
CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE python3 -m pip download --quiet --no-deps \
  --no-build-isolation --no-binary :all: --require-hashes --requirement "$here/kernels.txt" --dest "$work" \
  ${sources:+--no-index --find-links "$sources"}

build() { # source archive
  local folder=$work/${1%.tar.gz} log=$work/${1%.tar.gz}.log started=$SECONDS
  tar -xzf "$work/$1" -C "$work"
  python3 "$here/keep_one_architecture.py" "$folder/setup.py" "$architecture"
  echo "kernels: building ${1%.tar.gz} for sm_$architecture, $MAX_JOBS jobs; minutes" >&2
  python3 -m pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir "$work/wheels" "$folder" >"$log" 2>&1 \
    || { tail -n 40 "$log" >&2; return 1; }
  echo "kernels: ${1%.tar.gz} ready ($((SECONDS - started)) s)" >&2
}

pids=()
for archive in "$work"/*.tar.gz; do
  build "$(basename "$archive")" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done

mkdir -p "$wheels"
cp "$work"/wheels/*.whl "$wheels/"
touch "$wheels/complete"
echo "$wheels"
