//! coverage.py's model in Rust: analysis, numbers, reports of what data files say.
//!
//! Pure: knows nothing of hosts beyond their names, and nothing of files, SSH, terminals or clocks.

pub mod aliases;
pub mod analysis;
pub mod choice;
pub mod config;
pub mod diff;
pub mod fleet;
pub mod gates;
pub mod glob;
pub mod numbers;
pub mod origin;
pub mod patch;
pub mod releases;
pub mod render;
pub mod report;
pub mod selection;
pub mod source_text;
pub mod view;
