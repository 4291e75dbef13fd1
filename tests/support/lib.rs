//! Real peers for the tests: hosts with sshd, sudo and systemd, Pythons with coverage.py, a service.

pub mod base;
pub mod engine;
pub mod image;
pub mod kubernetes;
pub mod lab;
pub mod made_run;
pub mod plain;
pub mod programs;
pub mod pulp;
pub mod pulp_container;
pub mod python;
pub mod pythons;
pub mod quadlet;
pub mod rooms;
pub mod shop;
pub mod tally;
