-- Channels as they may be shown to whoever may not read where they lead: a mail's address; of a webhook the host and
-- neither account nor path; of a service of Apprise, which has tokens where others have their host, the scheme alone.
CREATE VIEW channels_shown AS
SELECT id, user_id, name, kind, severities, statuses, template, enabled, created_at,
       CASE kind
           WHEN 'mail' THEN target
           WHEN 'webhook' THEN regexp_replace(target, '^(https?://)([^/?#\\]*@)?([^/?#\\]*).*$', '\1\3/…')
           ELSE regexp_replace(target, '://.*$', '://…')
       END AS target
FROM channels;
