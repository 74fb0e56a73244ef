#!/bin/sh
# Runs once, on an empty volume, as the superuser: the owner of the tables, and the roles that see least.
set -eu

role() {
    # The password goes in by a variable of psql, which quotes it, and is on no command line.
    printf "\\\\set password \`cat /run/secrets/%s\`\nCREATE ROLE %s LOGIN PASSWORD :'password';\n" "$2" "$1" |
        psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres
}

role sluice database_owner_password
role sluice_writer database_writer_password
role sluice_emqx database_emqx_password
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --command "CREATE DATABASE sluice OWNER sluice"
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname sluice --command "CREATE EXTENSION IF NOT EXISTS timescaledb"
