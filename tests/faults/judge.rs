//! What must hold after any seed: each finding is a fault of pulpcov, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use pulpcov_tests::lab::host_name;
use pulpcov_tests::tally;
use serde_json::Value;

use crate::client::{Answer, Call, Client};
use crate::plan::{Fault, Kind, Op};
use crate::session::{Done, Session};

/// The profile's interval, and what a busy machine adds to it.
const INTERVAL: Duration = Duration::from_millis(3_500);

/// How long the service may be away for a restart that was asked for.
const RESTART: Duration = Duration::from_secs(15);

/// What the reports of a seed say of a host.
#[derive(Debug, Default)]
struct Reported {
    marks: BTreeSet<usize>,
    /// Processes that the ledger names as ones that could not record.
    named: BTreeSet<u64>,
    /// What is wrong with the ledger itself.
    twice: Vec<String>,
}

/// What a seed came to: how many functions were to be in a report, and what was wrong.
pub(crate) struct Judgement {
    pub(crate) expected: usize,
    pub(crate) findings: Vec<String>,
}

pub(crate) fn judge(session: &Session, trees: &[Vec<String>]) -> Judgement {
    let (mut expected, mut findings) = (0, Vec::new());
    for done in &session.done {
        findings.extend(words(done, session.hosts));
    }
    let reports = reports(session, &mut findings);
    for host in 1..=session.hosts {
        let calls = session.clients[host - 1].calls();
        findings.extend(service(session, host, &calls));
        expected += lines(session, host, &calls, &reports, &mut findings);
        findings.extend(
            session
                .lab
                .changes(host, &trees[host - 1], &["./tmp/.pulpcov-", "./tmp d", "__pycache__"])
                .into_iter()
                .map(|change| format!("{} is not as it was: {change}", host_name(host))),
        );
    }
    findings.extend(left_installed(session));
    findings.extend(unnamed(session));
    Judgement { expected, findings }
}

/// The command's own words: no panic, an end that fits them, and no host named that nothing happened to.
fn words(done: &Done, hosts: usize) -> Vec<String> {
    let mut findings = Vec::new();
    let mut find =
        |text: String| findings.push(format!("{text}: {} -> {:?}\n{}", done.words, done.code, done.said));
    if done.said.contains("panicked") {
        find("a panic".into());
    }
    // A controller that cannot write its own files can only say so.
    let has_full_disk = matches!(done.fault.map(|fault| fault.kind), Some(Kind::ControllerDisk));
    if done.code == Some(1) && !has_full_disk {
        find("an internal error".into());
    }
    let was_ended = matches!(done.fault.map(|fault| fault.kind), Some(Kind::Controller | Kind::Terminate));
    if done.code != Some(0) && done.said.trim().is_empty() && done.hosts.is_empty() && !was_ended {
        find("it failed without a word".into());
    }
    for host in 1..=hosts {
        let result = done.result(host);
        let is_bad = matches!(result, Some("failed" | "unreachable"));
        if done.code == Some(0) && is_bad {
            find(format!("{} is bad, and the end is 0", host_name(host)));
        }
        // Without a fault there is nothing to fail for; status tells what others left.
        let is_hit = done.fault.is_some_and(|fault| {
            fault.host == host
                || matches!(fault.kind, Kind::ControllerDisk | Kind::Second(_) | Kind::Terminate)
        });
        if is_bad && !is_hit && !done.is_not_installed(host) && done.op != Op::Status {
            find(format!(
                "{} is {}, and nothing happened to it",
                host_name(host),
                result.unwrap_or_default()
            ));
        }
        let is_cut_off = done.fault.is_some_and(|fault| {
            (fault.host == host && fault.kind.cuts_off()) || matches!(fault.kind, Kind::Second(_))
        });
        if result == Some("unreachable") && !is_cut_off {
            find(format!("{} is unreachable, which it was not", host_name(host)));
        }
    }
    let is_all_gone = (1..=hosts).any(|host| done.is_not_installed(host));
    if done.is_recovery && done.op != Op::Status && done.code != Some(0) && !is_all_gone {
        find("nothing was wrong any more".into());
    }
    findings
}

fn reports(session: &Session, findings: &mut Vec<String>) -> BTreeMap<String, Reported> {
    let mut hosts: BTreeMap<String, Reported> = BTreeMap::new();
    let is_cut_short = session
        .came
        .iter()
        .any(|came| matches!(came.fault.kind, Kind::ControllerDisk | Kind::Controller | Kind::Terminate));
    let with_earlier = session.runs.iter().flat_map(|run| [run.clone(), run.join("earlier")]);
    for run in with_earlier.filter(|run| run.join("run.json").exists()) {
        let output = session.lab.pulpcov(&["report", &run.to_string_lossy(), "--json", "-"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match serde_json::from_slice::<Value>(&output.stdout) {
            Ok(report) => take_in(&report, &run, &mut hosts),
            Err(_) if said.contains("no bundle") || said.contains("nothing") => {}
            // Its data came, and then there was no room for its sources: all of it is still on the hosts.
            Err(_) if is_cut_short && said.contains("no source of the report has an analysis") => {}
            Err(_) => {
                findings.push(format!("no report of {}: {:?} {said}", run.display(), output.status.code()));
            }
        }
    }
    findings.extend(hosts.values().flat_map(|reported| reported.twice.clone()));
    hosts
}

fn take_in(report: &Value, run: &Path, hosts: &mut BTreeMap<String, Reported>) {
    for (name, host) in report["hosts"].as_object().into_iter().flatten() {
        let reported = hosts.entry(name.clone()).or_default();
        let lines = host["files"]["tally/marks.py"]["executed_lines"].as_array().cloned().unwrap_or_default();
        reported.marks.extend(lines.iter().filter_map(Value::as_u64).filter_map(tally::mark_at));
        let mut seen = BTreeSet::new();
        for process in host["processes"].as_array().into_iter().flatten() {
            let key = format!("{} {} {}", process["pid"], process["started_at"], process["generation"]);
            if !seen.insert(key.clone()) {
                reported.twice.push(format!("{}: process {key} of {name} is told of twice", run.display()));
            }
            // One that died may have lost its last interval, which is judged by when it was killed.
            reported.named.extend(process["pid"].as_u64().filter(|_| !process["error"].is_null()));
        }
    }
}

/// Each function that ran while it was recorded is in a report, or its process is named. Returns how many there were.
fn lines(
    session: &Session,
    host: usize,
    calls: &[Call],
    reports: &BTreeMap<String, Reported>,
    findings: &mut Vec<String>,
) -> usize {
    let none = Reported::default();
    let reported = reports.get(&host_name(host)).unwrap_or(&none);
    let is_expected = |call: &Call| {
        session.recorded[host - 1]
            .iter()
            .any(|interval| call.begun >= interval.from && interval.to.is_none_or(|to| call.ended <= to))
    };
    let is_excused = |call: &Call| {
        session.came.iter().any(|came| {
            came.fault.host == host
                && came.fault.kind.kills()
                && call.ended + INTERVAL >= came.begun
                && call.begun <= came.ended
        })
    };
    // What begins and ends while nothing can be written has nowhere to leave what it ran: `controller/limits.md` says so.
    let is_unwritable = |call: &Call, mark: usize| {
        Client::is_forked(mark)
            && session.came.iter().any(|came| {
                came.fault.host == host
                    && came.fault.kind.fills()
                    && call.ended >= came.begun
                    && call.begun <= came.ended
            })
    };
    let (mut expected, mut lost) = (0, Vec::new());
    for call in calls.iter().filter(|call| is_expected(call)) {
        let (Some(mark), Answer::Ran(pid)) = (call.mark, &call.answer) else { continue };
        expected += 1;
        let is_named = reported.named.contains(&u64::from(*pid));
        if !reported.marks.contains(&mark) && !is_excused(call) && !is_named && !is_unwritable(call, mark) {
            lost.push((mark, *pid, call.begun));
        }
    }
    if !lost.is_empty() {
        let each =
            lost.iter().map(|(mark, pid, at)| format!("m{mark} of {pid} {}", when(session, host, *at)));
        findings.push(format!(
            "{} lost {} of {expected} functions: {}",
            host_name(host),
            lost.len(),
            each.collect::<Vec<_>>().join(", "),
        ));
    }
    let asked: BTreeSet<usize> = calls.iter().filter_map(|call| call.mark).collect();
    let alien: Vec<_> = reported.marks.difference(&asked).collect();
    if !alien.is_empty() {
        findings.push(format!(
            "{}: {} functions that nobody asked for: {alien:?}",
            host_name(host),
            alien.len()
        ));
    }
    expected
}

/// When something ran: by the last fault of its host before it, and the first after it.
fn when(session: &Session, host: usize, at: Instant) -> String {
    let came = || session.came.iter().filter(|came| came.fault.host == host);
    let before = came().rfind(|came| came.begun <= at);
    let after = came().find(|came| came.begun > at);
    let before = before.map(|came| format!("{:?} after {:?}", at - came.begun, came.fault.kind));
    let after = after.map(|came| format!("{:?} before {:?}", came.begun - at, came.fault.kind));
    let told: Vec<_> = [before, after].into_iter().flatten().collect();
    if told.is_empty() { format!("{:?} ago", at.elapsed()) } else { told.join(", ") }
}

/// The service answers all the time, but where it was hit, or restarted as asked.
fn service(session: &Session, host: usize, calls: &[Call]) -> Vec<String> {
    let is_silenced = |from: Instant, to: Instant| {
        session.came.iter().any(|came| {
            came.fault.host == host
                && came.fault.kind.silences()
                && from <= came.ended + RESTART
                && came.begun <= to
        })
    };
    let mut findings = Vec::new();
    let mut away: Option<Instant> = None;
    for call in calls {
        match &call.answer {
            Answer::Broken(text) => {
                findings.push(format!(
                    "{}: asked for {:?}, the service said {text}",
                    host_name(host),
                    call.mark
                ));
            }
            Answer::None => away = away.or(Some(call.begun)),
            Answer::Ran(_) => {
                if let Some(from) = away.take()
                    && call.ended - from > RESTART
                    && !is_silenced(from, call.ended)
                {
                    findings.push(format!("{}: no service for {:?}", host_name(host), call.ended - from));
                }
            }
        }
    }
    if let Some(from) = away {
        findings.push(format!("{}: the service is away since {:?}", host_name(host), from.elapsed()));
    }
    findings
}

/// A run that has left hosts installed says so, or the next command does.
fn unnamed(session: &Session) -> Vec<String> {
    let mut findings = Vec::new();
    for (nth, done) in session.done.iter().enumerate() {
        for &host in &done.left {
            let is_named = session.done[nth..].iter().take(2).any(|done| done.tells_of(host));
            if !is_named {
                findings.push(format!(
                    "{} is left installed without a word: {}",
                    host_name(host),
                    done.words
                ));
            }
        }
    }
    findings
}

/// At the end nothing of pulpcov is left, and no command tells of a run that was cut off.
fn left_installed(session: &Session) -> Vec<String> {
    let mut findings = Vec::new();
    let Some(last) = session.done.iter().rev().find(|done| done.op == Op::Status) else { return findings };
    for host in 1..=session.hosts {
        let output = session
            .lab
            .on(host, &["sh", "-c", "ls -A /usr/local/lib/pulpcov /srv/pulp_coverage 2>/dev/null"]);
        let left = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !left.is_empty() {
            findings.push(format!("{} has left: {left}\n{}", host_name(host), last.said));
        }
    }
    if last.said.contains("cut off") {
        findings.push(format!("all is put back, and yet: {}", last.said));
    }
    findings
}

/// A fault as a person reads it.
pub(crate) fn told(fault: &Fault) -> String {
    format!("{:?} on {} after {:?} for {:?}", fault.kind, host_name(fault.host), fault.after, fault.lasts)
}
