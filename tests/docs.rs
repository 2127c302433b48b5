//! The documentation says what is: every option, key and default, and an example that works.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use sightline::detect::Manifest;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sightline")).args(command).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The options and variables that a help text names, `--listen` and `SIGHTLINE_LISTEN`.
fn options(help: &str) -> BTreeSet<String> {
    let words = help.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
    let option = |word: &&str| word.len() > 2 && (word.starts_with("--") || word.starts_with("SIGHTLINE_"));
    words.filter(option).map(str::to_owned).collect()
}

#[test]
fn every_option_and_variable_is_documented() {
    let doc = read("docs/configuration.md");
    let mut found = 0;
    for command in [
        &["serve"][..],
        &[],
        &["detect"],
        &["eval"],
        &["models", "list"],
        &["models", "info"],
        &["models", "pull"],
        &["doctor"],
    ] {
        let all = options(&help(command));
        assert!(all.contains("--config"), "{command:?}: {all:?}");
        for option in &all {
            let named = ["`", " ", "="].iter().any(|end| doc.contains(&format!("`{option}{end}")));
            assert!(named, "{option} of {command:?} is not in docs/configuration.md");
        }
        found += all.len();
    }
    assert!(found > 60, "{found} options were found: the help texts are not read");
}

#[test]
fn every_key_is_documented_with_its_default() {
    let doc = read("docs/configuration.md");
    let (mut table, mut keys) = (String::new(), 0);
    for line in read("examples/sightline.toml").lines() {
        // Tables that are commented out, too; each camera has one, and all the same keys.
        if let Some(line) = Some(line.strip_prefix("# ").unwrap_or(line)).filter(|line| line.starts_with('[')) {
            let line = if line.starts_with("[cameras.") { "[cameras.NAME]" } else { line };
            let start = doc.find(&format!("### `{line}`")).unwrap_or_else(|| panic!("{line} has no section"));
            let section = &doc[start..];
            let end = section[3..].find("\n##").map_or(section.len(), |end| end + 3);
            section[..end].clone_into(&mut table);
            continue;
        }
        // A key that is commented out is one whose default is not a value.
        let (line, set) = line.strip_prefix("# ").map_or((line, true), |line| (line, false));
        let Some((key, value)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) else { continue };
        let row = table.lines().find(|row| row.starts_with(&format!("| `{key}` |")));
        let row = row.unwrap_or_else(|| panic!("`{key}` has no row in\n{table}"));
        let default = row.split('|').nth(3).unwrap().trim();
        assert!(!set || default == format!("`{value}`"), "`{key}`: {default} is documented, {value} is the default");
        keys += 1;
    }
    assert!(keys >= 30, "{keys} keys were found");
}

#[test]
fn the_manifest_in_the_documentation_is_one() {
    let doc = read("docs/models.md");
    let (_, rest) = doc.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let manifest = Manifest::parse("forklifts", text).unwrap();
    assert_eq!(manifest.labels().len(), 2);
    assert!(manifest.source.is_some());
    for name in Manifest::shipped_names() {
        let licence = Manifest::shipped(name).unwrap().unwrap().licence.unwrap();
        let row = doc.lines().find(|line| line.starts_with(&format!("| `{name}`"))).unwrap();
        assert!(row.contains(&licence), "{name}: {row}");
    }
}

#[test]
fn the_python_example_has_the_versions_that_the_tests_have() {
    let tested = read("scripts/requirements.txt");
    let pins: Vec<String> = read("examples/python/requirements.txt")
        .lines()
        .filter(|line| line.contains("=="))
        .map(str::to_owned)
        .collect();
    assert!(pins.iter().any(|pin| pin.starts_with("aiortc==")));
    for pin in pins {
        assert!(tested.lines().any(|line| line.split(' ').next() == Some(pin.as_str())), "{pin} is not what is tested");
    }
}
