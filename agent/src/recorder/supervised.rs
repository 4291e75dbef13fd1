//! How the service of a host without systemd is stopped and started where nobody has said it: by what watches over it.

use pulpcov_protocol::op::{Commands, ServiceAction};
use pulpcov_protocol::profile::Profile;

use crate::host::{s6, systemd};
use crate::recorder::processes;

/// The commands that were named, or those of s6 where it is the first process. None where nothing of the service runs, but
/// for a start.
pub(crate) fn commands(named: &Commands, profile: &Profile, action: ServiceAction) -> Commands {
    if !named.is_empty() || systemd::is_here() {
        return named.clone();
    }
    let Some(all) = s6::services() else { return named.clone() };
    let service = processes::of_service(profile).unwrap_or_default();
    let pids: Vec<u32> = service.iter().map(|running| running.pid).collect();
    let concerned: Vec<&s6::Service> = all
        .iter()
        .filter(|one| one.is_of(profile, &pids))
        // What was stopped stays so, unless its start is what is asked for.
        .filter(|one| action == ServiceAction::Start || one.pid.is_some())
        .collect();
    if concerned.is_empty() {
        named.clone()
    } else {
        s6::commands(&concerned, action == ServiceAction::Restart)
    }
}
