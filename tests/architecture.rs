//! The plan of the house, held by reading the sources: who may import whom, where a vendor crate may be named, how long
//! a file may be, and what product code may not do. `src/lib.rs` has the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod source_text;

use source_text::{Source, code_only};

/// What a room may import besides itself. An entry with `::` opens that one part of a room.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("media", &[]),
    ("peer", &["media"]),
    ("decode", &["media"]),
    ("detect", &["media"]),
    ("annotate", &["media"]),
    ("encode", &["media"]),
    ("source", &["media", "peer"]),
    ("sink", &["media", "peer"]),
    ("pipeline", &["media", "peer", "decode", "detect", "annotate", "encode", "source", "sink"]),
    ("server", &["media", "peer", "pipeline", "sink::message"]),
];

/// The thin binary and what composes everything; nobody imports `main` or `cli`.
const FREE: &[&str] = &["lib", "main", "cli", "config", "telemetry"];

/// Where a vendor crate may be named: the start of the path under `src`.
const VENDORS: &[(&str, &[&str])] = &[
    ("webrtc", &["peer"]),
    ("rtc", &["peer"]),
    ("ort", &["detect/backend"]),
    ("half", &["detect/backend"]),
    ("prost", &["detect/backend"]),
    ("tonic", &["detect/backend"]),
    ("retina", &["source"]),
    ("openh264", &["decode", "encode"]),
    ("openh264_sys2", &["decode", "encode"]),
    ("ffmpeg_next", &["decode"]),
    ("zune_jpeg", &["decode"]),
    ("axum", &["server"]),
    ("tower_http", &["server"]),
    ("reqwest", &["detect/pull", "cli/bench"]),
    ("imageproc", &["detect", "annotate"]),
    ("clap", &["main", "cli", "config"]),
    ("anyhow", &["main", "cli"]),
];

/// A longer file has become two.
const LONGEST_FILE: usize = 420;

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            Source::new(&name, &fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn foreign_imports(source: &Source) -> Vec<String> {
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(room, _)| *room == source.room) else {
        return if FREE.contains(&source.room.as_str()) {
            Vec::new()
        } else {
            vec![format!("{}: `{}` is no room of the table", source.name, source.room)]
        };
    };
    let mut wrong = BTreeSet::new();
    for (line, path) in source.house_paths() {
        let [room, rest @ ..] = path.as_slice() else { continue };
        let part = rest.first().map(|first| format!("{room}::{first}"));
        let open = *room == source.room
            || allowed.contains(&room.as_str())
            || part.is_some_and(|part| allowed.contains(&part.as_str()));
        if !open {
            wrong.insert(format!(
                "{}:{line}: `{}` imports `{}`; it may import {allowed:?}",
                source.name,
                source.room,
                path.join("::")
            ));
        }
    }
    wrong.into_iter().collect()
}

fn foreign_vendors(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (vendor, homes) in VENDORS {
        let at_home = homes.iter().any(|home| {
            source.name.strip_prefix(home).is_some_and(|rest| rest.starts_with('/') || rest.starts_with(".rs"))
        });
        if !at_home {
            let lines = source.vendor_lines(vendor);
            wrong.extend(lines.map(|line| format!("{}:{line}: `{vendor}` belongs in {homes:?}", source.name)));
        }
    }
    wrong
}

fn forbidden_calls(source: &Source) -> Vec<String> {
    let words = [".unwrap()", "todo!", "unimplemented!", "dbg!(", ".unwrap_unchecked("];
    let found =
        source.product.lines().enumerate().flat_map(|(n, line)| {
            words.iter().filter(move |word| line.contains(**word)).map(move |word| (n + 1, *word))
        });
    found.map(|(line, word)| format!("{}:{line}: `{word}` outside tests", source.name)).collect()
}

fn unexplained_unsafe(source: &Source) -> Vec<String> {
    let lines = source.unsafe_without_reason();
    lines.map(|line| format!("{}:{line}: `unsafe` without a `SAFETY:` line above it", source.name)).collect()
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = source.product.lines().count();
    if lines > LONGEST_FILE {
        vec![format!("{}: {lines} lines before its tests; split it at {LONGEST_FILE}", source.name)]
    } else {
        Vec::new()
    }
}

fn hold(rule: fn(&Source) -> Vec<String>) {
    let sources = sources();
    assert!(sources.len() > 10, "the sources were not found");
    let wrong: Vec<_> = sources.iter().flat_map(rule).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    hold(foreign_imports);
}

#[test]
fn a_vendor_crate_is_named_in_its_room_only() {
    hold(foreign_vendors);
}

#[test]
fn files_are_short_enough_to_read() {
    hold(too_long);
}

#[test]
fn product_code_does_not_unwrap() {
    hold(forbidden_calls);
}

#[test]
fn unsafe_code_gives_its_reason() {
    hold(unexplained_unsafe);
}

#[test]
fn the_table_is_the_one_in_the_crates_documentation() {
    let doc = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for (room, allowed) in MAY_IMPORT {
        let row = doc.lines().find(|line| {
            line.starts_with("//! |")
                && line.split('|').nth(1).is_some_and(|rooms| rooms.contains(&format!("`{room}`")))
        });
        let row = row.unwrap_or_else(|| panic!("`{room}` is not in the table of src/lib.rs"));
        let said = row.split('|').nth(2).unwrap();
        if said.contains("all of the above") {
            assert_eq!(allowed.len(), 8, "{row}");
        } else {
            let said: BTreeSet<_> = said.split('`').skip(1).step_by(2).collect();
            assert_eq!(said, allowed.iter().copied().collect(), "{row}");
        }
    }
}

mod the_rules_notice {
    use super::*;

    fn wrong(rule: fn(&Source) -> Vec<String>, name: &str, text: &str) -> usize {
        rule(&Source::new(name, text)).len()
    }

    #[test]
    fn an_import_against_the_flow_in_every_way_of_writing_it() {
        for (name, text, expected) in [
            ("decode/mod.rs", "use crate::encode::Encoder;", 1),
            ("decode/mod.rs", "fn f() { crate::encode::go() }", 1),
            ("decode/mod.rs", "use crate::{media::Frame, encode::{self, Encoder}};", 2),
            ("decode/mod.rs", "pub(crate) use crate :: encode;", 1),
            ("decode/mod.rs", "use super::encode::Encoder;", 1),
            ("decode/h264.rs", "use super::super::encode::Encoder;", 1),
            ("decode/h264.rs", "use super::encode::Encoder;", 0),
            ("decode/deep/mod.rs", "use super::super::{encode::Encoder, media};", 1),
            ("decode/mod.rs", "use crate::media::{Frame, Slot};\nuse crate::decode::x;", 0),
            ("decode/mod.rs", "/// See [`crate::encode`].\nfn f() { log(\"crate::encode::x\") }", 0),
            ("decode/mod.rs", "#[cfg(test)]\nmod tests { use crate::encode::Encoder; }", 0),
            ("decode/tests.rs", "use crate::encode::Encoder;", 0),
            ("server/mod.rs", "use crate::sink::message::ServerMessage;", 0),
            ("server/mod.rs", "use crate::sink::{message, viewer};", 1),
            ("server/mod.rs", "use crate::config::Config;", 1),
            ("media/mod.rs", "use crate::peer::Peer;", 1),
            ("config.rs", "use crate::detect::Config;", 0),
            ("utils/mod.rs", "", 1),
        ] {
            assert_eq!(wrong(foreign_imports, name, text), expected, "{name}: {text}");
        }
    }

    #[test]
    fn a_vendor_crate_out_of_its_room() {
        for (name, text, expected) in [
            ("server/mod.rs", "use webrtc::peer_connection::PeerConnection;", 1),
            ("server/mod.rs", "use ::webrtc::peer_connection::PeerConnection;", 1),
            ("server/mod.rs", "use rtc as stack;", 1),
            ("peer/mod.rs", "use webrtc::peer_connection::PeerConnection;", 0),
            ("pipeline/mod.rs", "use crate::source::webrtc::WebrtcSource;", 0),
            ("source/mod.rs", "mod webrtc;\npub use self::webrtc::WebrtcSource;\nuse webrtc::X;", 0),
            ("detect/onnx.rs", "fn f() -> ort::Result<()> {}", 1),
            ("detect/backend/onnx.rs", "fn f() -> ort::Result<()> {}", 0),
            ("detect/mod.rs", "// ort::Session\nfn sort() {}\nlet effort = export::x;", 0),
            ("encode/openh264.rs", "use openh264::encoder::Encoder;", 0),
            ("sink/mod.rs", "use openh264_sys2::API;", 1),
            ("pipeline/mod.rs", "use anyhow::Result;", 1),
            ("main.rs", "use anyhow::Result;", 0),
        ] {
            assert_eq!(wrong(foreign_vendors, name, text), expected, "{name}: {text}");
        }
    }

    #[test]
    fn an_unwrap_and_an_unsafe_without_reason() {
        assert_eq!(wrong(forbidden_calls, "media/a.rs", "fn f() { g().unwrap() }"), 1);
        assert_eq!(wrong(forbidden_calls, "media/a.rs", "// .unwrap()\nfn f() { \".unwrap()\"; g().unwrap_or(1) }"), 0);
        assert_eq!(wrong(forbidden_calls, "media/a.rs", "#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }"), 0);
        assert_eq!(wrong(forbidden_calls, "media/a.rs", "#[cfg(test)]\nfn f() {}\nfn g() { h().unwrap() }"), 1);
        assert_eq!(wrong(unexplained_unsafe, "encode/a.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(wrong(unexplained_unsafe, "encode/a.rs", "unsafe extern \"C\" { fn g(); }"), 0);
        assert_eq!(wrong(unexplained_unsafe, "encode/a.rs", "// SAFETY: why\nlet a =\n    unsafe { g() };"), 0);
        assert_eq!(wrong(unexplained_unsafe, "encode/a.rs", "// SAFETY: why\n\n\n\n\n\nlet a = unsafe { g() };"), 1);
    }

    #[test]
    fn a_file_that_has_grown_too_long() {
        assert_eq!(wrong(too_long, "media/a.rs", &"fn f() {}\n".repeat(421)), 1);
        let tested = "fn f() {}\n".repeat(400) + "#[cfg(test)]\nmod tests {\n" + &"\n".repeat(100) + "}\n";
        assert_eq!(wrong(too_long, "media/a.rs", &tested), 0);
    }

    #[test]
    fn code_and_only_code() {
        let text = "a // b\nc /* d /* e */ f */ g \"h \\\" i\" 'j' '\\'' &'k l r#\"m \" n\"# b\"o\" p";
        let code = code_only(text);
        for word in ["a", "c", "g", "&'k", "l", "p"] {
            assert!(code.split_whitespace().any(|w| w == word), "{word} of {code}");
        }
        for letter in ["d", "e", "f", "h", "i", "j", "m", "n", "o"] {
            assert!(!code.split_whitespace().any(|w| w.trim_matches(['"', '\'', '#']) == letter), "{letter} of {code}");
        }
        assert_eq!(code.lines().count(), text.lines().count());
    }
}
