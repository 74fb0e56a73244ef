#!/bin/sh
# As the entry point of the original: the data are the user's as whom the server runs.
set -eu
if [ "$(id -u)" = 0 ]; then
    chown redis:redis /data
    exec setpriv --reuid=redis --regid=redis --init-groups "$@"
fi
exec "$@"
