#!/bin/sh
# Helm where no chart of another project is to be had: one that a repository would have is taken from STANDIN_CHARTS.
set -eu
[ "${1:-}" != repo ] || exit 0
left=$#
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    case $word in redpanda/redpanda | valkey/valkey) word=$STANDIN_CHARTS/${word%%/*} ;; esac
    set -- "$@" "$word"
    left=$((left - 1))
done
exec "$REAL_HELM" "$@"
