#!/usr/bin/env bash
# Ensures that a Docker Engine answers and that Compose v2 is installed.
# Exit 0: both are. Exit 10: not both, and this script cannot install them here; it says what to do.
#
# On Debian and Ubuntu, as root, missing parts are installed from the distribution's own packages only.
# Debian 12 has no Compose v2: the engine and Compose come from Debian 13, whose packages run there
# (they need libc6 >= 2.34), beside Debian 12's own runc (Debian 13's needs libc6 2.38).
set -euo pipefail
export DOCKER_HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}   # regardless of the docker command's context

say() { printf '%s\n' "docker: $*"; }
fail() { printf 'ERROR 10: %s\n  saw:  %s\n  do:   %s\n' "$1" "$2" "$3" >&2; exit 10; }

docker_cli() { if [ -x /usr/bin/docker ]; then echo /usr/bin/docker; else command -v docker || true; fi; }
engine_answers() { [ -n "$(docker_cli)" ] && "$(docker_cli)" info >/dev/null 2>&1; }
compose_is_there() {
  [ -n "$(docker_cli)" ] && "$(docker_cli)" compose version >/dev/null 2>&1 && "$(docker_cli)" buildx version >/dev/null 2>&1
}
report() {
  local engine
  engine=$("$(docker_cli)" version --format '{{.Server.Version}}')
  # health checks with a start_interval came with engine 25
  [ "${engine%%.*}" -ge 25 ] || fail "Docker Engine 25 or newer is needed" "$engine" "update Docker Engine"
  say "engine $engine, compose $("$(docker_cli)" compose version --short)"
}

require_debian_root() {
  local system
  system=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-}") || system=unknown
  case "$system" in
    debian*|ubuntu*) ;;
    *) fail "Docker Engine and Compose v2 are needed" "$system, where this script installs nothing" \
            "install Docker Engine 25+ with the Compose 2.24+ and buildx plugins, then run the same command again" ;;
  esac
  [ "$(id -u)" = 0 ] || fail "Docker Engine and Compose v2 are needed" "user $(id -un), who may not install packages" \
    "sudo bash scripts/install-docker.sh"
}

install_from_own_release() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q docker.io "$1" docker-buildx
}

install_from_debian_13() {
  local work
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/sources" "$work/debs"
  awk '/^Types:|^URIs:|^Components:|^Signed-By:/ {print} /^Suites:/ {print "Suites: trixie"} /^$/ {exit}' \
    /etc/apt/sources.list.d/debian.sources >"$work/sources/trixie.sources" 2>/dev/null ||
    awk '$1 == "deb" && $2 !~ /security/ {print $1, $2, "trixie", "main"; exit}' /etc/apt/sources.list >"$work/sources/trixie.list"
  local options=(-q -o "Dir::State::Lists=$work/lists" -o "Dir::Etc::SourceParts=$work/sources" -o Dir::Etc::SourceList=/dev/null)
  apt-get "${options[@]}" update
  (cd "$work/debs" && apt-get "${options[@]}" download docker-cli docker.io docker-compose docker-buildx containerd)
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q runc iptables tini
  # docker-cli and an older docker.io have a file in common
  dpkg -i --force-overwrite "$work"/debs/*.deb
  rm -rf "$work"
}

install_packages() {
  say "not complete here; installing Docker Engine and Compose v2 from the distribution's packages"
  apt-get update -q
  if apt-cache show docker-compose-v2 >/dev/null 2>&1; then install_from_own_release docker-compose-v2
  elif apt-cache policy docker-compose | grep -q 'Candidate: 2'; then install_from_own_release docker-compose
  else install_from_debian_13; fi
}

start_engine() {
  if [ -d /run/systemd/system ]; then
    systemctl enable --now docker
  else
    say "no systemd here; starting dockerd by itself (log: /var/log/dockerd.log)"
    setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &
  fi
}

wait_for_engine() {
  local deadline=$((SECONDS + 60))
  until engine_answers; do
    [ "$SECONDS" -lt "$deadline" ] ||
      fail "the Docker Engine does not answer" "$("$(docker_cli)" info 2>&1 | tail -n 1)" \
           "read /var/log/dockerd.log or: journalctl -u docker"
    sleep 0.5
  done
}

main() {
  if engine_answers && compose_is_there; then report; return; fi
  if [ -n "$(docker_cli)" ] && grep -qi 'permission denied' <<<"$("$(docker_cli)" info 2>&1)"; then
    fail "permission denied on the Docker socket" "user $(id -un), who is not in the group docker" \
      "sudo usermod -aG docker \$USER, then log out and in (group changes apply at the next login)"
  fi
  require_debian_root
  if ! compose_is_there || ! command -v dockerd >/dev/null; then install_packages; fi
  engine_answers || start_engine
  wait_for_engine
  report
}

main "$@"
