#!/usr/bin/env bash
# Usage: tests/image/sbom.sh [OUTPUT]
#
# Writes the bill of materials of the image's binary (CycloneDX 1.5, JSON) to OUTPUT, by default
# target/image/httpserver.cdx.json: the packages that are compiled into it for the image's target, with versions,
# licences and checksums. And checks it: the direct packages are those of Cargo.toml, and each has a licence.
# The first run compiles cargo-cyclonedx, some minutes of one processor. It is chosen over cargo-auditable because it
# leaves the binary and the Dockerfile as they are.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
output=${1:-$work/httpserver.cdx.json}
tool=$work/cargo-tools/bin/cargo-cyclonedx

[ -x "$tool" ] || { say "installing cargo-cyclonedx" && cargo install --quiet --locked --root "$work/cargo-tools" cargo-cyclonedx@0.5.9; }
need jq
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct) "$tool" cyclonedx --quiet --format json --spec-version 1.5 \
    --target x86_64-unknown-linux-musl --no-build-deps --manifest-path "$root/Cargo.toml" \
    --override-filename httpserver-sbom
mv "$root/httpserver-sbom.json" "$output"

direct=$(jq -r '. as $bom | .dependencies[] | select(.ref == $bom.metadata.component."bom-ref") | .dependsOn[]' "$output" |
    sed 's/.*#//; s/@.*//' | sort | xargs)
wanted=$(sed -n '/^\[dependencies\]/,/^\[/s/^\([a-z-]*\) *=.*/\1/p' "$root/Cargo.toml" | sort | xargs)
[ "$direct" = "$wanted" ] || die "the direct packages are \"$direct\", expected \"$wanted\""
nameless=$(jq -r '.components[] | select((.licenses | length) == 0) | .name' "$output")
[ -z "$nameless" ] || die "no licence: $nameless"
say "$output: $(jq '.components | length' "$output") packages, direct: $direct"
