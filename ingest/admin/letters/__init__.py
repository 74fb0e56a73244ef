"""Dead letters: listed, counted, replayed, closed; and whether any message is missing."""
