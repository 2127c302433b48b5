//! A camera as a process of its own: GStreamer's RTSP server, to be killed, frozen and brought back.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Debian's Python, which sees Debian's bindings of GStreamer.
const PYTHON: &str = "/usr/bin/python3";
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/camera_server.py");

/// A running camera; killed when dropped. `camera_server.py` says what a mount is.
pub struct Camera {
    /// Where it listens, the same after [`restart`](Self::restart).
    pub port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Camera {
    /// Starts a camera on a free port and waits until it takes connections. `arguments` are mounts, and options before them.
    pub fn start(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut camera = Self { port: 0, arguments, child: None };
        camera.restart();
        camera
    }

    /// The address of a mount; `user` is `USER:PASSWORD@` or nothing.
    pub fn url(&self, user: &str, mount: &str) -> String {
        format!("rtsp://{user}127.0.0.1:{}/{mount}", self.port)
    }

    /// Ends it at once, as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.kill();
        let clips = concat!(env!("CARGO_TARGET_TMPDIR"), "/camera-clips");
        let port = self.port.to_string();
        let mut command = Command::new(PYTHON);
        command.args([SERVER, "--port", &port, "--clips", clips]).args(&self.arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let Some(port) = said.strip_prefix("listening ").and_then(|port| port.trim().parse().ok()) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the camera does not start (see above); `make setup-test` installs what it needs");
        };
        self.port = port;
        self.child = Some(child);
    }

    /// Stops it where it is: its connections stay, and nothing comes.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("a running camera").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.kill();
    }
}
