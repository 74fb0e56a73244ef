-- Who may publish on which topics, of accounts that may log in and belong to a user: the gateway finds the owner of a
-- topic by them. Without passwords, so that a role that may not read the accounts may read this.
CREATE VIEW mqtt_publishers AS
SELECT username, user_id, permission, topic
FROM mqtt_users JOIN mqtt_acl USING (username)
WHERE enabled AND user_id IS NOT NULL AND action IN ('publish', 'all');
