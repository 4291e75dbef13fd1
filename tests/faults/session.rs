//! The steps of a seed, done on real hosts as a user does them; what was seen is noted, not judged.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulpcov_tests::lab::{Lab, host_name};
use pulpcov_tests::{python, tally};
use serde_json::Value;

use crate::client::{Client, Marking};
use crate::inject;
use crate::plan::{Fault, Kind, Op, Step};

/// How long a command of pulpcov may take, faults and all.
const PATIENCE: Duration = Duration::from_mins(4);

/// How long hosts may take to be back.
const SERVED: Duration = Duration::from_secs(40);

/// Requests that each host answers between two operations.
const BETWEEN: usize = 8;

/// A command that was begun.
struct UnderWay {
    words: String,
    pid: Pid,
    ended: mpsc::Receiver<Output>,
}

/// A command that was given, and how it ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) op: Op,
    pub(crate) words: String,
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    /// Its JSON lines.
    told: String,
    /// How each host ended, by the command's own words: its result and message. None where it was killed.
    pub(crate) hosts: Vec<(String, String, String)>,
    pub(crate) fault: Option<Fault>,
    /// Hosts that it has left installed, and had not found so.
    pub(crate) left: Vec<usize>,
    pub(crate) is_recovery: bool,
}

impl Done {
    pub(crate) fn result(&self, host: usize) -> Option<&str> {
        let name = host_name(host);
        self.hosts.iter().find(|(host, ..)| *host == name).map(|(_, result, _)| result.as_str())
    }

    /// Whether it had nothing to do there, for nothing was installed, or not to the end.
    pub(crate) fn is_not_installed(&self, host: usize) -> bool {
        let says_so =
            |msg: &str| msg.contains("not installed") || msg.contains("an install was not finished");
        let name = host_name(host);
        self.hosts.iter().any(|(host, _, msg)| *host == name && says_so(msg))
    }

    /// Whether it says that a run has left pulpcov on a host.
    pub(crate) fn tells_of(&self, host: usize) -> bool {
        let name = host_name(host);
        let tells = |text: &str| {
            text.contains("still installed on") || text.contains("has left pulpcov installed on")
        };
        self.said.lines().chain(self.told.lines()).any(|line| tells(line) && line.contains(&name))
    }

    fn is_well(&self, host: usize) -> bool {
        matches!(self.result(host), Some("ok" | "changed"))
    }
}

/// A time in which what ran on a host is to be reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recorded {
    pub(crate) from: Instant,
    pub(crate) to: Option<Instant>,
}

/// A fault that came, and when it was over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came {
    pub(crate) fault: Fault,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
}

pub(crate) struct Session<'a> {
    pub(crate) lab: &'a mut Lab,
    pub(crate) hosts: usize,
    pub(crate) clients: Vec<Client>,
    pub(crate) recorded: Vec<Vec<Recorded>>,
    pub(crate) came: Vec<Came>,
    pub(crate) done: Vec<Done>,
    /// The folder with the service's files.
    layer: PathBuf,
    /// Where run directories go, and those that were asked for.
    disk: PathBuf,
    pub(crate) runs: Vec<PathBuf>,
    count: usize,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        lab: &'a mut Lab,
        hosts: usize,
        layer: &Path,
        disk: PathBuf,
        marks: &Range<usize>,
    ) -> Self {
        let clients = (1..=hosts).map(|i| Client::start(&lab.network(), i, marks.clone())).collect();
        Self {
            lab,
            hosts,
            clients,
            recorded: vec![Vec::new(); hosts],
            came: Vec::new(),
            done: Vec::new(),
            layer: layer.to_path_buf(),
            disk,
            runs: Vec::new(),
            count: 0,
        }
    }

    /// The words of an operation, and its run directory if it makes one.
    fn words(&mut self, op: Op) -> (&'static str, Vec<String>, Option<PathBuf>) {
        self.count += 1;
        let run = self.disk.join(format!("run{}", self.count));
        let output = |run: &Path| vec!["--output".to_owned(), run.to_string_lossy().into_owned()];
        let wheels = python::wheelhouse().to_string_lossy().into_owned();
        let installs = vec!["--wheelhouse".to_owned(), wheels];
        match op {
            Op::Install => ("install", [installs, vec!["--restart".into()]].concat(), None),
            Op::Collect => ("collect", output(&run), Some(run)),
            Op::CollectKeep => ("collect", [output(&run), vec!["--keep".into()]].concat(), Some(run)),
            Op::Reset => ("reset", vec!["--label".into(), format!("part{}", self.count)], None),
            Op::Status => ("status", Vec::new(), None),
            Op::Uninstall => ("uninstall", vec!["--restart".into()], None),
            Op::Run => {
                let (begun, ended) = (self.mark_file("begun"), self.mark_file("ended"));
                let script = format!("touch {}; sleep 2; touch {}", begun.display(), ended.display());
                let command = vec!["--".to_owned(), "sh".into(), "-c".into(), script];
                ("run", [installs, output(&run), command].concat(), Some(run))
            }
        }
    }

    fn mark_file(&self, name: &str) -> PathBuf {
        self.lab.path(&format!("{name}{}", self.count))
    }

    fn spawn(&self, verb: &str, words: &[String], fault: Option<&Fault>) -> Child {
        let mut all = vec!["--connect-timeout", "4", "--idle-timeout", "8", "--retries", "1", "--jsonl"];
        all.extend(words.iter().map(String::as_str));
        let mut command = self.lab.fleet_command(verb, &all);
        if let Some(Fault { kind: Kind::Clock(hours), .. }) = fault {
            // The controller's clock is as wrong, the other way.
            let wrong_by = self.lab.path("clock");
            std::fs::write(&wrong_by, (-hours * 3600).to_string()).expect("a clock");
            command.env("LD_PRELOAD", tally::wrong_clock(&self.layer)).env("WRONG_CLOCK", wrong_by);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("pulpcov runs")
    }

    fn mark(&self, marking: &Marking) {
        self.clients.iter().for_each(|client| client.mark(marking.clone()));
    }

    /// Begins a command; its end comes through the channel.
    fn begin(&self, verb: &str, words: &[String], fault: Option<&Fault>) -> UnderWay {
        let child = self.spawn(verb, words, fault);
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let (send, ended) = mpsc::channel();
        std::thread::spawn(move || send.send(child.wait_with_output().expect("it ends")));
        UnderWay { words: format!("{verb} {}", words.join(" ")), pid, ended }
    }

    /// Whoever is recorded is so until now.
    fn close(&mut self, host: usize, at: Instant) {
        for interval in self.recorded[host - 1].iter_mut().filter(|interval| interval.to.is_none()) {
            interval.to = Some(at);
        }
    }

    /// One operation, with what goes wrong in it.
    pub(crate) fn step(&mut self, step: &Step) {
        let Step { op, fault } = *step;
        let second = fault.and_then(|fault| fault.kind.second());
        if op == Op::Uninstall || second.is_some_and(Op::changes_hosts) {
            let now = Instant::now();
            (1..=self.hosts).for_each(|host| self.close(host, now));
        }
        let (verb, words, run) = self.words(op);
        let marks = (self.mark_file("begun"), self.mark_file("ended"));
        // A start counts as one until nothing new runs: clients that ask for new functions would draw it out.
        self.mark(&match (op, second) {
            (Op::Install, _) | (_, Some(Op::Install | Op::Run)) => Marking::Never,
            (Op::Run, _) => Marking::Once(marks.0.clone()),
            _ => Marking::Always,
        });
        let before: Vec<bool> = (1..=self.hosts).map(|host| self.is_installed(host)).collect();
        let command = self.begin(verb, &words, fault.as_ref());
        let (output, came, other) = self.strike(&command, fault);
        self.runs.extend(run);
        self.note(op, command.words, &output, came);
        let own = self.done.len() - 1;
        if let Some((op, command)) = other {
            let output = command.ended.recv_timeout(PATIENCE).expect("the second command ends");
            self.note(op, command.words, &output, came);
        }
        let is_unclear = second.is_some_and(Op::changes_hosts);
        self.expect(op, came, is_unclear, &marks);
        self.wait_for_hosts();
        if op == Op::Run && !is_unclear {
            let left = |host: &usize| !before[host - 1] && self.is_installed(*host);
            self.done[own].left = (1..=self.hosts).filter(left).collect();
        }
        self.mark(&Marking::Always);
        let now = Instant::now();
        for client in &self.clients {
            // Where they are away, the judge says so.
            let _ = client.is_served(now, BETWEEN, SERVED);
        }
    }

    /// Does to a command under way what is to go wrong, and takes it back; how the command ended, whether the fault
    /// came before that, and what a second controller has begun.
    fn strike(
        &mut self,
        command: &UnderWay,
        fault: Option<Fault>,
    ) -> (Output, Option<Fault>, Option<(Op, UnderWay)>) {
        let never_ends = "the command ends";
        let Some(fault) = fault else {
            return (command.ended.recv_timeout(PATIENCE).expect(never_ends), None, None);
        };
        if let Ok(output) = command.ended.recv_timeout(fault.after) {
            return (output, None, None);
        }
        let begun = Instant::now();
        let other = fault.kind.second().map(|op| {
            let (verb, words, run) = self.words(op);
            self.runs.extend(run);
            (op, self.begin(verb, &words, None))
        });
        match fault.kind {
            Kind::Controller => kill(command.pid, Signal::SIGKILL).unwrap_or_default(),
            Kind::Terminate => kill(command.pid, Signal::SIGTERM).unwrap_or_default(),
            Kind::SitePackages => self.close(fault.host, begun),
            _ => {}
        }
        inject::begin(self.lab, &fault);
        let until = begun + fault.lasts;
        let early = command.ended.recv_timeout(fault.lasts).ok();
        // A fault lasts its time, whether somebody is still hit by it or not.
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        inject::end(self.lab, &fault);
        self.came.push(Came { fault, begun, ended: Instant::now() });
        let output = early.unwrap_or_else(|| command.ended.recv_timeout(PATIENCE).expect(never_ends));
        (output, Some(fault), other)
    }

    /// Whether pulpcov is installed on a host, by its receipt; what is left for a collect is not.
    fn is_installed(&self, host: usize) -> bool {
        let script =
            "f=/usr/local/lib/pulpcov/receipt.json; test -e $f && ! grep -q '\"uninstalled\": true' $f";
        self.lab.on(host, &["sh", "-c", script]).status.success()
    }

    /// What is to be reported from now on, by what the command said of each host.
    fn expect(&mut self, op: Op, fault: Option<Fault>, is_unclear: bool, marks: &(PathBuf, PathBuf)) {
        let now = Instant::now();
        let spoils = |host: usize| {
            fault.is_some_and(|fault| fault.host == host && matches!(fault.kind, Kind::SitePackages))
        };
        for host in 1..=self.hosts {
            let is_open = self.recorded[host - 1].iter().any(|interval| interval.to.is_none());
            let is_well =
                self.done.iter().rev().find(|done| done.op == op).is_some_and(|done| done.is_well(host));
            if is_unclear || spoils(host) || is_open {
                continue;
            }
            match op {
                Op::Install if is_well => self.recorded[host - 1].push(Recorded { from: now, to: None }),
                Op::Run => {
                    if let (Some(from), Some(to)) = (instant_of(&marks.0), instant_of(&marks.1)) {
                        self.recorded[host - 1].push(Recorded { from, to: Some(to) });
                    }
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, op: Op, words: String, output: &Output, fault: Option<Fault>) {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let mut events = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let recap = events.rfind(|event| event["event"] == "recap");
        let hosts = recap.and_then(|event| event["hosts"].as_object().cloned()).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.done.push(Done {
            op,
            words,
            code: output.status.code(),
            told: stdout.clone().into_owned(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
            hosts: hosts
                .iter()
                .map(|(host, value)| (host.clone(), text(&value["result"]), text(&value["msg"])))
                .collect(),
            fault,
            left: Vec::new(),
            is_recovery: false,
        });
    }

    /// Waits until every host's service and sshd answer again; whether the services do.
    pub(crate) fn wait_for_hosts(&mut self) -> bool {
        let since = Instant::now();
        let served = self.clients.iter().all(|client| client.is_served(since, 1, SERVED));
        for i in 1..=self.hosts {
            self.lab
                .comes(SERVED, |lab| lab.on(i, &["systemctl", "is-active", "-q", "ssh"]).status.success());
        }
        served
    }

    /// What a user does at the end: fetch what there is, and put every host back.
    pub(crate) fn recover(&mut self) {
        self.wait_for_hosts();
        let until = Instant::now();
        (1..=self.hosts).for_each(|host| self.close(host, until));
        self.repeat(Op::Collect, &[]);
        self.repeat(Op::Uninstall, &["--erase-data"]);
        self.repeat(Op::Status, &[]);
        self.mark(&Marking::Never);
        self.wait_for_hosts();
    }

    fn repeat(&mut self, op: Op, more: &[&str]) {
        let (verb, words, run) = self.words(op);
        let words: Vec<String> = words.into_iter().chain(more.iter().map(|&word| word.to_owned())).collect();
        let output = self.spawn(verb, &words, None).wait_with_output().expect("it ends");
        self.runs.extend(run);
        self.note(op, format!("{verb} {}", words.join(" ")), &output, None);
        if let Some(done) = self.done.last_mut() {
            done.is_recovery = true;
        }
    }
}

/// When a file was made, on the clock that instants are on.
fn instant_of(path: &Path) -> Option<Instant> {
    let made = std::fs::metadata(path).ok()?.modified().ok()?;
    let age = SystemTime::now().duration_since(made).ok()?;
    Instant::now().checked_sub(age)
}
