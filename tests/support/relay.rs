//! A wire between a client and the server that can be looked at, cut, spoken into, and as bad as a [`Link`] says. RTP headers
//! are not encrypted (RFC 3711 §3.1), so what stands in them is seen here as every receiver would see it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

#[path = "link.rs"]
pub mod link;

use link::{Conditions, HEADERS, Link};

/// The header of an RTP packet that the server sent.
#[derive(Clone, Debug)]
pub struct Header {
    pub sequence_number: u16,
    pub ssrc: u32,
    pub timestamp: u32,
    /// Header extensions of the one-byte form (RFC 8285 §4.2): id and content.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    /// The datachannel's packets towards the client vanish, and so do its acknowledgements.
    channel_cut: AtomicBool,
    /// The client's next packet is lost.
    lose_one: AtomicBool,
    /// And if this is set, so is every repetition of it.
    lose_for_good: AtomicBool,
    lost: Mutex<Option<u16>>,
    from_server: Mutex<Vec<Header>>,
    /// How the way to the client is from now on.
    down: Mutex<Option<Conditions>>,
    /// What the way to the client was given: when, how long it waits there, and its bytes, none where it was dropped.
    log: Mutex<Vec<(Instant, Duration, usize)>>,
    /// Bytes of the datachannel's packets towards the client, and of all, with all headers.
    channel_bytes: AtomicU64,
    bytes: AtomicU64,
    /// Datagrams that the links were given, and those that they lost.
    carried: AtomicU64,
    dropped: AtomicU64,
}

/// A running relay.
pub struct Relay {
    port: u16,
    server: SocketAddr,
    to_server: Arc<UdpSocket>,
    state: Arc<State>,
    tasks: [JoinHandle<()>; 2],
}

/// Application data of DTLS (RFC 7983 §7, RFC 6347 §4.1), which is SCTP here.
fn is_channel(datagram: &[u8]) -> bool {
    datagram.first() == Some(&23)
}

fn rtp_header(datagram: &[u8]) -> Option<Header> {
    let (&first, &second) = (datagram.first()?, datagram.get(1)?);
    if first >> 6 != 2 || (192..=223).contains(&second) {
        return None;
    }
    let word = |at: usize| Some(u32::from_be_bytes(datagram.get(at..at + 4)?.try_into().ok()?));
    let mut extensions = Vec::new();
    let after_sources = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 && word(after_sources)? >> 16 == 0xbede {
        let length = 4 * (word(after_sources)? & 0xffff) as usize;
        let mut rest = datagram.get(after_sources + 4..after_sources + 4 + length)?;
        while let Some((&head, tail)) = rest.split_first() {
            let size = usize::from(head & 0x0f) + 1;
            rest = if head == 0 {
                tail
            } else {
                extensions.push((head >> 4, tail.get(..size)?.to_vec()));
                tail.get(size..)?
            };
        }
    }
    #[allow(clippy::cast_possible_truncation)] // the low half of the word
    let sequence_number = word(0)? as u16;
    Some(Header { sequence_number, ssrc: word(8)?, timestamp: word(4)?, extensions })
}

impl Relay {
    /// A relay to the server's media port.
    pub async fn to(server: SocketAddr) -> Self {
        Self::over(server, Conditions::clean(0), Conditions::clean(0)).await
    }

    /// The same over a link: `up` is how it is towards the server, `down` towards the client.
    pub async fn over(server: SocketAddr, up: Conditions, down: Conditions) -> Self {
        let client_side = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let to_server = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let port = client_side.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        let mut there = Way::new(Arc::clone(&client_side), Arc::clone(&to_server), up, Arc::clone(&state));
        let mut back = Way::new(Arc::clone(&to_server), client_side, down, Arc::clone(&state));
        back.changes = true;
        let (known, asked) = (Arc::clone(&client), client);
        let up = tokio::spawn(async move {
            let seen = |state: &State, datagram: &[u8], from| {
                *known.lock().unwrap() = Some(from);
                state.passes(datagram) && !state.loses(datagram)
            };
            there.carry(seen, || Some(server)).await;
        });
        let down = tokio::spawn(async move {
            let seen = |state: &State, datagram: &[u8], _| {
                if let Some(header) = rtp_header(datagram) {
                    state.from_server.lock().unwrap().push(header);
                }
                let bytes = (datagram.len() + HEADERS) as u64;
                state.bytes.fetch_add(bytes, Ordering::SeqCst);
                if is_channel(datagram) {
                    state.channel_bytes.fetch_add(bytes, Ordering::SeqCst);
                }
                state.passes(datagram)
            };
            back.carry(seen, || *asked.lock().unwrap()).await;
        });
        Self { port, server, to_server, state, tasks: [up, down] }
    }

    /// The port that stands for the server's.
    #[allow(dead_code)] // most let `put_before` write it
    pub fn port(&self) -> u16 {
        self.port
    }

    /// An offer that hides where the client is, so that the relay is the only way.
    pub fn hide(offer: &str) -> String {
        let kept = offer.lines().filter(|line| !line.starts_with("a=candidate:"));
        kept.map(|line| format!("{line}\r\n")).collect()
    }

    /// An answer whose candidates are this relay.
    pub fn put_before(&self, answer: &str) -> String {
        answer.replace(&format!(" {} typ host", self.server.port()), &format!(" {} typ host", self.port))
    }

    /// Nothing passes any more, in either direction.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }

    /// Everything passes again.
    pub fn mend(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
    }

    /// The share of datagrams that the links lost, of those that they were given.
    pub fn loss(&self) -> f64 {
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst) as f64;
        count(&self.state.dropped) / count(&self.state.carried).max(1.0)
    }

    /// Bytes that the server sent to the client: those of the datachannel, and all.
    #[allow(dead_code)] // few look at it
    pub fn sent(&self) -> (u64, u64) {
        (self.state.channel_bytes.load(Ordering::SeqCst), self.state.bytes.load(Ordering::SeqCst))
    }

    /// What the way to the client was given since this was asked last: when, how long it waits there, and its bytes, none where
    /// it was dropped.
    pub fn log(&self) -> Vec<(Instant, Duration, usize)> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }

    /// From now on the way to the client is like this.
    pub fn set_down(&self, conditions: Conditions) {
        *self.state.down.lock().unwrap() = Some(conditions);
    }

    /// Media passes, the datachannel does not.
    pub fn cut_channel(&self) {
        self.state.channel_cut.store(true, Ordering::SeqCst);
    }

    /// The client's next RTP packet does not arrive; `for_good`: its repetitions do not either.
    pub fn lose_next(&self, for_good: bool) {
        *self.state.lost.lock().unwrap() = None;
        self.state.lose_for_good.store(for_good, Ordering::SeqCst);
        self.state.lose_one.store(true, Ordering::SeqCst);
    }

    /// Sends a datagram to the server that seems to come from the client.
    pub async fn inject(&self, datagram: &[u8]) {
        self.to_server.send_to(datagram, self.server).await.unwrap();
    }

    /// The headers of the RTP packets that the server has sent.
    pub fn headers(&self) -> Vec<Header> {
        self.state.from_server.lock().unwrap().clone()
    }
}

/// A datagram that is on its way: when it arrives, and in what order those of one instant were sent.
type Waiting = Reverse<(Instant, u64, Vec<u8>)>;

/// One direction.
struct Way {
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    link: Link,
    state: Arc<State>,
    waiting: BinaryHeap<Waiting>,
    sent: u64,
    /// It is the one that `set_down` is about.
    changes: bool,
}

impl Way {
    fn new(from: Arc<UdpSocket>, to: Arc<UdpSocket>, conditions: Conditions, state: Arc<State>) -> Self {
        Self { from, to, link: Link::new(conditions), state, waiting: BinaryHeap::new(), sent: 0, changes: false }
    }

    /// Carries what `passes` lets pass to where `destination` says.
    async fn carry(
        &mut self,
        passes: impl Fn(&State, &[u8], SocketAddr) -> bool,
        destination: impl Fn() -> Option<SocketAddr>,
    ) {
        let mut buffer = vec![0; 2048];
        loop {
            let due = self.waiting.peek().map(|Reverse((at, ..))| *at);
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
                received = self.from.recv_from(&mut buffer) => {
                    let Ok((length, from)) = received else { return };
                    let datagram = &buffer[..length];
                    if passes(&self.state, datagram, from) {
                        self.state.carried.fetch_add(1, Ordering::SeqCst);
                        if self.changes && let Some(conditions) = self.state.down.lock().unwrap().take() {
                            self.link.set(conditions);
                        }
                        let now = Instant::now();
                        let waits = self.link.queue(now);
                        let arrives = self.link.carry(length, now);
                        if self.changes {
                            let bytes = arrives.map_or(0, |_| length + HEADERS);
                            self.state.log.lock().unwrap().push((now, waits, bytes));
                        }
                        match arrives {
                            Some(at) => self.waiting.push(Reverse((at, self.sent, datagram.to_vec()))),
                            None => drop(self.state.dropped.fetch_add(1, Ordering::SeqCst)),
                        }
                        self.sent += 1;
                    }
                }
            }
            while let Some(Reverse((at, _, datagram))) = self.waiting.peek()
                && *at <= Instant::now()
            {
                if let Some(destination) = destination() {
                    let _ = self.to.send_to(datagram, destination).await;
                }
                self.waiting.pop();
            }
        }
    }
}

impl State {
    fn passes(&self, datagram: &[u8]) -> bool {
        let channel_cut = self.channel_cut.load(Ordering::SeqCst) && is_channel(datagram);
        !self.cut.load(Ordering::SeqCst) && !channel_cut
    }

    fn loses(&self, datagram: &[u8]) -> bool {
        let Some(header) = rtp_header(datagram) else { return false };
        let mut lost = self.lost.lock().unwrap();
        if self.lose_one.swap(false, Ordering::SeqCst) {
            *lost = Some(header.sequence_number);
            return true;
        }
        self.lose_for_good.load(Ordering::SeqCst) && *lost == Some(header.sequence_number)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
