//! The `mocks3` program.

fn main() -> std::process::ExitCode {
    mocks3::points::arm();
    mocks3::cli::main()
}
