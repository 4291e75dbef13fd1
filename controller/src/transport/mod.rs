//! Ways to a host: bytes in, bytes out, what it says on stderr, and its end.

pub(crate) mod ssh;
