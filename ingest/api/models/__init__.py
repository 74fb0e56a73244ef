"""The requests and answers of the HTTP API, for its description: a file for each file of routes."""
