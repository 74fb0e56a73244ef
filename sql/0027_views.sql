-- What analysts read: docs/queries.md has examples.
CREATE VIEW hourly AS
SELECT domain, user_id, device_id, key, hour, count, min, max, sum / count AS avg, sum, last FROM rollups_hourly;
CREATE VIEW daily AS
SELECT domain, user_id, device_id, key, day, count, min, max, sum / count AS avg, sum, last FROM rollups_daily;

-- A device's reading with the latest time of its own, as a JSON object by the columns of its domain's table. It finds
-- the table by name, because a view of it would keep its columns' types from being changed.
CREATE FUNCTION sluice_latest(of_domain text, of_user text, of_device text)
RETURNS TABLE ("time" timestamptz, reading jsonb) LANGUAGE plpgsql STABLE AS $$
DECLARE
    kept retention;
BEGIN
    SELECT * INTO kept FROM retention WHERE domain = of_domain AND to_regclass(quote_ident(relation)) IS NOT NULL;
    IF FOUND THEN
        RETURN QUERY EXECUTE format(
            'SELECT %1$I, to_jsonb(row) FROM %2$I AS row WHERE %3$s = $1 AND %4$I = $2 ORDER BY %1$I DESC LIMIT 1',
            kept.time_column, kept.relation, kept.owner, kept.source_column
        ) USING of_user, substr(of_device, length(kept.prefix) + 1);
    END IF;
END
$$;
CREATE VIEW latest AS
SELECT domain, user_id, device_id, last_seen, time, reading
FROM devices CROSS JOIN LATERAL sluice_latest(domain, user_id, device_id);
