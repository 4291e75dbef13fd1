//! The service's clients: one for each host, asking all the time, and noting each answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use pulpcov_tests::lab::host_address;

const PAUSE: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(4);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The process that ran the function.
    Ran(u32),
    /// An answer that the service never gives when it is well.
    Broken(String),
    None,
}

/// A request: the function that it asked for, if one, and how it went.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) mark: Option<usize>,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) answer: Answer,
}

/// When requests run functions; otherwise they only ask for a sign of life.
#[derive(Debug, Clone, Default)]
pub(crate) enum Marking {
    #[default]
    Never,
    Always,
    /// Once this file is there.
    Once(PathBuf),
}

/// What the client of a host is told, and what it has seen.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    marking: Mutex<Marking>,
    /// Rings at each call.
    rings: Condvar,
    next: AtomicUsize,
    /// Where the functions of this client end; from then on it only asks for signs of life.
    end: usize,
    calls: Mutex<Vec<Call>>,
}

pub(crate) struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Begins to ask host `i`, from the lab's network; its functions are `marks`.
    pub(crate) fn start(network: &Path, i: usize, marks: Range<usize>) -> Self {
        let next = AtomicUsize::new(marks.start);
        let shared = Arc::new(Shared { next, end: marks.end, ..Shared::default() });
        let network = std::fs::File::open(network).expect("the lab's network");
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).expect("enters the lab's network");
            while !of_thread.stop.load(Ordering::Relaxed) {
                let call = ask(i, &of_thread);
                of_thread.calls.lock().expect("calls").push(call);
                of_thread.rings.notify_all();
                // Each request is to be one of many, not all there is.
                std::thread::sleep(PAUSE);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Whether that function runs in a child of its own, which ends with `os._exit`.
    pub(crate) const fn is_forked(mark: usize) -> bool {
        mark.is_multiple_of(4)
    }

    pub(crate) fn mark(&self, marking: Marking) {
        *self.shared.marking.lock().expect("marking") = marking;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().expect("calls").clone()
    }

    /// Waits for so many good answers to requests that were begun after `since`; whether they come in time.
    pub(crate) fn is_served(&self, since: Instant, times: usize, patience: Duration) -> bool {
        let too_few = |calls: &mut Vec<Call>| {
            let new = calls.iter().rev().take_while(|call| call.begun >= since);
            new.filter(|call| matches!(call.answer, Answer::Ran(_))).count() < times
        };
        let calls = self.shared.calls.lock().expect("calls");
        let (_calls, waited) = self.shared.rings.wait_timeout_while(calls, patience, too_few).expect("calls");
        !waited.timed_out()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ask(i: usize, shared: &Shared) -> Call {
    let is_marking = match &*shared.marking.lock().expect("marking") {
        Marking::Never => false,
        Marking::Always => true,
        Marking::Once(file) => file.exists(),
    };
    let mark = is_marking.then(|| shared.next.fetch_add(1, Ordering::Relaxed));
    let mark = mark.filter(|&mark| mark < shared.end);
    let begun = Instant::now();
    let path = match mark {
        Some(mark) if Client::is_forked(mark) => format!("/fork/{mark}"),
        Some(mark) => format!("/mark/{mark}"),
        None => "/alive/0".to_owned(),
    };
    let answer = get(i, &path).unwrap_or(Answer::None);
    Call { mark, begun, ended: Instant::now(), answer }
}

fn get(i: usize, path: &str) -> std::io::Result<Answer> {
    let address: SocketAddr = format!("{}:8000", host_address(i)).parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(Answer::None) };
    let is_good = head.split(' ').nth(1) == Some("200");
    Ok(match body.parse() {
        Ok(pid) if is_good => Answer::Ran(pid),
        _ => Answer::Broken(text),
    })
}
