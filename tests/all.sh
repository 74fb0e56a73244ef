#!/bin/sh
# Every test: those that do without the stack's servers run beside the others, which mostly wait.
# Fails if any of them fails.
# usage: tests/all.sh PYTEST

mkdir -p .local
log=.local/tests-without-stack.log
"$1" -m "not stack" >"$log" 2>&1 &
others=$!
trap 'kill "$others" 2>/dev/null' EXIT
trap 'exit 130' INT TERM

"$1" -m stack
with=$?
wait "$others"
without=$?
if [ "$without" -eq 0 ]; then tail -n 1 "$log"; else cat "$log"; fi
[ "$with" -eq 0 ] && [ "$without" -eq 0 ]
