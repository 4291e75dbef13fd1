#!/bin/bash
# Builds the layer that makes a host of the lab one that can run Pulp 3: build-layer.sh BASE LAYER FILES
# Run in a mount namespace of its own. What is written over the root image BASE ends up in LAYER/u.
set -euo pipefail
base=$1 layer=$2 files=$3
pulpcore=3.123.1
coverage=7.17.3

mkdir -p "$layer"/{u,w,m}
root=$layer/m
mount -t overlay overlay -o "lowerdir=$base,upperdir=$layer/u,workdir=$layer/w" "$root"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"

# The machine's way to its package indexes, for the time of the build.
cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
while IFS='=' read -r key value; do
    name=${key##*.}
    name=PIP_${name//-/_}
    export "${name^^}=${value//\'/}"
done < <(python3 -m pip config list 2>/dev/null)
if [ -n "${PIP_FIND_LINKS:-}" ] && [ -d "${PIP_FIND_LINKS}" ]; then
    mkdir -p "$root$PIP_FIND_LINKS"
    mount --bind "$PIP_FIND_LINKS" "$root$PIP_FIND_LINKS"
fi
inside() { chroot "$root" "$@"; }

printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
inside apt-get -qq update
DEBIAN_FRONTEND=noninteractive inside apt-get -qq install -y --no-install-recommends \
    postgresql redis-server apache2 apache2-utils libapache2-mod-wsgi-py3 curl jq >/dev/null
inside apt-get clean
rm -rf "$root/var/lib/apt/lists"
rm "$root/usr/sbin/policy-rc.d"
inside systemctl --quiet disable postgresql redis-server apache2

inside useradd --system --home-dir /var/lib/pulp --create-home --shell /usr/sbin/nologin pulp
# The venv layout, as pulp_installer made it.
inside python3 -m venv /usr/local/lib/pulp
inside /usr/local/lib/pulp/bin/pip install -q --disable-pip-version-check --no-cache-dir "pulpcore==$pulpcore"
# The RPM layout: modules in the system Python's own place, programs in /usr/bin, wrappers in
# /usr/libexec. The modules wait in /opt until a host mounts them there.
mkdir -p "$root/opt/rpm-layout"
cp -al "$root/usr/local/lib/pulp/lib/python3.11/site-packages" "$root/opt/rpm-layout/site-packages"
mkdir -p "$root/usr/libexec/pulpcore"
for program in api content worker; do
    sed '1s|.*|#!/usr/bin/python3|' "$root/usr/local/lib/pulp/bin/pulpcore-$program" > "$root/usr/bin/pulpcore-$program"
    printf '#!/bin/bash\n\nset -e\n\nexec /usr/bin/pulpcore-%s "$@"\n' "$program" > "$root/usr/libexec/pulpcore/pulpcore-$program"
    chmod 755 "$root/usr/bin/pulpcore-$program" "$root/usr/libexec/pulpcore/pulpcore-$program"
done
# The peer: coverage.py as people use it, outside of every site-packages until a test puts it there.
inside /usr/local/lib/pulp/bin/pip install -q --disable-pip-version-check --no-cache-dir --target /opt/plain-coverage "coverage==$coverage"

mkdir -p "$root/etc/pulp/certs" "$root/opt/units"
cp "$files/settings.py" "$root/etc/pulp/settings.py"
cp "$files"/units/* "$root/opt/units/"
cp "$files/exercise.sh" "$root/opt/exercise.sh"
head -c 32 /dev/urandom | base64 | tr '+/' '-_' > "$root/etc/pulp/certs/database_fields.symmetric.key"
inside install -d -o pulp -g pulp /var/lib/pulp /var/lib/pulp/tmp /var/lib/pulp/assets
chmod 644 "$root/etc/pulp/certs/database_fields.symmetric.key"

# Another service, for the profile `generic`: a Django site under gunicorn and celery.
inside useradd --system mysite
cp -r "$files/mysite" "$root/opt/mysite"
mv "$root"/opt/mysite/*.service "$root/etc/systemd/system/"
inside python3 -m venv /opt/mysite/venv
inside /opt/mysite/venv/bin/pip install -q --disable-pip-version-check --no-cache-dir \
    django==5.2.8 gunicorn==23.0.0 celery==5.5.3 redis==5.2.1

# The database, made and migrated once.
cat >> "$root/etc/postgresql/15/main/postgresql.conf" <<'CONF'
listen_addresses = '*'
fsync = off
CONF
echo "host all all 10.77.0.0/16 trust" >> "$root/etc/postgresql/15/main/pg_hba.conf"
inside install -d -o postgres -g postgres -m 2775 /run/postgresql
inside pg_ctlcluster 15 main start -- -o "-c listen_addresses=''"
inside su postgres -c "psql -q -c 'create role pulp superuser login' -c 'create database pulp owner pulp'"
manager() {
    inside setpriv --reuid=pulp --regid=pulp --init-groups env HOME=/var/lib/pulp PULP_SETTINGS=/etc/pulp/settings.py \
        PULP_DB_HOST=/run/postgresql DJANGO_SETTINGS_MODULE=pulpcore.app.settings \
        /usr/local/lib/pulp/bin/pulpcore-manager "$@"
}
manager migrate --noinput >/dev/null
manager reset-admin-password --password password >/dev/null
inside pg_ctlcluster 15 main stop

# Nothing of this machine stays in the layer.
umount -R "$root/proc" "$root/dev/shm" "$root/dev" "$root/run" "$root/tmp"
[ -n "${PIP_FIND_LINKS:-}" ] && [ -d "${PIP_FIND_LINKS}" ] && umount "$root$PIP_FIND_LINKS" && rmdir -p --ignore-fail-on-non-empty "$root$PIP_FIND_LINKS"
: > "$root/etc/resolv.conf"
umount "$root"
