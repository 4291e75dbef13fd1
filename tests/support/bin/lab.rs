//! Real hosts in namespaces: see `lab.rs` of the library for what they are for.
//!
//! Five programs in one, each the parent of the next: `up` (makes the lab's namespaces), `init`
//! (PID 1 of the lab: network, disks; dies with its stdin), `boot` (one for each host: its
//! namespaces) and `host` (PID 1 of a host: its root, then systemd). `base` builds the root image and `pulp`
//! the layer with Pulp; `hold` keeps a lab for a person.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknod};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{pivot_root, sethostname};
use pulpcov_tests::base;
use pulpcov_tests::lab::{DISK_SIZE, START, host_address, host_name};

/// What boot ends with when its host rebooted itself.
const REBOOT: i32 = 129;

/// Longest start of a host.
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match *words.as_slice() {
        ["base"] => base::ensure().map(|path| {
            let _ = writeln!(std::io::stdout(), "{}", path.display());
            0
        }),
        ["pulp"] => pulpcov_tests::pulp::layer().map(|path| {
            let _ = writeln!(std::io::stdout(), "{}", path.display());
            0
        }),
        ["hold", n] => hold(n),
        ["up", state, n] => up(state, n),
        ["init", state, n] => init(Path::new(state), n),
        ["boot", state, i] => boot(state, i),
        ["host", state, i] => host(Path::new(state), i),
        _ => Err(anyhow::anyhow!("usage: pulpcov-lab base | pulp | hold HOSTS")),
    };
    match result {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "pulpcov-lab {}: {error:#}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}

/// A lab for whoever wants to look around in one, until stdin ends or this program is killed.
fn hold(n: &str) -> Result<i32> {
    let lab = pulpcov_tests::lab::Lab::start(n.parse()?);
    lab.inventory("");
    let mut out = std::io::stdout();
    writeln!(out, "{}", lab.path("lab.pid").display())?;
    out.flush()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(0)
}

/// Makes the lab's namespaces and its PID 1, and waits for its end.
fn up(state: &str, n: &str) -> Result<i32> {
    let program = own_program()?;
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .context("cannot make namespaces: the lab needs root")?;
    let mut child = Command::new(program).args(["init", state, n]).spawn()?;
    fs::write(Path::new(state).join("lab.pid"), child.id().to_string())?;
    let status = child.wait()?;
    Ok(status.code().unwrap_or(1))
}

/// A command that must succeed.
fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn ip(script: &str) -> Result<()> {
    let mut child =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn mount_fs(kind: &str, target: &Path, flags: MsFlags, options: &str) -> Result<()> {
    let none: Option<&Path> = Some(Path::new(kind));
    mount(none, target, Some(kind), flags, Some(options))
        .with_context(|| format!("cannot mount {kind} on {}", target.display()))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot bind {} to {}", source.display(), target.display()))
}

/// PID 1 of the lab. Its end ends every host: the kernel kills the whole PID namespace.
fn init(state: &Path, n: &str) -> Result<i32> {
    let n: usize = n.parse()?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount_fs("proc", Path::new("/proc"), MsFlags::empty(), "")?;
    fs::create_dir_all("/run/netns")?;
    mount_fs("tmpfs", Path::new("/run/netns"), MsFlags::empty(), "mode=755")?;
    ip("link set lo up\n")?;
    let mut script = String::from(
        "link add br0 type bridge forward_delay 0\naddr add 10.77.255.254/16 dev br0\nlink set br0 up\n",
    );
    for i in 1..=n {
        script.push_str(&format!(
            "netns add h{i}\nlink add v{i} type veth peer name eth0 netns h{i}\nlink set v{i} master br0 up\n"
        ));
    }
    ip(&script)?;
    let program = own_program()?;
    let mut boots = std::collections::BTreeMap::new();
    for i in 1..=n {
        let disk = state.join("host").join(host_name(i));
        fs::create_dir_all(&disk)?;
        // The disk belongs to the lab, so that it survives a reboot of its host.
        mount_fs("tmpfs", &disk, MsFlags::empty(), &format!("size={DISK_SIZE},mode=755"))?;
        boots.insert(spawn_boot(&program, state, i)?, i);
    }
    // Whoever holds the other end of our stdin is the lab's owner; with it, the lab goes.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGKILL).ok();
        std::process::exit(0)
    });
    let ready = state.to_owned();
    std::thread::spawn(move || {
        let patience = PATIENCE.max(START * u32::try_from(n).unwrap_or(u32::MAX));
        if (1..=n).all(|i| answers(i, patience)) {
            let _ = fs::write(ready.join("ready"), "");
        }
    });
    loop {
        let (pid, code) = match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, code),
            Ok(WaitStatus::Signaled(pid, _, _)) => (pid, 1),
            Ok(_) => continue,
            // Every host was powered off; the owner may still look at what is left.
            Err(nix::errno::Errno::ECHILD) => {
                std::thread::park();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(i) = boots.remove(&pid.as_raw().cast_unsigned())
            && code == REBOOT
        {
            boots.insert(spawn_boot(&program, state, i)?, i);
        }
    }
}

fn spawn_boot(program: &Path, state: &Path, i: usize) -> Result<u32> {
    let log = fs::OpenOptions::new().create(true).append(true).open(state.join("log").join(host_name(i)))?;
    let child = Command::new(program)
        .arg("boot")
        .arg(state)
        .arg(i.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child.id())
}

/// Whether a host's sshd sends its banner in time.
fn answers(i: usize, patience: Duration) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < patience {
        let mut banner = [0; 4];
        let greeted = TcpStream::connect((host_address(i).as_str(), 22)).is_ok_and(|mut stream| {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            stream.read_exact(&mut banner).is_ok()
        });
        if greeted && &banner == b"SSH-" {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// The host's namespaces, and its PID 1 in them.
fn boot(state: &str, i: &str) -> Result<i32> {
    set_pdeathsig(Signal::SIGKILL)?;
    let program = own_program()?;
    let name = host_name(i.parse()?);
    let group = pulpcov_tests::lab::cgroup(Path::new(state)).join(&name);
    fs::create_dir_all(&group)?;
    fs::write(group.join("cgroup.procs"), "0")?;
    let net = fs::File::open(Path::new("/run/netns").join(&name))?;
    setns(net, CloneFlags::CLONE_NEWNET)?;
    unshare(
        CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWCGROUP,
    )?;
    let mut child = Command::new(program).args(["host", state, i]).spawn()?;
    fs::write(Path::new(state).join("host").join(format!("{name}.pid")), child.id().to_string())?;
    let status = child.wait()?;
    // reboot(2) in a PID namespace ends its PID 1 with SIGHUP.
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Ok(if signal == Some(Signal::SIGHUP as i32) { REBOOT } else { 0 })
}

/// PID 1 of a host: root, devices, network; then systemd.
fn host(state: &Path, i: &str) -> Result<i32> {
    set_pdeathsig(Signal::SIGKILL)?;
    let i: usize = i.parse()?;
    let (name, address) = (host_name(i), host_address(i));
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    ip(&format!("link set lo up\naddr replace {address}/16 dev eth0\nlink set eth0 up\n"))?;
    sethostname(&name)?;
    let disk = state.join("host").join(&name);
    for folder in ["u", "w", "m"] {
        fs::create_dir_all(disk.join(folder))?;
    }
    let upper = disk.join("u");
    let own = state.join(format!("base.{name}"));
    if !upper.join("etc/hostname").exists() {
        // One with a root of its own brings its services.
        let skeletons: &[&str] = if own.exists() { &["skeleton"] } else { &["skeleton", "services"] };
        first_boot(state, skeletons, &upper, &name, &address)?;
    }
    let root = disk.join("m");
    let lower = fs::read_to_string(if own.exists() { own } else { state.join("base") })?;
    let layers =
        format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), disk.join("w").display());
    mount_fs("overlay", &root, MsFlags::empty(), &layers)?;
    let mounted = |path: &str| root.join(path);
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_fs("proc", &mounted("proc"), safe, "")?;
    mount_fs("sysfs", &mounted("sys"), safe | MsFlags::MS_RDONLY, "")?;
    protect_kernel(&root)?;
    devices(&root)?;
    mount_fs("tmpfs", &mounted("run"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    fs::create_dir_all(mounted("run/lock"))?;
    let shared = state.join("shared");
    if shared.is_dir() {
        fs::create_dir_all(mounted("shared"))?;
        bind(&shared, &mounted("shared"))?;
    }
    // A boot id of its own, new at every boot, as a machine has.
    if !state.join("machine_boot_id").exists() {
        let boot_id = mounted("run/boot_id");
        fs::write(&boot_id, fs::read("/proc/sys/kernel/random/uuid")?)?;
        bind(&boot_id, &mounted("proc/sys/kernel/random/boot_id"))?;
    }
    mount_fs("cgroup2", &mounted("sys/fs/cgroup"), safe, "")?;
    std::env::set_current_dir(&root)?;
    pivot_root(".", "mnt")?;
    umount2("/mnt", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")?;
    // root on a host must not reach what the machine shares with it: its clock, its modules.
    let dropped = "-sys_time,-sys_module,-sys_rawio,-sys_pacct,-syslog,-wake_alarm,-mac_admin,-mac_override";
    let error = Command::new("setpriv")
        .arg(format!("--bounding-set={dropped}"))
        .args(["--inh-caps=-all", "/lib/systemd/systemd", "--log-target=journal"])
        .env_clear()
        .env("container", "lab")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .exec();
    bail!("cannot start systemd: {error}")
}

/// What makes this host itself, written into its disk before the first start.
fn first_boot(state: &Path, skeletons: &[&str], upper: &Path, name: &str, address: &str) -> Result<()> {
    // The files that are the same on every host, and the host's own.
    for skeleton in skeletons {
        let files = state.join(skeleton).join(".");
        run(Command::new("cp").args(["-a", "--no-preserve=ownership"]).arg(files).arg(upper))?;
    }
    fs::create_dir_all(upper.join("etc/ssh"))?;
    for file in ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"] {
        let from = file.replace("ssh_host_ed25519_key", name);
        fs::copy(state.join("keys").join(from), upper.join("etc/ssh").join(file))?;
    }
    fs::write(upper.join("etc/hosts"), format!("127.0.0.1 localhost\n{address} {name}\n"))?;
    fs::write(upper.join("etc/hostname"), format!("{name}\n"))?;
    Ok(())
}

/// /proc/sys is read-only but for the network; /proc/kcore is not there.
fn protect_kernel(root: &Path) -> Result<()> {
    let sys = root.join("proc/sys");
    bind(&sys, &sys)?;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &sys, None::<&str>, read_only, None::<&str>)?;
    let second = root.join("mnt");
    mount_fs("proc", &second, MsFlags::empty(), "")?;
    bind(&second.join("sys/net"), &sys.join("net"))?;
    umount2(&second, MntFlags::empty())?;
    let _ = bind(Path::new("/dev/null"), &root.join("proc/kcore"));
    Ok(())
}

fn devices(root: &Path) -> Result<()> {
    let dev = root.join("dev");
    mount_fs("tmpfs", &dev, MsFlags::MS_NOSUID, "mode=755,size=64k,nr_inodes=256")?;
    // Nodes of its own: a container engine gives its streams to the container's user, and the machine's /dev/null with them.
    let mode = Mode::from_bits_truncate(0o666);
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(1, minor))
            .and_then(|()| fchmodat(AT_FDCWD, &path, mode, FchmodatFlags::FollowSymlink))
            .with_context(|| format!("cannot make {}", path.display()))?;
    }
    fs::write(dev.join("tty"), "")?;
    bind(Path::new("/dev/tty"), &dev.join("tty"))?;
    fs::create_dir(dev.join("pts"))?;
    fs::create_dir(dev.join("shm"))?;
    mount_fs("devpts", &dev.join("pts"), MsFlags::empty(), "newinstance,ptmxmode=0666,mode=620,gid=5")?;
    mount_fs("tmpfs", &dev.join("shm"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    let links: [(&OsStr, &str); 5] = [
        (OsStr::new("pts/ptmx"), "ptmx"),
        (OsStr::new("/proc/self/fd"), "fd"),
        (OsStr::new("/proc/self/fd/0"), "stdin"),
        (OsStr::new("/proc/self/fd/1"), "stdout"),
        (OsStr::new("/proc/self/fd/2"), "stderr"),
    ];
    for (target, name) in links {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}
