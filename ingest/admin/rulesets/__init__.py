"""The users' rules: read, compared, explained, tried on what is stored."""
