"""The full stack for Docker, and the local stack without Docker."""
