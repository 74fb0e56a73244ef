-- TimescaleDB where the server has it; without it everything runs on plain PostgreSQL tables.
-- `ALTER DATABASE … SET sluice.timescaledb = 'off'` keeps a server that has it on plain tables.
DO $$
BEGIN
    IF coalesce(current_setting('sluice.timescaledb', true), '') = 'off'
       OR EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
       OR NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') THEN
        RETURN;
    END IF;

    -- CREATE EXTENSION would end the whole connection here, and an unprivileged role may not read
    -- shared_preload_libraries; but a loaded library shows its settings to everyone.
    IF NOT EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.disable_load') THEN
        RAISE EXCEPTION 'TimescaleDB is installed on this server but not loaded'
            USING HINT = 'Add timescaledb to shared_preload_libraries and restart the server, or choose plain'
                         ' tables: ALTER DATABASE ' || quote_ident(current_database())
                         || ' SET sluice.timescaledb = ''off''.';
    END IF;

    BEGIN
        CREATE EXTENSION timescaledb;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'TimescaleDB is available on this server, but the role % may not create it', current_user
            USING HINT = 'As a superuser in the database ' || quote_ident(current_database())
                         || ' run CREATE EXTENSION timescaledb, or make the role the database''s owner.';
    END;
END
$$;
