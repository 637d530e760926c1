#!/usr/bin/env bash
# Sets the database up on the first start, as the official image does, then runs the server.
set -euo pipefail

if [[ $(id -u) == 0 ]]; then
    install --directory --owner=postgres --mode=700 "$PGDATA"
    install --directory --owner=postgres /var/run/postgresql
    exec gosu postgres "$0"
fi
if [[ ! -s $PGDATA/PG_VERSION ]]; then
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
        --auth-local=trust --auth-host=scram-sha-256
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --options="-c listen_addresses=''" start
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    for file in /docker-entrypoint-initdb.d/*.sql; do
        psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --file="$file"
    done
    pg_ctl --wait --mode=fast stop
fi
exec postgres -c listen_addresses='*'
