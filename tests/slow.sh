#!/usr/bin/env bash
# Slow clients against the real binary, with slowhttptest (Debian): slow heads, slow bodies, slow reads.
#
# More slow connections than there are slots. While they last, the median of the probes stays under 100 ms and the
# slowest under 2 s (on a quiet machine it is under 100 ms too), and at the end each slow connection has to be cut: the
# server holds none of them long before slowhttptest's time is over.
#
#   tests/slow.sh [BINARY]      default: target/release/httpserver, built first
set -euo pipefail
cd "$(dirname "$0")/.."

connections=400 slots=300 limit=5 length=30
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
"$binary" --listen 127.0.0.1:0 --delay-max 0s --max-connections "$slots" \
    --header-timeout "${limit}s" --body-timeout "${limit}s" --write-timeout "${limit}s" --idle-timeout "${limit}s" \
    --log-level info >"$work/stdout" 2>"$work/stderr" &
server=$!
for _ in $(seq 100); do
    address=$(sed -n 's/.*listening on //p' "$work/stderr")
    [ -z "$address" ] || break
    sleep 0.05
done
[ -n "$address" ] || { echo "the server does not listen:"; cat "$work/stderr"; exit 1; }
echo "server at $address: $slots slots, limits of $limit s, $connections slow connections for at most $length s"

metric() {
    curl -s --max-time 5 "http://$address/metrics" | awk -v name="$1" '$1 == name { print $2 }'
}

# Probes until the slow clients' process has ended. Prints how many, the median and the slowest in milliseconds, and after how many
# seconds the server held no connection but the probe's own, or "never".
probe() {
    local count=0 times=() median slowest took status open held=0 cut=never started=$SECONDS
    while kill -0 "$1" 2>/dev/null; do
        read -r status took < <(curl -s -o /dev/null --max-time 5 -w '%{http_code} %{time_total}\n' "http://$address/healthz" || true)
        took=$(awk -v t="$took" 'BEGIN { printf "%d", t * 1000 }')
        [ "$status" = 200 ] || { echo "/healthz answered $status" >&2; took=99999; }
        count=$((count + 1))
        times+=("$took")
        open=$(metric http_open_connections)
        [ "${open:-0}" -lt $((slots / 2)) ] || held=1
        if [ "$held" = 1 ] && [ "$cut" = never ] && [ "${open:-99}" -le 1 ]; then
            cut=$((SECONDS - started))
        fi
        sleep 0.1
    done
    read -r median slowest < <(printf '%s\n' "${times[@]}" | sort -n | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)], t[NR] }')
    echo "$count $median $slowest $cut"
}

failed=0
run() {
    local name=$1 count median slowest slow cut
    shift
    slowhttptest "$@" -c "$connections" -r 200 -l "$length" -p 3 >"$work/slow" 2>&1 &
    slow=$!
    read -r count median slowest cut < <(probe "$slow")
    wait "$slow" || true
    [ "$cut" = never ] || cut="$cut s"
    echo "$name: $count probes, median $median ms, the slowest $slowest ms; none held after: $cut;" \
        "$(sed 's/\x1b\[[0-9;]*[a-zA-Z]//g' "$work/slow" | grep -a 'Exit status' || true)"
    if [ "$count" -lt 10 ] || [ "$median" -ge 100 ] || [ "$slowest" -ge 2000 ]; then
        echo "FAILED: $name: /healthz took $median ms in the median and $slowest ms at most, in $count probes"
        failed=1
    fi
    # A head or body client sees its own end too, and slowhttptest is over; a slow reader reads on from the kernel's buffer.
    if [ "$cut" = never ] && ! grep -aq 'No open connections left' "$work/slow"; then
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
