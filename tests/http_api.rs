//! HTTP from outside: what is refused and how, who may ask, what is shown, and how the server ends.

#[path = "support/client.rs"]
#[allow(dead_code)] // other tests look closer at what comes back
mod client;
#[path = "support/fakes.rs"]
#[allow(dead_code)] // one detector is enough here
mod fakes;
#[path = "support/process.rs"]
mod process;
#[path = "support/relay.rs"]
#[allow(dead_code)] // the client knows of it
mod relay;
#[path = "support/server.rs"]
#[allow(dead_code)] // other tests look closer at the sessions
mod server;
#[path = "support/squares.rs"]
#[allow(dead_code)] // the client draws it
mod squares;

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use client::{Client, Options, engine, post_offer};
use process::{Process, refused};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use server::Server;

async fn offer() -> String {
    engine().offer().await.unwrap().sdp
}

async fn with(pipeline: sightline::pipeline::Config) -> Server {
    Server::start(server::Options { pipeline, ..server::Options::default() }).await
}

async fn post(server: &Server, content_type: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("{}/offer", server.base));
    let response = request.header(header::CONTENT_TYPE, content_type).body(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Every refusal has this form, and says what to change.
fn assert_error(answer: &Value, code: &str, hint: &str) {
    assert_eq!(answer["error"]["code"], code, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains(hint), "{answer} does not say {hint:?}");
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn a_body_that_is_no_offer_is_refused_with_the_reason() {
    let server = Server::start(server::Options::default()).await;
    for (body, hint) in [
        ("{\"sdp\": ", "sdp"),
        ("", "sdp"),
        ("[]", "sdp"),
        (r#"{"type":"offer"}"#, "missing field `sdp`"),
        (r#"{"sdp":5,"type":"offer"}"#, "expected a string"),
        (r#"{"sdp":"v=0","type":"answer"}"#, "\"offer\" is expected"),
    ] {
        let (status, answer) = post(&server, "application/json", body).await;
        assert_eq!(status, 400, "{body}");
        assert_error(&answer, "bad_request", hint);
    }
    for body in ["", "nonsense", "v=0", "v=0\r\nm=video\r\n"] {
        let (status, answer) = post_offer(&server.base, &json!({ "type": "offer", "sdp": body })).await;
        assert!([400, 422].contains(&status), "{body:?}: {status} {answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{answer}");
    }
    let (status, answer) = post(&server, "text/plain", r#"{"sdp":"v=0","type":"offer"}"#).await;
    assert_eq!(status, 415);
    assert_error(&answer, "unsupported_media_type", "application/json");
    let (status, answer) = post(&server, "application/json", vec![b' '; (256 << 10) + 1]).await;
    assert_eq!(status, 413);
    assert_error(&answer, "too_large", "256 KiB");
    assert!(server.pipeline.sessions().is_empty(), "nothing is left of them");
}

#[tokio::test]
async fn an_offer_without_usable_video_says_what_is_missing() {
    let server = Server::start(server::Options::default()).await;
    let good = offer().await;
    let head = good.split("m=video").next().unwrap();
    for (sdp, status, code, hint) in [
        (head.to_owned(), 422, "no_video", "video"),
        (good.replace("a=sendrecv", "a=recvonly"), 422, "no_video", "sendrecv or sendonly"),
        (good.replace("H264/90000", "VP8/90000"), 406, "no_common_codec", "VP8"),
        (good.replace("packetization-mode=1", "packetization-mode=0"), 406, "no_common_codec", "packetization-mode=1"),
    ] {
        let (found, answer) = post_offer(&server.base, &json!({ "type": "offer", "sdp": sdp })).await;
        assert_eq!(found, status, "{answer}");
        assert_error(&answer, code, hint);
    }
    assert!(server.pipeline.sessions().is_empty());
}

#[tokio::test]
async fn an_offer_is_answered_and_fields_that_nobody_knows_are_ignored() {
    let server = Server::start(server::Options::default()).await;
    let body = json!({ "type": "offer", "sdp": offer().await, "stream": "desk", "video_transform": "cartoon" });
    let (status, answer) = post_offer(&server.base, &body).await;
    assert_eq!((status, &answer["type"], &answer["stream"]), (200, &json!("answer"), &json!("desk")), "{answer}");
    let sdp = answer["sdp"].as_str().unwrap();
    assert!(sdp.contains(&format!(" {} typ host", server.pipeline.udp_port())), "{sdp}");
    let listed: Value = reqwest::get(format!("{}/api/v1/sessions", server.base)).await.unwrap().json().await.unwrap();
    assert_eq!(listed["sessions"][0]["id"], answer["session"], "{listed}");
    assert_eq!(listed["sessions"][0]["stream"], "desk");
    let (_, answer) = post_offer(&server.base, &json!({ "type": "offer", "sdp": offer().await })).await;
    assert!(answer["stream"].as_str().is_some_and(|name| name.len() == 6), "a name is given: {answer}");
}

#[tokio::test]
async fn one_session_too_many_is_told_to_come_back() {
    let server = with(sightline::pipeline::Config { max_sessions: 1, ..Default::default() }).await;
    let body = json!({ "type": "offer", "sdp": offer().await });
    assert_eq!(post_offer(&server.base, &body).await.0, 200);
    let response = reqwest::Client::new().post(format!("{}/offer", server.base)).json(&body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u32 = response.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!(seconds > 0);
    assert_error(&response.json().await.unwrap(), "too_many_sessions", "--max-sessions");
}

#[tokio::test]
async fn a_name_that_cannot_be_had_is_refused() {
    let server = Server::start(server::Options::default()).await;
    for name in ["", "a/b", "..", "ä", &"x".repeat(65)] {
        let body = json!({ "type": "offer", "sdp": offer().await, "stream": name });
        let (status, answer) = post_offer(&server.base, &body).await;
        assert_eq!(status, 400, "{name:?}");
        assert_error(&answer, "bad_name", "a name");
    }
    let body = json!({ "type": "offer", "sdp": offer().await, "stream": "desk" });
    assert_eq!(post_offer(&server.base, &body).await.0, 200);
    let (status, answer) = post_offer(&server.base, &body).await;
    assert_eq!(status, 409);
    assert_error(&answer, "name_taken", "another name");
}

#[tokio::test]
async fn a_refused_offer_gives_its_place_back() {
    let server = with(sightline::pipeline::Config { max_sessions: 1, ..Default::default() }).await;
    for _ in 0..3 {
        assert_eq!(post_offer(&server.base, &json!({ "type": "offer", "sdp": "v=0", "stream": "desk" })).await.0, 400);
    }
    let body = json!({ "type": "offer", "sdp": offer().await, "stream": "desk" });
    assert_eq!(post_offer(&server.base, &body).await.0, 200);
}

#[tokio::test]
async fn wrong_addresses_and_methods_are_named() {
    let server = Server::start(server::Options::default()).await;
    let http = reqwest::Client::new();
    for (method, path, status, code) in [
        (Method::GET, "/nowhere", 404, "not_found"),
        (Method::GET, "/js/../Cargo.toml", 404, "not_found"),
        (Method::GET, "/offer", 405, "method_not_allowed"),
        (Method::POST, "/metrics", 405, "method_not_allowed"),
        (Method::DELETE, "/api/v1/sessions/nobody", 404, "not_found"),
    ] {
        let response = http.request(method.clone(), format!("{}{path}", server.base)).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_error(&response.json().await.unwrap(), code, "");
    }
}

async fn ask(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = reqwest::Client::new().request(method, format!("{}{path}", server.base));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_foreign_page_and_a_rebound_name_are_kept_out() {
    let server = Server::start(server::Options::default()).await;
    let own = server.base.clone();
    let port = own.rsplit(':').next().unwrap();
    for (headers, code) in [
        (vec![("origin", "https://evil.example")], "origin_not_allowed"),
        (vec![("origin", "null")], "origin_not_allowed"),
        (vec![("origin", "http://127.0.0.1:1")], "origin_not_allowed"),
        (vec![("host", "evil.example")], "host_not_allowed"),
        (vec![("host", "evil.example"), ("origin", "http://evil.example")], "host_not_allowed"),
        (vec![("host", "localhost.evil.example")], "host_not_allowed"),
        (vec![("host", "127.0.0.1.evil.example")], "host_not_allowed"),
    ] {
        for (method, path) in [
            (Method::POST, "/offer"),
            (Method::GET, "/api/v1/sessions"),
            (Method::DELETE, "/api/v1/sessions/x"),
            (Method::GET, "/metrics"),
            (Method::GET, "/"),
            (Method::OPTIONS, "/offer"),
        ] {
            let response = ask(&server, method.clone(), path, &headers).await;
            assert_eq!(response.status(), 403, "{method} {path} {headers:?}");
            assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
            assert_error(&response.json().await.unwrap(), code, "allowed_");
        }
    }
    let local = format!("localhost:{port}");
    let local_origin = format!("http://{local}");
    for headers in [vec![], vec![("origin", own.as_str())], vec![("host", &*local), ("origin", &*local_origin)]] {
        assert_eq!(ask(&server, Method::GET, "/api/v1/sessions", &headers).await.status(), 200, "{headers:?}");
    }
}

#[tokio::test]
async fn an_allowed_page_may_use_the_server() {
    let http = sightline::server::Config {
        allowed_origins: vec!["https://friend.example".to_owned()],
        allowed_hosts: vec!["cam.example".to_owned()],
        ..Default::default()
    };
    let server = Server::start(server::Options { http, ..server::Options::default() }).await;
    let friend = ("origin", "https://friend.example");
    let preflight =
        [friend, ("access-control-request-method", "POST"), ("access-control-request-headers", "content-type")];
    let response = ask(&server, Method::OPTIONS, "/offer", &preflight).await;
    assert_eq!(response.status(), 204);
    let allowed = |name: header::HeaderName| response.headers()[name].to_str().unwrap().to_lowercase();
    assert_eq!(allowed(header::ACCESS_CONTROL_ALLOW_ORIGIN), "https://friend.example");
    assert!(allowed(header::ACCESS_CONTROL_ALLOW_METHODS).contains("post"));
    assert!(allowed(header::ACCESS_CONTROL_ALLOW_HEADERS).contains("content-type"));
    let response = ask(&server, Method::GET, "/api/v1/info", &[friend, ("host", "cam.example")]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://friend.example");
    assert_eq!(response.headers()[header::VARY], "origin");
    let response =
        ask(&server, Method::GET, "/api/v1/info", &[("origin", "https://friend.example.evil.example")]).await;
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn the_page_comes_whole_with_a_strict_policy() {
    let server = Server::start(server::Options::default()).await;
    let response = reqwest::get(format!("{}/", server.base)).await.unwrap();
    assert_eq!(response.status(), 200);
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let page = response.text().await.unwrap();
    let mut named = 0;
    for path in page.split(['"', '\'']).filter(|text| [".js", ".css", ".svg"].iter().any(|end| text.ends_with(end))) {
        let address = format!("{}/{}", server.base, path.trim_start_matches(['.', '/']));
        assert_eq!(reqwest::get(&address).await.unwrap().status(), 200, "{address}");
        named += 1;
    }
    assert!(named >= 3, "{named} files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_tell_what_the_server_does() {
    let server = Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(reqwest::get(format!("{}{path}", server.base)).await.unwrap().status(), 200, "{path}");
    }
    let mut client = Client::connect(Options { stream: Some("desk".to_owned()), ..Options::to(&server) }).await;
    for _ in 0..10 {
        client.round_trip().await;
    }
    client.message_of("detections").await;
    // A session's own figures are brought up to date four times a second.
    let mut text = String::new();
    server::until("the sessions' figures", || server.session().bytes_in > 0).await;
    for name in [
        "video_frames_processed_total{stream=\"desk\"} ",
        "video_processing_latency_seconds_bucket{stream=\"desk\",stage=\"decode\",le=\"",
        "video_processing_latency_seconds_bucket{stream=\"desk\",stage=\"infer\",le=\"",
        "video_detections_total{stream=\"desk\",class_name=\"square\"} ",
        "video_pipeline_fps{stream=\"desk\"} ",
        "video_frames_dropped_total{stream=\"desk\",reason=\"superseded\"} 0",
        "sightline_frames_in_total{stream=\"desk\"} 10",
        "sightline_frames_decoded_total{stream=\"desk\"} 10",
        "sightline_sessions 1",
        "sightline_bitrate_bps{stream=\"desk\",direction=\"out\"} ",
        "sightline_packets_in_total{stream=\"desk\"} ",
        "sightline_detector_frames_total ",
        "sightline_datagrams_lost_total{reason=\"unknown_address\"} ",
        "# TYPE video_processing_latency_seconds histogram",
    ] {
        let started = Instant::now();
        while !text.contains(name) {
            assert!(started.elapsed() < server::LIMIT, "{name:?} is not in\n{text}");
            text = reqwest::get(format!("{}/metrics", server.base)).await.unwrap().text().await.unwrap();
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.starts_with("video_") || line.starts_with("sightline_"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_are_set_while_a_stream_runs_and_what_happens_at_them_is_told() {
    let server = Server::start(server::Options::with_model(fakes::model(fakes::find_square))).await;
    let mut client = Client::connect(Options { stream: Some("desk".to_owned()), ..Options::to(&server) }).await;
    client.round_trip().await;
    let address = format!("{}/api/v1/streams/desk/regions", server.base);
    let http = reqwest::Client::new();
    let told = async |method: Method, body: Value| {
        let response = http.request(method, &address).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    assert_eq!(told(Method::GET, json!(null)).await, (200, json!({ "regions": {}, "draw": false })));

    let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
    let wished = json!({ "regions": { "all of it": { "polygon": corners } }, "draw": true });
    assert_eq!(told(Method::PUT, wished.clone()).await, (200, wished.clone()));
    let entered = loop {
        client.round_trip().await;
        let message = client.message_of("detections").await;
        if let Some(event) = message["events"].get(0) {
            break event.clone();
        }
    };
    assert_eq!((&entered["kind"], &entered["region"]), (&json!("enter"), &json!("all of it")), "{entered}");
    let stream: Value = reqwest::get(address.trim_end_matches("/regions")).await.unwrap().json().await.unwrap();
    assert_eq!(stream["regions"]["all of it"]["enters"], entered["count"], "{stream}");

    for (body, hint) in [
        (json!({ "regions": { "thin": { "polygon": [[0, 0], [1, 1]] } } }), "regions.thin"),
        (json!({ "regions": { "far": { "line": [[0, 0], [2, 1]] } } }), "regions.far"),
        (json!({ "regions": { "odd": { "polygon": corners, "colour": "red" } } }), "colour"),
        (json!({ "draw": true }), "regions"),
        (json!([]), "regions"),
    ] {
        let (status, answer) = told(Method::PUT, body).await;
        assert_eq!(status, 400, "{answer}");
        assert_error(&answer, "bad_regions", hint);
    }
    assert_eq!(told(Method::GET, json!(null)).await.1, wished, "a refusal changes nothing");
    let foreign = http.put(&address).header(header::ORIGIN, "https://example.org").json(&wished).send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let nowhere = http.put(address.replace("desk", "nobody")).json(&wished).send().await.unwrap();
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
    assert_error(&nowhere.json().await.unwrap(), "no_such_stream", "nobody");
    assert_eq!(told(Method::PUT, json!({ "regions": {} })).await, (200, json!({ "regions": {}, "draw": true })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_the_server_with_its_sessions_within_two_seconds() {
    for signal in ["TERM", "INT"] {
        let mut process = Process::start(&[]);
        let mut client = Client::connect(Options::at(process.base.clone())).await;
        client.play(5).await;
        client.frame().await;
        let asked = Instant::now();
        process.signal(signal);
        let status = process.ended(server::LIMIT);
        let took = asked.elapsed();
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(client.message_of("error").await["code"], "shutting_down");
        assert!(took < Duration::from_secs(2), "{signal}: {took:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let said = refused(&["--model", "motion", "--udp-port", "0", "--listen", &address]);
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
    assert!(!said.contains("panicked"), "{said}");

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port().to_string();
    let said = refused(&["--model", "motion", "--listen", "127.0.0.1:0", "--udp-port", &port]);
    assert!(said.contains(&port) && said.contains("--udp-port"), "{said}");
}
