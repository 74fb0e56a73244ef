#!/bin/sh
# Every test: those of the servers on STACKS stacks side by side (2 by default), since they mostly wait, and those
# that need none beside them, with less right to the processors. Fails if any of them fails.
# usage: tests/all.sh PYTEST

mkdir -p .local
log=.local/tests-without-stack.log
nice -n 5 "$1" -m "not stack" >"$log" 2>&1 &
others=$!
trap 'kill "$others" 2>/dev/null' EXIT
trap 'exit 130' INT TERM

"$1" -m stack -n "${STACKS:-2}" --dist loadgroup --no-loadscope-reorder --durations 25
with=$?
wait "$others"
without=$?
if [ "$without" -eq 0 ]; then tail -n 1 "$log"; else cat "$log"; fi
[ "$with" -eq 0 ] && [ "$without" -eq 0 ]
