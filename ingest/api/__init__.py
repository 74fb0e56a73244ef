"""The HTTP API: what it takes, who may ask, and what it answers. The work is in `ingest.admin`."""
