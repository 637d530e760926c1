#!/usr/bin/env bash
# EMR bootstrap action: gives this node the jobs' Python packages, from wheels in the lake alone.
#
#   install_python_env.sh WHEELHOUSE LOCK_SHA256 ENVIRONMENT REGION
#
# WHEELHOUSE is s3://… (or a folder) with requirements.txt, whose SHA-256 is LOCK_SHA256, and a wheel
# for each of its lines: `make aws-publish` puts it there. ENVIRONMENT becomes a link to a virtual
# environment whose name holds the hash. No package index is asked; pip, itself one of the wheels,
# refuses a file without its hash in requirements.txt. REGION is the lake's. A Python 3.11 that is not there yet comes
# from Amazon Linux' own repository, which is in S3.
#
# Nothing is done where the packages are already: where ENVIRONMENT was made from this lock, now or
# when the machine's image was baked, or where the machine says beside instance.json that its own
# Python has them. EMR collects what this prints: <LogUri>/<cluster>/node/<instance>/bootstrap-actions.
set -euo pipefail
umask 022

(($# == 4)) || { echo "usage: install_python_env.sh WHEELHOUSE LOCK_SHA256 ENVIRONMENT REGION" >&2; exit 2; }
wheelhouse=${1%/} lock=$2 environment=${3%/} region=$4
# The instance's credentials: a node that has just begun may take longer than the CLI's one second.
export AWS_METADATA_SERVICE_TIMEOUT=5 AWS_METADATA_SERVICE_NUM_ATTEMPTS=5
[[ $lock =~ ^[0-9a-f]{64}$ ]] || { echo "LOCK_SHA256 is 64 hex digits, not '$lock'" >&2; exit 2; }
[[ $environment == /* ]] || { echo "ENVIRONMENT is an absolute path, not '$environment'" >&2; exit 2; }

info=$(dirname "${INSTANCE_INFO:-/mnt/var/lib/info/instance.json}")
target=$environment-${lock:0:12}
work=

fail() {
    printf 'install_python_env: %s\n  %s\n' "$1" "$2" >&2
    exit 1
}

already_there() {
    if grep -qsx "$lock" "$info/python-locks"; then
        echo "this machine's Python has the packages of lock ${lock:0:12}: nothing to install"
    elif [[ $(readlink "$environment") == "$target" ]] && grep -qsx "$lock" "$target/lock.sha256"; then
        echo "$environment has lock ${lock:0:12} already: nothing to install"
    else
        return 1
    fi
}

check_node() {
    local version free
    # Bootstrap actions run before EMR installs its applications, of which one may bring it.
    command -v python3.11 >/dev/null || sudo dnf --assumeyes --quiet install python3.11 || true
    version=$(python3.11 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version=none
    [[ $version == 3.11 ]] || fail "this node has no Python 3.11 (python3.11 is: $version)" \
        "Take a release that has it (FRUITS_RELEASE_LABEL=emr-spark-8.1.0), or a custom image with it."
    [[ ! -e $environment || -L $environment ]] || fail "$environment is there and was not made by this script" \
        "$(grep -s . "$info/python-lacks" || echo "Name another path in FRUITS_NODE_PYTHON, or remove it from the machine's image.")"
    sudo mkdir -p "$(dirname "$environment")"
    free=$(df -Pm "$(dirname "$environment")" | awk 'NR == 2 {print $4}')
    ((free >= 3072)) || fail "$(dirname "$environment") has $free MB free, 3072 MB are needed" \
        "Give the nodes a larger root disk (ROOT_DISK_GB in plugins/fruits/clusters.py)."
}

fetch() { # sets $wheels to a folder with what WHEELHOUSE holds
    if [[ $wheelhouse != s3://* ]]; then
        wheels=$wheelhouse
    else
        wheels=$work/wheels
        aws --region "$region" s3 cp --recursive --only-show-errors "$wheelhouse/" "$wheels" ||
            fail "$wheelhouse cannot be read" \
                "Allow s3:GetObject and s3:ListBucket on the lake to the nodes' role; their subnet needs the S3 endpoint."
    fi
    [[ -f $wheels/requirements.txt ]] || fail "there is no wheelhouse $wheelhouse" \
        "Publish it from the version that you run: make aws-publish."
}

check_lock() {
    local found
    found=$(sha256sum <"$wheels/requirements.txt")
    [[ ${found%% *} == "$lock" ]] || fail \
        "$wheelhouse/requirements.txt has SHA-256 ${found%% *}, not $lock" \
        "It was changed after it was published: find out by whom, delete the folder, make aws-publish."
}

install() {
    local pip
    pip=$(find "$wheels" -maxdepth 1 -name 'pip-*.whl' -print -quit)
    [[ -n $pip ]] || missing_wheel "pip"
    # Nothing of this file runs before its hash is known to be the lock's.
    grep -qF "sha256:$(sha256sum "$pip" | cut -d' ' -f1)" "$wheels/requirements.txt" ||
        wrong_hash "$(basename "$pip")"
    sudo rm -rf "$target"
    sudo python3.11 -m venv --without-pip "$target"
    sudo "$target/bin/python" "$pip/pip" --isolated --disable-pip-version-check --no-cache-dir install \
        --quiet --no-index --find-links "$wheels" --require-hashes --only-binary :all: --no-deps --no-compile \
        --requirement "$wheels/requirements.txt" 2>"$work/pip.log" || explain_pip
    cat "$work/pip.log" >&2
    # On every core: pip would take one. Left out, each Python worker would do it, for the folder is root's.
    sudo "$target/bin/python" -m compileall -q -j 0 "$target/lib" || true
}

explain_pip() {
    local line
    cat "$work/pip.log" >&2
    if grep -q 'DO NOT MATCH THE HASHES' "$work/pip.log"; then
        line=$(grep -m1 -E '^ +[A-Za-z0-9._-]+(==[^ ]*)? from ' "$work/pip.log" || true)
        wrong_hash "$(awk '{print $1}' <<<"$line")"
    elif grep -q 'No matching distribution found for' "$work/pip.log"; then
        line=$(grep -m1 -o 'No matching distribution found for [^ ]*' "$work/pip.log")
        missing_wheel "${line##* }"
    elif grep -q 'No space left on device' "$work/pip.log"; then
        fail "the disk was full before everything was installed" \
            "Give the nodes a larger root disk (ROOT_DISK_GB in plugins/fruits/clusters.py)."
    fi
    fail "pip could not install the wheels of $wheelhouse" "Its last words are above."
}

missing_wheel() {
    fail "$wheelhouse has no wheel of $1 for this node ($(uname -m), Python 3.11)" \
        "Publish the wheelhouse again: make aws-publish. Wheels are for x86_64: Graviton types have none."
}

wrong_hash() {
    fail "the wheel of ${1:-a package} is not the one whose hash requirements.txt holds" \
        "It was changed after it was published: find out by whom, delete the folder, make aws-publish."
}

already_there && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check_node
fetch
check_lock
install
# The lock's hash comes last: an environment that was interrupted is made again.
echo "$lock" | sudo tee "$target/lock.sha256" >/dev/null
sudo ln -sfn "$target" "$environment"
installed=$(find "$target/lib/python3.11/site-packages" -maxdepth 1 -name '*.dist-info' | wc -l)
echo "$environment has $installed pinned packages of lock ${lock:0:12}, after $SECONDS s"
