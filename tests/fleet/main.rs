//! The main job on real hosts: install, record, collect, report, uninstall, and what goes wrong.

mod main_job;
