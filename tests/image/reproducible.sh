#!/usr/bin/env bash
# Usage: tests/image/reproducible.sh
#
# Shows that two builds of one commit give the same bytes. The binary: built in a temporary folder with a home of cargo
# of its own, and by the Dockerfile in /build; then the image, its layer and configuration, built twice, the second time
# without a cached layer. (Its id may differ: podman writes the ids of layers in between into the history.) Only what is
# committed counts. About four minutes of one processor.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
revision=$(git -C "$root" rev-parse HEAD)
epoch=$(git -C "$root" log -1 --format=%ct)
tag=localhost/httpserver-again
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# same WHAT FIRST SECOND
same() {
    [ "$2" = "$3" ] || die "$1 differs: $2, then $3"
    say "$1 is the same twice: $2"
}

image() {
    build_image "$tag" amd64 "$folder/some/place" --timestamp "$epoch" --build-arg "SOURCE_DATE_EPOCH=$epoch" \
        --build-arg "REVISION=$revision" --build-arg "CREATED=$(date -u -d "@$epoch" +%FT%TZ)" "$@"
    podman inspect --format '{{index .RootFS.Layers 0}} {{json .Config}}' "$tag"
}

mkdir -p "$folder/some/place"
git -C "$root" archive HEAD | tar -x -C "$folder/some/place"
containers_setup
"$root/tests/image/toolchain.sh" x86_64

say "building in $folder/some/place"
binary=$(CARGO_HOME=$folder/cargo STATIC_TARGET_DIR=$folder/output HTTPSERVER_REVISION=$revision \
    "$root/tests/image/static.sh" x86_64 "$folder/some/place" | tail -1)
say "building the image"
first=$(image)
container=$(podman create "$tag")
podman cp "$container:/httpserver" "$folder/httpserver"
podman rm "$container" >/dev/null 2>&1
same "binary, sha256" "$(sha256sum <"$binary")" "$(sha256sum <"$folder/httpserver")"
say "building the image again, nothing cached"
same "image, layer and configuration" "$first" "$(image --no-cache)"
podman rmi --force "$tag" >/dev/null
