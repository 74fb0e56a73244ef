#!/bin/sh
# Every test: those that need no server run beside the others, which mostly wait. Fails if any fails.
# usage: tests/all.sh PYTEST

mkdir -p .local
log=.local/unit-tests.log
"$1" tests/unit >"$log" 2>&1 &
unit=$!
trap 'kill "$unit" 2>/dev/null' EXIT
trap 'exit 130' INT TERM

"$1" tests/integration tests/chaos
servers=$?
wait "$unit"
units=$?
if [ "$units" -eq 0 ]; then tail -n 1 "$log"; else cat "$log"; fi
[ "$servers" -eq 0 ] && [ "$units" -eq 0 ]
