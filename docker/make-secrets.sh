#!/bin/sh
# Makes the secrets that compose.yaml gives to its services, once: docker/make-secrets.sh
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
for name in ray_token postgres_password mlflow_admin_password mlflow_secret_key grafana_admin_password; do
    if [ ! -s "secrets/$name" ]; then
        python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "secrets/$name"
        # A container's user 1000 reads them; others cannot enter the folder.
        chmod 644 "secrets/$name"
        echo "made secrets/$name"
    fi
done
