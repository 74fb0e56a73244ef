"""Replays: dead letters are read back and produced again, ranges run again, runs kept."""
