#!/bin/sh
# Runs automatically on an empty volume, as the superuser: the owner of the tables, and the roles that see least. Run again
# by hand it gives all of them the passwords of the secrets, see docs/deploy.md.
set -eu

sql() { psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$1"; }

role() {
    # The password goes in by a variable of psql, which quotes it, and is on no command line.
    sql postgres <<EOF
\set password \`cat /run/secrets/$2\`
SELECT 'CREATE ROLE $1 LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$1') \gexec
ALTER ROLE $1 PASSWORD :'password';
EOF
}

role sluice database_owner_password
role sluice_writer database_writer_password
role sluice_emqx database_emqx_password
role sluice_reader database_reader_password
role sluice_web database_web_password
role "$POSTGRES_USER" postgres_password
sql postgres <<'EOF'
SELECT 'CREATE DATABASE sluice OWNER sluice'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'sluice') \gexec
EOF
echo "CREATE EXTENSION IF NOT EXISTS timescaledb" | sql sluice
