//! Cameras of every kind against the supervisor: GStreamer's RTSP server, a small HTTP server, a file, and none at all.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use http_auth::{PasswordClient, PasswordParams};
use sightline::decode::VideoDecoder;
use sightline::media::{AccessUnit, AudioCodec, AudioPacket, FramePool, KeyframeRequest, VideoCodec};
use sightline::source::camera::{
    CameraEvent, CameraHealth, CameraSource, CameraState, Demand, Description, Transport, supervise,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

#[path = "support/camera.rs"]
mod camera;

use camera::Camera;

/// More than any event takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A supervised camera and what it delivers.
struct Supervised {
    events: mpsc::UnboundedReceiver<CameraEvent>,
    demand: watch::Sender<Demand>,
    health: CameraHealth,
    task: JoinHandle<()>,
}

impl Supervised {
    fn start(url: &str) -> Self {
        Self::over(url, Transport::Tcp)
    }

    fn over(url: &str, transport: Transport) -> Self {
        let (delivered, events) = mpsc::unbounded_channel();
        let (demand, wanted) = watch::channel(Demand { open: true, watched: true });
        let health = CameraHealth::new();
        let source = CameraSource { address: url.parse().unwrap(), transport };
        let deliver = move |event| {
            let _ = delivered.send(event);
        };
        let task = tokio::spawn(supervise(source, wanted, health.clone(), deliver));
        Self { events, demand, health, task }
    }

    async fn event(&mut self) -> CameraEvent {
        let event = timeout(LIMIT, self.events.recv()).await;
        event.unwrap_or_else(|_| panic!("nothing comes: {:?}", self.health.status())).expect("a running supervisor")
    }

    async fn opened(&mut self) -> Description {
        loop {
            if let CameraEvent::Opened(description) = self.event().await {
                return description;
            }
        }
    }

    async fn unit(&mut self) -> AccessUnit {
        loop {
            match self.event().await {
                CameraEvent::Unit(unit) => return unit,
                CameraEvent::Lost => panic!("it was lost: {:?}", self.health.status()),
                _ => {}
            }
        }
    }

    async fn units(&mut self, count: usize) -> Vec<AccessUnit> {
        let mut units = Vec::new();
        for _ in 0..count {
            units.push(self.unit().await);
        }
        units
    }

    async fn audio(&mut self) -> AudioPacket {
        loop {
            if let CameraEvent::Audio(packet) = self.event().await {
                return packet;
            }
        }
    }

    async fn lost(&mut self) {
        while !matches!(self.event().await, CameraEvent::Lost) {}
    }

    /// Waits for a state; the last error then.
    async fn state(&self, wanted: CameraState) -> String {
        let mut states = self.health.states();
        let reached = timeout(LIMIT, states.wait_for(|state| *state == wanted)).await;
        assert!(reached.is_ok(), "{wanted:?} is not reached: {:?}", self.health.status());
        self.health.status().last_error.unwrap_or_default()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sizes of the pictures in the order of output, each as often as it came; their timestamps must grow.
fn decode(units: &[AccessUnit]) -> Vec<((usize, usize), usize)> {
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).unwrap();
    let mut sizes: Vec<((usize, usize), usize)> = Vec::new();
    let mut last = None;
    for unit in units {
        let Some(picture) = decoder.decode(unit).unwrap() else { continue };
        if let Some(last) = last {
            assert!(picture.rtp_timestamp.wrapping_sub(last) < u32::MAX / 2, "pictures out of order");
        }
        last = Some(picture.rtp_timestamp);
        let size = (picture.picture.width(), picture.picture.height());
        match sizes.last_mut().filter(|(known, _)| *known == size) {
            Some((_, count)) => *count += 1,
            None => sizes.push((size, 1)),
        }
    }
    sizes
}

#[tokio::test]
async fn h264_of_every_profile_comes_whole_and_decodes() {
    let camera =
        Camera::start(&["baseline:h264", "main:h264,profile=main,size=320x240", "high:h264,profile=high,bframes=2"]);
    for (mount, size, reorders) in
        [("baseline", (640, 360), false), ("main", (320, 240), false), ("high", (640, 360), true)]
    {
        let mut supervised = Supervised::start(&camera.url("", mount));
        let description = supervised.opened().await;
        assert_eq!((description.codec, description.audio), (VideoCodec::H264, None));
        let units = supervised.units(45).await;
        assert!(units[0].idr, "{mount} begins with an IDR");
        assert!(units.iter().all(|unit| unit.first_packet <= unit.last_packet && unit.codec == VideoCodec::H264));
        // 30 frames a second, as the camera stamps them; with B-frames the times go back and forth.
        let steps: Vec<_> =
            units.windows(2).map(|pair| pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp)).collect();
        assert_eq!(steps.iter().any(|&step| step > u32::MAX / 2), reorders, "{mount}: {steps:?}");
        let sizes = decode(&units);
        assert!(matches!(sizes[..], [(decoded, count)] if decoded == size && count >= 40), "{mount}: {sizes:?}");
        supervised.state(CameraState::Live).await;
        assert!(supervised.health.status().since_last_frame_ms.is_some());
    }
}

#[tokio::test]
async fn h265_and_motion_jpeg_come_as_what_they_are() {
    let camera = Camera::start(&["h265:h265", "jpeg:mjpeg,size=320x240,fps=10"]);
    let mut h265 = Supervised::start(&camera.url("", "h265"));
    assert_eq!(h265.opened().await.codec, VideoCodec::H265);
    let units = h265.units(35).await;
    assert!(units[0].idr && units.iter().filter(|unit| unit.idr).count() < 5);
    assert!(units.iter().all(|unit| unit.data.starts_with(&[0, 0, 0, 1]) && unit.codec == VideoCodec::H265));

    let mut jpeg = Supervised::start(&camera.url("", "jpeg"));
    assert_eq!(jpeg.opened().await.codec, VideoCodec::Jpeg);
    for unit in jpeg.units(5).await {
        let picture = image::load_from_memory_with_format(&unit.data, image::ImageFormat::Jpeg).unwrap();
        assert_eq!((picture.width(), picture.height(), unit.idr), (320, 240, true));
    }
}

#[tokio::test]
async fn a_decoders_refusal_is_shown_and_the_camera_left_alone() {
    let camera = Camera::start(&["h265:h265"]);
    let mut supervised = Supervised::start(&camera.url("", "h265"));
    supervised.unit().await;
    supervised.health.refuse("H.265 needs the feature `ffmpeg`".into());
    supervised.lost().await;
    assert_eq!(supervised.state(CameraState::Unsupported).await, "H.265 needs the feature `ffmpeg`");
    assert!(supervised.health.status().retry_in_ms.is_some_and(|wait| wait > 20_000));
}

#[tokio::test]
async fn g711_is_passed_on_and_other_audio_is_a_note() {
    let camera = Camera::start(&["u:h264,audio=pcmu", "a:h264,audio=pcma", "aac:h264,audio=aac"]);
    for (mount, codec) in [("u", AudioCodec::Pcmu), ("a", AudioCodec::Pcma)] {
        let mut supervised = Supervised::start(&camera.url("", mount));
        let description = supervised.opened().await;
        assert_eq!((description.audio, description.notes), (Some(codec), vec![]));
        let (first, second) = (supervised.audio().await, supervised.audio().await);
        assert_eq!(first.codec, codec);
        // One byte a sample, 8000 a second.
        assert_eq!(usize::try_from(second.rtp_timestamp.wrapping_sub(first.rtp_timestamp)), Ok(first.payload.len()));
        supervised.unit().await;
    }
    let mut supervised = Supervised::start(&camera.url("", "aac"));
    let description = supervised.opened().await;
    assert_eq!(description.audio, None);
    assert!(
        matches!(&description.notes[..], [note] if note.contains("AAC") && note.contains("PCMU")),
        "{description:?}"
    );
    supervised.unit().await;
    assert_eq!(supervised.health.status().notes, description.notes);
}

#[tokio::test]
async fn basic_and_digest_passwords_open_and_wrong_ones_do_not() {
    for method in ["basic", "digest"] {
        let camera = Camera::start(&["--user", "admin", "--password", "p@ss/w0rd", "--auth", method, "live:h264"]);
        let mut right = Supervised::start(&camera.url("admin:p%40ss%2Fw0rd@", "live"));
        right.unit().await;
        for (user, said) in [("admin:n0tth1s@", "wrong"), ("", "wants a user")] {
            let mut supervised = Supervised::start(&camera.url(user, "live"));
            let error = supervised.state(CameraState::Unauthorized).await;
            assert!(error.contains(said) && !error.contains("n0tth1s"), "{error}");
            supervised.lost().await;
            let wait = supervised.health.status().retry_in_ms;
            assert!(wait.is_some_and(|wait| wait > 20_000), "it is not insisted: {wait:?}");
        }
        right.unit().await;
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_named() {
    let camera = Camera::start(&["vp8:vp8", "live:h264"]);
    let missing = Supervised::start(&camera.url("", "no-such-path"));
    assert!(missing.state(CameraState::Backoff).await.contains("404"));
    let unknown = Supervised::start(&camera.url("", "vp8"));
    let error = unknown.state(CameraState::Unsupported).await;
    assert!(error.contains("vp8") && error.contains("H.264"), "{error}");
}

#[tokio::test]
async fn a_camera_that_is_not_there_yet_or_was_killed_comes_by_itself() {
    let mut camera = Camera::start(&["live:h264"]);
    camera.kill();
    let mut supervised = Supervised::start(&camera.url("", "live"));
    supervised.lost().await;
    let error = supervised.state(CameraState::Backoff).await;
    assert!(error.contains("refused"), "{error}");
    // It is watched: what is told is the probe, however long the wait beside it has grown.
    let told = supervised.health.status().retry_in_ms;
    assert!(told.is_none_or(|wait| wait <= 500), "{told:?}");
    camera.restart();
    supervised.opened().await;
    supervised.unit().await;
    assert_eq!(supervised.health.status().restarts, 0);

    camera.kill();
    supervised.lost().await;
    supervised.state(CameraState::Backoff).await;
    camera.restart();
    supervised.opened().await;
    assert!(supervised.unit().await.idr, "a new epoch begins with an IDR");
    supervised.state(CameraState::Live).await;
    assert_eq!(supervised.health.status().restarts, 1);
}

#[tokio::test]
async fn a_frozen_camera_is_stalled_after_three_seconds_and_live_again_when_it_thaws() {
    let camera = Camera::start(&["live:h264"]);
    let mut supervised = Supervised::start(&camera.url("", "live"));
    supervised.units(10).await;
    camera.freeze();
    let mut last = Instant::now();
    loop {
        match supervised.event().await {
            CameraEvent::Unit(unit) => last = unit.last_packet,
            CameraEvent::Lost => break,
            other => panic!("{other:?}"),
        }
    }
    let silent = last.elapsed().as_secs_f64();
    assert!((2.9..5.0).contains(&silent), "noticed after {silent} s");
    assert!(supervised.state(CameraState::Stalled).await.contains("no picture"));
    camera.thaw();
    supervised.opened().await;
    supervised.unit().await;
    supervised.state(CameraState::Live).await;
}

#[tokio::test]
async fn a_change_of_resolution_goes_through() {
    let camera = Camera::start(&["live:h264,size=640x360,other=320x240,seconds=1"]);
    let mut supervised = Supervised::start(&camera.url("", "live"));
    let units = supervised.units(80).await;
    let sizes: Vec<_> = decode(&units).into_iter().map(|(size, _)| size).collect();
    assert!(sizes.contains(&(640, 360)) && sizes.contains(&(320, 240)), "{sizes:?}");
    assert_eq!(supervised.health.status().restarts, 0);
}

#[tokio::test]
async fn udp_works_where_it_is_asked_for() {
    let camera = Camera::start(&["live:h264,size=320x240,audio=pcmu"]);
    let mut supervised = Supervised::over(&camera.url("", "live"), Transport::Udp);
    assert_eq!(supervised.opened().await.audio, Some(AudioCodec::Pcmu));
    let units = supervised.units(40).await;
    assert!(decode(&units).iter().map(|(_, count)| count).sum::<usize>() >= 30);
    supervised.audio().await;
}

#[tokio::test]
async fn sender_reports_date_the_pictures() {
    let camera = Camera::start(&["live:h264"]);
    let mut supervised = Supervised::start(&camera.url("", "live"));
    let captured = loop {
        if let Some(captured) = supervised.unit().await.captured {
            break captured;
        }
    };
    // Camera and test share a clock.
    let off = SystemTime::now().duration_since(captured).unwrap_or_else(|early| early.duration());
    assert!(off < Duration::from_secs(2), "{off:?}");
    let skew = supervised.health.status().clock_skew_ms.expect("a measured skew");
    assert!(skew.abs() < 2000, "{skew} ms");
}

#[tokio::test]
async fn nobody_who_needs_it_closes_the_connection_and_somebody_opens_it_at_once() {
    let camera = Camera::start(&["live:h264"]);
    let mut supervised = Supervised::start(&camera.url("", "live"));
    supervised.units(5).await;
    supervised.demand.send(Demand { open: false, watched: false }).unwrap();
    supervised.lost().await;
    supervised.state(CameraState::Idle).await;
    let asked = Instant::now();
    supervised.demand.send(Demand { open: true, watched: true }).unwrap();
    supervised.opened().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "open again after {:?}", asked.elapsed());
    supervised.unit().await;
}

#[tokio::test]
async fn a_file_plays_for_ever_at_its_own_rate() {
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/b_slices_64x48.h264");
    let length = sightline::source::file::H264File::open(clip).unwrap().len();
    let mut supervised = Supervised::start(&format!("file:{clip}"));
    assert_eq!(supervised.opened().await.codec, VideoCodec::H264);
    let units = supervised.units(2 * length + 2).await;
    assert!(units[length].idr && units[2 * length].idr);
    let round = |n: usize| units[n].rtp_timestamp.wrapping_sub(units[n - length].rtp_timestamp);
    assert_eq!(round(length), round(2 * length + 1));
    assert!(!decode(&units).is_empty());

    let missing = Supervised::start("file:/no/such/file.mp4");
    assert!(missing.state(CameraState::Backoff).await.contains("/no/such/file.mp4"));
}

#[tokio::test]
async fn garbage_costs_its_own_camera_only() {
    let noise = TcpServer::start(|stream| {
        let bytes: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
        let _ = stream.write_all(&bytes);
    });
    let camera = Camera::start(&["live:h264"]);
    let mut good = Supervised::start(&camera.url("", "live"));
    for scheme in ["rtsp", "http"] {
        let bad = Supervised::start(&format!("{scheme}://127.0.0.1:{}/x", noise.port));
        let error = bad.state(CameraState::Backoff).await;
        assert!(!error.is_empty() && !error.contains('\n'), "{error:?}");
        assert!(!bad.task.is_finished());
    }
    good.units(10).await;
}

/// A TCP server that speaks to one client after the other; ends when dropped.
struct TcpServer {
    port: u16,
    ending: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl TcpServer {
    fn start(speak: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ending = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ending);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                speak(&mut stream.unwrap());
            }
        });
        Self { port, ending, thread: Some(thread) }
    }

    /// An HTTP camera: one request on each connection, `answer` says what to it.
    fn http(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        Self::start(move |stream| {
            let request = request(stream);
            // A probe says nothing.
            if !request.is_empty() {
                let _ = stream.write_all(&answer(&request));
            }
        })
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => request.extend_from_slice(&bytes[..count]),
        }
    }
    String::from_utf8(request).unwrap()
}

fn jpeg(width: u32) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(width, 16, image::Rgb([200, 30, 90]))
        .write_to(&mut out, image::ImageFormat::Jpeg)
        .unwrap();
    out.into_inner()
}

/// Three images of 16, 32 and 48 pixels, in chunks that cut through everything.
fn chunked_images() -> Vec<u8> {
    let mut body = Vec::new();
    for n in 1..=3 {
        let image = jpeg(16 * n);
        body.extend(
            format!("--myboundary\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", image.len()).into_bytes(),
        );
        body.extend(image);
        body.extend(b"\r\n");
    }
    let mut out = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=--myboundary\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(100) {
        out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

/// Images without length, boundary without dashes.
fn plain_images() -> Vec<u8> {
    let mut out = b"HTTP/1.0 200 OK\nContent-type: multipart/x-mixed-replace;boundary=\"frame\"\n\n".to_vec();
    for n in 1..=3 {
        out.extend(b"--frame\nContent-Type: image/jpeg\n\n");
        out.extend(jpeg(16 * n));
        out.extend(b"\n");
    }
    out.extend(b"--frame\n");
    out
}

const CHALLENGE: &str = "Digest realm=\"cam\", nonce=\"abc\", qop=\"auth\"";

fn digest(request: &str) -> Vec<u8> {
    let given = request.lines().find_map(|line| line.strip_prefix("Authorization: "));
    let known = given.is_some_and(|given| {
        // What the camera computes itself, with the client's own nonce.
        let cnonce = given.split("cnonce=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let Ok(PasswordClient::Digest(mut client)) = PasswordClient::try_from(CHALLENGE) else { panic!("not Digest") };
        let params =
            PasswordParams { username: "admin", password: "s3cret", uri: "/video?x=1", method: "GET", body: Some(&[]) };
        client.respond_with_testing_cnonce(&params, cnonce).unwrap() == given
    });
    if known {
        chunked_images()
    } else {
        format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {CHALLENGE}\r\n\r\n").into_bytes()
    }
}

#[tokio::test]
async fn images_pushed_over_http_come_with_either_password_scheme() {
    fn plain(_request: &str) -> Vec<u8> {
        plain_images()
    }
    fn basic(request: &str) -> Vec<u8> {
        // admin:s3cret
        if request.contains("\r\nAuthorization: Basic YWRtaW46czNjcmV0\r\n") {
            plain_images()
        } else {
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
    }
    for (name, answer, user) in [
        ("plain", plain as fn(&str) -> Vec<u8>, ""),
        ("basic", basic, "admin:s3cret@"),
        ("digest and chunks", digest, "admin:s3cret@"),
    ] {
        let server = TcpServer::http(answer);
        let port = server.port;
        let mut supervised = Supervised::start(&format!("http://{user}127.0.0.1:{port}/video?x=1"));
        assert_eq!(supervised.opened().await.codec, VideoCodec::Jpeg, "{name}");
        let units = supervised.units(3).await;
        for (unit, width) in units.iter().zip([16, 32, 48]) {
            let picture = image::load_from_memory_with_format(&unit.data, image::ImageFormat::Jpeg).unwrap();
            assert_eq!((picture.width(), unit.idr), (width, true), "{name}");
        }
        assert!(units.windows(2).all(|pair| pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp) < u32::MAX / 2));
        assert!(units[0].rtp_timestamp != units[1].rtp_timestamp);
        supervised.lost().await;
        assert!(supervised.state(CameraState::Backoff).await.contains("closed"), "{name}");
    }
    for (user, answer) in [("admin:n0tth1s@", digest as fn(&str) -> Vec<u8>), ("", basic)] {
        let server = TcpServer::http(answer);
        let port = server.port;
        let supervised = Supervised::start(&format!("http://{user}127.0.0.1:{port}/video?x=1"));
        assert!(!supervised.state(CameraState::Unauthorized).await.contains("n0tth1s"));
    }
}

#[tokio::test]
async fn an_http_answer_that_is_no_stream_is_named() {
    for (answer, state, said) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", CameraState::Backoff, "404"),
        ("HTTP/1.1 302 Found\r\nLocation: https://x/\r\n\r\n", CameraState::Backoff, "302"),
        ("HTTP/1.1 500 Oops\r\n\r\n", CameraState::Backoff, "500"),
        ("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n", CameraState::Unsupported, "image/jpeg"),
    ] {
        let server = TcpServer::http(move |_| answer.as_bytes().to_vec());
        let supervised = Supervised::start(&format!("http://127.0.0.1:{}/x", server.port));
        let error = supervised.state(state).await;
        assert!(error.contains(said), "{error}");
    }
}
