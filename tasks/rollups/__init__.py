"""Rollups of the numeric columns by hour and by day, made from the rows, and what is too old removed."""
