//! The server as a process: started here on ports of the system's choice, or somebody else's; its time and memory by proc(5).

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, bail};

/// Lines of the server's log that are kept, to be shown if it ends early.
const KEPT_LINES: usize = 20;

/// A server, ended when dropped if it was started here.
pub struct Server {
    child: Option<Child>,
    /// `http://host:port`.
    pub url: String,
    /// Its model, where it said so.
    pub model: Option<String>,
    /// Whom to ask the kernel about.
    pub pid: Option<u32>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Server {
    /// One that runs already.
    pub fn other(url: &str, pid: Option<u32>) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { child: None, url, model: None, pid, log: Arc::default() }
    }

    /// Starts this program's own server and waits until it listens.
    pub fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the program does not know where it is")?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--udp-port", "0", "--log-format", "json"])
            .args(arguments)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the server does not start")?;
        let pid = Some(child.id());
        let stderr = child.stderr.take().context("the server has no log")?;
        let mut server = Self { child: Some(child), url: String::new(), model: None, pid, log: Arc::default() };
        let mut lines = BufReader::new(stderr).lines();
        while server.url.is_empty() {
            let Some(Ok(line)) = lines.next() else { bail!("the server ended at its start:\n{}", server.last_words()) };
            server.take_line(&line);
        }
        let log = Arc::clone(&server.log);
        thread::Builder::new().name("server-log".into()).spawn(move || {
            lines.map_while(Result::ok).for_each(|line| keep(&log, line));
        })?;
        Ok(server)
    }

    fn take_line(&mut self, line: &str) {
        keep(&self.log, line.to_owned());
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        if let Some(name) = event.get("model").and_then(|name| name.as_str()) {
            self.model = Some(name.to_owned());
        }
        let words = event.get("message").and_then(|text| text.as_str()).unwrap_or_default();
        if let Some(url) = words.strip_prefix("open ").and_then(|rest| rest.split(' ').next()) {
            url.trim_end_matches('/').clone_into(&mut self.url);
        }
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Whether a server that was started here has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

fn keep(log: &Mutex<VecDeque<String>>, line: String) {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    if log.len() == KEPT_LINES {
        log.pop_front();
    }
    log.push_back(line);
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the kernel counts of a process.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// User and system time so far, in seconds.
    pub cpu_s: f64,
    /// The same by kind of thread: a thread's name up to its first digit or hyphen.
    pub threads_s: BTreeMap<String, f64>,
    /// Threads.
    pub threads: usize,
    /// Open files and sockets.
    pub files: usize,
    /// Resident memory in MiB.
    pub rss_mib: f64,
}

impl Usage {
    /// Of the process with this id; `None` where there is none, or no `/proc`.
    pub fn of(pid: u32) -> Option<Self> {
        let root = format!("/proc/{pid}");
        let (_, cpu_s) = times(&fs::read_to_string(format!("{root}/stat")).ok()?)?;
        let status = fs::read_to_string(format!("{root}/status")).ok()?;
        let mut threads_s = BTreeMap::new();
        let mut threads = 0;
        for thread in fs::read_dir(format!("{root}/task")).ok()?.flatten() {
            // A thread may end between the two looks.
            let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else { continue };
            let Some((name, seconds)) = times(&stat) else { continue };
            let kind = name.split(|c: char| c == '-' || c.is_ascii_digit()).next().unwrap_or_default().to_owned();
            *threads_s.entry(kind).or_default() += seconds;
            threads += 1;
        }
        let files = fs::read_dir(format!("{root}/fd")).map_or(0, |files| files.flatten().count());
        Some(Self { cpu_s, threads_s, threads, files, rss_mib: resident(&status)? })
    }

    /// Of this process.
    pub fn own() -> Option<Self> {
        Self::of(std::process::id())
    }
}

/// A name and its seconds on a core, from proc(5)'s `stat`; Linux counts in hundredths on every architecture (`USER_HZ`).
fn times(stat: &str) -> Option<(&str, f64)> {
    let (before, fields) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((name, (ticks()? + ticks()?) / 100.0))
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat = "7 (net (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 3 0 9 1 2 3";
        assert_eq!(times(stat), Some(("net (a) b", 3.0)));
        assert_eq!(times("7 (short) S 1"), None);
        assert_eq!(times(""), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2.0));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_threads_files_and_memory() {
        let usage = Usage::own().unwrap();
        assert!(usage.threads >= 1 && usage.files >= 3 && usage.rss_mib > 1.0, "{usage:?}");
        let sum: f64 = usage.threads_s.values().sum();
        assert!(sum <= usage.cpu_s + 0.1, "{usage:?}");
        assert!(Usage::of(u32::MAX).is_none());
    }
}
