//! A wire between a client and the server that can be looked at, cut, and spoken into. RTP headers are not encrypted
//! (RFC 3711 §3.1), so what stands in them is seen here as every receiver would see it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

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
        let client_side = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let to_server = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let port = client_side.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        let up = tokio::spawn({
            let (client_side, to_server, state, client) =
                (Arc::clone(&client_side), Arc::clone(&to_server), Arc::clone(&state), Arc::clone(&client));
            async move {
                let mut buffer = vec![0; 2048];
                while let Ok((length, from)) = client_side.recv_from(&mut buffer).await {
                    *client.lock().unwrap() = Some(from);
                    if state.passes(&buffer[..length]) && !state.loses(&buffer[..length]) {
                        let _ = to_server.send_to(&buffer[..length], server).await;
                    }
                }
            }
        });
        let down = tokio::spawn({
            let (to_server, state) = (Arc::clone(&to_server), Arc::clone(&state));
            async move {
                let mut buffer = vec![0; 2048];
                while let Ok((length, _)) = to_server.recv_from(&mut buffer).await {
                    let datagram = &buffer[..length];
                    if let Some(header) = rtp_header(datagram) {
                        state.from_server.lock().unwrap().push(header);
                    }
                    let client = *client.lock().unwrap();
                    if let Some(client) = client.filter(|_| state.passes(datagram)) {
                        let _ = client_side.send_to(datagram, client).await;
                    }
                }
            }
        });
        Self { port, server, to_server, state, tasks: [up, down] }
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
