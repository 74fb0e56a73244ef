-- Whether a user has an account for a device, and how many devices: each asks for these alone.
CREATE INDEX mqtt_users_device ON mqtt_users (user_id, device_id) WHERE kind = 'device';
