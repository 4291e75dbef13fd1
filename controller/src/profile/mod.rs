//! What is known of a service beforehand, and the wheels of coverage.py for its Pythons.

pub(crate) mod load;
pub(crate) mod wheelhouse;
