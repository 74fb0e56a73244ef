"""Alerts sent besides MQTT: by webhook, by mail, by Apprise; each change once or more, under one key."""
