"""The console: what the HTTP API knows and does, as pages for people."""
