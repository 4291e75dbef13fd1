//! The command lines of engines, held against those of Ansible's own connection plugins: both are given engines that only
//! write down how they were called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use pulpcov_tests::{programs, python};

/// What stands in for an engine: it notes its words and its own name, answers what Ansible asks beforehand, and does nothing.
const ENGINE: &str = "#!/bin/sh
case \"$*\" in
    *exec*) { printf '%s\\0' \"${0##*/}\" \"$@\"; env | grep -E '^(DOCKER_API_VERSION|HTTPS_PROXY)=' | tr '\\n' '\\0'; } >\"$CALLED\"; exit 1;;
    *version*) echo 27.0.0;;
    *mount*) exit 1;;
esac
";

/// What Ansible is asked to run; some of its plugins give it to no shell.
const COMMAND: &str = "the-command";

/// Host variables, each of a host. (These plugins do not follow their own `ansible_podman_host` and
/// `ansible_kubectl_verify_ssl: false`; we do.)
const HOSTS: &str = "
podman: {ansible_connection: containers.podman.podman}
podman-user: {ansible_connection: podman, ansible_host: web, ansible_user: 700}
podman-args: {ansible_connection: podman, ansible_host: web, ansible_podman_extra_args: '--remote --url \"ssh://r@h/a b\"'}
podman-path: {ansible_connection: podman, ansible_podman_executable: BIN/podman-remote}
docker: {ansible_connection: docker}
docker-user: {ansible_connection: community.docker.docker, ansible_docker_host: web, ansible_docker_user: pulp, ansible_user: nobody}
docker-args: {ansible_connection: docker, ansible_docker_extra_args: '-H tcp://h:1 --tls', ansible_docker_extra_env: {A: '1', B: 'x y'}}
docker-more: {ansible_connection: docker, ansible_docker_working_dir: /srv, ansible_docker_privileged: true}
kubectl: {ansible_connection: kubernetes.core.kubectl, ansible_user: nobody}
kubectl-pod: {ansible_connection: kubernetes.core.kubectl, ansible_kubectl_pod: api-0, ansible_kubectl_container: api, ansible_kubectl_namespace: pulp, ansible_kubectl_context: test}
kubectl-login: {ansible_connection: kubernetes.core.kubectl, ansible_kubectl_host: 'https://h:1', ansible_kubectl_token: t, ansible_kubectl_ssl_ca_cert: /ca, ansible_kubectl_cert_file: /c, ansible_kubectl_key_file: /k}
kubectl-user: {ansible_connection: kubernetes.core.kubectl, ansible_kubectl_kubeconfig: /etc/kube, ansible_kubectl_username: u, ansible_kubectl_password: p, ansible_kubectl_extra_args: '--v 1', ansible_kubectl_local_env_vars: {HTTPS_PROXY: 'http://p'}}
oc: {ansible_connection: community.okd.oc, ansible_oc_pod: api-0, ansible_oc_namespace: pulp, ansible_oc_token: t}
";

/// How an engine was called, up to the command that it should run.
fn called(path: &Path) -> Option<Vec<String>> {
    let bytes = fs::read(path).ok()?;
    let _ = fs::remove_file(path);
    let words: Vec<String> =
        bytes.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let shell = words.iter().position(|word| word == "/bin/sh" || word == COMMAND)?;
    let env = words.iter().filter(|word| word.starts_with("HTTPS_PROXY=")).cloned();
    Some(words[..shell].iter().cloned().chain(env).collect())
}

/// Each option with its value, in the order of their names: which comes first is a plugin's own affair.
fn sorted(words: &[String]) -> Vec<String> {
    let (mut options, mut rest): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    // The plugin of podman leaves it out where it sends nothing.
    for word in words.iter().filter(|word| *word != "-i") {
        match options.last_mut() {
            _ if word.starts_with('-') && word != "--" => options.push(word.clone()),
            Some(last) if !word.starts_with('-') && word != "exec" && !last.contains(' ') => {
                last.push(' ');
                last.push_str(word);
            }
            _ => rest.push(word.clone()),
        }
    }
    options.sort();
    rest.extend(options);
    rest
}

#[test]
#[ignore = "needs a package index: Ansible's collections"]
fn engines_are_called_as_ansible_calls_them() {
    let work = tempfile::tempdir().expect("a folder");
    let bin = work.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    for name in ["podman", "podman-remote", "docker", "kubectl", "oc"] {
        fs::write(bin.join(name), ENGINE).expect("written");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("set");
    }
    // An agent that no container ever gets.
    fs::write(work.path().join("pulpcov-agent-x86_64"), "no agent").expect("written");
    let hosts = HOSTS.replace("BIN", &bin.to_string_lossy());
    let listed: String = hosts.lines().map(|line| format!("    {line}\n")).collect();
    fs::write(work.path().join("hosts.yml"), format!("all:\n  hosts:\n{listed}")).expect("written");
    let called_file = work.path().join("called");
    let ansible = python::ansible_with_connections();
    let path = format!("{}:{}", bin.display(), python::path_with(&ansible.join("bin")));
    for host in hosts.lines().filter_map(|line| line.split_once(':')).map(|(host, _)| host) {
        let run = |program: &Path, words: &[&str]| {
            let output = Command::new(program)
                .args(words)
                .current_dir(work.path())
                .env("PATH", &path)
                .env("CALLED", &called_file)
                .env("ANSIBLE_COLLECTIONS_PATH", ansible.join("collections"))
                .env("ANSIBLE_LOCAL_TEMP", work.path().join("ansible"))
                .env("PULPCOV_AGENT_DIR", work.path())
                .env("PULPCOV_STATE_DIR", work.path().join("state"))
                .output()
                .expect("runs");
            let words = called(&called_file);
            words.unwrap_or_else(|| {
                panic!(
                    "{host}: no engine was called: {}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                )
            })
        };
        let theirs =
            run(&ansible.join("bin/ansible"), &[host, "-i", "hosts.yml", "-m", "raw", "-a", COMMAND]);
        let ours =
            run(&programs::pulpcov(), &["fleet", "status", "hosts.yml", "--limit", host, "--retries", "0"]);
        assert_eq!(sorted(&ours), sorted(&theirs), "{host}");
    }
}
