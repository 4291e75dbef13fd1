//! The tools, each doing the job as its users would.

use std::fs;
use std::process::Command;

use pulpcov_tests::lab::{Lab, host_address, host_name};
use pulpcov_tests::{programs, python};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    Night,
    First,
}

pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) command: fn(&Lab, Job) -> Command,
}

pub(crate) const TOOLS: [Tool; 6] = [
    Tool { name: "pulpcov", command: pulpcov },
    Tool { name: "ssh", command: openssh },
    Tool { name: "pyinfra", command: pyinfra },
    Tool { name: "collection", command: collection },
    Tool { name: "mitogen", command: |lab, job| playbooks(lab, job, true) },
    Tool { name: "ansible", command: |lab, job| playbooks(lab, job, false) },
];

/// A profile of a service that runs nowhere: its units would be the hosts' own work.
const PROFILE: &str = "name: bench\npackages: [wsgiref]\nprocesses: [{role: web, program: [bench]}]\n";

/// What the tools are given besides the inventory.
pub(crate) fn prepare(lab: &Lab, hosts: usize) {
    let put = |name: &str, text: &str| fs::write(lab.path(name), text).expect("written");
    put("profile.yml", PROFILE);
    let inventory = fs::read_to_string(lab.path("hosts.yml")).expect("an inventory");
    let profile = lab.path("profile.yml").display().to_string();
    let lines = inventory.lines().map(|line| match line.trim_start().strip_prefix("pulpcov_profile:") {
        Some(_) => format!("    pulpcov_profile: {profile}\n    pulpcov_interpreters: [/usr/bin/python3]\n"),
        None => format!("{line}\n"),
    });
    put("hosts.yml", &lines.collect::<String>());
    let words = r#"{"profile": {"name": "bench", "packages": ["wsgiref"], "processes": [{"role": "web", "program": ["bench"]}]},
        "interpreters": ["/usr/bin/python3"], "wheelhouse": "/usr/local/lib/pulpcov-agent/wheels"}"#;
    put("words.json", words);
    let names: String = (1..=hosts).map(|i| format!("{} {}\n", host_name(i), host_address(i))).collect();
    put("names", &names);
    put(
        "ssh_config",
        &format!(
            "Host *\n  User deploy\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
            lab.path("key").display(),
            lab.path("known_hosts").display()
        ),
    );
    put("deploy.py", PYINFRA);
    let hosts: String = (1..=hosts)
        .map(|i| format!("    ('{}', {{'name': '{}'}}),\n", host_address(i), host_name(i)))
        .collect();
    put(
        "hosts.py",
        &format!(
            "hosts = ([\n{hosts}], {{'ssh_user': 'deploy', 'ssh_key': '{}', 'ssh_known_hosts_file': '{}', 'ssh_config_file': '{}'}})\n",
            lab.path("key").display(),
            lab.path("known_hosts").display(),
            lab.path("ssh_config").display(),
        ),
    );
    let script = lab.path("loop.sh");
    put("loop.sh", LOOP);
    let _ = Command::new("chmod").arg("755").arg(script).status();
}

/// Everything installed by pulpcov, and with the agent where the others look for it, where there are others.
pub(crate) fn install_all(lab: &Lab, others: bool) {
    let output = pulpcov_install(lab).output().expect("pulpcov runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    if !others {
        return;
    }
    for mut tool in [playbook(lab, "install.yml", false), collection_install(lab)] {
        let output = tool.output().expect("it runs");
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn wheels() -> String {
    python::wheelhouse().to_string_lossy().into_owned()
}

fn text(lab: &Lab, name: &str) -> String {
    lab.path(name).to_string_lossy().into_owned()
}

fn pulpcov_install(lab: &Lab) -> Command {
    let (inventory, known) = (text(lab, "hosts.yml"), text(lab, "known_hosts"));
    lab.pulpcov_command(&["fleet", "install", &inventory, "--known-hosts", &known, "--wheelhouse", &wheels()])
}

/// Two commands of a job, one after the other.
fn both(lab: &Lab, first: &Command, second: Option<&Command>) -> Command {
    let line = |command: &Command| {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    };
    let script = std::iter::once(first).chain(second).map(line).collect::<Vec<_>>().join(" && ");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(lab.path(""));
    for (name, value) in first.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn pulpcov(lab: &Lab, job: Job) -> Command {
    let install = pulpcov_install(lab);
    let (inventory, known) = (text(lab, "hosts.yml"), text(lab, "known_hosts"));
    let collect = lab.pulpcov_command(&[
        "fleet",
        "collect",
        &inventory,
        "--known-hosts",
        &known,
        "--output",
        &text(lab, "out"),
    ]);
    both(lab, &install, (job == Job::Night).then_some(&collect))
}

fn ansible(lab: &Lab, mitogen: bool) -> Command {
    let mut command = lab.command(python::ansible_bench().join("bin/ansible-playbook"));
    command
        .args(["-i", &text(lab, "hosts.yml"), "-f", "50"])
        .current_dir(lab.path(""))
        .env("PWD", lab.path(""))
        .env("HOME", lab.path("home"))
        .env("ANSIBLE_PIPELINING", "True")
        .env("ANSIBLE_COLLECTIONS_PATH", python::collection())
        .env("ANSIBLE_SSH_COMMON_ARGS", format!("-o UserKnownHostsFile={}", text(lab, "known_hosts")))
        .env("LC_ALL", "C.UTF-8");
    if mitogen {
        let strategies =
            python::ansible_bench().join("lib/python3.11/site-packages/ansible_mitogen/plugins/strategy");
        command.env("ANSIBLE_STRATEGY", "mitogen_linear").env("ANSIBLE_STRATEGY_PLUGINS", strategies);
    }
    command
}

fn playbook(lab: &Lab, name: &str, mitogen: bool) -> Command {
    let mut command = ansible(lab, mitogen);
    command.arg(programs::workspace().join("playbooks/command").join(name));
    for word in [
        format!("pulpcov_agent={}", programs::agent().display()),
        format!("pulpcov_wheelhouse={}", wheels()),
        "pulpcov_restart=false".to_owned(),
        format!("pulpcov_run={}", text(lab, "out")),
    ] {
        command.args(["-e", &word]);
    }
    command
}

fn playbooks(lab: &Lab, job: Job, mitogen: bool) -> Command {
    let (install, collect) = (playbook(lab, "install.yml", mitogen), playbook(lab, "collect.yml", mitogen));
    both(lab, &install, (job == Job::Night).then_some(&collect))
}

fn collection_install(lab: &Lab) -> Command {
    let mut command = ansible(lab, false);
    command.args(["pulpcov.fleet.install", "-e", &format!("pulpcov_wheelhouse={}", wheels())]);
    command
}

fn collection(lab: &Lab, job: Job) -> Command {
    let mut collect = ansible(lab, false);
    collect.args(["pulpcov.fleet.collect", "-e", &format!("pulpcov_run={}", text(lab, "out"))]);
    both(lab, &collection_install(lab), (job == Job::Night).then_some(&collect))
}

/// What people write: all hosts at once, a connection for each step.
const LOOP: &str = r#"#!/bin/sh
job=$1 agent=$2 wheels=$3
one() {
    name=$1 address=$2
    at="ssh -F ssh_config $address"
    if [ "$job" = First ]; then
        tar -C "$(dirname "$agent")" -cf - "$(basename "$agent")" -C "$(dirname "$wheels")" "$(basename "$wheels")" |
            $at 'sudo sh -c "mkdir -p /usr/local/lib/pulpcov-agent && cd /usr/local/lib/pulpcov-agent && tar -xf - && mv pulpcov-agent-* pulpcov-agent && mv wheelhouse-* wheels"' || exit 1
    fi
    $at sudo /usr/local/lib/pulpcov-agent/pulpcov-agent install --json --args - < words.json > /dev/null || exit 1
    [ "$job" = First ] && return
    $at "sudo sh -c '/usr/local/lib/pulpcov-agent/pulpcov-agent collect --json --bundle /tmp/bundle.tar.gz >&2 && cat /tmp/bundle.tar.gz'" \
        > "out/$name.tar.gz" 2> /dev/null || exit 1
    gzip -t "out/$name.tar.gz" || exit 1
    $at sudo /usr/local/lib/pulpcov-agent/pulpcov-agent erase --json --bundle /tmp/bundle.tar.gz > /dev/null
}
while read -r name address; do
    one "$name" "$address" &
    jobs="$jobs $!"
done < names
for job_id in $jobs; do wait "$job_id" || exit 1; done
"#;

fn openssh(lab: &Lab, job: Job) -> Command {
    let mut command = lab.command(lab.path("loop.sh"));
    command.arg(format!("{job:?}")).arg(programs::agent()).arg(wheels()).current_dir(lab.path(""));
    command
}

const PYINFRA: &str = "\
import os
from pyinfra import host
from pyinfra.operations import files, server

folder = '/usr/local/lib/pulpcov-agent'
files.put(src=os.environ['AGENT'], dest=folder + '/pulpcov-agent', mode='755', _sudo=True)
for wheel in sorted(os.listdir(os.environ['WHEELS'])):
    if wheel.endswith('.whl'):
        files.put(src=os.path.join(os.environ['WHEELS'], wheel), dest=folder + '/wheels/' + wheel, _sudo=True)
files.put(src='words.json', dest='/tmp/words.json')
agent = folder + '/pulpcov-agent'
server.shell(commands=[agent + ' install --json --args /tmp/words.json'], _sudo=True)
if os.environ['JOB'] == 'Night':
    server.shell(commands=[agent + ' collect --json --bundle /tmp/bundle.tar.gz'], _sudo=True)
    files.get(src='/tmp/bundle.tar.gz', dest='out/' + host.data.name + '.tar.gz')
    server.shell(commands=[agent + ' erase --json --bundle /tmp/bundle.tar.gz'], _sudo=True)
";

fn pyinfra(lab: &Lab, job: Job) -> Command {
    let mut command = lab.command(python::ansible_bench().join("bin/pyinfra"));
    command
        .args(["-y", "--parallel", "50", "hosts.py", "deploy.py"])
        .current_dir(lab.path(""))
        .env("HOME", lab.path("home"))
        .env("AGENT", programs::agent())
        .env("WHEELS", wheels())
        .env("JOB", format!("{job:?}"));
    command
}
