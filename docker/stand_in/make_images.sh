#!/usr/bin/env bash
# Makes both base images from Debian's packages, for machines that reach no image registry:
#   sudo docker/stand_in/make_images.sh
#   export PYTHON_IMAGE=fruits-stand-in-python:3.11 POSTGRES_IMAGE=fruits-stand-in-postgres:15
# Needs root, debootstrap and docker. Debian bookworm has Python 3.11 and PostgreSQL 15.
set -euo pipefail
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

debootstrap --variant=minbase --include=ca-certificates,netbase,python3-venv,tzdata \
    bookworm "$folder" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
# A proxy's certificate, which this machine trusts and pip has to.
cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
ln -s /usr/bin/python3 "$folder/usr/local/bin/python"
path=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
tar --create --directory "$folder" . |
    docker import --change "ENV $path LANG=C.UTF-8" - fruits-stand-in-python:3.11
# Containers may have no network of their own while they are built.
docker build --network host --file postgres.Dockerfile --tag fruits-stand-in-postgres:15 .
