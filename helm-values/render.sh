#!/bin/sh
# Renders the chart with everything switched on into rendered.yaml, which the tests check; run it after every change
# of the chart. HELM names the program.
set -eu
cd "$(dirname "$0")"
trap 'rm -f rendered.part' EXIT
# Helm reads no file outside the chart.
cp ../compose/observability/prometheus/rules/sluice.yml sluice/rules/
cp ../compose/observability/grafana/dashboards/readings.json ../compose/observability/grafana/dashboards/alerts.json \
    sluice/dashboards/
{
    echo "# Made by render.sh from the chart whose files have the digest $(
        find sluice -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-32
    )"
    "${HELM:-helm}" template sluice sluice --namespace sluice --kube-version 1.33.0 \
        --set autoscaling.enabled=true --set podMonitor.enabled=true --set grafana.enabled=true \
        --set caSecret=sluice-ca \
        --set alerts.enabled=true --set alerts.docsUrl=https://docs.example/ --set alerts.webhookSecret=sluice-alerts \
        --set alerts.mail.to=on-call@example.com --set alerts.mail.from=sluice@example.com \
        --set alerts.mail.smarthost=mail.example.com:587 --set alerts.mail.username=sluice \
        --set alerts.mail.passwordSecret=sluice-alerts \
        --set settings.KAFKA_SECURITY_PROTOCOL=SASL_SSL
} > rendered.part
mv rendered.part rendered.yaml
