//! Profiles by name: those built in, and files of the user's.

use std::path::{Path, PathBuf};

use pulpcov_protocol::profile::{Profile, ProfileError};

use crate::inventory::Host;

const BUILT_IN: [(&str, &str); 2] = [
    ("pulp3", include_str!("../../profiles/pulp3.yml")),
    ("generic", include_str!("../../profiles/generic.yml")),
];

/// What hosts get where neither inventory nor command line names a profile.
pub(crate) const DEFAULT: &str = "pulp3";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileLoadError {
    #[error("cannot read profile {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("profile {name}{place}: {reason}")]
    Damaged { name: String, place: String, reason: String },
    #[error(transparent)]
    Invalid(#[from] ProfileError),
    #[error("{name:?} is no built-in profile (there is {}) and no path of a YAML file", BUILT_IN.map(|(name, _)| name).join(", "))]
    Unknown { name: String },
}

/// The profile of a host: the inventory's word, else `default`, with the host's own settings put in.
/// Paths are relative to the inventory's folder.
pub(crate) fn of_host(host: &Host, default: &str, folder: &Path) -> Result<Profile, ProfileLoadError> {
    let mut profile = by_name(host.pulpcov.profile.as_deref().unwrap_or(default), folder)?;
    if !host.pulpcov.packages.is_empty() {
        profile.packages.clone_from(&host.pulpcov.packages);
    }
    if !host.pulpcov.units.is_empty() {
        profile.units.clone_from(&host.pulpcov.units);
    }
    if !host.pulpcov.users.is_empty() {
        profile.users.clone_from(&host.pulpcov.users);
    }
    // Rules of the inventory come first: they are there because the profile's do not say it.
    profile.processes.splice(0..0, host.pulpcov.processes.iter().cloned());
    if !host.pulpcov.ready.is_empty() {
        profile.ready.clone_from(&host.pulpcov.ready);
    }
    if let Some(branch) = host.pulpcov.branch {
        profile.branch = branch;
    }
    if let Some(interval) = host.pulpcov.interval {
        profile.interval = interval;
    }
    if let Some(recorder) = host.pulpcov.recorder {
        profile.recorder = recorder;
    }
    profile.check()?;
    Ok(profile)
}

/// A profile by its name alone.
pub(crate) fn named(name: &str, folder: &Path) -> Result<Profile, ProfileLoadError> {
    let profile = by_name(name, folder)?;
    profile.check()?;
    Ok(profile)
}

fn by_name(name: &str, folder: &Path) -> Result<Profile, ProfileLoadError> {
    let text = match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
        Some((_, text)) => (*text).to_owned(),
        None if name.contains('/') || name.ends_with(".yml") || name.ends_with(".yaml") => {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|source| ProfileLoadError::Read { path, source })?
        }
        None => return Err(ProfileLoadError::Unknown { name: name.to_owned() }),
    };
    serde_yaml::from_str(&text).map_err(|error| damaged(name, &error))
}

/// The reason, and where it stands.
fn damaged(name: &str, error: &serde_yaml::Error) -> ProfileLoadError {
    let (mut place, mut reason) = (String::new(), error.to_string());
    if let Some(location) = error.location() {
        let (line, column) = (location.line(), location.column());
        place = format!(", line {line}, column {column}");
        reason = reason.replace(&format!(" at line {line} column {column}"), "");
    }
    ProfileLoadError::Damaged { name: name.to_owned(), place, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_is_usable() {
        for (name, _) in BUILT_IN {
            let mut profile = by_name(name, Path::new("")).expect("parses");
            if name == "generic" {
                let error = profile.check().expect_err("the inventory has to say what to measure");
                assert!(error.to_string().contains("pulpcov_packages"), "{error}");
                profile.packages.push("mysite".to_owned());
            }
            profile.check().expect("usable");
        }
    }

    #[test]
    fn pulp3_knows_every_form_that_pulp_is_started_in() {
        let profile = by_name("pulp3", Path::new("")).expect("parses");
        let role = |line: &str| {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            profile.role_of(&argv, "/usr/bin/python3.11", "")
        };
        for (line, wanted) in [
            (
                "/usr/local/lib/pulp/bin/python3 /usr/local/lib/pulp/bin/pulpcore-api -b unix:/run/x.sock",
                "api",
            ),
            ("/usr/bin/python3.11 -s /usr/bin/pulpcore-api --preload --timeout 90", "api"),
            (
                "/usr/bin/python3 /usr/local/lib/pulp/bin/gunicorn pulpcore.app.wsgi:application --name pulp-api",
                "api",
            ),
            ("/usr/bin/python3.11 -s /usr/bin/pulpcore-content --preload", "content"),
            (
                "/usr/bin/python3 /usr/local/lib/pulp/bin/gunicorn pulpcore.content:server --bind 0.0.0.0:1",
                "content",
            ),
            ("/usr/bin/python3.11 -s /usr/bin/pulpcore-worker", "worker"),
            (
                "/usr/bin/python3 /usr/local/lib/pulp/bin/rq worker -w pulpcore.tasking.worker.PulpWorker",
                "worker",
            ),
            ("/usr/bin/python3 /usr/local/lib/pulp/bin/pulpcore-manager migrate", "manager"),
        ] {
            assert_eq!(role(line).as_deref(), Some(wanted), "{line}");
        }
        for line in [
            "/usr/local/lib/pulp/bin/python3 /usr/local/lib/pulp/bin/pip install pulpcore",
            "/usr/bin/python3 /usr/bin/dnf install pulpcore-worker",
            "/usr/bin/python3 /usr/local/lib/pulp/bin/gunicorn galaxy.other:app",
            "/usr/bin/python3 -c print('pulpcore-worker')",
        ] {
            assert_eq!(role(line), None, "{line}");
        }
    }

    #[test]
    fn a_wrong_profile_is_told_with_line_and_column() {
        let folder = tempfile::tempdir().expect("a folder");
        for (text, wanted) in [
            ("name: x\npackages: [x\nunits: []\n", "profile p.yml, line 3, column 6: "),
            (
                "name: x\npackages: [x]\nbrnach: true\n",
                "profile p.yml, line 3, column 1: unknown field `brnach`",
            ),
            (
                "name: x\npackages: [x]\ninterval: soon\n",
                "profile p.yml, line 3, column 11: interval: invalid type",
            ),
            (
                "name: x\nprocesses:\n  - {role: web}\n",
                "profile p.yml, line 3, column 5: processes[0]: missing field",
            ),
            ("", "profile p.yml, line 1, column 1: missing field `name`"),
        ] {
            std::fs::write(folder.path().join("p.yml"), text).expect("written");
            let error = by_name("p.yml", folder.path()).expect_err(text).to_string();
            assert!(error.starts_with(wanted), "{wanted}: {error}");
        }
    }

    #[test]
    fn an_unknown_name_says_what_there_is() {
        let error = by_name("plup3", Path::new("")).expect_err("unknown");
        assert!(error.to_string().contains("pulp3"), "{error}");
    }
}
