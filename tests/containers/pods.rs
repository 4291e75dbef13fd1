//! Pods of a real API server and kubelet, where their programs are at hand.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use pulpcov_tests::engine::Engine;
use pulpcov_tests::kubernetes::{self, Kubernetes};
use pulpcov_tests::{python, shop};

use crate::{EXERCISE, IS_UP, profile};

/// A pod as Pulp's operator makes them: user 700, no rights, and a volume of its own is all that it can write to.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: pulp-api, labels: {app: pulp-api}}
spec:
  nodeName: node
  hostNetwork: true
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 5
  securityContext: {runAsUser: 700, runAsGroup: 700, fsGroup: 700}
  tolerations: [{operator: Exists}]
  containers:
  - name: api
    image: localhost/shop:latest
    imagePullPolicy: Never
    command: [gunicorn, --workers, '2', --bind, '127.0.0.1:8000', --chdir, /opt/shop, 'shop.web:app']
    env: [{name: HOME, value: /var/lib/pulp}]
    securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: pulp, mountPath: /var/lib/pulp}]
  volumes: [{name: pulp, emptyDir: {}}]
";

#[test]
#[ignore = "needs root, podman, and the programs of Kubernetes: PULPCOV_KUBERNETES=1 builds them"]
fn a_pod_that_may_nothing_is_recorded_from_its_own_volume() {
    let Some(programs) = kubernetes::at_hand() else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: a pod of Kubernetes, whose programs were not built ({}=1 builds them)",
            kubernetes::ASKED
        );
        return;
    };
    let engine = Engine::podman();
    let profile = profile(&engine);
    let node = Kubernetes::start(&programs, &engine);
    fs::write(node.path("pod.yml"), POD).expect("written");
    node.wait("a pod that is taken", |node| node.kubectl(&["apply", "-f", "pod.yml"]).status.success());
    node.wait("the pod to answer", |node| {
        node.kubectl(&["exec", "pulp-api", "--", "sh", "-c", IS_UP]).status.success()
    });
    let wheels = python::wheelhouse();
    let place = |name: &str| format!("/var/lib/pulp/.pulpcov/{name}");
    let hosts = format!(
        "all:\n  vars: {{ansible_connection: kubernetes.core.kubectl, ansible_kubectl_kubeconfig: {}, ansible_kubectl_pod: pulp-api, \
         ansible_kubectl_container: api, pulpcov_profile: {profile}, pulpcov_lib_root: {}, pulpcov_data_root: {}}}\n  hosts: {{api: {{}}}}\n",
        node.path("kubeconfig").display(),
        place("lib"),
        place("data"),
    );
    fs::write(node.path("hosts.yml"), &hosts).expect("written");
    // Where it may not write it is told what to do.
    let bare = hosts
        .replace(&format!(", pulpcov_lib_root: {}, pulpcov_data_root: {}", place("lib"), place("data")), "");
    fs::write(node.path("bare.yml"), bare).expect("written");
    let (_, said) =
        node.pulpcov(4, &["fleet", "install", "bare.yml", "--wheelhouse", &wheels.to_string_lossy()]);
    assert!(said.contains("Permission denied") && said.contains("pulpcov_lib_root"), "{said}");
    // What the restart of a pod would take with it is not begun.
    let in_root = hosts.replace("/var/lib/pulp/.pulpcov/", "/tmp/");
    fs::write(node.path("root.yml"), in_root).expect("written");
    let (_, said) = node.pulpcov(
        4,
        &["fleet", "install", "root.yml", "--restart", "--wheelhouse", &wheels.to_string_lossy()],
    );
    assert!(said.contains("/tmp/lib lies on no volume of it") && said.contains("pulpcov bake"), "{said}");
    // The kubelet starts the container again, and the volume stays.
    let (_, said) = node.pulpcov(
        0,
        &["fleet", "install", "hosts.yml", "--restart", "--wheelhouse", &wheels.to_string_lossy()],
    );
    assert!(said.contains("installed, restarted, 3 processes recorded"), "{said}");
    // Found by its label it is the same pod.
    let found = hosts
        .replace("ansible_kubectl_pod: pulp-api", "pulpcov_pods: {selector: app=pulp-api}")
        .replace("hosts: {api: {}}", "hosts: {pulp: {}}");
    fs::write(node.path("found.yml"), found).expect("written");
    let (_, said) = node.pulpcov(0, &["fleet", "status", "found.yml"]);
    assert!(
        said.lines().any(|line| line.starts_with("pulp-1 ") && line.contains("3 processes recorded")),
        "{said}"
    );
    node.shell("pulp-api", EXERCISE);
    node.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    // Ended once more by whomever, nothing is lost.
    node.shell("pulp-api", EXERCISE);
    node.shell("pulp-api", "kill -TERM 1");
    let is_again = |node: &Kubernetes| {
        let (wrote, _) = node.pulpcov_ends(&["fleet", "status", "hosts.yml"]);
        wrote.matches(" recording ").count() == 3
    };
    node.wait("the pod to be recorded again", is_again);
    node.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    let (report, _) = node.pulpcov(0, &["report", "run", "--require-complete"]);
    assert!(
        report.contains("based on 6 of 6 processes on 1 host") || report.contains("based on 9 of 9"),
        "{report}"
    );
    kill_in_the_middle_of_a_collect(&node);
    node.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    let (_, said) = node.pulpcov(0, &["fleet", "uninstall", "hosts.yml", "--restart", "--erase-data"]);
    assert!(said.contains("uninstalled"), "{said}");
    node.wait("the pod to answer", |node| {
        node.kubectl(&["exec", "pulp-api", "--", "sh", "-c", IS_UP]).status.success()
    });
    assert_eq!(node.shell("pulp-api", "find /var/lib/pulp -name '*pulpcov*'"), "");
}

/// A controller that is killed leaves nothing that keeps the next one out, though the kubelet keeps the channel.
fn kill_in_the_middle_of_a_collect(node: &Kubernetes) {
    const LEFT: &str = "/var/lib/pulp/.pulpcov/data/data.elsewhere.1.aa";
    node.shell("pulp-api", &shop::ballast(LEFT, 20));
    let mut collect = node.command(pulpcov_tests::programs::pulpcov());
    let mut child =
        collect.args(["fleet", "collect", "hosts.yml", "--output", "other"]).spawn().expect("pulpcov runs");
    node.wait("some of the bundle to arrive", |node| {
        let spools = fs::read_dir(node.path("other/hosts/api"));
        spools.is_ok_and(|mut spools| {
            spools.any(|spool| spool.is_ok_and(|spool| spool.metadata().is_ok_and(|meta| meta.len() > 0)))
        })
    });
    child.kill().expect("killed");
    assert_eq!(child.wait().expect("ended").signal(), Some(9), "it had not ended by itself");
    node.shell("pulp-api", &format!("rm {LEFT}"));
}
