"""Celery's worker as Sluice runs it: its start and stop, and which task messages it accepts."""
