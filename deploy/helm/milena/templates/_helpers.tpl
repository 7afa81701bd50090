{{- define "milena.name" -}}
{{- if contains "milena" .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-milena" .Release.Name }}{{ end }}
{{- end }}

{{- define "milena.selector" -}}
app.kubernetes.io/name: milena
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "milena.labels" -}}
{{ include "milena.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "milena.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ $tag }}{{ end }}
{{- end }}

{{/* Refuses secrets in the config: everybody who may read the release or the ConfigMap would see them. ${NAME} is none. */}}
{{- define "milena.refuseSecrets" -}}
{{- $path := .path -}}
{{- if kindIs "map" .in }}
{{- range $key, $value := .in }}
{{- $at := printf "%s.%s" $path $key }}
{{- if and (kindIs "string" $value) (not (regexMatch "^[$][{][A-Za-z_][A-Za-z0-9_]*[}]$" $value)) }}
{{- if eq $path "config.http.tokens" }}
{{- fail (printf "%s must not be in the values: put it into a Secret, name the Secret in environmentSecrets, and write ${KEY} here" $at) }}
{{- end }}
{{- if has $key (list "password" "client_secret" "ca_password" "cert_password" "key_password") }}
{{- fail (printf "%s must not be in the values: put it into a Secret, name the Secret in secrets, and the file with %s_file" $at $key) }}
{{- end }}
{{- end }}
{{- include "milena.refuseSecrets" (dict "in" $value "path" $at) }}
{{- end }}
{{- else if kindIs "slice" .in }}
{{- range $i, $value := .in }}
{{- include "milena.refuseSecrets" (dict "in" $value "path" (printf "%s[%d]" $path $i)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "milena.config" -}}
{{- include "milena.refuseSecrets" (dict "in" .Values.config "path" "config") }}
{{- toYaml .Values.config }}
{{- end }}

{{- define "milena.scheme" -}}
{{- if .Values.config.http.tls }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}
