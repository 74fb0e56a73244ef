-- The rights of the accounts that there are on the notices about refused messages: a device hears its own, a user
-- those of all own devices, and Sluice publishes them. An id of an account holds of the escaped characters % alone.
INSERT INTO mqtt_acl (username, permission, action, topic)
SELECT username, 'allow', CASE kind WHEN 'service' THEN 'publish' ELSE 'subscribe' END,
       'users/' || coalesce(user_id, '+') || '/devices/' || coalesce(replace(device_id, '%', '%25'), '+') || '/rejected'
FROM mqtt_users
ON CONFLICT DO NOTHING;
