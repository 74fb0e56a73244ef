#!/bin/sh
# Writes Alertmanager's configuration, with a receiver of what is set, and starts Alertmanager with it. With nothing set
# Alertmanager shows the alerts on its page and notifies nobody.
#   SECRETS/alertmanager_webhook_url     a URL that gets each alert as JSON
#   ALERTMANAGER_MAIL_TO, _MAIL_FROM     addresses; _MAIL_SMARTHOST is the server, as host:port
#   ALERTMANAGER_MAIL_USERNAME           for a server with a login; the password is SECRETS/alertmanager_mail_password
#   ALERTMANAGER_MAIL_TLS=no             for a server without TLS
# docs/oncall.md is the page about it.
set -eu
secrets=${ALERTMANAGER_SECRETS:-/run/secrets}
configuration=${ALERTMANAGER_CONFIGURATION:-/tmp/alertmanager.yml}

stop() {
    printf 'alertmanager: %s\n' "$*" >&2
    exit 1
}
# quoted VALUE: as YAML's string in single quotes.
quoted() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"
}
filled() { [ -r "$1" ] && grep -q '[^[:space:]]' "$1"; }

receivers() {
    url=$secrets/alertmanager_webhook_url
    if filled "$url"; then
        grep -Eq '^[[:space:]]*https?://[^[:space:]]+[[:space:]]*$' "$url" ||
            stop "the file alertmanager_webhook_url is no URL; write one line that begins with https:// or http://"
        printf '    webhook_configs:\n      - { url_file: %s, send_resolved: true }\n' "$(quoted "$url")"
    fi
    if [ -n "${ALERTMANAGER_MAIL_TO:-}" ]; then
        [ -n "${ALERTMANAGER_MAIL_FROM:-}" ] || stop "ALERTMANAGER_MAIL_FROM is missing; set the address that mail comes from"
        case ${ALERTMANAGER_MAIL_SMARTHOST:-} in
        *?:[0-9]*) ;;
        *) stop "ALERTMANAGER_MAIL_SMARTHOST is not host:port; set the mail server, like mail.example.com:587" ;;
        esac
        case ${ALERTMANAGER_MAIL_TLS:-yes} in
        yes) tls=true ;;
        no) tls=false ;;
        *) stop "ALERTMANAGER_MAIL_TLS is neither yes nor no" ;;
        esac
        printf '    email_configs:\n      - to: %s\n        from: %s\n        smarthost: %s\n' \
            "$(quoted "$ALERTMANAGER_MAIL_TO")" "$(quoted "$ALERTMANAGER_MAIL_FROM")" \
            "$(quoted "$ALERTMANAGER_MAIL_SMARTHOST")"
        printf '        require_tls: %s\n        send_resolved: true\n' "$tls"
        if [ -n "${ALERTMANAGER_MAIL_USERNAME:-}" ]; then
            filled "$secrets/alertmanager_mail_password" ||
                stop "the file alertmanager_mail_password is empty, and ALERTMANAGER_MAIL_USERNAME is set; write the password into it"
            printf '        auth_username: %s\n        auth_password_file: %s\n' \
                "$(quoted "$ALERTMANAGER_MAIL_USERNAME")" "$(quoted "$secrets/alertmanager_mail_password")"
        fi
    fi
}

# On its own line, for `stop` inside $(...) ends only that.
told=$(receivers)
{
    cat "$(dirname "$0")/alertmanager.yml"
    printf 'receivers:\n  - name: on-call\n%s\n' "$told"
} >"$configuration"
[ -n "$told" ] || printf 'alertmanager: no receiver is set; the alerts are on its page only\n' >&2
exec alertmanager --config.file="$configuration" "$@"
