#!/usr/bin/env bash
# Ensures a Chromium, for tests that use the chat in a browser. Prints only its path on stdout. Exit 10: there is none, and
# this script cannot install one here. As root on Debian it installs the distribution's package.
set -euo pipefail

fail() { printf 'ERROR 10: %s\n  saw:  %s\n  do:   %s\n' "$1" "$2" "$3" >&2; exit 10; }
found() { command -v chromium || command -v chromium-browser || command -v google-chrome || true; }

if [ -z "$(found)" ]; then
  { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } ||
    fail "a Chromium is needed for the browser tests" "none on the PATH, and this user may not install packages" \
      "sudo apt-get install chromium"
  printf 'browser: installing chromium from the distribution\n' >&2
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium; } >&2 ||
    fail "chromium could not be installed" "see above" "check the network, then run the same command again"
fi
[ -n "$(found)" ] || fail "the distribution's chromium package brought no chromium" "none on the PATH" "install a Chromium, then run it again"
found | head -n 1
