//! The real binary as a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// A running `sightline serve`; killed when dropped.
pub struct Process {
    /// `http://host:port`, from the log.
    pub base: String,
    child: Child,
    log: mpsc::Receiver<String>,
    all: Arc<Mutex<String>>,
}

fn command(arguments: &[&str], folder: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
    // In a folder of its own no configuration file is found.
    command.current_dir(folder).arg("serve").args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.env_remove("RUST_LOG").stderr(Stdio::piped());
    command
}

impl Process {
    /// Starts the server with the motion detector on free ports, and waits until it says where it is.
    pub fn start(arguments: &[&str]) -> Self {
        let common = ["--listen", "127.0.0.1:0", "--udp-port", "0", "--model", "motion", "--log-format", "json"];
        let folder = tempfile::tempdir().unwrap();
        let mut child = command(&[&common, arguments].concat(), folder.path()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, log) = mpsc::channel();
        let all = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&all);
        thread::spawn(move || {
            let _folder = folder;
            for line in lines.map_while(Result::ok) {
                eprintln!("server: {line}");
                kept.lock().unwrap().extend([&line, "\n"]);
                // The test may have ended; the log must be read on all the same.
                let _ = said.send(line);
            }
        });
        let mut process = Self { base: String::new(), child, log, all };
        let line = process.says("open http://");
        let address = line.split("open ").nth(1).and_then(|rest| rest.split("/ ").next());
        process.base = address.expect("an address in the log").to_owned();
        process
    }

    /// Waits until a line of the log has this text.
    pub fn says(&self, text: &str) -> String {
        loop {
            let line =
                self.log.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{text:?} was not said"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The whole log until now.
    #[allow(dead_code)] // most tests wait for a line
    pub fn log(&self) -> String {
        self.all.lock().unwrap().clone()
    }

    /// Sends a signal, `TERM` say.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits until the process has ended.
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < limit, "it did not end within {limit:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the server with settings that it cannot use; what it says to that.
pub fn refused(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = command(arguments, folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}
