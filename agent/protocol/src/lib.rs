//! What the pulpcov controller and its agents say to each other.
//!
//! Pure: no file system, no network, no clock. Both programs depend on this crate and on nothing
//! of each other.

pub mod bundle;
pub mod fleet;
pub mod frame;
pub mod manifest;
pub mod op;
pub mod outcome;
pub mod profile;
pub mod ready;
pub mod text;
pub mod version;
pub mod wheel;
