//! Reports as bytes. Nothing here opens a file, reads a clock or decides what is in a report.

pub mod ci;
pub mod html;
pub mod json;
pub mod lcov;
pub mod markdown;
pub mod names;
pub mod summary;
pub mod text;
pub mod trend;
pub mod xml;
