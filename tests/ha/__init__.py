"""`make ha`: the machine of the Redis master is lost under load, again and again."""
