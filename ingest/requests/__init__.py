"""Requests of users over MQTT: queued, handed to the workers, answered."""
