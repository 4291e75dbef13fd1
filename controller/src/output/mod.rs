//! What people and programs get to see, and how it is written.

pub(crate) mod event;
pub(crate) mod file;
pub(crate) mod jsonl;
pub(crate) mod progress;
pub(crate) mod stored_path;
pub(crate) mod terminal;
