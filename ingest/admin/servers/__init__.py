"""What the servers need before a message comes, and how all of them are now."""
