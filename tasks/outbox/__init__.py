"""Changes of alerts on their way from Redis to MQTT and to the tables, each delivered once or more."""
