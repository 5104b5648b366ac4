#!/usr/bin/env bash
# Usage: make-venv.sh REQUIREMENTS.txt
# Makes sure that .venv is there and holds exactly what the lock file says, hashes checked.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { printf 'ERROR 10: %s\n  saw:  %s\n  do:   %s\n' "$1" "$2" "$3" >&2; exit 10; }

python=$(command -v python3.12 || command -v python3.11 || command -v python3 || true)
[ -n "$python" ] || fail "Python 3.11 or newer is needed" "no python3" "apt-get install python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "Python 3.11 or newer is needed" "$("$python" --version)" "install python3.11 or newer beside it"
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    fail "Python's venv module is needed" "$python has none" "sudo apt-get install python3-venv"
  printf 'python: installing python3-venv\n'
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
printf 'python: installing what %s lists\n' "$1"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$1" 2>&1 | grep -v '^WARNING: Location' || true
.venv/bin/python -c 'import docker, dotenv, tenacity, requests, click, rich, pypdf, fpdf' ||
  fail "a Python package could not be installed" "see above" "check the network, then run the same command again"
touch .venv/ready
