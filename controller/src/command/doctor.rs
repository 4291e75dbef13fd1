//! `pulpcov fleet doctor`

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use pulpcov_protocol::op::{Doctor, Op};
use pulpcov_protocol::outcome::{Detail, Finding, Grade};
use serde_json::json;

use super::missing_packages::{self, Packages};
use crate::agent::client::AgentError;
use crate::command::args::FleetArgs;
use crate::exit::{Exit, usage};
use crate::fleet::fan_out::JobResult;
use crate::fleet::outcome::Recap;
use crate::fleet::targets::{Targets, exit_of};
use crate::output::event::HostResult;
use crate::output::progress::Mode;
use crate::output::terminal::{self, json_line, printable};
use crate::profile::load;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    /// Profile of hosts whose inventory sets no `pulpcov_profile`: a built-in name or a YAML file
    #[arg(long, value_name = "NAME", default_value = load::DEFAULT)]
    profile: String,
    /// Show what is in order, too
    #[arg(short, long)]
    verbose: bool,
    /// Write one JSON object to stdout instead
    #[arg(long, conflicts_with = "jsonl")]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let targets = Targets::new(args.fleet.targets()?, "doctor").await?;
    let mode = targets.mode;
    let profiles = Arc::new(targets.profiles(&args.profile).map_err(usage)?);
    let recap = targets
        .run(move |access, host, reporter| {
            let profile = profiles.get(&host.name).cloned();
            async move {
                let wanted = profile.as_ref().map(|profile| profile.packages.clone()).unwrap_or_default();
                let op = Op::Doctor(Box::new(Doctor {
                    lib_root: host.lib_root(),
                    data_root: host.pulpcov.data_root.clone(),
                    profile,
                    interpreters: host.pulpcov.interpreters.clone(),
                }));
                let outcome = access.ask_once(&host, &op, &reporter).await?;
                let Detail::Doctor(found) = outcome.pulpcov else {
                    return Err(AgentError::Unexpected("doctor without its findings".to_owned()));
                };
                let packages = Packages { wanted, missing: found.missing_packages };
                let data = Judged { findings: found.findings, packages };
                // An obstacle is a failure, as it is for Ansible's module; looking went well all the same.
                let verdict = if data.has_obstacle() { HostResult::Failed } else { HostResult::Ok };
                Ok(JobResult { verdict, msg: outcome.msg, warnings: outcome.warnings, data })
            }
        })
        .await?;
    let nowhere = missing_packages::everywhere(recap.data().map(|(_, judged)| &judged.packages));
    if args.json {
        terminal::tell(|out| json_line(&to_json(&recap, &nowhere), out));
    } else if mode != Mode::JsonLines {
        terminal::tell(|out| write_findings(&recap, args.verbose, out));
    }
    if !nowhere.is_empty() {
        terminal::say(&format!("obstacle: {}", missing_packages::words(&nowhere)));
    }
    let obstacles = !nowhere.is_empty() || recap.data().any(|(_, judged)| judged.has_obstacle());
    Ok(if obstacles { Exit::HostsFailed } else { exit_of(&recap) })
}

/// What was found on one host.
struct Judged {
    findings: Vec<Finding>,
    packages: Packages,
}

impl Judged {
    fn has_obstacle(&self) -> bool {
        self.findings.iter().any(|finding| finding.grade == Grade::Bad)
    }
}

fn to_json(recap: &Recap<Judged>, nowhere: &BTreeSet<&str>) -> serde_json::Value {
    let hosts: BTreeMap<&String, serde_json::Value> = recap
        .0
        .iter()
        .map(|(host, status)| {
            let findings = status.data.as_ref().map(|detail| &detail.findings);
            (host, json!({"result": status.verdict, "msg": status.msg, "findings": findings}))
        })
        .collect();
    json!({"hosts": hosts, "missing_packages": nowhere})
}

fn write_findings(recap: &Recap<Judged>, verbose: bool, out: &mut dyn Write) -> std::io::Result<()> {
    for (host, status) in &recap.0 {
        let Some(detail) = &status.data else { continue };
        for finding in detail.findings.iter().filter(|finding| verbose || finding.grade != Grade::Ok) {
            let grade = match finding.grade {
                Grade::Bad => "obstacle",
                Grade::Warning => "warning ",
                Grade::Ok => "ok      ",
            };
            writeln!(out, "{host}: {grade}  {}: {}", printable(&finding.subject), printable(&finding.msg))?;
            if let Some(hint) = &finding.hint {
                writeln!(out, "{host}:           hint: {}", printable(hint))?;
            }
        }
    }
    Ok(())
}
