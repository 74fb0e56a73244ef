-- A row that breaks a constraint of `channels` is refused before the server sees it: the server's own refusal, and with
-- it its log, has the row, of each column 64 characters, and so where the channel leads and what signs its messages.
CREATE FUNCTION sluice_channel_checked() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    broken text;
    condition text;
    holds boolean;
BEGIN
    SELECT attname INTO broken FROM pg_attribute
    WHERE attrelid = TG_RELID AND attnum > 0 AND attnotnull AND NOT attisdropped
        AND to_jsonb(NEW) -> attname = 'null' LIMIT 1;
    IF FOUND THEN
        RAISE not_null_violation USING MESSAGE = format('channels.%s must not be null', broken),
            TABLE = TG_TABLE_NAME, COLUMN = broken;
    END IF;
    FOR broken, condition IN
        SELECT conname, pg_get_expr(conbin, conrelid) FROM pg_constraint
        WHERE conrelid = TG_RELID AND contype = 'c' ORDER BY conname
    LOOP
        EXECUTE format('SELECT %s FROM (SELECT ($1).*) AS channel', condition) INTO holds USING NEW;
        IF NOT holds THEN
            RAISE check_violation USING MESSAGE = format('the channel breaks the constraint %s', broken),
                TABLE = TG_TABLE_NAME, CONSTRAINT = broken;
        END IF;
    END LOOP;
    RETURN NEW;
END
$$;
-- Of triggers that fire at the same moment, the first by name comes first: this one is to see the row as it will be.
CREATE TRIGGER zz_channel_checked BEFORE INSERT OR UPDATE ON channels
    FOR EACH ROW EXECUTE FUNCTION sluice_channel_checked();

-- What is shown of a channel: how many of its deliveries are in each state, and the last ones, without their rows.
CREATE INDEX channel_deliveries_states ON channel_deliveries (channel_id, state, done_at);
