#!/bin/sh
# Every variable NAME_FILE that names a file becomes NAME with what is in it, as PostgreSQL's and Grafana's own images
# do it; then the command takes over. So no secret stands in a compose file, an image or a process's arguments.
set -eu
for name in $(env | sed -n 's/^\([A-Z][A-Z0-9_]*\)_FILE=.*$/\1/p'); do
    file=$(printenv "${name}_FILE")
    if [ ! -r "$file" ]; then
        echo "${name}_FILE: must be a file that user $(id -u) can read, got $file" >&2
        exit 2
    fi
    value=$(cat "$file")
    export "$name=$value"
done
exec "$@"
