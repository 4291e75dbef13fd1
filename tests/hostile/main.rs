//! Who wants to have a number changed, a fleet stopped or root's rights: hosts that lie, and users without rights.

mod in_the_way;
mod local_user;
mod lying_host;
