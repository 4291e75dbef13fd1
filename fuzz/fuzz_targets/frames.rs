//! Frames of an agent's stdout: found alike in a stream and in pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulpcov_protocol::frame::{Decoder, Frame, read_frame};

fn of_stream(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = read_frame(&mut bytes) {
        frames.push(frame);
    }
    frames
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else { return };
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    'pieces: for piece in bytes.chunks(usize::from(size).max(1)) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => break 'pieces,
            }
        }
    }
    assert_eq!(frames, of_stream(bytes));
    for frame in frames {
        let _ = serde_json::from_slice::<pulpcov_protocol::op::Op>(&frame.payload);
        let _ = serde_json::from_slice::<pulpcov_protocol::outcome::Outcome>(&frame.payload);
    }
});
