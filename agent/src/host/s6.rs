//! s6 as the first process of a container: which of its services are the profile's, and the commands that stop and start
//! them.

use std::path::{Path, PathBuf};
use std::process::Command;

use pulpcov_protocol::op::Commands;
use pulpcov_protocol::profile::Profile;

use crate::host::{facts, fs};

/// Where s6-overlay has its programs, which what an engine brings into a container may not have on its PATH.
const OVERLAY: &str = "/command";

/// Most of a service's script that is read, and most services that are looked at.
const MAX_SCRIPT: u64 = 64 * 1024;
const MAX_SERVICES: usize = 200;

/// Longest wait for a service to be down or up, in milliseconds.
const PATIENCE: u32 = 60_000;

/// A supervised service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    folder: PathBuf,
    /// What runs for it now.
    pub(crate) pid: Option<u32>,
}

/// Those of the first process, if that is s6's; nothing where it is not.
pub(crate) fn services() -> Option<Vec<Service>> {
    let folder = scan_folder(&fs_err::read("/proc/1/cmdline").ok()?)?;
    let mut services: Vec<Service> = fs_err::read_dir(&folder)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok().filter(|name| is_plain(name))?;
            let folder = entry.path();
            folder.join("supervise").is_dir().then(|| Service { name, pid: pid_of(&folder), folder })
        })
        .take(MAX_SERVICES)
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Some(services)
}

/// The folder that `s6-svscan` watches, by its command line.
fn scan_folder(cmdline: &[u8]) -> Option<PathBuf> {
    let words: Vec<String> = cmdline
        .split(|&byte| byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .filter(|word| !word.is_empty())
        .collect();
    let (program, rest) = words.split_first()?;
    if program.rsplit('/').next() != Some("s6-svscan") {
        return None;
    }
    let last = rest.iter().rev().find(|word| !word.starts_with('-'));
    Some(PathBuf::from(last?)).filter(|folder| folder.is_absolute())
}

fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@+".contains(c))
}

fn program(name: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain([OVERLAY])
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file());
    found.map_or_else(|| name.to_owned(), |path| path.to_string_lossy().into_owned())
}

fn pid_of(folder: &Path) -> Option<u32> {
    let output = Command::new(program("s6-svstat")).args(["-o", "pid"]).arg(folder).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

impl Service {
    /// Whether what it starts is the profile's: by what its script says, or by its processes, of which `service` has those
    /// that are.
    pub(crate) fn is_of(&self, profile: &Profile, service: &[u32]) -> bool {
        let text = fs::read_head(&self.folder.join("run"), MAX_SCRIPT).unwrap_or_default();
        starts(&String::from_utf8_lossy(&text), profile)
            || self.pid.is_some_and(|pid| service.iter().any(|&one| facts::descends_from(one, pid)))
    }
}

/// Whether a script runs a program of the profile's rules.
fn starts(script: &str, profile: &Profile) -> bool {
    let words = || {
        let lines = script.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.flat_map(str::split_whitespace).map(|word| word.trim_matches(['"', '\'', ';']))
    };
    profile.processes.iter().any(|rule| {
        let runs = words().any(|word| {
            let name = word.rsplit('/').next().unwrap_or(word);
            rule.program.iter().any(|program| program == name)
        });
        runs && rule
            .argument
            .as_ref()
            .is_none_or(|argument| words().any(|word| word.contains(argument.as_str())))
    })
}

/// The commands that stop and start services, the last one first, and wait for each. A stop that is the first half of a
/// restart starts again what it has stopped where it fails.
pub(crate) fn commands(services: &[&Service], is_restart: bool) -> Commands {
    let svc = program("s6-svc");
    let each = |words: &str, services: &mut dyn Iterator<Item = &&Service>| {
        let each =
            services.map(|service| format!("{svc} {words} -T {PATIENCE} '{}'", service.folder.display()));
        each.collect::<Vec<_>>().join(" && ")
    };
    let start = each("-u -wu", &mut services.iter());
    let mut stop = each("-d -wD", &mut services.iter().rev());
    if is_restart {
        stop = format!("{stop} || {{ {start}; exit 1; }}");
    }
    Commands { stop: Some(stop), start: Some(start), outside: None }
}

#[cfg(test)]
mod tests {
    use pulpcov_protocol::profile::ProcessRule;

    use super::*;

    #[test]
    fn the_scanned_folder_stands_in_the_command_line() {
        let of = |line: &str| scan_folder(line.replace(' ', "\0").as_bytes());
        assert_eq!(
            of("/package/admin/s6/command/s6-svscan -d4 -- /run/service "),
            Some("/run/service".into())
        );
        assert_eq!(of("s6-svscan /s6 "), Some("/s6".into()));
        assert_eq!(of("s6-svscan "), None);
        assert_eq!(of("/usr/bin/gunicorn /run/service "), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_script_is_the_services_by_the_programs_that_it_names() {
        let rule = |program: &str, argument: Option<&str>| ProcessRule {
            role: "x".into(),
            program: vec![program.into()],
            argument: argument.map(str::to_owned),
            children: None,
        };
        let mut profile = Profile {
            name: "pulp".into(),
            packages: vec!["pulpcore".into()],
            entry_points: vec![],
            omit: vec![],
            processes: vec![rule("pulpcore-api", None), rule("gunicorn", Some("pulpcore.content"))],
            units: vec![],
            users: vec![],
            ready: vec![],
            branch: false,
            recorder: pulpcov_protocol::profile::RecorderChoice::Auto,
            interval: 5.0,
        };
        assert!(starts(
            "#!/bin/sh\nexec s6-setuidgid pulp /usr/local/bin/pulpcore-api -b :24817\n",
            &profile
        ));
        assert!(starts("exec gunicorn \"pulpcore.content:server\"", &profile));
        assert!(!starts("exec gunicorn other:app", &profile));
        assert!(!starts("# pulpcore-api is elsewhere\nexec nginx", &profile));
        profile.processes.clear();
        assert!(!starts("exec pulpcore-api", &profile));
    }
}
