"""The local stack without Docker: real servers and the processes of the Procfile, under one supervisor."""
