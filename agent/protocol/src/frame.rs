//! Frames on the one channel of a host: `u32 length (big endian) | u8 kind | payload`.

use std::io;
use std::time::Duration;

/// Bytes before the payload.
pub const HEADER_LEN: usize = 5;

/// Largest payload of a frame that carries raw bytes. Small enough that one host never holds more
/// than this in memory, large enough that the header costs nothing.
pub const MAX_DATA: usize = 64 * 1024;

/// Largest payload of a frame that carries JSON. A fleet host with 60,000 data files answers a
/// `collect` with about 12 MiB.
pub const MAX_JSON: usize = 32 * 1024 * 1024;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Agent to controller, once: a [`crate::outcome::Hello`].
    Hello,
    /// Controller to agent: a [`crate::op::Op`].
    Op,
    /// Agent to controller: what the agent is doing now. Also proof of life during long steps.
    Progress,
    /// Raw bytes of a stream: a wheel downwards, a bundle upwards.
    Data,
    /// The stream is over: a [`StreamEnd`].
    DataEnd,
    /// Agent to controller: the [`crate::outcome::Outcome`] of the op.
    Outcome,
    /// Controller to agent, at any time and with nothing in it: it is still there.
    Ping,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Op => 2,
            Self::Progress => 3,
            Self::Data => 4,
            Self::DataEnd => 5,
            Self::Outcome => 6,
            Self::Ping => 7,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Hello,
            2 => Self::Op,
            3 => Self::Progress,
            4 => Self::Data,
            5 => Self::DataEnd,
            6 => Self::Outcome,
            7 => Self::Ping,
            _ => return None,
        })
    }

    const fn limit(self) -> usize {
        match self {
            // A step is a line of text; it comes at any rate, so it is not to be large.
            Self::Data | Self::Progress => MAX_DATA,
            Self::Ping => 0,
            _ => MAX_JSON,
        }
    }
}

/// How often a controller says that it is there, and how long an agent waits for it. What carries their channel may
/// outlive a controller that was killed: the kubelet holds it for a minute and more.
pub const PING_EVERY: Duration = Duration::from_secs(5);
pub const SILENCE: Duration = Duration::from_secs(30);

/// How long an agent waits for the next op of a controller that says nothing: it holds nothing of the host meanwhile that
/// anybody else would want.
pub const IDLE: Duration = Duration::from_mins(5);

/// How a stream ended: the receiver compares, so that a lost tail is never taken for the end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StreamEnd {
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub payload: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("frame of unknown kind {0}")]
    UnknownKind(u8),
    #[error("{kind:?} frame of {len} bytes, the limit is {limit}")]
    TooLong { kind: Kind, len: usize, limit: usize },
    #[error("cannot read a frame")]
    Read(#[source] io::Error),
    #[error("cannot write a frame")]
    Write(#[source] io::Error),
}

/// The header of a frame. Fails where the payload is over its kind's limit.
pub fn header(kind: Kind, len: usize) -> Result<[u8; HEADER_LEN], FrameError> {
    let limit = kind.limit();
    let wire_len =
        u32::try_from(len).ok().filter(|_| len <= limit).ok_or(FrameError::TooLong { kind, len, limit })?;
    let [a, b, c, d] = wire_len.to_be_bytes();
    Ok([a, b, c, d, kind.code()])
}

fn parse_header(raw: [u8; HEADER_LEN]) -> Result<(Kind, usize), FrameError> {
    let [a, b, c, d, code] = raw;
    let kind = Kind::from_code(code).ok_or(FrameError::UnknownKind(code))?;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    let limit = kind.limit();
    if len > limit {
        return Err(FrameError::TooLong { kind, len, limit });
    }
    Ok((kind, len))
}

/// Writes one frame. The caller flushes.
pub fn write_frame(out: &mut dyn io::Write, kind: Kind, payload: &[u8]) -> Result<(), FrameError> {
    let head = header(kind, payload.len())?;
    out.write_all(&head).and_then(|()| out.write_all(payload)).map_err(FrameError::Write)
}

/// Reads one frame; `None` at a clean end of the stream, between two frames.
pub fn read_frame(input: &mut dyn io::Read) -> Result<Option<Frame>, FrameError> {
    let mut head = [0; HEADER_LEN];
    let mut have = 0;
    while let Some(rest) = head.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Read(error)),
        }
    }
    let (kind, len) = parse_header(head)?;
    let mut payload = vec![0; len];
    input.read_exact(&mut payload).map_err(FrameError::Read)?;
    Ok(Some(Frame { kind, payload }))
}

/// Finds frames in bytes that arrive in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        // Move what is left to the front only when it is small against what was consumed, so that
        // a long stream costs one copy a byte and not a quadratic number.
        if self.start > 0 && self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let pending = self.buffer.get(self.start..).unwrap_or_default();
        let Some((head, rest)) = pending.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let (kind, len) = parse_header(*head)?;
        let Some(payload) = rest.get(..len) else { return Ok(None) };
        let frame = Frame { kind, payload: payload.to_vec() };
        self.start += HEADER_LEN + len;
        Ok(Some(frame))
    }

    /// Bytes that arrived but belong to no whole frame yet.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop::sample::select(vec![
            Kind::Hello,
            Kind::Op,
            Kind::Progress,
            Kind::Data,
            Kind::DataEnd,
            Kind::Outcome,
        ])
    }

    proptest! {
        #[test]
        fn frames_round_trip_in_pieces_of_any_size(
            frames in prop::collection::vec((kinds(), prop::collection::vec(any::<u8>(), 0..300)), 0..12),
            piece in 1usize..64,
        ) {
            let mut wire = Vec::new();
            for (kind, payload) in &frames {
                write_frame(&mut wire, *kind, payload).expect("within the limit");
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for bytes in wire.chunks(piece) {
                decoder.push(bytes);
                while let Some(frame) = decoder.next_frame().expect("our own frames") {
                    seen.push((frame.kind, frame.payload));
                }
            }
            prop_assert_eq!(decoder.pending(), 0);
            prop_assert_eq!(&seen, &frames);

            let mut reader = wire.as_slice();
            let mut read = Vec::new();
            while let Some(frame) = read_frame(&mut reader).expect("our own frames") {
                read.push((frame.kind, frame.payload));
            }
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
            let mut reader = bytes.as_slice();
            while let Ok(Some(_)) = read_frame(&mut reader) {}
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_allocated() {
        let mut reader: &[u8] = &[0xFF, 0xFF, 0xFF, 0xFF, 4];
        assert!(matches!(read_frame(&mut reader), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn a_cut_frame_is_an_error_and_not_the_end() {
        let mut wire = Vec::new();
        write_frame(&mut wire, Kind::Data, b"hello").expect("small");
        wire.pop();
        assert!(matches!(read_frame(&mut wire.as_slice()), Err(FrameError::Read(_))));
    }
}
