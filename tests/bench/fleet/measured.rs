//! What a command costs: wall, CPU of it and of all that it waited for, and the most memory that it and its
//! descendants held at once (proportional set size, sampled).

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(100);

#[derive(Clone, Default)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
}

/// Runs a command that must succeed.
pub(crate) fn run(mut command: Command) -> Cost {
    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
        Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds().unsigned_abs())
            .as_secs_f64()
    };
    let (before, begin) = (cpu(), Instant::now());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (pid, over) = (child.id(), Arc::new(AtomicBool::new(false)));
    let watch = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut most: f64 = 0.0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(memory_of(pid));
                std::thread::sleep(SAMPLE);
            }
            most
        }
    });
    let output = child.wait_with_output().expect("it ends");
    let wall = begin.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let memory = watch.join().expect("the sampler ends");
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Cost { wall, cpu: cpu() - before, memory }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// MB of a process and all below it.
fn memory_of(root: u32) -> f64 {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The parent is the second word behind the name, which may hold anything.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    let (mut waiting, mut kilobytes) = (vec![root], 0.0);
    while let Some(pid) = waiting.pop() {
        waiting.extend(children.get(&pid).into_iter().flatten());
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let pss = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kilobytes += pss.unwrap_or(0.0);
    }
    kilobytes / 1024.0
}
