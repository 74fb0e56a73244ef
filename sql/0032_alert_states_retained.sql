-- The rights of the accounts that there are on the states of open alerts that the broker keeps: a user hears them, Sluice
-- publishes them.
INSERT INTO mqtt_acl (username, permission, action, topic)
SELECT username, 'allow', CASE kind WHEN 'user' THEN 'subscribe' ELSE 'publish' END,
       'users/' || coalesce(user_id, '+') || '/alerts/state/#'
FROM mqtt_users
WHERE kind IN ('user', 'service')
ON CONFLICT DO NOTHING;
