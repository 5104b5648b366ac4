#!/usr/bin/env bash
# install-beside.sh PIP-OPTIONS... -- VERSIONS_FILE...   (inside a build)
# What the distribution's own packages installed has no RECORD, and pip ends with "Cannot uninstall wheel 0.42.0, RECORD file not
# found" where another version is wanted (https://github.com/NVIDIA/bionemo-framework/issues/1489). The versions that the files
# name are therefore put beside it, into the folder that Python looks into first; pip then finds what is wanted.
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
