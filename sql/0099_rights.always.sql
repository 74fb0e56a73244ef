-- The rights of the roles that see least, where there are such roles: `sluice roles` makes them. Runs at every
-- `sluice migrate`, so new tables are covered.
DO $$
DECLARE
    one record;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_writer') THEN
        -- What workers and the control process do: no accounts, no schema, nothing of a reading but to add it.
        GRANT USAGE ON SCHEMA public TO sluice_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE
            ON user_configs, active_alerts, alert_delivery, kafka_topics, replays, replayed_letters, devices, device_days,
               device_positions, channel_states, channel_users, channel_deliveries, rollups_hourly, rollups_daily,
               rollup_marks, rollup_progress TO sluice_writer;
        -- With the secrets, which nobody but the workers and the owner may read.
        GRANT SELECT ON channels TO sluice_writer;
        GRANT SELECT ON quiet_windows TO sluice_writer;
        -- It removes rows only by this function, which knows what is too old.
        GRANT SELECT ON retention TO sluice_writer;
        GRANT EXECUTE ON FUNCTION sluice_expire TO sluice_writer;
        GRANT SELECT, INSERT ON alert_history TO sluice_writer;
        FOR one IN SELECT relation FROM jsonb_to_recordset(current_setting('sluice.hypertables')::jsonb)
                   AS declared (relation text) LOOP
            EXECUTE format('GRANT SELECT, INSERT ON %I TO sluice_writer', one.relation);
        END LOOP;
        -- Also of a domain that is no longer among DOMAINS: earlier versions granted more.
        FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN
                   ('user_configs', 'active_alerts', 'alert_delivery', 'kafka_topics', 'replays',
                    'replayed_letters', 'devices', 'device_days', 'device_positions', 'channel_states', 'channel_users',
                    'channel_deliveries', 'rollups_hourly', 'rollups_daily', 'rollup_marks', 'rollup_progress') LOOP
            EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %I FROM sluice_writer', one.tablename);
        END LOOP;
        REVOKE ALL ON mqtt_users, mqtt_acl, operator_audit, rule_versions, web_tokens, web_logouts FROM sluice_writer;
        GRANT SELECT ON sluice_migrations TO sluice_writer;
        -- Which devices there are, and nothing of their passwords.
        GRANT SELECT (kind, user_id, device_id, enabled, created_at) ON mqtt_users TO sluice_writer;
        -- By which the gateway finds the owners of topics that do not name one.
        GRANT SELECT ON mqtt_publishers TO sluice_writer;
        -- Which devices a rule about a group is about.
        GRANT SELECT ON device_groups, device_group_versions TO sluice_writer;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO sluice_writer;
    END IF;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_reader') THEN
        -- No accounts, no rules, and nothing to change.
        GRANT USAGE ON SCHEMA public TO sluice_reader;
        GRANT SELECT ON rollups_hourly, rollups_daily, hourly, daily, latest, devices, device_days, active_alerts,
                        alert_history, retention, device_groups TO sluice_reader;
        FOR one IN SELECT relation FROM jsonb_to_recordset(current_setting('sluice.hypertables')::jsonb)
                   AS declared (relation text) LOOP
            EXECUTE format('GRANT SELECT ON %I TO sluice_reader', one.relation);
        END LOOP;
    END IF;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_emqx') THEN
        -- What EMQX asks at a login and at a client's first message to a topic.
        GRANT USAGE ON SCHEMA public TO sluice_emqx;
        GRANT SELECT (username, password_hash, salt, is_superuser, enabled) ON mqtt_users TO sluice_emqx;
        GRANT SELECT ON mqtt_acl TO sluice_emqx;
    END IF;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_web') THEN
        -- What the HTTP API shows, and of what it changes only accounts, channels and the operators' trail: workers
        -- do the rest.
        GRANT USAGE ON SCHEMA public TO sluice_web;
        GRANT SELECT ON devices, device_days, active_alerts, alert_history, user_configs, replays, replayed_letters,
                        rollups_hourly, rollups_daily, rollup_progress, retention, device_groups, device_group_versions
                        TO sluice_web;
        GRANT SELECT (domain, hour) ON rollup_marks TO sluice_web;
        GRANT SELECT (token_id, user_id, token_hash, created_at, expires_at) ON web_tokens TO sluice_web;
        -- Which closes a dead letter.
        GRANT INSERT (letter_key, record_ms, run_id, to_partition, to_offset) ON replayed_letters TO sluice_web;
        GRANT SELECT, INSERT, DELETE ON web_logouts TO sluice_web;
        GRANT SELECT, DELETE, INSERT (username, password_hash, salt, iterations, kind, user_id, device_id),
            UPDATE (password_hash, salt, iterations, enabled, rotated_at) ON mqtt_users TO sluice_web;
        GRANT SELECT, INSERT, DELETE ON mqtt_acl TO sluice_web;
        GRANT INSERT (action, subject, key, after) ON operator_audit TO sluice_web;
        -- It sets channels, and reads neither where they lead nor what signs their messages.
        GRANT SELECT (id, user_id, name, kind, severities, statuses, template, enabled, created_at),
            INSERT (user_id, name, kind, target, secret, severities, statuses, template, enabled),
            UPDATE (kind, target, secret, severities, statuses, template, enabled), DELETE ON channels TO sluice_web;
        GRANT SELECT, INSERT (channel_id) ON channel_states TO sluice_web;
        GRANT SELECT ON channels_shown, channel_deliveries TO sluice_web;
        FOR one IN SELECT relation FROM jsonb_to_recordset(current_setting('sluice.hypertables')::jsonb)
                   AS declared (relation text) LOOP
            EXECUTE format('GRANT SELECT ON %I TO sluice_web', one.relation);
        END LOOP;
    END IF;
END
$$;
