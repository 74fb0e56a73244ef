#!/bin/sh
# Puts Sluice with all its servers into the cluster that kubectl points to (kind, minikube, Docker Desktop), in the
# namespace of NAMESPACE (sluice). May be run again: passwords and data that exist are kept, and changed files are taken
# up. OBSERVABILITY=yes, KEDA=yes and KAFKA_SASL=yes add these parts.
#
# Needs kubectl, helm, openssl, Python, and the image `sluice:local` in the cluster:
#   docker build --tag sluice:local . && kind load docker-image sluice:local     (minikube: minikube image load …)
set -eu
cd "$(dirname "$0")/.."
namespace=${NAMESPACE:-sluice}
secrets=compose/secrets

say() { printf '%s\n' "$*" >&2; }
apply() { kubectl --namespace "$namespace" apply --filename - >/dev/null; }
# secret NAME KEY=FILE...: made from files, or replaced.
secret() {
    name=$1
    shift
    for pair in "$@"; do set -- "$@" "--from-file=$pair"; shift; done
    kubectl --namespace "$namespace" create secret generic "$name" "$@" --dry-run=client --output yaml | apply
}
chart() { # chart RELEASE CHART VERSION VALUES [OPTION...]
    release=$1 source=$2 version=$3 values=$4
    shift 4
    helm upgrade --install "$release" "$source" --version "$version" --namespace "$namespace" \
        --values "helm-values/charts/$values.yaml" --wait --timeout 10m "$@"
}
# shared RELEASE NAMESPACE CHART OPTION...: what other namespaces use as well, in one of its own. One that is there already and is
# not from here is used as it is, and teardown.sh leaves it alone.
shared() {
    release=$1 own=$2 source=$3
    shift 3
    if helm status "$release" --namespace "$own" >/dev/null 2>&1 &&
        [ -z "$(helm list --namespace "$own" --selector made-by=sluice --short)" ]; then
        say "$release is there already"
        return
    fi
    helm upgrade --install "$release" "$source" --namespace "$own" --create-namespace --labels made-by=sluice "$@"
}
# server NAME FILE...: the manifest, with the digest of the files that it mounts.
server() {
    manifest=helm-values/servers/$1.yaml
    shift
    digest=$(cat "$@" | sha256sum | cut -c1-32)
    sed "s/@checksum@/$digest/" "$manifest" | kubectl --namespace "$namespace" apply --filename -
}

case $(kubectl config current-context) in
kind-* | minikube | docker-desktop) ;;
*)
    [ "${ANY_CLUSTER:-}" = yes ] || {
        say "kubectl points to $(kubectl config current-context), which is not a local cluster; set ANY_CLUSTER=yes to continue"
        exit 1
    }
    ;;
esac

python3 -m compose.generate_secrets
kubectl create namespace "$namespace" --dry-run=client --output yaml | kubectl apply --filename - >/dev/null

say "Secrets"
# In the cluster Redis is called valkey; everything else is called as in Compose.
sed 's/@redis:/@valkey:/' "$secrets/redis_url" >"$secrets/redis_url.kubernetes"
secret timescaledb "postgres_password=$secrets/postgres_password" \
    "database_owner_password=$secrets/database_owner_password" \
    "database_writer_password=$secrets/database_writer_password" \
    "database_emqx_password=$secrets/database_emqx_password" \
    "database_reader_password=$secrets/database_reader_password" \
    "database_web_password=$secrets/database_web_password"
secret pgbouncer "pgbouncer.userlist.txt=$secrets/pgbouncer.userlist.txt"
secret emqx "emqx.conf=$secrets/emqx.conf" "mqtt_ca.pem=$secrets/mqtt_ca.pem" \
    "mqtt_server.pem=$secrets/mqtt_server.pem" "mqtt_server.key=$secrets/mqtt_server.key"
secret valkey-users "sluice=$secrets/redis_password" "default=$secrets/redis_default_password"
secret sluice "redis_url=$secrets/redis_url.kubernetes" "redis_password=$secrets/redis_password" \
    "database_url=$secrets/database_url" "database_direct_url=$secrets/database_direct_url" \
    "mqtt_password=$secrets/mqtt_password" "mqtt_session_secret=$secrets/mqtt_session_secret" \
    "kafka_sasl_username=$secrets/kafka_sasl_username" "kafka_sasl_password=$secrets/kafka_sasl_password" \
    "flower_basic_auth=$secrets/flower_basic_auth"
secret redpanda-users "users.txt=$secrets/redpanda.users.txt"
secret sluice-web "database_url=$secrets/web_database_url" "web_token=$secrets/web_token"
secret sluice-owner "database_url=$secrets/owner_database_url" "database_direct_url=$secrets/owner_database_url"
for pair in timescaledb-init=compose/timescaledb/010_roles.sh pgbouncer=compose/pgbouncer/pgbouncer.ini; do
    kubectl --namespace "$namespace" create configmap "${pair%%=*}" "--from-file=${pair#*=}" --dry-run=client --output yaml | apply
done

say "Servers"
helm repo add redpanda https://charts.redpanda.com >/dev/null
helm repo add valkey https://valkey.io/valkey-helm/ >/dev/null
helm repo update >/dev/null
server network-policy /dev/null
server timescaledb /dev/null
server pgbouncer compose/pgbouncer/pgbouncer.ini "$secrets/pgbouncer.userlist.txt"
server emqx "$secrets/emqx.conf" "$secrets/mqtt_ca.pem" "$secrets/mqtt_server.pem" "$secrets/mqtt_server.key"
set --
if [ "${KAFKA_SASL:-}" = yes ]; then
    chart redpanda redpanda/redpanda "~26.2" redpanda --values helm-values/charts/redpanda-sasl.yaml
    set -- --set settings.KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT
else
    chart redpanda redpanda/redpanda "~26.2" redpanda
fi
chart valkey valkey/valkey 0.11.0 valkey
for server in statefulset/timescaledb deployment/pgbouncer statefulset/emqx; do
    kubectl --namespace "$namespace" rollout status "$server" --timeout 5m
done

if [ "${OBSERVABILITY:-}" = yes ]; then
    say "Observability"
    helm repo add prometheus-community https://prometheus-community.github.io/helm-charts >/dev/null
    helm repo add grafana https://grafana.github.io/helm-charts >/dev/null
    helm repo add grafana-community https://grafana-community.github.io/helm-charts >/dev/null
    helm repo add open-telemetry https://open-telemetry.github.io/opentelemetry-helm-charts >/dev/null
    shared prometheus monitoring prometheus-community/kube-prometheus-stack --version 88.5.3 \
        --values helm-values/charts/kube-prometheus-stack.yaml
    chart tempo grafana-community/tempo 2.2.4 tempo
    chart loki grafana-community/loki 18.11.0 loki
    helm upgrade --install alloy grafana/alloy --namespace "$namespace" --values helm-values/charts/alloy.yaml
    chart otel-collector open-telemetry/opentelemetry-collector 0.170.0 otel-collector
    set -- "$@" --set podMonitor.enabled=true --set alerts.enabled=true
    if [ -s "$secrets/alertmanager_webhook_url" ]; then
        secret sluice-alerts "url=$secrets/alertmanager_webhook_url"
        set -- "$@" --set alerts.webhookSecret=sluice-alerts
    fi
else
    # Traces go nowhere, and nobody waits for a collector.
    set -- "$@" --set settings.OTEL_EXPORTER_OTLP_ENDPOINT=
fi
if [ "${KEDA:-}" = yes ]; then
    helm repo add kedacore https://kedacore.github.io/charts >/dev/null
    shared keda keda kedacore/keda --version "~2.20" --wait
    set -- "$@" --set autoscaling.enabled=true
fi

say "Sluice"
helm upgrade --install sluice helm-values/sluice --namespace "$namespace" --wait --timeout 10m "$@"
kubectl --namespace "$namespace" get pods
