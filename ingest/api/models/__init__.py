"""What the HTTP API takes and answers, for its description: a file for each file of routes."""
