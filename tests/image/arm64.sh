#!/usr/bin/env bash
# Usage: tests/image/arm64.sh
#
# The arm64 binary, cross-compiled on this machine as the Dockerfile does it, and run under qemu's user emulation:
# HTTP, the healthcheck, and the end by SIGTERM with a delayed request in flight. About a minute of one processor.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need qemu-user-static curl file
binary=$("$root/tests/image/static.sh" aarch64 | tail -1)
say "$(file --brief "$binary" | cut -d, -f1-4), $(stat -c %s "$binary") bytes"
# One step alone through qemu's loader, so that binfmt_misc need not be set up.
emulated=(qemu-aarch64-static "$binary")

log=$(mktemp)
"${emulated[@]}" --listen 127.0.0.1:0 --delay-max 0s >"$log" 2>&1 &
server=$!
trap 'kill -KILL $server 2>/dev/null || true; rm -f "$log"' EXIT
tries=0
until port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\)$/\1/p' "$log") && [ -n "$port" ]; do
    [ $((tries += 1)) -lt 100 ] || die "does not listen: $(cat "$log")"
    sleep 0.1
done

url=http://127.0.0.1:$port
curl -sS --max-time 10 "$url/version" | grep '"aarch64-unknown-linux-musl"' || die "/version does not name the target"
curl -sS --max-time 10 -d 'a body' "$url/echo" | grep -q 'a body' || die "the echo has lost the body"
curl -sS --max-time 10 "$url/metrics" | grep -q '^http_requests_total{.*route="echo"' || die "/metrics has no echo"
"${emulated[@]}" healthcheck "$url/healthz" || die "the healthcheck fails"
say "answers: /version, the echo, /metrics, the healthcheck"

answer=$(mktemp)
curl -sS --max-time 10 -o /dev/null -w '%{http_code}' "$url/delay/1s" >"$answer" &
client=$!
sleep 0.3
kill -TERM $server
wait $client || die "the request in flight was cut"
[ "$(cat "$answer")" = 200 ] || die "the request in flight got $(cat "$answer")"
rm -f "$answer"
wait $server || die "exit status $? after SIGTERM: $(cat "$log")"
tail -1 "$log" | grep 'drain finished: completed=1 cut=0' || die "the last line is: $(tail -1 "$log")"
say "SIGTERM: the request in flight was answered, exit status 0"
