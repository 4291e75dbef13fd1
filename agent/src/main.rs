//! The program; all of it is the library's, so that its readers can be fuzzed.

fn main() -> std::process::ExitCode {
    pulpcov_agent::main()
}
