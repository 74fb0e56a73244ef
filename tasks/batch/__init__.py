"""Shared between the bridge, `process` and `store`: messages, leases, marks."""
