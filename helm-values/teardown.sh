#!/bin/sh
# Takes Sluice and its servers out of the cluster again. Data (the volumes), passwords and the namespace stay, so that
# setup_local.sh goes on where it was; `teardown.sh --data` removes them too.
set -eu
cd "$(dirname "$0")"
namespace=${NAMESPACE:-sluice}
case ${1:-} in
"" | --data) ;;
*)
    printf 'usage: teardown.sh [--data]\n' >&2
    exit 2
    ;;
esac

for release in sluice otel-collector alloy loki tempo valkey redpanda; do
    helm uninstall "$release" --namespace "$namespace" --ignore-not-found --wait
done
for server in emqx pgbouncer timescaledb; do
    kubectl --namespace "$namespace" delete --ignore-not-found --filename "servers/$server.yaml"
done
if [ "${1:-}" = --data ]; then
    kubectl delete namespace "$namespace" --ignore-not-found
else
    kubectl --namespace "$namespace" get persistentvolumeclaims
fi
