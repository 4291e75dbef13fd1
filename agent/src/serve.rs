//! The framed face: ops on stdin, outcomes and streams on stdout, until stdin ends.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use pulpcov_protocol::frame::{Frame, FrameError, IDLE, Kind, MAX_DATA, StreamEnd, read_frame, write_frame};
use pulpcov_protocol::op::{Op, Wheel};
use pulpcov_protocol::outcome::{Hello, Outcome, Progress};
use pulpcov_protocol::text::{error_chain, hex, unhex};
use pulpcov_protocol::version::PROTOCOL;
use pulpcov_protocol::wheel::WheelName;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::failure::{During, Failure};
use crate::host::{caller, facts, fs};
use crate::ops::{self, OpContext};
use crate::recorder::coverage_dir;

/// Silence that the controller must not take for death.
const HEARTBEAT: Duration = Duration::from_secs(2);

type Out = Mutex<io::Stdout>;

/// Serves until the controller is gone: an agent never outlives its channel. The first op may stand in the command
/// line, which saves a round trip.
pub(crate) fn run(first: Option<&str>) -> Result<(), Failure> {
    let out = Mutex::new(io::stdout());
    let hello = Hello {
        protocol: PROTOCOL,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: facts::hostname(),
        uid: rustix::process::geteuid().as_raw(),
    };
    send(&out, Kind::Hello, &hello)?;
    // Not through a buffer: what lies in one, nobody else sees.
    let mut input = std::fs::File::from(rustix::io::dup(io::stdin()).during("read", "stdin")?);
    let progress = |step: &str| {
        let _ = send(&out, Kind::Progress, &Progress { step: step.to_owned() });
    };
    let mut session = OpContext::new(&progress);
    let mut first =
        first.map(|word| unhex(word).ok_or_else(|| Failure::new("the first op is none"))).transpose()?;
    loop {
        let payload = match first.take() {
            Some(payload) => payload,
            None => match next_op(&mut input)? {
                Some(payload) => payload,
                None => return Ok(()),
            },
        };
        let outcome = match serde_json::from_slice::<Op>(&payload) {
            Ok(op) => answer(&op, &mut session, &mut input, &out),
            Err(error) => Err(Failure::new(format!("this agent does not know that op: {error}"))),
        };
        let outcome = outcome.unwrap_or_else(|failure| Outcome::failure(failure.msg, failure.hint));
        send(&out, Kind::Outcome, &outcome)?;
    }
}

/// The next op; `None` once the controller has left, or has not said for a while that it is there.
fn next_op(input: &mut std::fs::File) -> Result<Option<Vec<u8>>, Failure> {
    loop {
        if !caller::speaks_within(&*input, IDLE) {
            return Ok(None);
        }
        match read_frame(input).map_err(wire)? {
            Some(Frame { kind: Kind::Op, payload }) => return Ok(Some(payload)),
            Some(Frame { kind: Kind::Ping, .. }) => {}
            Some(frame) => {
                return Err(Failure::new(format!("expected an op, got a {:?} frame", frame.kind)));
            }
            None => return Ok(None),
        }
    }
}

fn answer(
    op: &Op,
    session: &mut OpContext<'_>,
    input: &mut dyn io::Read,
    out: &Out,
) -> Result<Outcome, Failure> {
    let spool = match op {
        Op::Install(install) if !install.wheels.is_empty() => Some(Spool::receive(&install.wheels, input)?),
        _ => None,
    };
    session.wheels = spool.as_ref().map(|spool| spool.paths.clone()).unwrap_or_default();
    let mut stream = Stream::new(out);
    let (done, is_done) = mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A new op is a sign of life.
            let mut watch = caller::Watch::begin();
            while is_done.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                watch.look(io::stdin());
                let _ = send(out, Kind::Progress, &Progress { step: String::new() });
            }
        });
        let result = ops::run(op, session, &mut stream);
        drop(done);
        result
    });
    if result.is_ok() && matches!(op, Op::Bundle(_) | Op::Export(_)) {
        stream.end()?;
    }
    result
}

fn wire(error: FrameError) -> Failure {
    Failure::new(error_chain(&error))
}

fn send(out: &Out, kind: Kind, message: &impl Serialize) -> Result<(), Failure> {
    let payload = serde_json::to_vec(message).map_err(|error| Failure::new(error.to_string()))?;
    send_bytes(out, kind, &payload).map_err(wire)
}

fn send_bytes(out: &Out, kind: Kind, payload: &[u8]) -> Result<(), FrameError> {
    let mut out = out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    write_frame(&mut *out, kind, payload)?;
    out.flush().map_err(FrameError::Write)
}

/// A bundle on its way: data frames, then how much it was and its digest.
struct Stream<'a> {
    out: &'a Out,
    buffer: Vec<u8>,
    hasher: Sha256,
    bytes: u64,
}

impl<'a> Stream<'a> {
    fn new(out: &'a Out) -> Self {
        Self { out, buffer: Vec::with_capacity(MAX_DATA), hasher: Sha256::new(), bytes: 0 }
    }

    fn end(mut self) -> Result<(), Failure> {
        self.flush()?;
        let end = StreamEnd { bytes: self.bytes, sha256: hex(self.hasher.finalize()) };
        send(self.out, Kind::DataEnd, &end)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_DATA - self.buffer.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() == MAX_DATA {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            send_bytes(self.out, Kind::Data, &self.buffer).map_err(io::Error::other)?;
            self.hasher.update(&self.buffer);
            self.bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Wheels that came over the channel, in a private folder until the install is over.
struct Spool {
    folder: PathBuf,
    paths: Vec<PathBuf>,
}

impl Spool {
    fn receive(wheels: &[Wheel], input: &mut dyn io::Read) -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!(".pulpcov-wheels-{}", facts::random_word()?));
        // Mode 0700 at once: root unpacks what lies in here.
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&folder)
            .map_err(|error| Failure::new(format!("cannot make {}: {error}", folder.display())))?;
        let mut spool = Self { folder, paths: Vec::new() };
        for wheel in wheels {
            let bytes = receive_one(wheel, input)?;
            let path = spool.folder.join(&wheel.file_name);
            fs::write_whole(&path, &bytes, 0o600)?;
            spool.paths.push(path);
        }
        Ok(spool)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn receive_one(wheel: &Wheel, input: &mut dyn io::Read) -> Result<Vec<u8>, Failure> {
    if WheelName::parse(&wheel.file_name).is_none() || wheel.size > coverage_dir::MAX_WHEEL {
        return Err(Failure::new(format!(
            "{:?} of {} bytes is no wheel that is taken",
            wheel.file_name, wheel.size
        )));
    }
    let mut bytes = Vec::new();
    loop {
        match read_frame(input).map_err(wire)? {
            Some(Frame { kind: Kind::Ping, .. }) => {}
            Some(Frame { kind: Kind::Data, payload }) => bytes.extend_from_slice(&payload),
            Some(Frame { kind: Kind::DataEnd, .. }) => break,
            Some(frame) => return Err(Failure::new(format!("a {:?} frame inside of a wheel", frame.kind))),
            None => return Err(Failure::new("the controller left in the middle of a wheel")),
        }
        if bytes.len() as u64 > wheel.size {
            return Err(Failure::new(format!("{} is longer than announced", wheel.file_name)));
        }
    }
    if bytes.len() as u64 != wheel.size || fs::sha256(&bytes) != wheel.sha256 {
        return Err(Failure::new(format!("{} arrived damaged", wheel.file_name)).hint("try again"));
    }
    Ok(bytes)
}
