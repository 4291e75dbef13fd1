//! How the service of a host without systemd is stopped and started where nobody has said it: by what watches over it.

use pulpcov_protocol::op::{Commands, ServiceAction};
use pulpcov_protocol::profile::Profile;

use crate::host::{s6, systemd};
use crate::recorder::processes;

/// The services of s6 that are the profile's, by their scripts or by what runs of them; nothing where s6 is not the first
/// process.
pub(crate) fn services(profile: &Profile) -> Option<Vec<s6::Service>> {
    let mut all = s6::services()?;
    let service = processes::of_service(profile).unwrap_or_default();
    let pids: Vec<u32> = service.iter().map(|running| running.pid).collect();
    all.retain(|one| one.is_of(profile, &pids));
    Some(all)
}

/// The commands that were named, or those of s6 where it is the first process. None where nothing of the service runs, but
/// for a start: then those, too, that a stop of ours has `stopped`.
pub(crate) fn commands(
    named: &Commands,
    profile: &Profile,
    action: ServiceAction,
    stopped: &[String],
) -> Commands {
    if !named.is_empty() || systemd::is_here() {
        return named.clone();
    }
    let mut concerned = services(profile).unwrap_or_default();
    if action == ServiceAction::Start {
        let known: Vec<String> = concerned.iter().map(|one| one.name.clone()).collect();
        let all = s6::services().unwrap_or_default().into_iter();
        concerned.extend(all.filter(|one| stopped.contains(&one.name) && !known.contains(&one.name)));
    } else {
        // What was stopped stays so.
        concerned.retain(|one| one.pid.is_some());
    }
    if concerned.is_empty() {
        named.clone()
    } else {
        s6::commands(&concerned.iter().collect::<Vec<_>>(), action == ServiceAction::Restart)
    }
}
