//! Entries of the inventory that stand for containers or pods: found at each command, named by the entry and a number.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use pulpcov_protocol::text::error_chain;
use tokio::task::JoinSet;

use crate::exit::usage;
use crate::fleet::fan_out::Access;
use crate::fleet::numbers::{Numbers, NumbersFile, Settled};
use crate::inventory::{BecomeMethod, Connection, Host, Inventory, Selection, Sought};
use crate::transport::{Endpoint, Listed, TransportError};

/// What entries came to.
#[derive(Default)]
pub(super) struct Discovered {
    pub(super) hosts: Vec<Host>,
    /// Entry to the names of its members.
    pub(super) members: BTreeMap<String, Vec<String>>,
    pub(super) warnings: Vec<String>,
}

/// The hosts whose engines are asked, where they are no hosts of the run themselves.
pub(super) fn engine_hosts(inventory: &Arc<Inventory>, hosts: &[Host]) -> Result<Vec<Host>> {
    let sought = || hosts.iter().filter_map(|host| Some((host, host.sought.as_ref()?.on.as_deref()?)));
    let mut named: BTreeMap<&str, &Host> = sought().map(|(entry, on)| (on, entry)).collect();
    for host in hosts.iter().filter(|host| host.sought.is_none()) {
        named.remove(host.name.as_str());
    }
    let of = |(on, entry): (&str, &Host)| {
        let wrong = |what: &str| usage(anyhow!("host {}: the engine's host {on} {what}", entry.name));
        if !inventory.hosts.contains_key(on) {
            return Err(wrong("is not in the inventory"));
        }
        let host = inventory.host(on).map_err(usage)?;
        if host.sought.is_some() { Err(wrong("stands for containers itself")) } else { Ok(host) }
    };
    named.into_iter().map(of).collect()
}

/// Replaces every entry by what it stands for just now. One of which nothing is found stays, as a host that cannot be
/// reached.
pub(super) async fn discover(
    hosts: Vec<Host>,
    inventory: &Inventory,
    access: &mut Arc<Access>,
    engines: &[Host],
    forks: usize,
    numbers: (Option<&Path>, &[PathBuf]),
    selection: &Selection,
) -> Result<Discovered> {
    if hosts.iter().all(|host| host.sought.is_none()) {
        return Ok(Discovered { hosts, ..Discovered::default() });
    }
    let known: BTreeMap<&str, &Host> =
        hosts.iter().chain(engines).map(|host| (host.name.as_str(), host)).collect();
    let ways: BTreeMap<String, Way> = hosts
        .iter()
        .filter_map(|host| Some((host, host.sought.as_ref()?)))
        .map(|(host, sought)| Ok((host.name.clone(), Way::new(sought, &known, access)?)))
        .collect::<Result<_>>()?;
    let lists = list_all(&hosts, &ways, access, forks).await?;
    let mut discovered = Discovered::default();
    let found = lists.iter().filter_map(|(entry, list)| {
        let names = list.as_ref().ok()?.iter().map(|one| one.name.clone()).collect();
        Some((entry.as_str(), names))
    });
    let mut settled = settle(found.collect(), numbers, &mut discovered.warnings);
    let reached = Arc::get_mut(access).context("the hosts' access is still in use")?;
    for entry in hosts {
        let Some(way) = ways.get(&entry.name) else {
            discovered.hosts.push(entry);
            continue;
        };
        let Settled { mut here, gone } = settled.remove(&entry.name).unwrap_or_default();
        here.retain(|&number, _| selection.takes(&entry.name, number));
        discovered.warnings.extend(gone.iter().map(|(number, name)| {
            format!(
                "{}-{number} was {name}, which is gone: what it recorded and was not collected is on its volumes, or lost",
                entry.name
            )
        }));
        if here.is_empty() {
            let why = way.why_nothing(lists.get(&entry.name));
            reached.endpoints.insert(entry.name.clone(), Arc::new(Endpoint::Absent(why)));
            discovered.hosts.push(entry);
            continue;
        }
        let members = members(&entry, way, here, inventory, reached)?;
        discovered.members.insert(entry.name, members.iter().map(|host| host.name.clone()).collect());
        discovered.hosts.extend(members);
    }
    Ok(discovered)
}

/// What an entry stands for, as hosts of their own, each with its way.
fn members(
    entry: &Host,
    way: &Way,
    here: BTreeMap<u32, String>,
    inventory: &Inventory,
    reached: &mut Access,
) -> Result<Vec<Host>> {
    // On another host, the command line's user is that host's.
    let user = entry.user.clone().or_else(|| reached.user.clone().filter(|_| way.on.is_none()));
    let mut members = Vec::new();
    for (number, container) in here {
        let name = format!("{}-{number}", entry.name);
        if inventory.hosts.contains_key(&name) {
            let clash =
                anyhow!("host {}: {container} of it would be {name}, which is a host of its own", entry.name);
            return Err(usage(clash));
        }
        let endpoint =
            Endpoint::of_found(&way.sought, &container, way.on(), user.as_deref()).map_err(usage)?;
        reached.endpoints.insert(name.clone(), Arc::new(endpoint));
        let connection = Some(Connection::Container(Box::new(way.sought.container.clone())));
        members.push(Host { name, address: container, connection, sought: None, ..entry.clone() });
    }
    Ok(members)
}

/// How the engine of an entry is reached.
#[derive(Clone)]
struct Way {
    sought: Sought,
    /// Its host, and what comes before the engine's words there.
    on: Option<(Arc<Endpoint>, Vec<String>)>,
}

impl Way {
    fn new(sought: &Sought, known: &BTreeMap<&str, &Host>, access: &Access) -> Result<Self> {
        let Some(name) = sought.on.as_deref() else { return Ok(Self { sought: sought.clone(), on: None }) };
        let host = known.get(name).context("the engine's host is known")?;
        let endpoint = access.endpoints.get(name).context("the engine's host has a way")?;
        let before = rights(host, access)?;
        Ok(Self { sought: sought.clone(), on: Some((Arc::clone(endpoint), before)) })
    }

    fn on(&self) -> Option<(&Arc<Endpoint>, &[String])> {
        self.on.as_ref().map(|(endpoint, before)| (endpoint, before.as_slice()))
    }

    /// Why there is nobody to go to.
    fn why_nothing(&self, list: Option<&Result<Vec<Listed>, TransportError>>) -> String {
        let place = self.sought.on.as_deref().map_or_else(String::new, |host| format!("on {host}: "));
        let why = match list {
            Some(Err(error)) => error_chain(error),
            Some(Ok(list)) if !list.is_empty() => "none of these numbers runs".to_owned(),
            _ => format!("nothing runs of {}", told(&self.sought)),
        };
        format!("{place}{why}")
    }
}

/// What gives an engine's program root's rights on its host.
fn rights(host: &Host, access: &Access) -> Result<Vec<String>> {
    if !(access.r#become || host.r#become.wanted) {
        return Ok(Vec::new());
    }
    let method = host.r#become.method.unwrap_or(access.become_method);
    match method {
        // It has nobody to ask for a password.
        BecomeMethod::Sudo | BecomeMethod::Doas => {
            Ok(vec![host.r#become.exe.clone().unwrap_or_else(|| method.name().to_owned()), "-n".to_owned()])
        }
        BecomeMethod::Su => Err(usage(anyhow!(
            "host {}: become by su, which runs no engine's program: log in as root, or use sudo",
            host.name
        ))),
    }
}

/// What is sought, in words.
fn told(sought: &Sought) -> String {
    let labels = sought.labels.iter().map(|label| format!("label {label}"));
    let names = sought.name.iter().map(|name| format!("name {name}"));
    labels.chain(names).collect::<Vec<_>>().join(", ")
}

type Lists = BTreeMap<String, Result<Vec<Listed>, TransportError>>;

/// Asks all engines, so many at once. Each runs on its own: one that fails is an entry that fails.
async fn list_all(
    hosts: &[Host],
    ways: &BTreeMap<String, Way>,
    access: &Arc<Access>,
    forks: usize,
) -> Result<Lists> {
    let mut lists = Lists::new();
    let mut running = JoinSet::new();
    let mut waiting =
        hosts.iter().filter_map(|host| Some((host.name.clone(), ways.get(&host.name)?.clone())));
    loop {
        while running.len() < forks.max(1)
            && let Some((entry, way)) = waiting.next()
        {
            let access = Arc::clone(access);
            running.spawn(async move {
                let list =
                    access.again(|| Endpoint::list(&way.sought, way.on(), &access.ring, access.limits)).await;
                (entry, list)
            });
        }
        let Some(done) = running.join_next().await else { return Ok(lists) };
        let (entry, list) = done.context("looking for containers")?;
        lists.insert(entry, list);
    }
}

/// Gives all that was found its numbers. Where they cannot be kept, they are given anew each time.
fn settle(
    found: Vec<(&str, Vec<String>)>,
    (folder, sources): (Option<&Path>, &[PathBuf]),
    warnings: &mut Vec<String>,
) -> BTreeMap<String, Settled> {
    let all = |numbers: &mut Numbers| -> BTreeMap<String, Settled> {
        found.iter().map(|(entry, names)| ((*entry).to_owned(), numbers.settle(entry, names))).collect()
    };
    let kept = match NumbersFile::of(folder, sources) {
        Ok(file) => file.change(all).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    kept.unwrap_or_else(|error| {
        warnings.push(format!("the numbers of containers may change with the next command: {error}"));
        all(&mut Numbers::default())
    })
}

/// The groups of hosts where entries are their members, each of them a group of its own.
pub(super) fn regroup(
    groups: BTreeMap<String, BTreeSet<String>>,
    members: &BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (group, hosts) in groups {
        let hosts =
            hosts.into_iter().flat_map(|host| members.get(&host).cloned().unwrap_or_else(|| vec![host]));
        all.entry(group).or_default().extend(hosts);
    }
    for (entry, hosts) in members {
        all.entry(entry.clone()).or_default().extend(hosts.iter().cloned());
    }
    all
}
