#!/usr/bin/env bash
# Builds kube-apiserver and kubelet out of the distribution's source package, whose dependencies lie in it.
#   build.sh MIRROR RELEASE OUT
set -euo pipefail
mirror=$1 release=$2 out=$3
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    golang-go rsync make etcd-server containerd >/dev/null
cd "$work"
mkdir -p lists/partial
echo "deb-src $mirror $release main" >sources.list
lists=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists")
apt-get -qq "${lists[@]}" update
apt-get -qq "${lists[@]}" source --download-only kubernetes
tar -xzf kubernetes_*.orig.tar.gz
tree=$(find . -maxdepth 1 -type d -name 'kubernetes*' | head -1)
cd "$tree"
export GOPATH="$work/go" GO111MODULE=off CGO_ENABLED=0 GOFLAGS=
mkdir -p "$GOPATH/src/k8s.io"
ln -s "$PWD" "$GOPATH/src/k8s.io/kubernetes"
cd "$GOPATH/src/k8s.io/kubernetes"
make generated_files >/dev/null
mkdir -p "$out"
go build -o "$out/" k8s.io/kubernetes/cmd/kubelet k8s.io/kubernetes/cmd/kube-apiserver
