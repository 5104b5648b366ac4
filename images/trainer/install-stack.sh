#!/usr/bin/env bash
# install-stack.sh WHEELS_FOLDER   (inside a build) Installs the night's versions; keeps the installed torch and triton.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# NVIDIA's container may have another ModelOpt than the one that exports were tested with
provided='^(torch|triton|pytorch[-_]triton|numpy|pandas|pyarrow|scipy|nvidia[-_](?!modelopt|ml[-_]py).*)=='

core() { python3 -m pip list --format freeze | grep -iE '^(torch|triton|pytorch[-_]triton)==' | sort; }
before=$(core)

# the container's own versions become constraints that take precedence over ours
python3 -m pip list --format freeze | grep -iP "$provided" >/tmp/container.txt
names=$(cut -d= -f1 /tmp/container.txt | paste -sd '|')
grep -viE "^($names)==" "$here/constraints.txt" >/tmp/night.txt
find=(--find-links /wheelhouse)
"$here/install-beside.sh" "${find[@]}" -- /tmp/night.txt "$here/unsloth.txt"
python3 -m pip install --quiet "${find[@]}" --constraint /tmp/container.txt --constraint /tmp/night.txt \
  --requirement "$here/requirements.txt" einops ninja packaging
python3 -m pip install --quiet "${find[@]}" --no-deps --requirement "$here/unsloth.txt"
if compgen -G "$1/*.whl" >/dev/null; then python3 -m pip install --quiet --no-deps --no-index "$1"/*.whl; fi

after=$(core)
if [ "$before" != "$after" ]; then
  printf 'torch or triton was replaced:\n%s\nby\n%s\n' "$before" "$after" >&2
  exit 1
fi
