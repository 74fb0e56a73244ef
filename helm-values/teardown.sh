#!/bin/sh
# Takes Sluice and its servers out of the cluster again. Volumes and Secrets stay in the namespace, so that
# setup_local.sh goes on where it was. `teardown.sh --data` removes them too, with the namespace, and what setup_local.sh
# installed in other namespaces (KEDA, Prometheus). The files in compose/secrets stay.
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
# Helm leaves the Job of a hook that failed where it is.
kubectl --namespace "$namespace" delete jobs --selector app.kubernetes.io/instance=sluice --ignore-not-found
for server in emqx pgbouncer timescaledb network-policy; do
    kubectl --namespace "$namespace" delete --ignore-not-found --filename "servers/$server.yaml"
done
if [ "${1:-}" = --data ]; then
    kubectl delete namespace "$namespace" --ignore-not-found
    for shared in keda monitoring; do
        for release in $(helm list --namespace "$shared" --selector made-by=sluice --short); do
            helm uninstall "$release" --namespace "$shared" --wait
            kubectl delete namespace "$shared" --ignore-not-found
        done
    done
else
    kubectl --namespace "$namespace" get persistentvolumeclaims
fi
