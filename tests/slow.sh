#!/usr/bin/env bash
# Slow clients against the real binary, with slowhttptest (Debian): slow heads, slow bodies, slow reads.
#
# More slow connections than there are seats. While they last, /healthz has to answer within 100 ms, and at the end
# each of them has to be cut: slowhttptest has to find no connection left long before its time is over.
#
#   tests/slow.sh [BINARY]      default: target/release/httpserver, built first
set -euo pipefail
cd "$(dirname "$0")/.."

connections=400 seats=300 limit=5 length=30
binary=${1:-target/release/httpserver}

if ! command -v slowhttptest >/dev/null; then
    echo "installing slowhttptest"
    if ! { apt-get update -qq && apt-get install -qqy slowhttptest >/dev/null; }; then
        echo "NOT RUN: slow clients: slowhttptest is not here and cannot be installed"
        exit 1
    fi
fi
[ $# -gt 0 ] || cargo build --release --quiet

work=$(mktemp -d)
server=
# shellcheck disable=SC2317  # the trap calls it
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

ulimit -n 4096
"$binary" --listen 127.0.0.1:0 --delay-max 0s --max-connections "$seats" \
    --header-timeout "${limit}s" --body-timeout "${limit}s" --write-timeout "${limit}s" --idle-timeout "${limit}s" \
    --log-level info >"$work/stdout" 2>"$work/stderr" &
server=$!
for _ in $(seq 100); do
    address=$(sed -n 's/.*listening on //p' "$work/stderr")
    [ -z "$address" ] || break
    sleep 0.05
done
[ -n "$address" ] || { echo "the server does not listen:"; cat "$work/stderr"; exit 1; }
echo "server at $address: $seats seats, limits of $limit s, $connections slow connections for at most $length s"

# Probes until the slow clients' process has ended; prints how many, and the slowest in milliseconds.
probe() {
    local count=0 slowest=0 took status
    while kill -0 "$1" 2>/dev/null; do
        read -r status took < <(curl -s -o /dev/null --max-time 5 -w '%{http_code} %{time_total}\n' "http://$address/healthz" || true)
        took=$(awk -v t="$took" 'BEGIN { printf "%d", t * 1000 }')
        [ "$status" = 200 ] || { echo "/healthz answered $status" >&2; took=99999; }
        count=$((count + 1))
        [ "$took" -le "$slowest" ] || slowest=$took
        sleep 0.1
    done
    echo "$count $slowest"
}

failed=0
run() {
    local name=$1 count slowest slow took started=$SECONDS
    shift
    slowhttptest "$@" -c "$connections" -r 200 -l "$length" -p 3 >"$work/slow" 2>&1 &
    slow=$!
    read -r count slowest < <(probe "$slow")
    wait "$slow" || true
    took=$((SECONDS - started))
    sed -i 's/\x1b\[[0-9;]*[a-zA-Z]//g' "$work/slow"
    echo "$name: over after $took s, $count probes, the slowest $slowest ms;" \
        "$(grep -aE '^(connected|closed|error):' "$work/slow" | tail -3 | tr -s ' \n' ' ')"
    if [ "$count" -lt 10 ] || [ "$slowest" -ge 100 ]; then
        echo "FAILED: $name: /healthz took $slowest ms in $count probes"
        failed=1
    fi
    if ! grep -aq 'No open connections left' "$work/slow" || [ "$took" -ge "$((length - 5))" ]; then
        echo "FAILED: $name: slow connections were not cut:"
        tail -15 "$work/slow"
        failed=1
    fi
}

run "slow heads" -H -i 1 -x 10 -u "http://$address/"
run "slow bodies" -B -i 1 -s 8192 -x 10 -u "http://$address/"
run "slow reads" -X -n 1 -w 16 -y 64 -z 8 -k 3 -u "http://$address/bytes/16MiB"

curl -s "http://$address/metrics" | grep -E '^http_(rejected_requests_total\{reason="(header_timeout|body_timeout|write_timeout|shed)"|connections_total|open_connections)' || true
exit "$failed"
