"""Accounts of the MQTT broker and tokens of the HTTP API."""
