//! A lab: N real hosts on one machine, in namespaces. Each has its own network and address, host
//! name, disk, processes, OpenSSH on port 22, sudo, and systemd as PID 1.
//!
//! The lab dies with the test, also on SIGKILL: it holds the other end of a pipe. Nothing of it is
//! visible outside, so labs run side by side.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{base, programs, python, shop};

/// Size of a host's disk.
pub const DISK_SIZE: &str = "400m";

/// How the folders of labs begin.
const PREFIX: &str = "pulpcov-lab.";

const PATIENCE: Duration = Duration::from_secs(150);

/// What each host of a large lab needs to start, on two cores.
pub const START: Duration = Duration::from_secs(2);

pub fn host_name(i: usize) -> String {
    format!("h{i}")
}

pub fn host_address(i: usize) -> String {
    format!("10.77.{}.{}", i / 250, i % 250 + 1)
}

/// The control group of a lab's hosts: on this machine's unified hierarchy.
pub fn cgroup(state: &Path) -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    let root = if unified.is_dir() { unified } else { Path::new("/sys/fs/cgroup") };
    root.join(format!("pulpcov-{}", state.file_name().unwrap_or_default().to_string_lossy()))
}

/// What the hosts of a lab have besides an operating system.
#[derive(Debug, Default)]
pub struct Options {
    /// Hosts that have another root image than those of all labs, by number.
    pub roots: BTreeMap<usize, PathBuf>,
    /// Folders over the root image, topmost first.
    pub layers: Vec<PathBuf>,
    /// Whether the hosts have the machine's boot id: a container of a host's has no other.
    pub machine_boot_id: bool,
    /// A folder that all hosts share, as `/shared`.
    pub shared: bool,
    /// The test's own service.
    pub shop: bool,
}

pub struct Lab {
    state: TempDir,
    /// Its stdin is what the lab lives by.
    child: Child,
    n: usize,
}

impl Lab {
    /// Starts `n` hosts with the test's service, and waits until each answers.
    pub fn start(n: usize) -> Self {
        Self::start_with(n, &Options { shop: true, ..Options::default() })
    }

    /// The same with the hook installed, and the service answering.
    pub fn with_shop(n: usize) -> Self {
        let mut lab = Self::start(n);
        lab.inventory("");
        lab.install();
        lab.wait_for_shop();
        lab
    }

    pub fn start_with(n: usize, options: &Options) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "real hosts need root: run the tests as root");
        sweep();
        let image = base::ensure().unwrap_or_else(|error| panic!("no root image for the hosts: {error:#}"));
        let state = tempfile::Builder::new().prefix(PREFIX).tempdir().expect("a folder for the lab");
        let path = state.path();
        prepare(path, n, &image, options).unwrap_or_else(|error| panic!("cannot prepare a lab: {error:#}"));
        let log = fs::File::create(path.join("log/lab")).expect("a log");
        let child = Command::new(programs::lab())
            .args(
                [OsArg::from("up"), OsArg::from(path), OsArg::from(n.to_string().as_str())].map(|arg| arg.0),
            )
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the lab starts");
        let mut lab = Self { state, child, n };
        lab.wait("its hosts to answer", |lab| {
            let ended = lab.child.try_wait().expect("a child").is_some();
            assert!(!ended, "the lab ended: {}", lab.log());
            lab.path("ready").exists()
        });
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.path("log").join(name)).unwrap_or_default();
        (1..=self.n).map(|i| read(&host_name(i))).fold(read("lab"), |all, log| all + &log)
    }

    /// Waits for `what`; the test fails where it does not come.
    pub fn wait(&mut self, what: &str, condition: impl FnMut(&mut Self) -> bool) {
        let patience = PATIENCE.max(START * u32::try_from(self.n).unwrap_or(u32::MAX));
        let comes = self.comes(patience, condition);
        assert!(comes, "waited in vain for {what}: {}", self.log());
    }

    /// Whether it comes, within that time.
    pub fn comes(&mut self, patience: Duration, mut condition: impl FnMut(&mut Self) -> bool) -> bool {
        let begin = Instant::now();
        while !condition(self) {
            if begin.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.path("lab.pid")).expect("the lab runs")
    }

    /// A command of this machine in the lab's network.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid(), "-n", "--"]).arg(program);
        command
    }

    /// A command on a host, as its root, without SSH.
    pub fn on(&self, i: usize, words: &[&str]) -> Output {
        let pid = fs::read_to_string(self.path("host").join(format!("{}.pid", host_name(i))))
            .or_else(|_| self.host_pid(i))
            .expect("the host runs");
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.pid(), "-m", "-p", "--", "nsenter", "-t", pid.trim(), "-a", "--"])
            .args(words);
        command.output().expect("nsenter runs")
    }

    /// The pid file lies on the lab's own mounts where a host's disk is mounted over it.
    fn host_pid(&self, i: usize) -> std::io::Result<String> {
        let path = self.path("host").join(format!("{}.pid", host_name(i)));
        let output = Command::new("nsenter").args(["-t", &self.pid(), "-m", "cat"]).arg(path).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, which must succeed; its stdout.
    pub fn shell(&self, i: usize, script: &str) -> String {
        let output = self.on(i, &["sh", "-c", script]);
        assert!(
            output.status.success(),
            "{} on {}: {}",
            script,
            host_name(i),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// pulpcov in the lab's network, with the lab's known hosts.
    pub fn pulpcov(&self, words: &[&str]) -> Output {
        self.pulpcov_command(words).output().expect("pulpcov runs")
    }

    pub fn pulpcov_command(&self, words: &[&str]) -> Command {
        let mut command = self.command(programs::pulpcov());
        command
            .args(words)
            .current_dir(self.state.path())
            .env("HOME", self.path("home"))
            .env_remove("SSH_AUTH_SOCK")
            .env("CI", "true");
        command
    }

    /// The same, which must end with `code`; its stdout.
    pub fn pulpcov_ends(&self, code: i32, words: &[&str]) -> String {
        let output = self.pulpcov(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "pulpcov {words:?}\n{stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// An inventory of all hosts, for user `deploy`, with the shop's profile. `extra` are lines of `vars`.
    pub fn inventory(&self, extra: &str) -> String {
        self.inventory_of(&shop::profile(), extra)
    }

    /// The same with another profile.
    pub fn inventory_of(&self, profile: &Path, extra: &str) -> String {
        let hosts: String = (1..=self.n)
            .map(|i| format!("        {}: {{ansible_host: {}}}\n", host_name(i), host_address(i)))
            .collect();
        let text = format!(
            "all:\n  vars:\n    ansible_user: deploy\n    ansible_become: true\n    ansible_ssh_private_key_file: {}\n    pulpcov_profile: {}\n{extra}  children:\n    shop:\n      hosts:\n{hosts}",
            self.path("key").display(),
            profile.display(),
        );
        let path = self.path("hosts.yml");
        fs::write(&path, text).expect("an inventory");
        path.to_string_lossy().into_owned()
    }

    /// An inventory of that text; how to reach the hosts stands in their `host_vars`.
    pub fn write_inventory(&self, text: &str) -> String {
        let vars = self.path("host_vars");
        fs::create_dir_all(&vars).expect("a folder");
        for i in 1..=self.n {
            let reach = format!(
                "ansible_host: {}\nansible_user: deploy\nansible_become: true\nansible_ssh_private_key_file: {}\n",
                host_address(i),
                self.path("key").display()
            );
            fs::write(vars.join(format!("{}.yml", host_name(i))), reach).expect("variables of a host");
        }
        let path = self.path("hosts.yml");
        fs::write(&path, text).expect("an inventory");
        path.to_string_lossy().into_owned()
    }

    /// `fleet VERB` on the inventory with all that reaching the hosts takes.
    pub fn fleet(&self, code: i32, verb: &str, words: &[&str]) -> String {
        let output = self.fleet_command(verb, words).output().expect("pulpcov runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "fleet {verb} {words:?}\n{said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `fleet VERB` as a command, to be ended in other ways.
    pub fn fleet_command(&self, verb: &str, words: &[&str]) -> Command {
        let inventory = self.path("hosts.yml").to_string_lossy().into_owned();
        let known = self.path("known_hosts").to_string_lossy().into_owned();
        let mut all = vec!["fleet", verb, &inventory, "--known-hosts", &known];
        all.extend(words);
        self.pulpcov_command(&all)
    }

    /// `fleet VERB`: how it ended, and what it said on stderr.
    pub fn fleet_says(&self, verb: &str, words: &[&str]) -> (Option<i32>, String) {
        let output = self.fleet_command(verb, words).output().expect("pulpcov runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Installs with the wheelhouse, restarting the service.
    pub fn install(&self) {
        let wheels = python::wheelhouse();
        self.fleet(0, "install", &["--wheelhouse", &wheels.to_string_lossy(), "--restart"]);
    }

    /// Waits until the shop's web application answers.
    pub fn wait_for_shop(&mut self) {
        for i in 1..=self.n {
            self.wait("the shop to answer", |lab| lab.get(i, "/cheapest").is_some());
        }
    }

    /// GETs a path of a host's shop; `None` where it does not answer with 200.
    pub fn get(&self, i: usize, path: &str) -> Option<String> {
        self.http(i, "GET", path)
    }

    pub fn post(&self, i: usize, path: &str) -> Option<String> {
        self.http(i, "POST", path)
    }

    fn http(&self, i: usize, method: &str, path: &str) -> Option<String> {
        let url = format!("http://{}:8000{path}", host_address(i));
        let output = self
            .command("curl")
            .args(["-sf", "--max-time", "10", "-X", method, &url])
            .output()
            .expect("curl runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn in_lab(&self, words: &[&str]) {
        let output = Command::new("nsenter")
            .args(["-t", &self.pid(), "-m", "-n", "-p", "--"])
            .args(words)
            .output()
            .expect("nsenter runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    // Faults.

    /// Pulls the network cable.
    pub fn link_down(&self, i: usize) {
        self.in_lab(&["ip", "link", "set", &format!("v{i}"), "down"]);
    }

    pub fn link_up(&self, i: usize) {
        self.in_lab(&["ip", "link", "set", &format!("v{i}"), "up"]);
    }

    /// Makes what the host sends slow, such as `128kbit`.
    pub fn slow_line(&self, i: usize, rate: &str) {
        let output = self.on(
            i,
            &[
                "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "4kb", "limit",
                "200kb",
            ],
        );
        assert!(output.status.success(), "tc: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn fast_line(&self, i: usize) {
        let output = self.on(i, &["tc", "qdisc", "del", "dev", "eth0", "root"]);
        assert!(output.status.success(), "tc: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn stop_sshd(&self, i: usize) {
        self.shell(i, "systemctl stop ssh");
    }

    pub fn start_sshd(&self, i: usize) {
        self.shell(i, "systemctl start ssh");
    }

    /// Whoever logs in from now on may open no more than 128 files: a bundle holds half as many.
    pub fn few_open_files(&self, i: usize) {
        self.shell(
            i,
            "mkdir -p /etc/systemd/system/ssh.service.d; \
             printf '[Service]\\nLimitNOFILE=128\\n' > /etc/systemd/system/ssh.service.d/few.conf; \
             systemctl daemon-reload; systemctl restart ssh",
        );
    }

    /// Puts more data files on such a host than one bundle holds.
    pub fn fill_beyond_a_bundle(&mut self, i: usize) {
        let data = "ls /srv/pulp_coverage | grep '^data' || true";
        self.wait("a data file", |lab| !lab.shell(i, data).is_empty());
        let copy = "cd /srv/pulp_coverage; f=$(ls | grep '^data' | head -1); for n in $(seq 300); do cp $f data.other.$n.copy; done";
        self.shell(i, copy);
    }

    /// How many of those are in the bundles of a folder; none may be left on the host.
    pub fn fetched_beyond_a_bundle(&self, i: usize, folder: &Path) -> usize {
        assert_eq!(self.shell(i, "ls /srv/pulp_coverage | grep copy || true"), "");
        let bundles: Vec<_> =
            fs::read_dir(folder).expect("bundles").flatten().map(|entry| entry.path()).collect();
        assert!(bundles.len() > 1, "{bundles:?}");
        let listed = bundles.iter().map(|path| {
            let output = Command::new("tar").arg("-tzf").arg(path).output().expect("tar runs");
            String::from_utf8_lossy(&output.stdout).lines().filter(|name| name.ends_with(".copy")).count()
        });
        listed.sum()
    }

    /// Stops every process of the host at once.
    pub fn freeze(&self, i: usize) {
        fs::write(cgroup(self.state.path()).join(host_name(i)).join("cgroup.freeze"), "1").expect("freezes");
    }

    pub fn thaw(&self, i: usize) {
        fs::write(cgroup(self.state.path()).join(host_name(i)).join("cgroup.freeze"), "0").expect("thaws");
    }

    /// Pulls the plug: nothing is synced, nobody is told.
    pub fn power_off(&self, i: usize) {
        self.link_down(i);
        let pid = fs::read_to_string(self.path("host").join(format!("{}.pid", host_name(i))))
            .or_else(|_| self.host_pid(i))
            .expect("the host runs");
        self.in_lab(&["kill", "-KILL", pid.trim()]);
    }

    /// Leaves `free` kilobytes on the host's disk; what is written meanwhile makes it a few more.
    pub fn fill_disk(&self, i: usize, free: u64) {
        let disk = self.path("host").join(host_name(i));
        let script = format!(
            "for more in 0 4 32 128; do \
               mount -o remount,size=$(($(df -k --output=used {0} | tail -1) + {free} + more))k {0} 2>/dev/null && exit; \
             done; exit 1",
            disk.display()
        );
        self.in_lab(&["sh", "-c", &script]);
    }

    /// Leaves room for the agent, and not for what it installs.
    pub fn fill_disk_but_for_the_agent(&self, i: usize) {
        let agent = std::fs::metadata(programs::agent()).expect("an agent").len();
        self.fill_disk(i, agent / 1024 + 100);
    }

    pub fn empty_disk(&self, i: usize) {
        let disk = self.path("host").join(host_name(i));
        self.in_lab(&["mount", "-o", &format!("remount,size={DISK_SIZE}"), &disk.to_string_lossy()]);
    }

    /// Leaves no room for another file, whatever its size.
    pub fn take_inodes(&self, i: usize) {
        let disk = self.path("host").join(host_name(i));
        let script = format!(
            "for more in 0 2 8 32; do \
               mount -o remount,nr_inodes=$(($(df --output=iused {0} | tail -1) + more)) {0} 2>/dev/null && exit; \
             done; exit 1",
            disk.display()
        );
        self.in_lab(&["sh", "-c", &script]);
    }

    pub fn give_inodes(&self, i: usize) {
        let disk = self.path("host").join(host_name(i));
        self.in_lab(&["mount", "-o", "remount,nr_inodes=200000", &disk.to_string_lossy()]);
    }

    /// Gives the controller a disk of its own, of so many kilobytes, that nobody outside the lab sees.
    pub fn controller_disk(&self, kilobytes: u64) {
        let folder = self.path("disk");
        fs::create_dir_all(&folder).expect("a folder");
        let options = format!("size={kilobytes}k");
        self.in_lab(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &folder.to_string_lossy()]);
    }

    /// That disk, as the controller and the test see it.
    pub fn controller_disk_folder(&self) -> PathBuf {
        let folder = self.path("disk");
        let inside = Path::new("/proc").join(self.pid()).join("root");
        inside.join(folder.strip_prefix("/").expect("an absolute path"))
    }

    /// Makes it as large as that, or as what is on it.
    pub fn resize_controller_disk(&self, kilobytes: u64) {
        let folder = self.path("disk");
        let script = format!(
            "for more in 0 4 32 128; do \
               used=$(df -k --output=used {0} | tail -1); wanted=$(($used + more)); \
               [ $wanted -lt {kilobytes} ] && wanted={kilobytes}; \
               mount -o remount,size=${{wanted}}k {0} 2>/dev/null && exit; \
             done; exit 1",
            folder.display()
        );
        self.in_lab(&["sh", "-c", &script]);
    }

    /// The network that the hosts and their controller share.
    pub fn network(&self) -> PathBuf {
        Path::new("/proc").join(self.pid()).join("ns/net")
    }

    /// Gives the host a new key; `known_hosts` has the old one.
    pub fn change_host_key(&self, i: usize) {
        self.shell(i, "rm /etc/ssh/ssh_host_ed25519_key*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh");
    }

    /// Paths, types, modes, owners and digests of a host's files, but for what runs and logs.
    pub fn file_tree(&self, i: usize) -> Vec<String> {
        // Of /tmp, what gunicorn makes for a worker and unlinks at once: one that is killed in between leaves it.
        let find = "find . -xdev \\( -path ./proc -o -path ./sys -o -path ./run -o -path ./dev -o -path ./var/log \
                    -o -path ./var/lib/shop -o -path ./var/lib/systemd -o -path './tmp/wgunicorn-*' \\) -prune -o";
        let script = format!(
            "cd / && {find} -printf '%p %y %m %U %G %l\\n' | sort; \
             {find} -type f -newer /etc/hostname -print0 | sort -z | xargs -0 sha256sum"
        );
        self.shell(i, &script).lines().map(str::to_owned).collect()
    }
}

impl Lab {
    /// What of a host's files is not as it was, but for lines that have one of the words of `theirs`.
    pub fn changes(&self, i: usize, before: &[String], theirs: &[&str]) -> Vec<String> {
        let now = self.file_tree(i);
        let gone = before.iter().filter(|line| !now.contains(line)).map(|line| format!("- {line}"));
        let new = now.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
        gone.chain(new).filter(|line| !theirs.iter().any(|word| line.contains(word))).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        remove_cgroup(&cgroup(self.state.path()));
    }
}

/// Removes what labs left whose owners were killed: their folders and empty control groups. Their
/// processes and mounts went with them.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // A lab that is being prepared has no process yet, so it has no file that names one.
        let Ok(pid) = fs::read_to_string(path.join("lab.pid")) else { continue };
        if !Path::new("/proc").join(pid.trim()).exists() {
            remove_cgroup(&cgroup(&path));
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Control groups go from the leaves up, once their processes are gone.
fn remove_cgroup(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// A word of a command line.
struct OsArg(std::ffi::OsString);

impl From<&str> for OsArg {
    fn from(word: &str) -> Self {
        Self(word.into())
    }
}

impl From<&Path> for OsArg {
    fn from(path: &Path) -> Self {
        Self(path.into())
    }
}

fn keygen(path: &Path, comment: &str) -> anyhow::Result<()> {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(path)
        .status()?;
    anyhow::ensure!(status.success(), "ssh-keygen: {status}");
    Ok(())
}

/// Keys, known hosts, and what every host's disk starts with.
fn prepare(state: &Path, n: usize, image: &Path, options: &Options) -> anyhow::Result<()> {
    // Each systemd holds several inotify instances, and root's share of them is the machine's.
    let limit = Path::new("/proc/sys/fs/inotify/max_user_instances");
    if fs::read_to_string(limit)?.trim().parse::<u64>()? < 4096 {
        fs::write(limit, "8192")?;
    }
    for folder in ["host", "keys", "log", "skeleton", "services", "home"] {
        fs::create_dir_all(state.join(folder))?;
    }
    fs::set_permissions(state, fs::Permissions::from_mode(0o755))?;
    let layers: Vec<_> = options.layers.iter().map(PathBuf::as_path).chain([image]).collect();
    let layers: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy()).collect();
    fs::write(state.join("base"), layers.join(":"))?;
    for (&i, root) in &options.roots {
        fs::write(state.join(format!("base.{}", host_name(i))), root.as_os_str().as_encoded_bytes())?;
    }
    if options.machine_boot_id {
        fs::write(state.join("machine_boot_id"), "")?;
    }
    if options.shared {
        fs::create_dir(state.join("shared"))?;
        fs::set_permissions(state.join("shared"), fs::Permissions::from_mode(0o1777))?;
    }
    keygen(&state.join("key"), "lab")?;
    let mut known = fs::File::create(state.join("known_hosts"))?;
    for i in 1..=n {
        let key = state.join("keys").join(host_name(i));
        keygen(&key, &host_name(i))?;
        let public = fs::read_to_string(key.with_extension("pub"))?;
        writeln!(known, "{},{} {}", host_name(i), host_address(i), public.trim())?;
    }
    let skeleton = state.join("skeleton");
    fs::create_dir_all(skeleton.join("etc/ssh"))?;
    fs::copy(state.join("key.pub"), skeleton.join("etc/ssh/lab_authorized_keys"))?;
    if options.shop {
        shop::put_into(&state.join("services"))?;
    }
    Ok(())
}
