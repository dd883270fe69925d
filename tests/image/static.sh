#!/usr/bin/env bash
# Usage: tests/image/static.sh [x86_64|aarch64] [SOURCE_FOLDER]
#
# Builds the image's static binary without a container, with the Dockerfile's own command and the toolchain of
# toolchain.sh, and prints its path. Takes about a minute of one processor the first time.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
arch=${1:-x86_64}
source=$(cd "${2:-$root}" && pwd)
target=$arch-unknown-linux-musl

"$root/tests/image/toolchain.sh" "$arch" >&2
export PATH=$work/toolchain/bin:$PATH RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=${STATIC_TARGET_DIR:-$work/static}
cd "$source"
cargo --config .cargo/static.toml build --quiet --release --locked --target "$target" --bin httpserver
echo "$CARGO_TARGET_DIR/$target/release/httpserver"
