#!/usr/bin/env bash
# install-beside.sh PIP-OPTIONS... -- VERSIONS_FILE...   (inside a build)
# Packages of the distribution have no RECORD, and pip fails with "Cannot uninstall wheel 0.42.0, RECORD file not found" if
# another version is wanted (https://github.com/NVIDIA/bionemo-framework/issues/1489). So the versions in the files are
# installed beside them, in the folder that Python searches first, and pip then finds them.
set -euo pipefail
options=()
while [ "$1" != -- ]; do options+=("$1"); shift; done
shift

unowned=$(python3 -c '
import importlib.metadata as metadata, re
found = {row.metadata["Name"] for row in metadata.distributions() if row.read_text("RECORD") is None}
print("|".join(sorted(re.sub("[-_.]+", "[-_.]+", name) for name in found if name)))')
[ -n "$unowned" ] || exit 0
wanted=$(grep -ihE "^($unowned)==" "$@" | sort -u | grep . || true)
[ -n "$wanted" ] || exit 0
printf 'beside the distribution'\''s own: %s\n' "${wanted//$'\n'/, }"
python3 -m pip install --quiet --no-deps --ignore-installed "${options[@]}" --requirement <(printf '%s\n' "$wanted")
