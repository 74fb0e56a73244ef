"""`python -m ingest.cli`, as `sluice`."""

from ingest.cli import main

main()
