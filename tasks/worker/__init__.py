"""Celery's worker as Sluice runs it: what happens at its start and stop, and what it accepts."""
