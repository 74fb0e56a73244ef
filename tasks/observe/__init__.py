"""Observability of each process: metrics, traces, logs, and the port that serves them."""
