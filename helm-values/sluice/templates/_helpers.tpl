{{- define "sluice.labels" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: sluice
{{- end }}

{{- define "sluice.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "sluice.env" -}}
- name: SLUICE_SECRETS_DIR
  value: /run/secrets/sluice
- name: PROCESS_HOST
  value: "{{ .Release.Name }}-{process}"
{{- if .Values.caSecret }}
- name: TLS_CA_FILE
  value: /run/secrets/ca/ca.crt
{{- end }}
{{- end }}

{{- /* KEDA asks from its own namespace, in which the short name of a Service means nothing. */ -}}
{{- define "sluice.hosts" -}}
{{- regexReplaceAll "(^|,)([a-z0-9-]+):" .hosts (printf "${1}${2}.%s.svc.cluster.local:" .namespace) }}
{{- end }}

{{- /* The secrets of another role of the database, with what the settings need besides the database. */ -}}
{{- define "sluice.ownSecrets" -}}
projected:
  defaultMode: 288
  sources:
    - secret:
        name: {{ .values.existingSecret }}
        items:
          - { key: redis_url, path: redis_url }
          - { key: mqtt_password, path: mqtt_password }
    - secret:
        name: {{ .values.existingSecret }}
        optional: true
        items:
          - { key: kafka_sasl_username, path: kafka_sasl_username }
          - { key: kafka_sasl_password, path: kafka_sasl_password }
          - { key: redis_sentinel_password, path: redis_sentinel_password }
    - secret: { name: {{ .secret }} }
{{- end }}

{{- define "sluice.mounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: secrets, mountPath: /run/secrets/sluice, readOnly: true }
{{- if .Values.caSecret }}
- { name: ca, mountPath: /run/secrets/ca, readOnly: true }
{{- end }}
{{- end }}
