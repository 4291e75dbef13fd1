//! The main job on real hosts: install, record, collect, report, uninstall, and what goes wrong.

mod access;
mod fan_out;
mod faults;
mod first_hour;
mod host_state;
mod lab_end;
mod main_job;
mod measurement;
mod night;
mod pythons;
mod second_fleet;
mod sessions;
mod transports;
