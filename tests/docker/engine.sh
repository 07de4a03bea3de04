#!/usr/bin/env bash
# A Docker engine of one's own, for tests: a private socket and data folder, no registry, no bridge.
#
#   tests/docker/engine.sh start FOLDER    start it (as root), make the test images, print its address
#   tests/docker/engine.sh stop FOLDER     stop it, remove the folder
#
# Needs `dockerd`, `docker` and a static `busybox` (Debian: docker.io, busybox-static).
set -euo pipefail

say() { echo "engine: $*" >&2; }

# Overlay where the folder's file system can carry it; else vfs, which copies whole images.
driver_for() {
    local probe="$1/probe" found=vfs
    mkdir -p "$probe"/{lower,upper,work,merged}
    if mount -t overlay overlay \
        -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" \
        "$probe/merged" 2>/dev/null; then
        umount "$probe/merged"
        found=overlay2
    fi
    rm -rf "$probe"
    echo "$found"
}

answers() { docker -H "unix://$1/docker.sock" version >/dev/null 2>&1; }

# containerd is a service of its own, as everywhere: it outlives a dockerd that is killed.
containers() {
    local folder="$1"
    mkdir -p "$folder/containerd"
    cat >"$folder/containerd/config.toml" <<END
version = 2
root = "$folder/containerd/root"
state = "$folder/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$folder/containerd/containerd.sock"
END
    env -i PATH="$PATH" setsid containerd --config "$folder/containerd/config.toml" \
        >>"$folder/containerd/log" 2>&1 </dev/null &
    echo $! >"$folder/containerd/pid"
    disown
    for _ in $(seq 300); do
        [ -S "$folder/containerd/containerd.sock" ] && return
        sleep 0.1
    done
    say "containerd does not begin; the end of its log:"
    tail -n 20 "$folder/containerd/log" >&2
    exit 1
}

# Starts dockerd; more arguments are its own. Nothing of our environment goes to it.
serve() {
    local folder="$1"
    shift
    env -i PATH="$PATH" setsid dockerd \
        -H "unix://$folder/docker.sock" --containerd "$folder/containerd/containerd.sock" \
        --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/docker.pid" \
        --storage-driver "$(cat "$folder/driver")" \
        --bridge=none --iptables=false --ip6tables=false "$@" \
        >>"$folder/log" 2>&1 </dev/null &
    disown
    for _ in $(seq 300); do
        answers "$folder" && return
        sleep 0.1
    done
    say "dockerd does not answer; the end of its log:"
    tail -n 20 "$folder/log" >&2
    exit 1
}

# A root file system with a shell, and one with the libraries that this machine's Python needs.
images() {
    local folder="$1" host="unix://$1/docker.sock" root="$1/root"
    mkdir -p "$root"/{bin,tmp,etc,lib64,proc,sys,dev}
    chmod 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    local name
    for name in sh cat echo sleep true false env id ls touch dd yes head kill mkdir stat test tr wc printf ln; do
        ln -s busybox "$root/bin/$name"
    done
    echo 'root:x:0:0::/tmp:/bin/sh' >"$root/etc/passwd"
    tar -C "$root" -c . | docker -H "$host" import - onready-test-shell:1 >/dev/null
    local library
    for library in $(ldconfig -p | awk '/x86-64|aarch64|AArch64/ {print $NF}' |
        grep -E '/(libc|libm|libdl|librt|libutil|libpthread|libresolv|libgcc_s|libstdc\+\+|libz|libssl|libcrypto|libffi|libsqlite3|liblzma|libbz2|libuuid|libexpat|libgomp|libnss_files|libreadline|libtinfo|libncursesw|libmvec)\.so\.[0-9]'); do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
    for library in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1; do
        [ -e "$library" ] && mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library"
    done
    tar -C "$root" -c . | docker -H "$host" import - onready-test-python:1 >/dev/null
    rm -rf "$root"
}

# Ends the process of a pid file: TERM, 20 seconds, KILL.
end() {
    [ -e "$1" ] || return 0
    local pid
    pid="$(cat "$1")"
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 200); do
        grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" || return 0
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
}

case "${1:-}" in
start)
    folder="$(mkdir -p "$2" && cd "$2" && pwd)"
    for program in dockerd containerd docker busybox; do
        command -v "$program" >/dev/null || { say "$program is not installed"; exit 3; }
    done
    driver_for "$folder" >"$folder/driver"
    containers "$folder"
    serve "$folder" "${@:3}"
    images "$folder"
    echo "unix://$folder/docker.sock"
    ;;
serve)
    serve "$(cd "$2" && pwd)" "${@:3}"
    ;;
stop)
    folder="$(cd "$2" && pwd)"
    for file in "$folder/docker.pid" "$folder/containerd/pid"; do
        end "$file"
    done
    for place in $(awk -v f="$folder/" 'index($2, f) == 1 {print $2}' /proc/mounts | sort -r); do
        umount -l "$place" || true
    done
    rm -rf "$folder"
    ;;
*)
    say "start FOLDER, serve FOLDER or stop FOLDER"
    exit 2
    ;;
esac
