//! Shows events: bars on a terminal, lines elsewhere, JSON where a program listens.

mod bars;
mod lines;
mod log_dir;
mod repeated;
mod tally;

use std::time::Instant;

pub(crate) use log_dir::LogDir;
use repeated::Repeated;
use tally::{HEARTBEAT, Tally};
use tokio::sync::mpsc::Receiver;

use crate::output::event::Event;
use crate::output::jsonl;
use crate::output::terminal::say;

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One line for each host at work, on a terminal.
    Bars,
    /// One line for each thing that happens.
    Lines,
    /// One JSON object for each thing that happens, on stdout.
    JsonLines,
    Quiet,
}

/// Shows events until their senders are gone. A log that is silent for long gets a line of what goes on:
/// CI systems end jobs that say nothing.
pub(crate) async fn show(mode: Mode, mut log: Option<LogDir>, mut events: Receiver<Event>) {
    let mut screen = Screen { mode, bars: (mode == Mode::Bars).then(bars::Bars::new) };
    let mut tally = Tally::default();
    let mut repeated = Repeated::default();
    let mut said = tokio::time::Instant::now();
    loop {
        let next = tokio::time::timeout_at(said + HEARTBEAT, events.recv()).await;
        match next {
            Ok(None) => break,
            Ok(Some(event)) => {
                tally.count(&event, Instant::now());
                // A program that listens, and the log of each host, are told all.
                if repeated.is_news(&event) || mode == Mode::JsonLines {
                    screen.show(&event);
                }
                if lines::text(&event).is_some() {
                    said = tokio::time::Instant::now();
                }
                if let Some(trouble) = log.as_mut().and_then(|log| log.note(&event).err()) {
                    log = None;
                    let text = format!("--log-dir: {trouble}; no more is written there");
                    screen.show(&Event::Warning { host: None, text });
                }
            }
            Err(_) => {
                said = tokio::time::Instant::now();
                if mode == Mode::Lines {
                    say(&tally.line(Instant::now()));
                }
            }
        }
    }
    if mode != Mode::JsonLines {
        repeated.rest().for_each(|event| screen.show(&event));
    }
    if let Some(bars) = screen.bars {
        bars.finish();
    }
}

struct Screen {
    mode: Mode,
    bars: Option<bars::Bars>,
}

impl Screen {
    fn show(&mut self, event: &Event) {
        match (self.mode, &mut self.bars) {
            (_, Some(bars)) => bars.show(event),
            (Mode::Lines, _) => lines::show(event),
            (Mode::JsonLines, _) => jsonl::write(&event.into()),
            (Mode::Quiet | Mode::Bars, _) => {
                if let Event::Warning { .. } = event {
                    lines::show(event);
                }
            }
        }
    }
}
