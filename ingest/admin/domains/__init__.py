"""What a domain is made from and compared with: samples, a template, its table, Vector's file."""
