//! Programs that the tests run: from the workspace, from Debian, from Python.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// A command that runs a script of `scripts/` under the Python of the tests.
#[must_use]
#[track_caller]
pub fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    // No compiled files in the source tree.
    command.arg("-B").arg(workspace().join("scripts").join(name));
    command
}

/// The Python of `target/test-env`, with the packages of `scripts/requirements.txt`.
///
/// # Panics
/// Where it is missing.
#[must_use]
#[track_caller]
pub fn python() -> PathBuf {
    let path = workspace().join("target/test-env/bin/python");
    // The copy of the requirements is written when all of them are installed.
    let complete = path.is_file() && workspace().join("target/test-env/requirements.txt").is_file();
    assert!(complete, "{} is missing or incomplete: run ./scripts/test", path.display());
    path
}

/// Prometheus' own checker.
///
/// # Panics
/// Where it is missing.
#[must_use]
#[track_caller]
pub fn promtool() -> Command {
    let found = Command::new("promtool").arg("--version").stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    assert!(found, "promtool (Debian: prometheus) is missing: run ./scripts/test");
    Command::new("promtool")
}

/// The program of `examples/shop`, as it is in the source now.
///
/// # Panics
/// Where it does not compile.
#[must_use]
#[track_caller]
pub fn shop() -> &'static Path {
    static SHOP: OnceLock<PathBuf> = OnceLock::new();
    SHOP.get_or_init(|| {
        // This test lies in target/<profile>/deps.
        let folder = env::current_exe()
            .ok()
            .and_then(|test| Some(test.parent()?.parent()?.to_owned()))
            .unwrap_or_default();
        let path = folder.join("shop");
        // scripts/test has built it, with the features of all that it builds.
        if env::var_os("SPANWEAVE_TEST_BUILT").is_none() {
            build("shop", folder.ends_with("release"));
        }
        assert!(path.is_file(), "{} is missing: run ./scripts/test", path.display());
        path
    })
}

#[track_caller]
fn build(package: &str, release: bool) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", package]).current_dir(workspace());
    if release {
        command.arg("--release");
    }
    let built = command.status().is_ok_and(|status| status.success());
    assert!(built, "{command:?} failed");
}
