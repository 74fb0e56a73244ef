"""The routes of the HTTP API, a file for each thing that they are about."""
