#!/bin/sh
# One node of Kubernetes without controller-manager and scheduler: up.sh FOLDER PROGRAMS
# Run in mount, network and process namespaces of its own: what kubelet changes of the machine stays in them.
set -eu
run=$1 programs=$2
cd "$run"
mount -t proc proc /proc
ip link set lo up
# The node's address may not be loopback's.
ip link add va type veth peer name vb
ip addr add 10.99.0.1/32 dev va
ip link set va up
ip link set vb up
mkdir -p log fake
mount --bind log /var/log
for setting in vm/overcommit_memory:1 vm/panic_on_oom:0 kernel/panic:10 kernel/panic_on_oops:1 \
    kernel/keys/root_maxkeys:1000000 kernel/keys/root_maxbytes:25000000; do
    name=${setting%%:*}
    echo "${setting##*:}" >"fake/$(basename "$name")"
    mount --bind "fake/$(basename "$name")" "/proc/sys/$name"
done
umount /sys/fs/cgroup/unified 2>/dev/null || true
containerd --config containerd.toml >containerd.log 2>&1 &
etcd --data-dir etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 >etcd.log 2>&1 &
for _ in $(seq 100); do [ -S containerd.sock ] && break; sleep 0.1; done
"$programs/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --bind-address=127.0.0.1 --advertise-address=10.99.0.1 \
    --secure-port=6443 --cert-dir=certs --service-account-key-file=sa.key --service-account-signing-key-file=sa.key \
    --service-account-issuer=https://node --token-auth-file=tokens.csv --authorization-mode=AlwaysAllow \
    --disable-admission-plugins=ServiceAccount --service-cluster-ip-range=10.0.0.0/24 --endpoint-reconciler-type=none \
    --kubelet-preferred-address-types=InternalIP >apiserver.log 2>&1 &
ctr -a containerd.sock -n k8s.io images import images.tar >import.log 2>&1
for _ in $(seq 120); do kubectl --kubeconfig kubeconfig get --raw /readyz >/dev/null 2>&1 && break; sleep 0.5; done
"$programs/kubelet" --config=kubelet.yaml --kubeconfig=kubeconfig --container-runtime=remote \
    --container-runtime-endpoint="unix://$run/containerd.sock" --root-dir="$run/kubelet" --hostname-override=node \
    --node-ip=10.99.0.1 --pod-infra-container-image=localhost/pause:latest >kubelet.log 2>&1 &
wait
