#!/usr/bin/env bash
# Usage: tests/image/toolchain.sh [x86_64|aarch64]...
#
# Puts together, from Debian's packages alone, a Rust toolchain with musl targets that is laid out as the one in
# the rust:alpine image: `rustc`, `cargo`, `rustup` and `rust-lld` on the PATH, and for each target the folder
# `self-contained` with musl's libc, its start files and LLVM's unwinder. So the Dockerfile and static.sh run the
# same commands with it as with the real one, where no image registry and no rustup server can be reached.
#
# The parts are in the place of rustup's: Debian's rustc-web (its version is that of the Dockerfile's image up to
# the patch number) for rustc and the source of std, musl-dev for libc, libunwind-14-dev for the unwinder, since
# gcc's libgcc_eh.a links too but crashes, and lld for rust-lld. The arm64 packages are unpacked, not installed.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
[ $# -gt 0 ] || set -- x86_64

need ca-certificates gcc libc6-dev rustc-web cargo-web rust-web-src lld-14 binutils
tools=$work/toolchain
rustlib=$tools/lib/rustlib

# wrapper NAME LINE...: a command of the toolchain.
wrapper() {
    printf '%s\n' '#!/bin/sh' "${@:2}" >"$tools/bin/$1"
    chmod 755 "$tools/bin/$1"
}

make_tools() {
    mkdir -p "$tools/bin" "$rustlib"
    ln -sfn /usr/lib/rustlib/src "$rustlib/src"
    ln -sfn /usr/lib/rustlib/x86_64-unknown-linux-gnu "$rustlib/x86_64-unknown-linux-gnu"
    # --sysroot makes rustc look for targets and for std's source in this folder.
    # shellcheck disable=SC2016 # expanded when the wrapper runs
    wrapper rustc 'exec /usr/bin/rustc --sysroot "${0%/bin/*}" "$@"'
    # shellcheck disable=SC2016
    wrapper cargo 'RUSTC="${0%/*}/rustc" exec /usr/bin/cargo "$@"'
    # shellcheck disable=SC2016
    wrapper rust-lld 'exec /usr/bin/lld-14 "$@"'
    # The Dockerfile asks rustup for targets and for the source of std: both are here already, or this says so.
    # shellcheck disable=SC2016
    wrapper rustup \
        'case "$1 $2 $3" in' \
        '"component add rust-src") test -e "${0%/bin/*}/lib/rustlib/src/rust/library" ;;' \
        '"target add $3") test -e "${0%/bin/*}/lib/rustlib/$3/lib/self-contained" ;;' \
        '*) echo "rustup stand-in: not known: $*" >&2; exit 1 ;;' \
        'esac'
}

# unpack DEBIAN_ARCH FOLDER PACKAGE...: the packages of another architecture, without telling dpkg about it.
unpack() {
    local arch=$1 folder=$2 package
    shift 2
    mkdir -p "$folder/lists/partial" "$folder/debs"
    local apt=(apt-get -qq -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder" -o "APT::Sandbox::User=root"
        -o "APT::Architectures=$arch" -o "APT::Architectures::=$arch")
    "${apt[@]}" update
    (cd "$folder/debs" && "${apt[@]}" download "${@/%/:$arch}")
    for package in "$folder"/debs/*.deb; do dpkg-deb -x "$package" "$folder"; done
}

# add_target ARCH DEBIAN_ARCH ROOT OBJCOPY: fills the `self-contained` folder of one target.
add_target() {
    local lib=$rustlib/$1-unknown-linux-musl/lib/self-contained musl=$3/usr/lib/$1-linux-musl file gcc
    mkdir -p "$lib.part"
    for file in "$musl"/{crt1.o,rcrt1.o,Scrt1.o,crti.o,crtn.o,libc.a}; do cp "$file" "$lib.part/"; done
    gcc=$(echo "$3"/usr/lib/gcc/"$1"-linux-gnu/*/)
    for file in crtbegin.o crtbeginS.o crtend.o crtendS.o; do cp "$gcc/$file" "$lib.part/"; done
    # Debian's unwinder prints through glibc's __fprintf_chk, only before it aborts; musl has none: abort at once.
    # And it asks the linker for glibc's libdl and libpthread, which in musl are part of libc.
    "$4" --redefine-sym __fprintf_chk=abort --remove-section .deplibs "$3/usr/lib/llvm-14/lib/libunwind.a" "$lib.part/libunwind.a"
    mv "$lib.part" "$lib"
}

make_tools
for arch in "$@"; do
    [ -e "$rustlib/$arch-unknown-linux-musl/lib/self-contained" ] && continue
    say "toolchain: the target $arch-unknown-linux-musl"
    rm -rf "$rustlib/$arch-unknown-linux-musl"
    case $arch in
    x86_64)
        need musl-dev libunwind-14-dev
        add_target x86_64 amd64 "" objcopy
        ;;
    aarch64)
        need binutils-aarch64-linux-gnu
        gcc_version=$(gcc -dumpversion)
        rm -rf "$work/arm64"
        unpack arm64 "$work/arm64" musl-dev libunwind-14-dev "libgcc-${gcc_version%%.*}-dev"
        add_target aarch64 arm64 "$work/arm64" aarch64-linux-gnu-objcopy
        ;;
    *) die "no such architecture: $arch (expected x86_64 or aarch64)" ;;
    esac
done
say "toolchain: $("$tools/bin/rustc" --version) in $tools"
