"""Domains to copy from; docs/domains.md walks through one of them."""
