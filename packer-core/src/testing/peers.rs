//! Programs that tests talk to: where they are, and what happens where they are not.

use std::path::{Path, PathBuf};

/// The path of a program that a test needs, looked for in `PATH` and where system services live.
///
/// Where it is absent this prints `skipped: needs NAME` and returns `None`: the test ends there and passes.
///
/// # Panics
/// Where it is absent and `PACKER_TEST_REQUIRE` is `all`, as it is where everything should be tested.
pub fn require(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let program = std::env::split_paths(&path).chain(system).map(|folder| folder.join(name));
    let found = program.into_iter().find(|program| is_program(program));
    if found.is_none() {
        skip(name);
    }
    found
}

/// Says that a test is skipped for want of something.
///
/// # Panics
/// Where `PACKER_TEST_REQUIRE` is `all`.
#[expect(clippy::print_stderr, reason = "a test that does nothing must say so")]
pub fn skip(need: &str) {
    let required = std::env::var("PACKER_TEST_REQUIRE").is_ok_and(|value| value == "all");
    assert!(!required, "this test needs {need}, and PACKER_TEST_REQUIRE is \"all\"");
    eprintln!("skipped: needs {need}");
}

fn is_program(path: &Path) -> bool {
    #[cfg(unix)]
    {
        let mode = |m: std::fs::Metadata| std::os::unix::fs::PermissionsExt::mode(&m.permissions());
        path.is_file() && std::fs::metadata(path).map(mode).is_ok_and(|mode| mode & 0o111 != 0)
    }
    #[cfg(not(unix))]
    {
        path.is_file() || path.with_extension("exe").is_file()
    }
}
