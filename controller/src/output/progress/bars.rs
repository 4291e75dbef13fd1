//! Bars on a terminal: one line for each host at work, and one for the whole.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::event::{Event, HostResult};
use crate::output::progress::lines;

/// Lines for hosts at work that are shown at once; more would scroll.
const MAX_LINES: usize = 12;

pub(super) struct Bars {
    screen: MultiProgress,
    total: ProgressBar,
    active: BTreeMap<String, ProgressBar>,
    bad: u64,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Bars {
    pub(super) fn new() -> Self {
        let screen = MultiProgress::new();
        let total = screen.add(ProgressBar::new(0));
        total.set_style(style("{prefix} [{bar:30}] {pos}/{len} hosts {elapsed} {msg}").progress_chars("=> "));
        Self { screen, total, active: BTreeMap::new(), bad: 0 }
    }

    pub(super) fn show(&mut self, event: &Event) {
        match event {
            Event::Started { command, hosts } => {
                self.total.set_prefix((*command).to_owned());
                self.total.set_length(*hosts as u64);
            }
            Event::HostStarted { host } if self.active.len() < MAX_LINES => {
                let bar = self.screen.insert_before(&self.total, ProgressBar::new_spinner());
                bar.set_style(style("  {spinner} {prefix} {elapsed} {wide_msg}"));
                bar.set_prefix(host.clone());
                bar.set_message("connecting");
                bar.enable_steady_tick(Duration::from_millis(120));
                self.active.insert(host.clone(), bar);
            }
            Event::HostStarted { .. } => {}
            Event::Step { host, step } => {
                if let Some(bar) = self.active.get(host) {
                    bar.set_message(crate::output::terminal::printable(step));
                }
            }
            Event::Warning { .. } => self.say(event),
            Event::HostFinished { host, result, .. } => {
                if let Some(bar) = self.active.remove(host) {
                    bar.finish_and_clear();
                }
                self.total.inc(1);
                if matches!(result, HostResult::Failed | HostResult::Unreachable) {
                    self.bad += 1;
                    self.total.set_message(format!("({} failed)", self.bad));
                    self.say(event);
                }
            }
        }
    }

    fn say(&self, event: &Event) {
        if let Some(text) = lines::text(event) {
            let _ = self.screen.println(text);
        }
    }

    pub(super) fn finish(self) {
        self.total.finish_and_clear();
    }
}
