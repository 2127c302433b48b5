//! The server as its users run it: a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The server as a process of its own, ended when dropped.
pub struct Server {
    child: Child,
    pub url: String,
    pub model: String,
}

impl Server {
    pub fn start(more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sightline"))
            .args(["serve", "--listen", "127.0.0.1:0", "--udp-port", "0", "--log-format", "json"])
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (mut url, mut model) = (None, String::new());
        while url.is_none() {
            let line = lines.next().expect("the server runs").expect("text");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(name) = event["model"].as_str() {
                name.clone_into(&mut model);
            }
            let text = event["message"].as_str().unwrap_or_default();
            url = text
                .split(' ')
                .find(|word| word.starts_with("http://"))
                .map(|word| word.trim_end_matches('/').to_owned());
        }
        thread::spawn(move || lines.for_each(drop));
        Self { child, url: url.expect("found above"), model }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("Linux")
    }

    /// Resident memory in MiB.
    pub fn rss_mb(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("a number") / 1024.0
    }

    /// User and system time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.proc("stat"))
    }

    /// User and system time over `window`, as a share of one core in percent.
    pub fn cpu_share(&self, window: Duration) -> f64 {
        let before = self.cpu_seconds();
        thread::sleep(window);
        (self.cpu_seconds() - before) / window.as_secs_f64() * 100.0
    }
}

/// User and system time by proc(5)'s `stat`, in seconds: the kernel counts in hundredths.
pub fn cpu_seconds(stat: &str) -> f64 {
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    (fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime")) / 100.0
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
