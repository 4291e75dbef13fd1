//! Shows events: bars on a terminal, lines elsewhere, JSON where a program listens.

mod bars;
mod lines;

use std::io::Write;

use tokio::sync::mpsc::Receiver;

use crate::event::Event;

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

/// Shows events until their senders are gone.
pub(crate) async fn show(mode: Mode, mut events: Receiver<Event>) {
    let mut bars = (mode == Mode::Bars).then(bars::Bars::new);
    while let Some(event) = events.recv().await {
        match (mode, &mut bars) {
            (_, Some(bars)) => bars.show(&event),
            (Mode::Lines, _) => lines::show(&event, &mut std::io::stderr().lock()),
            (Mode::JsonLines, _) => {
                if let Ok(text) = serde_json::to_string(&event) {
                    // A listener that has left does not stop the run.
                    let _ = writeln!(std::io::stdout().lock(), "{text}");
                }
            }
            (Mode::Quiet | Mode::Bars, _) => {
                if let Event::Warning { .. } = event {
                    lines::show(&event, &mut std::io::stderr().lock());
                }
            }
        }
    }
    if let Some(bars) = bars {
        bars.finish();
    }
}
