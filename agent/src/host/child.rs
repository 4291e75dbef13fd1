//! Runs a program as a child of the agent, above all a Python: as whoever can change what it runs, within bounds, and
//! never waited for beyond its end.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::failure::{During, Failure};
use crate::host::identity::Identity;

/// Longest run of a Python that the agent starts. Unpacking and compiling coverage.py on a slow
/// host takes seconds; analysing Pulp half a minute.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

/// Most that such a Python may answer.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// Most memory that it may have, and most processor time. Analysing all of Pulp takes 0.3 GB and half a minute.
const MAX_MEMORY: u64 = 2 * 1024 * 1024 * 1024;

/// Longest wait for the rest of what it said, once it has ended: whatever it left running may hold its pipes for ever.
const REST: Duration = Duration::from_millis(500);

/// Runs a command to its end with `input` on its stdin, in a clean environment; fails with its last
/// words when it fails.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, Failure> {
    let identity = Identity::of_interpreter(Path::new(command.get_program()))?;
    run_as(&identity, command, input)
}

/// The same as somebody.
fn run_as(identity: &Identity, command: &mut Command, input: &[u8]) -> Result<Vec<u8>, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut command = with_parent(command, identity);
    command
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .env_remove("PULPCOV_ROLE")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().during("run", &program)?;
    finish(&mut child, &program, input)
}

/// Runs a container engine to its end, with the agent's own rights and environment: what it starts is confined by it.
pub(crate) fn run_engine(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut wrapped = Command::new("/proc/self/exe");
    wrapped.arg(WITH_PARENT).arg(ENGINE).arg(command.get_program()).args(command.get_args());
    wrapped.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = wrapped.spawn().during("run", &program)?;
    finish(&mut child, &program, input)
}

/// Removes a file as a user could himself: behind a link of his, root removes nothing.
pub(crate) fn remove_as(uid: u32, path: &Path) -> Result<(), Failure> {
    let identity = Identity::of_user(uid);
    run_as(&identity, Command::new("/bin/rm").arg("-f").arg("--").arg(path), b"").map(drop)
}

/// What a program answers to an input, once it has ended.
fn finish(child: &mut std::process::Child, program: &str, input: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Three pipes, three threads: whichever side fills first, nobody waits for ever.
        scope.spawn(|| {
            if let Some(pipe) = stdin.take() {
                feed(pipe, input, &ended);
            }
        });
        let out = scope.spawn(|| stdout.map(|pipe| read_limited(pipe, &ended)).unwrap_or_default());
        let err = scope.spawn(|| stderr.map(|pipe| read_limited(pipe, &ended)).unwrap_or_default());
        let status = wait(child, program);
        ended.store(true, Ordering::Relaxed);
        let status = status?;
        let out = out.join().unwrap_or_default();
        let err = err.join().unwrap_or_default();
        if status.success() {
            return Ok(out);
        }
        let words = String::from_utf8_lossy(&err);
        let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        Err(Failure::new(format!("{program} failed ({status}): {}", last.trim())))
    })
}

/// The same command as a child that dies with us: a Python that outlives a killed agent would go on
/// writing where nobody expects it. What is in root's environment is nothing for others.
fn with_parent(command: &Command, identity: &Identity) -> Command {
    let mut wrapped = Command::new("/proc/self/exe");
    wrapped.arg(WITH_PARENT).arg(identity.to_word()).arg(command.get_program()).args(command.get_args());
    if !identity.is_root() && rustix::process::geteuid().is_root() {
        wrapped.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_for_all(name))).env("HOME", "/");
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// Whether a variable says where packages come from, or how texts are written.
fn is_for_all(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let whole = ["PATH", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"];
    whole.contains(&&*name) || name.starts_with("LC_") || is_of_network(&name)
}

/// Whether a variable says how packages are fetched here.
fn is_of_network(name: &str) -> bool {
    name.starts_with("PIP_") || name.to_ascii_lowercase().ends_with("_proxy")
}

/// Names of those that are set.
pub(crate) fn network_variables() -> impl Iterator<Item = String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| is_of_network(name))
}

/// The word behind which [`become_child`] stands.
pub(crate) const WITH_PARENT: &str = "with-parent";

/// Stands where an identity would, for a program that keeps all that the agent has.
const ENGINE: &str = "engine";

/// Asks the kernel to end this process with its parent, and becomes the command.
pub(crate) fn become_child(words: &[String]) -> Failure {
    let Some((identity, [program, args @ ..])) = words.split_first() else {
        return Failure::new("no command");
    };
    let confined = if identity == ENGINE {
        die_with_parent()
    } else {
        let Some(identity) = Identity::parse(identity) else { return Failure::new("no identity") };
        confine(&identity)
    };
    if let Err(error) = confined {
        return Failure::new(format!("cannot confine {program}: {error}"));
    }
    let error = std::os::unix::process::CommandExt::exec(Command::new(program).args(args));
    Failure::new(format!("cannot run {program}: {error}"))
}

/// What no Python that the agent starts may exceed, wherever its code comes from.
fn confine(identity: &Identity) -> Result<(), rustix::io::Errno> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    identity.assume()?;
    // A change of the user would undo it.
    die_with_parent()?;
    rustix::thread::set_no_new_privs(true)?;
    for (resource, most) in
        [(Resource::As, MAX_MEMORY), (Resource::Cpu, PATIENCE.as_secs()), (Resource::Core, 0)]
    {
        let maximum = getrlimit(resource).maximum.map_or(most, |now| now.min(most));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })?;
    }
    Ok(())
}

/// In a group of its own, by which what it leaves running is found.
fn die_with_parent() -> Result<(), rustix::io::Errno> {
    use rustix::process::{Signal, set_parent_process_death_signal, setsid};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let _ = setsid();
    Ok(())
}

fn wait(child: &mut std::process::Child, program: &str) -> Result<std::process::ExitStatus, Failure> {
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
    let deadline = Instant::now() + PATIENCE;
    let pid = Pid::from_child(child);
    // It is only looked at: its number is nobody else's until it is waited for.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let has_ended = loop {
        if waitid(WaitId::Pid(pid), look).during("wait for", program)?.is_some() {
            break true;
        }
        if Instant::now() > deadline {
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // It has a group of its own; what it left running there ends with it.
    let _ = kill_process_group(pid, Signal::KILL);
    if !has_ended {
        let _ = child.kill();
    }
    let status = child.wait().during("wait for", program)?;
    if has_ended {
        return Ok(status);
    }
    Err(Failure::new(format!("{program} did not end within {} s", PATIENCE.as_secs())))
}

/// Writes to a Python that may never read.
fn feed(mut pipe: impl Write + AsFd, mut input: &[u8], ended: &AtomicBool) {
    while !input.is_empty() && comes(&pipe, PollFlags::OUT, ended) {
        let part = input.get(..PIPE_PART).unwrap_or(input);
        match pipe.write(part) {
            Ok(written) => input = input.get(written..).unwrap_or_default(),
            Err(_) => return,
        }
    }
}

/// So much can be written where a pipe takes anything, without waiting.
const PIPE_PART: usize = 4096;

fn read_limited(mut pipe: impl std::io::Read + AsFd, ended: &AtomicBool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while bytes.len() < MAX_ANSWER && comes(&pipe, PollFlags::IN, ended) {
        match pipe.read(&mut buffer) {
            Ok(read @ 1..) => bytes.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            _ => break,
        }
    }
    bytes
}

/// Waits until a pipe is ready, or its Python has ended and nothing more comes.
fn comes(pipe: &impl AsFd, what: PollFlags, ended: &AtomicBool) -> bool {
    let rest = Timespec { tv_sec: 0, tv_nsec: REST.subsec_nanos().into() };
    loop {
        let mut polled = [PollFd::new(pipe, what)];
        let had_ended = ended.load(Ordering::Relaxed);
        match rustix::event::poll(&mut polled, Some(&rest)) {
            Ok(0) if had_ended => return false,
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    /// The wrapper is this test's own program here, which is no agent: without it.
    fn run_plainly(script: &str) -> Result<Vec<u8>, Failure> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        finish(&mut child, "sh", &vec![b'x'; 1_000_000])
    }

    #[test]
    fn a_program_that_leaves_others_behind_or_reads_nothing_is_not_waited_for() {
        let left = "(trap '' HUP; exec sleep 60) & echo said";
        assert_eq!(run_plainly(left).expect("ends"), b"said\n");
        // Until it has left the group it ends with it.
        let folder = tempfile::tempdir().expect("a folder");
        let note = folder.path().join("pid");
        let script = "setsid sh -c 'echo $$ > NOTE; exec sleep 600' &\nuntil [ -s NOTE ]; do sleep 0.01; done; cat NOTE";
        let escaped = run_plainly(&script.replace("NOTE", &note.to_string_lossy())).expect("ends");
        let escaped: i32 = String::from_utf8_lossy(&escaped).trim().parse().expect("a process");
        let command = std::fs::read(format!("/proc/{escaped}/cmdline")).expect("it is there");
        assert!(!command.is_empty(), "it was waited for");
        let sleeper = rustix::process::Pid::from_raw(escaped).expect("a process");
        rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).expect("killed");
        let failed = run_plainly("echo why >&2; exit 3").expect_err("fails").msg;
        assert!(failed.ends_with("why"), "{failed}");
    }
}
