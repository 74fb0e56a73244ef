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
{{- if .Values.caSecret }}
- name: TLS_CA_FILE
  value: /run/secrets/ca/ca.crt
{{- end }}
{{- end }}

{{- define "sluice.mounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: secrets, mountPath: /run/secrets/sluice, readOnly: true }
{{- if .Values.caSecret }}
- { name: ca, mountPath: /run/secrets/ca, readOnly: true }
{{- end }}
{{- end }}
