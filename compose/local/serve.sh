#!/bin/sh
# serve.sh PIDFILE SIGNAL COMMAND...
#
# Runs COMMAND, which is bwrap around a server, so that a supervisor can stop the server gently. bwrap passes
# no signal on, so a TERM or INT goes as SIGNAL to the process whose id the enclosed server wrote to PIDFILE.
set -u
pidfile=$1
signal=$2
shift 2
child=
stopping=

stop() {
    stopping=yes
    if [ -s "$pidfile" ]; then
        kill -s "$signal" "$(cat "$pidfile")" 2>/dev/null
    elif [ -n "$child" ]; then
        # Not even a pid yet, so nothing that a gentle stop could save.
        kill -s KILL "$child" 2>/dev/null
    fi
}

rm -f "$pidfile"
trap stop TERM INT
"$@" &
child=$!
[ -z "$stopping" ] || stop

# A trapped signal ends `wait` early: only a child that is gone ends the loop.
status=0
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
done
rm -f "$pidfile"
exit "$status"
