//! The page by itself: its modules in Node, and the whole of it in a real browser against a server that a second page
//! plays. What it does with the real server is another test's matter.

#[path = "support/browser.rs"]
mod browser;

/// Runs a script of `tests/browser/`, whose own report is on its output.
fn passes(args: &[&str]) {
    let Some(mut node) = browser::node() else { return };
    let output = node.args(args).output().expect("node starts");
    let report = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{report}");
    assert!(output.status.success(), "{args:?}: {}", output.status);
    assert!(report.contains("ok "), "{args:?} ran no check at all");
}

#[test]
fn the_modules_of_the_page_pass_their_tests() {
    passes(&[
        "--test",
        "--test-reporter=tap",
        "tests/browser/page_units.test.mjs",
        "tests/browser/page_ledger.test.mjs",
        "tests/browser/page_regions.test.mjs",
        "tests/browser/page_streams.test.mjs",
    ]);
}

#[test]
fn the_page_does_in_a_real_browser_what_it_should() {
    passes(&["tests/browser/page_check.mjs"]);
}

#[test]
fn the_wall_and_the_view_of_a_stream_do_in_a_real_browser_what_they_should() {
    passes(&["tests/browser/page_wall_check.mjs"]);
}

#[test]
fn regions_are_drawn_on_the_video_in_a_real_browser() {
    passes(&["tests/browser/page_regions_check.mjs"]);
}

#[test]
fn the_latency_page_does_in_a_real_browser_what_it_should() {
    passes(&["tests/browser/page_latency_check.mjs"]);
}
