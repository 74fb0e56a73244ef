-- The rights of the accounts that there are on reading back: a user asks for the rules in force and for the open
-- alerts, and hears the answers, also on a topic of the user's choice below `responses`; Sluice is the other end.
INSERT INTO mqtt_acl (username, permission, action, topic)
SELECT username, 'allow', CASE WHEN asks = (kind = 'user') THEN 'publish' ELSE 'subscribe' END,
       'users/' || coalesce(user_id, '+') || '/' || topic
FROM mqtt_users,
     (VALUES ('rules/get', true), ('alerts/get', true), ('rules', false), ('alerts/open', false), ('responses/#', false))
     AS topics (topic, asks)
WHERE kind IN ('user', 'service')
ON CONFLICT DO NOTHING;
