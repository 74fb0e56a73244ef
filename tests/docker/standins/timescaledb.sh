#!/bin/sh
# As the entry point of the original: an empty volume gets a database, and the scripts of the folder run while the
# server listens on its socket alone.
set -eu

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /run/postgresql
    chown postgres:postgres "$PGDATA" /run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

options="-c shared_preload_libraries=timescaledb -c timescaledb.telemetry_level=off -c jit=off"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # shellcheck disable=SC2086 - several options in one variable
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --encoding=UTF8 --locale=C.UTF-8 \
        $POSTGRES_INITDB_ARGS
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl --wait start --options="$options -c listen_addresses=''"
    for script in /docker-entrypoint-initdb.d/*.sh; do
        sh "$script"
    done
    pg_ctl --wait --mode=fast stop
fi
# shellcheck disable=SC2086
exec "$@" $options -c listen_addresses='*' -c shared_buffers=256MB
