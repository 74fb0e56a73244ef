"""A message becomes a row: validated, written, compared with the row that is there already."""
