#!/usr/bin/env bash
# The page in a real browser: headless Chromium against the real binary, alone and behind HAProxy.
#
#   tests/page.sh [BINARY]             default: target/release/httpserver, built first
#   tests/page.sh --screenshot [BINARY]    also makes tests/page/screenshot.png, the picture in the README
#
# As root on Debian it installs what is missing. What it takes from npm lies in a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."

playwright=playwright-core@1.56.1

not_run() { echo "NOT RUN: $1: $2"; }

install() { # PROGRAM PACKAGE: installs the package if the program is missing
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    echo "installing $2"
    { apt-get -o DPkg::Lock::Timeout=300 update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qq -y \
            --no-install-recommends "$2" >/dev/null; } || return 1
}

picture=
if [ "${1:-}" = --screenshot ]; then
    picture=tests/page/screenshot.png
    shift
fi
binary=${1:-target/release/httpserver}
[ $# -gt 0 ] || cargo build --release --quiet

for need in chromium=chromium node=nodejs npm=npm; do
    install "${need%=*}" "${need#*=}" ||
        { not_run "the page in a browser" "${need%=*} is not here and cannot be installed"; exit 0; }
done
install haproxy haproxy || true # the tests that need it say that it is missing

modules=$(mktemp -d)
trap 'rm -rf "$modules"' EXIT
npm --prefix "$modules" install --silent --no-audit --no-fund --ignore-scripts "$playwright" ||
    { not_run "the page in a browser" "npm does not give $playwright"; exit 0; }

export BINARY=$binary MODULES=$modules
CHROMIUM=$(command -v chromium)
export CHROMIUM
node tests/page/tests.mjs
if [ -n "$picture" ]; then
    install pngquant pngquant || not_run "a smaller screenshot" "pngquant is not here and cannot be installed"
    node tests/page/screenshot.mjs "$picture"
    ! command -v pngquant >/dev/null || pngquant --force --strip --speed 1 --output "$picture" "$picture"
    size=$(stat -c %s "$picture")
    [ "$size" -lt 150000 ] || { echo "$picture has $size bytes, more than 150,000" >&2; exit 1; }
    echo "$picture: $size bytes"
fi
