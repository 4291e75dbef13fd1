//! `pulpcov fleet` against the tools that people use for it, in turn on the same real hosts: wall, client CPU, peak memory.
//! `cargo bench -p pulpcov-tests --bench fleet -- [HOSTS [ROUNDS [TOOL...]]]`, as root.
//!
//! Two jobs, by the same agent on the hosts whoever starts it. *Night*: install finds all in place, then 20 MB of data files
//! are collected of each host. *First*: install on hosts that have nothing; most of that is the hosts' own work.

#[path = "fleet/measured.rs"]
mod measured;
#[path = "fleet/round_trips.rs"]
mod round_trips;
#[path = "fleet/tools.rs"]
mod tools;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use measured::{Cost, median};
use pulpcov_tests::lab::{Lab, Options};
use pulpcov_tests::python;
use tools::{Job, TOOLS, Tool};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |place: usize, default: usize| {
        words.get(place).map_or(default, |word| word.parse().expect("a number"))
    };
    let (hosts, rounds) = (number(0, 20), number(1, 3));
    let wanted = words.get(2..).unwrap_or_default();
    let tools: Vec<&Tool> = TOOLS
        .iter()
        .filter(|tool| wanted.is_empty() || wanted.iter().any(|name| name == tool.name))
        .collect();
    let bench = Bench::new(hosts);
    bench.begin(Job::Night, false);
    let [warm, cold] = round_trips::count(&bench.lab);
    say(&format!("round trips to an installed host: {warm:.1} with the agent there, {cold:.1} without"));
    let megabytes = bench.bytes / 1_000_000;
    say(&format!(
        "{hosts} hosts, {} data files of {megabytes} MB on each, median of {rounds} rounds in turn",
        bench.files
    ));
    for job in [Job::Night, Job::First] {
        bench.begin(job, tools.iter().any(|tool| tool.name != "pulpcov"));
        let mut costs: Vec<Vec<Cost>> = tools.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (tool, costs) in tools.iter().zip(&mut costs) {
                costs.push(bench.run(tool, job));
            }
        }
        table(job, &tools, &costs);
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn table(job: Job, tools: &[&Tool], costs: &[Vec<Cost>]) {
    say(&format!("{job:?}"));
    let of = |costs: &[Cost], pick: fn(&Cost) -> f64| median(costs.iter().map(pick).collect());
    let first = costs.first().cloned().unwrap_or_default();
    for (tool, costs) in tools.iter().zip(costs).filter(|(_, costs)| !costs.is_empty()) {
        let (wall, cpu, memory) = (of(costs, |c| c.wall), of(costs, |c| c.cpu), of(costs, |c| c.memory));
        say(&format!(
            "{:<12} wall {wall:7.2} s  client CPU {cpu:7.2} s  memory {memory:6.0} MB   x{:.1} wall  x{:.1} CPU  x{:.1} memory",
            tool.name,
            wall / of(&first, |c| c.wall),
            cpu / of(&first, |c| c.cpu),
            memory / of(&first, |c| c.memory),
        ));
    }
}

/// Hosts, and what all tools are given.
struct Bench {
    lab: Lab,
    hosts: usize,
    /// Data files on each host.
    files: usize,
    bytes: u64,
}

impl Bench {
    fn new(hosts: usize) -> Self {
        let lab = Lab::start_with(hosts, &Options { shared: true, ..Options::default() });
        lab.inventory("");
        let (mut files, mut bytes) = (0, 0);
        for path in walk(&python::data_files()) {
            let name = path.file_name().expect("a name");
            bytes += fs::copy(&path, lab.path("shared").join(name)).expect("copied");
            files += 1;
        }
        let bench = Self { lab, hosts, files, bytes };
        tools::prepare(&bench.lab, hosts);
        bench
    }

    /// What hosts are before the first run of a job.
    fn begin(&self, job: Job, others: bool) {
        self.clean();
        if job == Job::Night {
            tools::install_all(&self.lab, others);
        }
    }

    /// One run of one tool.
    fn run(&self, tool: &Tool, job: Job) -> Cost {
        match job {
            Job::First => self.clean(),
            Job::Night => {
                let _ = fs::remove_dir_all(self.lab.path("out"));
                fs::create_dir(self.lab.path("out")).expect("a folder");
                for i in 1..=self.hosts {
                    self.lab.shell(i, "cp /shared/data.* /srv/pulp_coverage/");
                }
            }
        }
        let cost = measured::run((tool.command)(&self.lab, job));
        if job == Job::Night {
            self.check(tool);
        }
        cost
    }

    /// A tool that brought less than all has not done the job.
    fn check(&self, tool: &Tool) {
        let listed = |path: &Path| {
            let output = Command::new("tar").arg("-tzf").arg(path).output().expect("tar runs");
            let names = String::from_utf8_lossy(&output.stdout).into_owned();
            names.lines().filter(|name| name.starts_with("data/")).count()
        };
        let bundles = walk(&self.lab.path("out"));
        let bundles = bundles.iter().filter(|path| path.extension().is_some_and(|end| end == "gz"));
        let files: usize = bundles.map(|path| listed(path)).sum();
        assert_eq!(files, self.files * self.hosts, "what {} brought", tool.name);
    }

    fn clean(&self) {
        let _ = fs::remove_dir_all(self.lab.path("out"));
        fs::create_dir(self.lab.path("out")).expect("a folder");
        let known = self.lab.path("known_hosts").to_string_lossy().into_owned();
        let inventory = self.lab.path("hosts.yml").to_string_lossy().into_owned();
        let words = ["fleet", "uninstall", &inventory, "--known-hosts", &known, "--erase-data", "--quiet"];
        self.lab.pulpcov_ends(0, &words);
        for i in 1..=self.hosts {
            self.lab.shell(i, "rm -rf /usr/local/lib/pulpcov-agent /srv/pulp_coverage");
        }
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(walk(&path)) } else { all.push(path) }
    }
    all
}
