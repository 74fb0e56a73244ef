"""Prepares the servers for the first message, and shows how all of them are now."""
