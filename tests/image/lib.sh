# shellcheck shell=bash
# Shared by the scripts of this folder and by ../image.sh: where things are, how a script talks, and how it
# gets the Debian packages it needs. Sourced, never run.
#
# Everything that is made lies under the target directory, so that `cargo clean` removes it and a second run
# finds it again. Package names are the whole list of what these scripts take from outside, crates.io apart.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/image
mkdir -p "$work"
work=$(cd "$work" && pwd)

say() { printf '== %s\n' "$*"; }
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
not_run() { printf 'NOT RUN: %s: %s\n' "$1" "$2"; }

# need PACKAGE...: installs the Debian packages that are missing.
need() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" = 0 ] || die "these packages are missing, and only root can install them: ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get -qq -o DPkg::Lock::Timeout=600 update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 install -y \
        --no-install-recommends "${missing[@]}" >"$work/apt.log" 2>&1 || die "apt-get install: see $work/apt.log"
}

# The image's digest stays in the Dockerfile alone: this is what its build stage starts from.
base_image() { awk '$1 == "FROM" && $NF == "build" { print $(NF - 2) }' "$root/Dockerfile"; }

# Podman with storage, networks and settings of its own below the target directory: it changes nothing outside and
# runs where there is no systemd, with version 1 of cgroups, and with low limits for open files.
containers_setup() {
    need podman runc conmon containernetworking-plugins iptables iproute2 catatonit
    export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
    cat >"$CONTAINERS_CONF" <<END
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "cni"
network_config_dir = "$work/networks"
END
    cat >"$CONTAINERS_STORAGE_CONF" <<END
[storage]
driver = "$(storage_driver)"
graphroot = "$work/storage"
runroot = "$work/run"
END
    containers_traces >"$work/traces"
}

# What podman makes outside of the target directory: bridges, chains of iptables, cgroups.
containers_traces() {
    local tool table
    ip -brief link show type bridge | awk '{ print "bridge", $1 }'
    for tool in iptables ip6tables; do
        for table in nat filter; do
            "$tool" -t "$table" -S 2>/dev/null | awk -v at="$tool $table" '$1 == "-N" && $2 ~ /^CNI-/ { print at, $2 }'
        done
    done
    find /sys/fs/cgroup -maxdepth 2 -name libpod_parent -printf 'cgroup %p\n'
}

# Removes what of it was not there before; says what stays. Containers and networks have to be gone.
containers_cleanup() {
    local kind where name rule
    containers_traces | grep -vxFf "$work/traces" >"$work/traces.new" || true
    while read -r kind where name; do
        case $kind in
            bridge) ip link delete "$where" ;;
            cgroup) find "$where" -depth -type d -exec rmdir {} + ;;
            *)
                "$kind" -t "$where" -S | grep -e "-j $name\$" -e "-j $name " | sed 's/^-A/-D/' |
                    while read -r rule; do eval "$kind -t $where $rule"; done
                "$kind" -t "$where" -F "$name"
                ;;
        esac
    done <"$work/traces.new" 2>"$work/cleanup.log" || true
    while read -r kind where name; do
        case $kind in ip*tables) "$kind" -t "$where" -X "$name" ;; esac
    done <"$work/traces.new" 2>>"$work/cleanup.log" || true
    mountpoint -q "$work/storage/overlay" && umount "$work/storage/overlay" || true
    containers_traces | grep -vxFf "$work/traces" | sed 's/^/left behind: /' || true
}

# overlay where the file system below the target directory can carry it, else plain copies.
storage_driver() {
    local try=$work/overlay
    mkdir -p "$try"/{lower,upper,tmp,merged}
    if mount -t overlay overlay -o "lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/tmp" "$try/merged" 2>/dev/null; then
        umount "$try/merged"
        echo overlay
    else
        echo vfs
    fi
    rm -rf "$try"
}

# build_image TAG ARCH CONTEXT [ARGUMENT]...: builds the Dockerfile of CONTEXT, unchanged, with a local root file
# system in the place of the rust:alpine image: this machine's /usr, read-only, and the folder of toolchain.sh.
build_image() {
    local tag=$1 arch=$2 context=$3 empty=$work/build-root link
    shift 3
    if ! podman image exists localhost/build-root; then
        mkdir -p "$empty"/{usr,etc,tmp}
        for link in bin lib lib64 sbin; do ln -sfn "usr/$link" "$empty/$link"; done
        tar -C "$empty" -c . | podman import --quiet --change 'ENV PATH=/opt/toolchain/bin:/usr/bin:/bin' \
            --change 'ENV CARGO_HOME=/var/cargo' - localhost/build-root >/dev/null
    fi
    podman build --quiet --layers --format docker --isolation chroot --platform "linux/$arch" --tag "$tag" \
        --build-context "$(base_image)=container-image://localhost/build-root" \
        -v /usr:/usr:ro -v /etc/alternatives:/etc/alternatives:ro -v /etc/ssl:/etc/ssl:ro \
        -v "$work/toolchain:/opt/toolchain:ro" "$@" "$context" >"$work/build.log" 2>&1 ||
        { tail -40 "$work/build.log" >&2; die "the build of $tag: see $work/build.log"; }
}
