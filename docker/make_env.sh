#!/usr/bin/env bash
# Makes .env from .env.example with a new value for every secret; one that exists stays.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-.env}

secret() {
    head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'
}

[[ ! -e $target ]] || { echo "$target exists already: it stays as it is" >&2; exit 0; }
umask 077
while IFS= read -r line; do
    [[ $line != *= ]] || line+=$(secret)
    printf '%s\n' "$line"
done <.env.example >"$target.new"
mv "$target.new" "$target"
echo "Made $target; Airflow's user is admin, its password is AIRFLOW_ADMIN_PASSWORD there"
