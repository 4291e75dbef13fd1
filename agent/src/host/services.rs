//! Stopping and starting the service: systemd's units, or a person's commands where there is none.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pulpcov_protocol::op::{Commands, ServiceAction};
use pulpcov_protocol::outcome::UnitState;

use crate::failure::{During, Failure};
use crate::host::{facts, systemd};

/// Longest run of a stop or start command.
const PATIENCE: Duration = Duration::from_mins(10);

/// Most words of a failed command that are shown.
const MAX_WORDS: u64 = 4096;

/// Acts on units in their order, or with the commands where there are some.
pub(crate) fn act(
    action: ServiceAction,
    units: &[String],
    commands: &Commands,
    lib_root: &str,
) -> Result<Vec<UnitState>, Failure> {
    if commands.is_empty() {
        if !systemd::is_here() {
            return Err(no_manager());
        }
        return systemd::act(action, units);
    }
    let wanted = |command: &Option<String>, option: &str| {
        command.clone().ok_or_else(|| Failure::new(format!("there is no {option}")))
    };
    // Both are there before the first is run: nothing is stopped that could not be started again.
    let stop =
        (action != ServiceAction::Start).then(|| wanted(&commands.stop, "--stop-command")).transpose()?;
    let start =
        (action != ServiceAction::Stop).then(|| wanted(&commands.start, "--start-command")).transpose()?;
    for command in stop.iter().chain(&start) {
        run(command, lib_root)?;
    }
    Ok(Vec::new())
}

/// Nothing here stops and starts services.
pub(crate) fn no_manager() -> Failure {
    Failure::new("nothing of the service runs here that systemd or s6 watches over")
        .hint("use --stop-command and --start-command, or pulpcov_stop_command and pulpcov_start_command")
}

/// The end of a log, however long it is.
fn last_words(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs_err::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_WORDS)))?;
    let mut words = Vec::new();
    file.take(MAX_WORDS).read_to_end(&mut words)?;
    Ok(words)
}

/// A command of the shell. What it starts lives on, so it gets no pipe of ours to hold and a process group of its own.
pub(crate) fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .current_dir("/")
        .env_remove("PULPCOV_ROLE")
        // The bootstrap's own, for sudo: services are not started in it.
        .env_remove("LC_ALL")
        .stdin(Stdio::null())
        .process_group(0);
    shell
}

/// How a shell's command ended; nothing where it took longer, and was ended with all that it waited for.
pub(crate) fn end_of(child: &mut Child, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            let group = rustix::process::Pid::from_child(child);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = child.wait();
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file for what a command says. Where the hook came with a volume, nothing can be written beside it.
fn new_log(lib_root: &str) -> Result<(PathBuf, File), Failure> {
    let name = format!(".command-{}", facts::random_word()?);
    let open = |folder: &Path| -> Result<(PathBuf, File), Failure> {
        let path = folder.join(&name);
        Ok((path.clone(), fs_err::OpenOptions::new().write(true).create_new(true).open(path)?.into_file()))
    };
    open(Path::new(lib_root))
        .or_else(|_| open(&std::env::temp_dir()))
        .or_else(|_| open(Path::new("/dev/shm")))
}

/// Runs a shell command to its end.
fn run(command: &str, lib_root: &str) -> Result<(), Failure> {
    let (path, log) = new_log(lib_root)?;
    let result = (|| {
        let mut child = shell(command)
            .stdout(log.try_clone().during("write", path.display())?)
            .stderr(log)
            .spawn()
            .during("run", "/bin/sh")?;
        end_of(&mut child, PATIENCE)
            .during("wait for", command)?
            .ok_or_else(|| Failure::new(format!("`{command}` did not end within {} s", PATIENCE.as_secs())))
    })();
    let words = last_words(&path).unwrap_or_default();
    let _ = fs_err::remove_file(&path);
    let status = result?;
    if status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&words).into_owned();
    let last = words.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no message");
    Err(Failure::new(format!("`{command}` failed ({status}): {last}")))
}
