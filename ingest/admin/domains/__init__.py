"""The sources and counterparts of a domain: samples, a template, its table, Vector's file."""
