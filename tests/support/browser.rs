//! Node and a browser for tests, from what `make setup-test` installed.

use std::path::Path;
use std::process::{Command, Stdio};

/// Node in the project's root, ready for a script of `tests/browser/` as its argument.
///
/// `None`, with a printed line, on a machine where `make setup-test` has not been run: plain `cargo test` then tests what
/// it can. `make test` sets `SIGHTLINE_REQUIRE_BROWSER`, which makes this a failure, so that nothing is left out unseen.
pub fn node() -> Option<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let browser = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    let quiet = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    let missing = if !quiet("node") {
        "node is not on the PATH".to_owned()
    } else if !root.join("node_modules/playwright-core").is_dir() {
        "node_modules/playwright-core is not there".to_owned()
    } else if !Path::new(&browser).exists() {
        format!("{} is not there (CHROMIUM names another browser)", Path::new(&browser).display())
    } else {
        let mut node = Command::new("node");
        node.current_dir(root).stdin(Stdio::null()).env("CHROMIUM", browser);
        return Some(node);
    };
    assert!(std::env::var_os("SIGHTLINE_REQUIRE_BROWSER").is_none(), "{missing}: run `make setup-test`");
    println!("skipped: {missing}; `make setup-test` installs it");
    None
}
