"""Alerts and their history, the users' channels, quiet windows."""
