#!/bin/sh
# Renders the chart with everything switched on into rendered.yaml, which the tests check; run it after every change
# of the chart. HELM names the program.
set -eu
cd "$(dirname "$0")"
{
    echo "# Made by render.sh from the chart whose files have the digest $(
        find sluice -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-32
    )"
    "${HELM:-helm}" template sluice sluice --namespace sluice --kube-version 1.33.0 \
        --set autoscaling.enabled=true --set podMonitor.enabled=true --set caSecret=sluice-ca \
        --set settings.KAFKA_SECURITY_PROTOCOL=SASL_SSL
} > rendered.part
mv rendered.part rendered.yaml
