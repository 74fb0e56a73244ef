"""Sentences, paths, times and URLs. Pure: no I/O, no clock, no settings."""
