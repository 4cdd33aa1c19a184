#!/bin/sh
# Makes the secrets of compose.yaml in the folder secrets beside it; what is there already is left alone.
#
# A container gets them as files with the owner they have here, and reads them as a user of its own: they are readable
# by all, in a folder that only you may enter.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
chmod 700 secrets
echo '*' > secrets/.gitignore

random() { # 24 bytes, in letters that need no quoting and no percent-encoding in a URL
    head -c 24 /dev/urandom | base64 | tr '+/' '-_'
}
keep() { # NAME: what comes in becomes that secret, whole or not at all
    cat > "secrets/$1.new"
    chmod 644 "secrets/$1.new"
    mv "secrets/$1.new" "secrets/$1"
    echo "made docker/secrets/$1" >&2
}

[ -e secrets/postgres_password ] || random | tr -d '\n' | keep postgres_password
[ -e secrets/storage ] ||
    printf 'postgresql://lrsearch:%s@postgres:5432/lrsearch\n' "$(cat secrets/postgres_password)" | keep storage
[ -e secrets/dashboard_password ] || random | keep dashboard_password
