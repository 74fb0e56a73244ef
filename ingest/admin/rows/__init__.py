"""Stored readings: as a series, exported, imported."""
