#!/usr/bin/env bash
# Usage: make-venv.sh REQUIREMENTS.txt
# Ensures that .venv has exactly the packages of the lock file, with checked hashes.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { printf 'ERROR 10: %s\n  saw:  %s\n  do:   %s\n' "$1" "$2" "$3" >&2; exit 10; }

[ "$(id -u)" != 0 ] || [ "${SUDO_USER:-root}" = root ] ||
  fail "do not use sudo here: it creates root-owned files that $SUDO_USER cannot change" "running through sudo" "run the same command without sudo, make setup first. To run it as root on purpose: env -u SUDO_USER make ..."

# the first that runs and is new enough: a name on the PATH may be a shim without a Python
python=
for candidate in python3 python3.13 python3.12 python3.11; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || fail "Python 3.11 or newer is needed" "$(python3 --version 2>&1 | head -n 1)" "apt-get install python3 python3-venv"
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    fail "Python's venv module is needed" "$python cannot import ensurepip" "sudo apt-get install python3-venv"
  printf 'python: installing python3-venv\n'
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv
fi
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
printf 'python: installing what %s lists\n' "$1"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$1" ||
  fail "a Python package could not be installed" "see above" "check the network, then run the same command again"
touch .venv/ready
