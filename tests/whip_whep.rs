//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) from outside: status by status, header by header, and what flows then.

#[path = "support/fakes.rs"]
#[allow(dead_code)] // one detector is enough here
mod fakes;
#[path = "support/server.rs"]
#[allow(dead_code)] // other tests look closer at the sessions
mod server;
#[path = "support/squares.rs"]
#[allow(dead_code)] // the publisher draws it
mod squares;
#[path = "support/whip.rs"]
#[allow(dead_code)] // other tests change what is offered
mod whip;

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;
use server::{Options, Server, until};
use sightline::peer::{ConnectionEvent, ConnectionState};
use whip::{Change, FRAGMENT, Publisher, SDP, Viewer, engine, post, request, told};

async fn publishing() -> String {
    engine().offer_to_publish().await.unwrap().sdp
}

async fn viewing() -> String {
    engine().offer_to_view().await.unwrap().sdp
}

async fn plain() -> Server {
    Server::start(Options::default()).await
}

async fn with(http: sightline::server::Config) -> Server {
    Server::start(Options { http, ..Options::default() }).await
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

/// Every refusal has this form.
async fn assert_refused(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status().as_u16(), status, "{code}");
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], code, "{answer}");
    answer
}

async fn published(server: &Server, stream: &str) -> (String, String) {
    let response = send(post(&format!("{}/whip/{stream}", server.base), &publishing().await)).await;
    assert_eq!(response.status(), 201);
    (format!("{}{}", server.base, told(&response, header::LOCATION)), told(&response, header::ETAG))
}

/// RFC 9725 §4.2 and §4.3.1; WHEP §4.4.1.
#[tokio::test]
async fn an_offer_is_answered_201_with_the_session_and_its_entity_tag() {
    let server = plain().await;
    for (root, offer, direction) in
        [("whip", publishing().await, "a=recvonly"), ("whep", viewing().await, "a=sendonly")]
    {
        let response = send(post(&format!("{}/{root}/cam", server.base), &offer)).await;
        assert_eq!(response.status(), 201, "{root}");
        assert_eq!(told(&response, header::CONTENT_TYPE), SDP);
        let location = told(&response, header::LOCATION);
        assert!(location.starts_with(&format!("/{root}/cam/")), "{location}");
        let etag = told(&response, header::ETAG);
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 5, "a strong entity tag: {etag}");
        assert_eq!(told(&response, "accept-patch"), FRAGMENT, "RFC 5789 §3.1");
        let answer = response.text().await.unwrap();
        assert!(answer.contains(direction), "{answer}");
        let sections = answer.matches("\r\nm=").count();
        assert_eq!(answer.matches("a=rtcp-mux-only").count(), sections, "§4.4.1: {answer}");
        assert!(
            answer.contains(&format!("a=ice-ufrag:{}\r\n", etag.trim_matches('"'))),
            "the tag names the ICE session"
        );
        let session = send(reqwest::Client::new().get(format!("{}{location}", server.base))).await;
        assert_eq!(session.status(), 204, "§4.1: a session has no representation");
    }
}

/// RFC 9725 §4.2, §4.4.2, §4.4.3.
#[tokio::test]
async fn what_is_no_offer_to_publish_is_refused_with_the_reason() {
    let server = plain().await;
    let address = format!("{}/whip/cam", server.base);
    let good = publishing().await;
    let response = send(request(Method::POST, &address, "application/json", good.clone())).await;
    assert_eq!(told(&response, "accept-post"), SDP, "RFC 9110 §15.5.16");
    assert_refused(response, 415, "unsupported_media_type").await;
    let response = send(reqwest::Client::new().post(&address).body(good.clone())).await;
    assert_refused(response, 415, "unsupported_media_type").await;
    let response = send(post(&address, &good).header(header::ACCEPT, "text/html")).await;
    assert_refused(response, 406, "not_acceptable").await;
    for nonsense in ["", "nonsense", "v=0"] {
        let status = send(post(&address, nonsense)).await.status();
        assert!([400, 422].contains(&status.as_u16()), "{nonsense:?}: {status}");
    }
    let response = send(request(Method::POST, &address, SDP, vec![0xff; 10])).await;
    assert_refused(response, 400, "bad_request").await;
    let response = send(request(Method::POST, &address, SDP, vec![b' '; (256 << 10) + 1])).await;
    assert_refused(response, 413, "too_large").await;
    assert_refused(send(post(&address, &viewing().await)).await, 422, "no_video").await;
    assert_refused(send(post(&address, &good.replace("H264/90000", "VP8/90000"))).await, 422, "no_common_codec").await;
    let section = good.find("m=video").unwrap();
    let twice = format!("{good}{}", good[section..].replace("a=mid:0", "a=mid:9"));
    assert_refused(send(post(&address, &twice)).await, 422, "no_video").await;
    assert_refused(send(post(&format!("{address}?takeover=maybe"), &good)).await, 400, "bad_request").await;
    assert_refused(send(post(&format!("{}/whip/a%20b", server.base), &good)).await, 400, "bad_name").await;
    assert!(server.pipeline.sessions().is_empty(), "nothing is left of them");
    let charset = send(request(Method::POST, &address, "Application/SDP; charset=utf-8", good)).await;
    assert_eq!(charset.status(), 201, "a parameter changes nothing");
}

/// WHEP §4.4.5 and §4.4.6.
#[tokio::test]
async fn what_is_no_offer_to_watch_is_refused_with_the_reason() {
    let server = plain().await;
    let offer = viewing().await;
    assert_refused(send(post(&format!("{}/whep/cam", server.base), &offer)).await, 404, "no_such_stream").await;
    let discovery = send(reqwest::Client::new().head(format!("{}/whep/cam", server.base))).await;
    assert_eq!(discovery.status(), 404);
    published(&server, "cam").await;
    let address = format!("{}/whep/cam", server.base);
    let response = send(request(Method::POST, &address, "text/plain", offer.clone())).await;
    assert_eq!(told(&response, "accept-post"), SDP);
    assert_refused(response, 415, "unsupported_media_type").await;
    assert_refused(send(post(&address, &publishing().await)).await, 422, "no_video").await;
    // 406 would announce a counter-offer (§4.4.2).
    assert_refused(send(post(&address, &offer.replace("H264/90000", "VP9/90000"))).await, 422, "no_common_codec").await;
    assert_refused(send(post(&format!("{address}?video=cartoon"), &offer)).await, 400, "bad_request").await;
    for choice in ["?video=annotated", "?video=original", "?something=else"] {
        assert_eq!(send(post(&format!("{address}{choice}"), &offer)).await.status(), 201, "{choice}");
    }
}

/// WHEP §4.3; RFC 9725 §4.1 and §4.2; RFC 9110 §15.5.6.
#[tokio::test]
async fn methods_that_have_no_meaning_are_refused_with_those_that_have() {
    let server = plain().await;
    let (session, _) = published(&server, "cam").await;
    let (whip, whep) = (format!("{}/whip/cam", server.base), format!("{}/whep/cam", server.base));
    let http = reqwest::Client::new();
    for method in [Method::GET, Method::HEAD] {
        let response = send(http.request(method.clone(), &whip)).await;
        assert!(response.status().is_success(), "{method}");
        assert_eq!(response.text().await.unwrap(), "");
        let response = send(http.request(method, &whep)).await;
        assert_eq!((response.status(), told(&response, header::CONTENT_TYPE).as_str()), (StatusCode::OK, SDP));
        assert_eq!(response.text().await.unwrap(), "");
    }
    for (method, address, allowed) in [
        (Method::PUT, &whip, "POST"),
        (Method::PATCH, &whip, "POST"),
        (Method::DELETE, &whep, "POST"),
        (Method::POST, &session, "PATCH"),
        (Method::PUT, &session, "DELETE"),
    ] {
        let response = send(http.request(method.clone(), address)).await;
        let allow = told(&response, header::ALLOW);
        assert!(allow.contains(allowed), "{method}: {allow}");
        assert_refused(response, 405, "method_not_allowed").await;
    }
    for address in [&whip, &whep, &session] {
        let response = send(http.request(Method::OPTIONS, address)).await;
        assert_eq!(response.status(), 200, "{address}");
        assert_eq!(told(&response, "accept-post"), SDP);
        assert_eq!(response.text().await.unwrap(), "");
    }
}

/// RFC 9725 §4.3.1 to §4.3.3, RFC 6585 §3.
#[tokio::test]
async fn ice_goes_on_by_patch_under_the_entity_tag() {
    let server = plain().await;
    let offer = publishing().await;
    let response = send(post(&format!("{}/whip/cam", server.base), &offer)).await;
    let session = format!("{}{}", server.base, told(&response, header::LOCATION));
    let etag = told(&response, header::ETAG);
    let own = |key: &str| offer.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    let candidate = "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\na=candidate:2 1 tcp 1518280447 127.0.0.1 9 typ host \
        tcptype active\r\na=candidate:3 1 udp 1 6f9a.local 9 typ host\r\na=end-of-candidates\r\n";
    let trickle =
        format!("m=video 9 X 102\r\na=mid:0\r\n{}\r\n{}\r\n{candidate}", own("a=ice-ufrag:"), own("a=ice-pwd:"));
    let restart = |ufrag: &str| format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:newpassword0123456789012\r\n{candidate}");
    let patch = |body: &str, if_match: &str| {
        request(Method::PATCH, &session, FRAGMENT, body.to_owned()).header(header::IF_MATCH, if_match)
    };

    let response = send(request(Method::PATCH, &session, SDP, trickle.clone()).header(header::IF_MATCH, &etag)).await;
    assert_eq!(told(&response, "accept-patch"), FRAGMENT, "RFC 5789 §2.2");
    assert_refused(response, 415, "unsupported_media_type").await;
    let response = send(request(Method::PATCH, &session, FRAGMENT, trickle.clone())).await;
    assert_refused(response, 428, "precondition_required").await;
    for other in ["\"another\"", &format!("W/{etag}"), etag.trim_matches('"')] {
        assert_refused(send(patch(&trickle, other)).await, 412, "other_generation").await;
    }
    assert_refused(send(patch("nonsense", &etag)).await, 400, "bad_fragment").await;
    for tag in [etag.clone(), format!("\"x\", {etag}"), "*".to_owned()] {
        let response = send(patch(&trickle, &tag)).await;
        assert_eq!(response.status(), 204, "candidates, under {tag}");
        assert!(!response.headers().contains_key(header::ETAG), "§4.3.2");
    }

    let response = send(patch(&restart("newuser1"), "*")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(told(&response, header::CONTENT_TYPE), FRAGMENT);
    let renewed = told(&response, header::ETAG);
    assert_ne!(renewed, etag);
    let fragment = response.text().await.unwrap();
    assert!(fragment.contains(&format!("a=ice-ufrag:{}\r\n", renewed.trim_matches('"'))), "{fragment}");
    assert!(
        fragment.contains("a=ice-pwd:") && fragment.contains("a=candidate:") && fragment.contains("m="),
        "{fragment}"
    );
    assert_refused(send(patch(&trickle, &etag)).await, 412, "other_generation").await;
    assert_eq!(send(patch(&restart("newuser1"), &renewed)).await.status(), 204, "candidates of the new generation");
    assert_eq!(send(patch(&restart("newuser2"), &renewed)).await.status(), 200, "and another restart");
    assert_refused(send(patch("a=ice-ufrag:newuser3\r\n", "*")).await, 400, "bad_fragment").await;
    assert_eq!(server.pipeline.sessions().len(), 1, "§4.3.3: what cannot be done ends nothing");
}

/// RFC 9725 §4.2 and §4.3.1.
#[tokio::test]
async fn a_session_ends_by_delete_whatever_the_entity_tag() {
    let server = plain().await;
    let (session, _) = published(&server, "cam").await;
    let http = reqwest::Client::new();
    let id = session.rsplit('/').next().unwrap();
    for wrong in ["whip/other", "whep/cam"] {
        let response = send(http.delete(format!("{}/{wrong}/{id}", server.base))).await;
        assert_refused(response, 404, "not_found").await;
    }
    let response = send(http.delete(&session).header(header::IF_MATCH, "\"another\"")).await;
    assert_eq!(response.status(), 200);
    until("the session's end", || server.pipeline.sessions().is_empty()).await;
    assert_refused(send(http.delete(&session)).await, 404, "not_found").await;
    let patch = request(Method::PATCH, &session, FRAGMENT, "a=end-of-candidates").header(header::IF_MATCH, "*");
    assert_refused(send(patch).await, 404, "not_found").await;
}

#[tokio::test]
async fn a_second_publisher_displaces_the_first_only_when_it_says_so() {
    let server = plain().await;
    let (first, _) = published(&server, "cam").await;
    let offer = publishing().await;
    let address = format!("{}/whip/cam", server.base);
    for query in ["", "?takeover=false"] {
        let answer = assert_refused(send(post(&format!("{address}{query}"), &offer)).await, 409, "name_taken").await;
        assert!(answer["error"]["message"].as_str().unwrap().contains("takeover"), "{answer}");
    }
    let response = send(post(&format!("{address}?takeover=true"), &offer)).await;
    assert_eq!(response.status(), 201);
    assert!(!first.ends_with(&told(&response, header::LOCATION)), "a session of its own");
    until("the displaced publisher's end", || server.pipeline.sessions().len() == 1).await;
    assert_refused(send(reqwest::Client::new().delete(&first)).await, 404, "not_found").await;
    assert_eq!(server.pipeline.streams().len(), 1, "the stream goes on");
}

/// RFC 9725 §4.5.
#[tokio::test]
async fn a_full_server_says_when_to_come_back() {
    let pipeline = sightline::pipeline::Config { max_sessions: 1, ..Default::default() };
    let server = Server::start(Options { pipeline, ..Options::default() }).await;
    published(&server, "cam").await;
    let response = send(post(&format!("{}/whip/other", server.base), &publishing().await)).await;
    assert!(told(&response, header::RETRY_AFTER).parse::<u32>().unwrap() > 0);
    assert_refused(response, 503, "too_many_sessions").await;
}

/// RFC 9725 §4.7.1, RFC 6750 §3.
#[tokio::test]
async fn where_a_token_is_set_it_is_asked_for() {
    let http = sightline::server::Config { bearer_token: Some("s3cret".to_owned().into()), ..Default::default() };
    let server = with(http).await;
    let address = format!("{}/whip/cam", server.base);
    let offer = publishing().await;
    let response = send(post(&address, &offer)).await;
    assert_eq!(told(&response, header::WWW_AUTHENTICATE), "Bearer realm=\"sightline\"");
    assert_refused(response, 401, "unauthorized").await;
    let response = send(post(&address, &offer).bearer_auth("wrong")).await;
    assert!(told(&response, header::WWW_AUTHENTICATE).contains("invalid_token"));
    assert_refused(response, 401, "invalid_token").await;
    let response = send(post(&address, &offer).bearer_auth("s3cret")).await;
    assert_eq!(response.status(), 201);
    let session = format!("{}{}", server.base, told(&response, header::LOCATION));
    let http = reqwest::Client::new();
    let patch = request(Method::PATCH, &session, FRAGMENT, "a=end-of-candidates").header(header::IF_MATCH, "*");
    assert_eq!(send(patch).await.status(), 401);
    assert_eq!(send(http.delete(&session)).await.status(), 401);
    assert_eq!(send(http.head(format!("{}/whep/cam", server.base))).await.status(), 401);
    assert_eq!(send(http.request(Method::OPTIONS, &address)).await.status(), 200, "a preflight brings no token");
    assert_eq!(send(http.delete(&session).bearer_auth("s3cret")).await.status(), 200);
    assert_eq!(
        send(http.get(format!("{}/api/v1/streams", server.base))).await.status(),
        200,
        "for WHIP and WHEP alone"
    );
}

/// RFC 9725 §4.6.
#[tokio::test]
async fn stun_and_turn_servers_are_told_as_links() {
    let ice_servers = vec![
        sightline::server::IceServer { urls: vec!["stun:stun.example.net".to_owned()], ..Default::default() },
        sightline::server::IceServer {
            urls: vec!["turn:turn.example.net?transport=udp".to_owned()],
            username: Some("user".to_owned()),
            credential: Some("myPassword".to_owned().into()),
        },
    ];
    let http = sightline::server::Config {
        ice_servers,
        allowed_origins: vec!["https://friend.example".to_owned()],
        ..Default::default()
    };
    let server = with(http).await;
    let address = format!("{}/whip/cam", server.base);
    let links = |response: &Response| -> Vec<String> {
        response.headers().get_all(header::LINK).iter().map(|link| link.to_str().unwrap().to_owned()).collect()
    };
    let expected = [
        "<stun:stun.example.net>; rel=\"ice-server\"",
        "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"user\"; credential=\"myPassword\"; \
         credential-type=\"password\"",
    ];
    assert_eq!(links(&send(post(&address, &publishing().await)).await), expected);
    let options = reqwest::Client::new().request(Method::OPTIONS, &address);
    assert_eq!(links(&send(options.try_clone().unwrap()).await), expected);
    let preflight =
        options.header(header::ORIGIN, "https://friend.example").header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
    assert!(links(&send(preflight).await).is_empty(), "not to a preflight");
}

/// RFC 9725 §4.2; Fetch §3.2.
#[tokio::test]
async fn pages_of_allowed_origins_may_publish_and_watch() {
    let http = sightline::server::Config {
        allowed_origins: vec!["https://friend.example".to_owned()],
        bearer_token: Some("s3cret".to_owned().into()),
        ..Default::default()
    };
    let server = with(http).await;
    let address = format!("{}/whip/cam", server.base);
    let preflight = |origin: &str, method: &str| {
        reqwest::Client::new()
            .request(Method::OPTIONS, &address)
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, method)
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type,if-match")
    };
    for method in ["POST", "PATCH", "DELETE"] {
        let response = send(preflight("https://friend.example", method)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(told(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN), "https://friend.example");
        assert!(told(&response, header::ACCESS_CONTROL_ALLOW_METHODS).contains(method));
        assert_eq!(told(&response, "accept-post"), SDP);
        let headers = told(&response, header::ACCESS_CONTROL_ALLOW_HEADERS);
        assert!(["authorization", "content-type", "if-match"].iter().all(|name| headers.contains(name)), "{headers}");
    }
    let response = send(preflight("https://evil.example", "POST")).await;
    assert_eq!(response.status(), 403);
    assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    let offer = publishing().await;
    let from = |origin: &str| post(&address, &offer).header(header::ORIGIN, origin).bearer_auth("s3cret");
    assert_refused(send(from("https://evil.example")).await, 403, "origin_not_allowed").await;
    let response = send(from("https://friend.example")).await;
    assert_eq!(response.status(), 201);
    let exposed = told(&response, header::ACCESS_CONTROL_EXPOSE_HEADERS);
    for name in ["location", "etag", "link", "accept-patch"] {
        assert!(exposed.split(", ").any(|header| header == name), "{name} of {exposed}");
    }
    let refused = send(post(&address, &offer).header(header::ORIGIN, "https://friend.example")).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(told(&refused, header::ACCESS_CONTROL_ALLOW_ORIGIN), "https://friend.example", "a page reads why");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_see_what_is_published_and_hear_of_detections_where_they_offer_a_channel() {
    let server = Server::start(Options::with_model(fakes::model(fakes::find_square))).await;
    let mut publisher = Publisher::start(&server.base, "/whip/cam").await;
    let base = server.base.clone();
    let (mut plain, mut told) = publisher
        .while_publishing(async {
            (
                Viewer::start(&base, "/whep/cam").await,
                Viewer::start_with_channel(&base, "/whep/cam?video=annotated").await,
            )
        })
        .await;
    assert!(plain.channel.is_none());
    publisher
        .while_publishing(async {
            for viewer in [&mut plain, &mut told] {
                assert!(viewer.unit().await.idr, "the first picture of a viewer can be decoded");
                for _ in 0..10 {
                    viewer.unit().await;
                }
            }
            loop {
                let message: Value = serde_json::from_str(&told.message().await).unwrap();
                if message["type"] == "detections"
                    && message["detections"].as_array().is_some_and(|all| !all.is_empty())
                {
                    assert_eq!(message["stream"], "cam");
                    break;
                }
            }
        })
        .await;
    // Who leaves is gone, and the other goes on.
    assert_eq!(send(reqwest::Client::new().delete(&plain.session.url)).await.status(), 200);
    until("the viewer's end", || server.pipeline.sessions().len() == 2).await;
    publisher.while_publishing(async { told.unit().await }).await;
}

/// RFC 8842 §5.3: who waits is begun with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_waits_for_the_handshake_is_answered_by_one_that_begins_it() {
    let server = Server::start(Options::with_model(fakes::model(fakes::find_square))).await;
    let mut publisher = Publisher::start(&server.base, "/whip/cam").await;
    let base = server.base.clone();
    let change = Change {
        offer: |offer| offer.replace("a=setup:actpass", "a=setup:passive"),
        answer: Box::new(|answer| {
            assert!(answer.contains("a=setup:active") && !answer.contains("a=setup:passive"), "{answer}");
            answer.to_owned()
        }),
    };
    let watch = async {
        let mut viewer = Viewer::start_changed(&base, "/whep/cam", change).await;
        viewer.unit().await.idr
    };
    assert!(publisher.while_publishing(watch).await);
    let offer = viewing().await.replace("a=setup:actpass", "a=setup:holdconn");
    let refused = send(post(&format!("{base}/whep/cam"), &offer)).await;
    let answer = assert_refused(refused, 400, "bad_sdp").await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("holdconn"), "{answer}");
}

/// RFC 9725 §4.3.1: candidates may come as late as the network makes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_may_take_its_time_to_tell_where_it_is() {
    let server = Server::start(Options::with_model(fakes::model(fakes::find_square))).await;
    let mut publisher = Publisher::start(&server.base, "/whip/cam").await;
    let base = server.base.clone();
    let engine = engine();
    let offered = engine.offer_to_view().await.unwrap();
    let sdp = offered.sdp.clone();
    let (own, rest): (Vec<&str>, Vec<&str>) = sdp.lines().partition(|line| line.starts_with("a=candidate:"));
    assert!(!own.is_empty());
    let response = send(post(&format!("{base}/whep/cam"), &(rest.join("\r\n") + "\r\n"))).await;
    let session = format!("{base}{}", told(&response, header::LOCATION));
    let etag = told(&response, header::ETAG);
    let answer = response.text().await.unwrap();
    // Three times as long as a path that was there may be silent.
    let waited = async {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(15) {
            assert_eq!(told_status(&session).await, 204, "it waits still, after {:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let fragment = format!("{}\r\n", own.join("\r\n"));
        let patch = request(Method::PATCH, &session, FRAGMENT, fragment).header(header::IF_MATCH, &etag);
        assert_eq!(send(patch).await.status(), 204);
        let mut answered = offered.accept(&answer).await.unwrap();
        loop {
            match answered.events.recv().await.expect("the connection stands") {
                ConnectionEvent::State(ConnectionState::Ended) => panic!("no connection came about"),
                ConnectionEvent::Video(mut video) => return video.recv().await.is_some(),
                _ => {}
            }
        }
    };
    let seen = publisher.while_publishing(tokio::time::timeout(2 * server::LIMIT, waited)).await;
    assert!(seen.expect("video came"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_leaves_the_viewers_where_they_are() {
    let server = plain().await;
    let mut first = Publisher::start(&server.base, "/whip/cam").await;
    let base = server.base.clone();
    let mut viewer = first.while_publishing(Viewer::start(&base, "/whep/cam")).await;
    first.while_publishing(viewer.unit()).await;
    let mut second = first.while_publishing(Publisher::start(&base, "/whip/cam?takeover=true")).await;
    until("the displaced publisher's end", || server.pipeline.sessions().len() == 2).await;
    drop(first);
    let newest = second.while_publishing(viewer.unit()).await.rtp_timestamp;
    let later = second
        .while_publishing(async {
            let mut last = newest;
            for _ in 0..20 {
                let unit = viewer.unit().await;
                assert!(unit.rtp_timestamp.wrapping_sub(last).cast_signed() >= 0, "time goes on");
                last = unit.rtp_timestamp;
            }
            last
        })
        .await;
    assert_ne!(later, newest);
    assert_eq!(told_status(&viewer.session.url).await, 204, "the viewer's session is the one that it was");
}

async fn told_status(address: &str) -> u16 {
    tokio::time::timeout(Duration::from_secs(5), reqwest::get(address)).await.unwrap().unwrap().status().as_u16()
}
