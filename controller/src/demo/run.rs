//! `pulpcov demo`: the whole of it on this machine, through the code that real hosts get.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::demo::loopback::{self, LoopbackServer, new_key};
use crate::exit::{Exit, usage_hint};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the run and its report
    #[arg(short, long, value_name = "DIR", default_value = "pulpcov-demo")]
    output: PathBuf,
    /// Python to run the service with; it needs the venv module
    #[arg(long, value_name = "PYTHON", default_value = "python3")]
    python: String,
}

/// The service and its profile, as they are in the sources.
const SERVICE: [(&str, &str); 7] = [
    (SERVER, include_str!("../../demo/kiosk-server")),
    ("kiosk/__init__.py", include_str!("../../demo/kiosk/__init__.py")),
    ("kiosk/menu.py", include_str!("../../demo/kiosk/menu.py")),
    ("kiosk/orders.py", include_str!("../../demo/kiosk/orders.py")),
    ("kiosk/server.py", include_str!("../../demo/kiosk/server.py")),
    ("kiosk/stock.py", include_str!("../../demo/kiosk/stock.py")),
    (PROFILE, include_str!("../../demo/profile.yml")),
];

const SERVER: &str = "kiosk-server";
const PROFILE: &str = "profile.yml";

/// The profile's interval, and time to write.
const FIRST_FLUSH: Duration = Duration::from_secs(10);

/// What each host is asked, so that no host alone runs it all.
const REQUESTS: [(&str, &[&str]); 3] = [
    ("demo1", &["/price/coffee", "/recommend/9", "/order/brew/3"]),
    ("demo2", &["/price/tea/member", "/recommend/12", "/order/bake/7"]),
    ("demo3", &["/price/nothing", "/recommend/20", "/price/cake"]),
];

const PATIENCE: Duration = Duration::from_secs(30);

/// A command that is under way.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<Exit>>>>;

/// `pulpcov` does what the words of a command line say.
pub(crate) async fn run(args: Args, pulpcov: fn(Vec<String>) -> Running) -> Result<Exit> {
    let run = args.output.join("run");
    if run.exists() {
        return Err(usage_hint(
            anyhow::anyhow!("{} is there already", run.display()),
            "remove it, or name another folder with --output",
        ));
    }
    let work = tempfile::Builder::new()
        .prefix("pulpcov-demo.")
        .tempdir()
        .context("no place for the demo's hosts")?;
    say("three hosts on loopback: an SSH server, a folder and a virtual environment each");
    let hosts = make_hosts(&work, &args.python).await?;
    let inventory = work.path().join("hosts.yml");
    fs::write(&inventory, inventory_text(&hosts, work.path()))?;
    let access = Access {
        pulpcov,
        inventory,
        known_hosts: work.path().join("known_hosts"),
        state: work.path().join("state"),
    };

    access.pulpcov("install", &["--wheelhouse", &work.path().join("wheels").to_string_lossy()]).await?;
    say("exercising a server of three processes on each host");
    let services = exercise(&hosts)?;
    wait_for_data(&hosts);
    access.pulpcov("status", &[]).await?;
    access.pulpcov("collect", &["--output", &run.to_string_lossy()]).await?;
    for mut service in services {
        service.stop()?;
    }
    // Once more: what the processes ran while they ended is data too.
    access.pulpcov("collect", &["--output", &run.to_string_lossy()]).await?;
    let [html, json, text] = ["html", "report.json", "report.txt"].map(|name| args.output.join(name));
    let report = |words: &[&str]| {
        let run = run.to_string_lossy().into_owned();
        let words: Vec<String> =
            ["pulpcov", "report", &run].iter().chain(words).map(|&word| word.to_owned()).collect();
        async move { do_words(pulpcov, words).await }
    };
    let [html_word, json_word, text_word] = [&html, &json, &text].map(|path| path.to_string_lossy());
    report(&["--html", &html_word, "--json", &json_word, "--text", &text_word]).await?;
    report(&[]).await?;
    access.pulpcov("uninstall", &["--erase-data"]).await?;
    for host in &hosts {
        ensure!(
            !host.folder.join("lib").exists() && !host.folder.join("data").exists(),
            "{} was not put back as it was",
            host.name
        );
    }
    say(&format!(
        "all of it is gone again, but for {}: {}, {}, {}, and the report that shows which host ran which line:",
        args.output.display(),
        run.display(),
        json.display(),
        text.display()
    ));
    let index = html.join("index.html");
    crate::output::terminal::say(&std::path::absolute(&index).unwrap_or(index).display().to_string());
    Ok(Exit::Ok)
}

fn say(line: &str) {
    crate::output::terminal::say(&format!("demo: {line}"));
}

/// How the demo reaches its hosts.
struct Access {
    pulpcov: fn(Vec<String>) -> Running,
    inventory: PathBuf,
    known_hosts: PathBuf,
    state: PathBuf,
}

impl Access {
    /// A fleet command, told to the user, and done by the code that does it for real hosts.
    async fn pulpcov(&self, verb: &str, words: &[&str]) -> Result<()> {
        say(&format!("pulpcov fleet {verb} hosts.yml"));
        let (inventory, known_hosts) = (self.inventory.to_string_lossy(), self.known_hosts.to_string_lossy());
        let state = self.state.to_string_lossy();
        let all =
            ["pulpcov", "fleet", verb, &inventory, "--known-hosts", &known_hosts, "--state-dir", &state];
        do_words(self.pulpcov, all.iter().chain(words).map(|&word| word.to_owned()).collect()).await
    }
}

async fn do_words(pulpcov: fn(Vec<String>) -> Running, words: Vec<String>) -> Result<()> {
    let command = words.join(" ");
    match pulpcov(words).await? {
        Exit::Ok => Ok(()),
        other => bail!("{command} ended with {other:?}"),
    }
}

struct DemoHost {
    name: &'static str,
    folder: PathBuf,
    /// Its script: no other host's, and no other demo's, so that none takes the other's processes for its own.
    program: String,
    server: LoopbackServer,
    requests: &'static [&'static str],
}

impl DemoHost {
    fn python(&self) -> PathBuf {
        self.folder.join("venv/bin/python")
    }
}

async fn make_hosts(work: &TempDir, python: &str) -> Result<Vec<DemoHost>> {
    let key = new_key()?;
    let key_file = work.path().join("key");
    let pem = loopback::private_text(&key).context("cannot write the demo's key")?;
    crate::output::file::write_private(&key_file, pem.as_bytes())?;
    let mut known_hosts = String::new();
    let mut hosts = Vec::new();
    for (name, requests) in REQUESTS {
        let folder = work.path().join(name);
        fs::create_dir_all(folder.join("kiosk"))?;
        let place = work.path().extension().unwrap_or_default().to_string_lossy();
        let program = format!("{SERVER}-{name}-{place}");
        for (file, text) in SERVICE {
            let file = if file == SERVER { &program } else { file };
            fs::write(folder.join(file), text.replace(SERVER, &program))?;
        }
        let host_key = new_key()?;
        let public = loopback::public_text(&host_key).context("cannot write a host key")?;
        let server = LoopbackServer::start(host_key, &key, folder.clone()).await?;
        known_hosts.push_str(&format!("[127.0.0.1]:{} {public}\n", server.port));
        hosts.push(DemoHost { name, folder, program, server, requests });
    }
    fs::write(work.path().join("known_hosts"), known_hosts)?;
    tokio::task::block_in_place(|| make_venvs(&hosts, python, &work.path().join("wheels")))?;
    Ok(hosts)
}

const SITE_PACKAGES: &str = "import sysconfig; print(sysconfig.get_path('purelib'))";

/// The first environment has pip, which brings the wheel for all of them.
fn make_venvs(hosts: &[DemoHost], python: &str, wheels: &Path) -> Result<()> {
    for (i, host) in hosts.iter().enumerate() {
        let mut venv = Command::new(python);
        venv.args(["-m", "venv"]).arg(host.folder.join("venv"));
        if i > 0 {
            venv.arg("--without-pip");
        }
        finish(&mut venv)?;
        // As an editable install does: the environment's Python finds the package.
        let site = finish(Command::new(host.python()).args(["-c", SITE_PACKAGES]))?;
        fs::write(Path::new(site.trim()).join("kiosk.pth"), format!("{}\n", host.folder.display()))?;
    }
    let first = hosts.first().context("no hosts")?.python();
    let version =
        finish(Command::new(&first).args(["-c", "import sys; print('%d %d' % sys.version_info[:2])"]))?;
    let (major, minor) = version.trim().split_once(' ').context("a Python without a version")?;
    let pinned = pulpcov_protocol::wheel::pinned_coverage(major.parse()?, minor.parse()?)
        .with_context(|| format!("{python} is Python {major}.{minor}, the hook needs 3.6 or later"))?;
    finish(
        Command::new(&first)
            .args([
                "-m",
                "pip",
                "download",
                "-q",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary",
                ":all:",
                "-d",
            ])
            .arg(wheels)
            .arg(format!("coverage=={pinned}")),
    )?;
    Ok(())
}

/// Runs a command to its end; its stdout.
fn finish(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", words.lines().last().unwrap_or("no message"));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn inventory_text(hosts: &[DemoHost], work: &Path) -> String {
    let mut text = format!(
        "all:\n  vars:\n    ansible_host: 127.0.0.1\n    ansible_user: demo\n    ansible_ssh_private_key_file: {}\n  hosts:\n",
        work.join("key").display(),
    );
    for host in hosts {
        let folder = host.folder.display();
        text.push_str(&format!(
            "    {}:\n      ansible_port: {}\n      pulpcov_profile: {folder}/{PROFILE}\n      pulpcov_host_label: {}\n      pulpcov_lib_root: {folder}/lib\n      pulpcov_data_root: {folder}/data\n      pulpcov_interpreters: [{}]\n",
            host.name,
            host.server.port,
            host.name,
            host.python().display(),
        ));
    }
    text
}

/// A service of the demo's; stopped with it whatever happens.
struct Service(Child);

impl Service {
    fn stop(&mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("cannot stop a service")?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.stop();
        }
    }
}

/// Starts each host's service and asks it what it is there for.
fn exercise(hosts: &[DemoHost]) -> Result<Vec<Service>> {
    let mut services = Vec::new();
    for host in hosts {
        let port_file = host.folder.join("port");
        let child = Command::new(host.python())
            .arg(host.folder.join(&host.program))
            .arg(&port_file)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start the service of {}", host.name))?;
        services.push(Service(child));
        let port = wait_for_port(&port_file)?;
        for path in host.requests {
            get(port, path).with_context(|| format!("{}: {path}", host.name))?;
        }
    }
    Ok(services)
}

/// Waits until each host has maps, which come with the first timed flush: `status` is to show what it looks like.
fn wait_for_data(hosts: &[DemoHost]) {
    let begin = Instant::now();
    let has_data = |host: &DemoHost| {
        let files = fs::read_dir(host.folder.join("data/.pulpcov")).into_iter().flatten().flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with("map.")).count() > 1
    };
    while begin.elapsed() < FIRST_FLUSH && !hosts.iter().all(has_data) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for_port(file: &Path) -> Result<u16> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Ok(text) = fs::read_to_string(file) {
            return Ok(text.trim().parse()?);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("a service did not start within {} s", PATIENCE.as_secs())
}

fn get(port: u16, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.0 404"),
        "unexpected answer {answer:?}"
    );
    Ok(())
}
