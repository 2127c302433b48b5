//! A wire that loses datagrams of RTP and RTCP, between one client and the server: the same ones for the same seed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What is lost.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The share of datagrams with RTP or RTCP, in each direction.
    pub share: f64,
    /// Where the choice begins.
    pub seed: u64,
}

/// A running wire; it ends when dropped.
pub struct Relay {
    /// Where the client sends to.
    port: u16,
    /// Datagrams lost, both ways.
    pub lost: Arc<AtomicU64>,
    tasks: [JoinHandle<()>; 2],
}

impl Relay {
    /// A wire to the server's media address.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn to(server: SocketAddr, loss: Loss) -> anyhow::Result<Self> {
        let client_side = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let server_side = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let port = client_side.local_addr()?.port();
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        let lost = Arc::new(AtomicU64::new(0));
        let (known, asked) = (Arc::clone(&client), client);
        let learn = move |from: SocketAddr| {
            *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
            Some(server)
        };
        let back = move |_: SocketAddr| *asked.lock().unwrap_or_else(PoisonError::into_inner);
        let way = |from: &Arc<UdpSocket>, to: &Arc<UdpSocket>, seed| Way {
            from: Arc::clone(from),
            to: Arc::clone(to),
            share: loss.share,
            random: StdRng::seed_from_u64(seed),
            lost: Arc::clone(&lost),
        };
        let tasks = [
            tokio::spawn(way(&client_side, &server_side, loss.seed).carry(learn)),
            tokio::spawn(way(&server_side, &client_side, loss.seed ^ u64::MAX).carry(back)),
        ];
        Ok(Self { port, lost, tasks })
    }

    /// An answer that names the wire as the only way to the server.
    pub fn put_before(&self, answer: &str) -> String {
        let line = format!("a=candidate:1 1 udp 2130706431 127.0.0.1 {} typ host", self.port);
        let mut told = false;
        let mut lines = Vec::new();
        for old in answer.lines() {
            if !old.starts_with("a=candidate:") {
                lines.push(old);
            } else if !told {
                told = true;
                lines.push(&line);
            }
        }
        lines.iter().map(|line| format!("{line}\r\n")).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// An offer that does not say where the client is, so that the wire is the only way to it.
pub fn hidden(offer: &str) -> String {
    offer.lines().filter(|line| !line.starts_with("a=candidate:")).map(|line| format!("{line}\r\n")).collect()
}

/// Where an answer says that the server is, on this machine.
///
/// # Errors
/// When it names no address on loopback.
pub fn server_of(answer: &str) -> anyhow::Result<SocketAddr> {
    let candidates = answer.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    let address = |candidate: &str| {
        let mut fields = candidate.split(' ').skip(4);
        let (ip, port) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        // The wire's own sockets are of IPv4.
        Some(SocketAddr::new(ip, port)).filter(|address| address.is_ipv4() && address.ip().is_loopback())
    };
    candidates
        .into_iter()
        .find_map(address)
        .context("the answer names no address on loopback: there is no way through a relay")
}

struct Way {
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    share: f64,
    random: StdRng,
    lost: Arc<AtomicU64>,
}

impl Way {
    async fn carry(mut self, target: impl Fn(SocketAddr) -> Option<SocketAddr> + Send) {
        let mut datagram = vec![0; 2048];
        loop {
            // A port that nobody listens at any more is told here, and is no reason to end.
            let Ok((length, from)) = self.from.recv_from(&mut datagram).await else { continue };
            let target = target(from);
            // What makes the connection is spared: the first flights of the handshake are few, and one that is lost costs a session its
            // ten seconds rather than a frame.
            let media = datagram.first().is_some_and(|first| (128..192).contains(first));
            if media && self.random.random_bool(self.share) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            } else if let (Some(target), Some(bytes)) = (target, datagram.get(..length)) {
                let _ = self.to.send_to(bytes, target).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = "v=0\r\na=candidate:1 1 udp 9 192.0.2.1 5000 typ host\r\na=candidate:2 1 udp 9 127.0.0.1 5001 typ host\r\n\
                          a=mid:0\r\n";

    #[tokio::test]
    async fn the_wire_is_the_only_way_and_loses_its_share() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::to(server.local_addr().unwrap(), Loss { share: 0.5, seed: 7 }).await.unwrap();
        let told = relay.put_before(ANSWER);
        assert_eq!(told.matches("a=candidate:").count(), 1);
        assert_eq!(server_of(&told).unwrap().port(), relay.port);
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut came = 0;
        let mut buffer = [0; 8];
        while came < 20 {
            client.send_to(b"\x80there", ("127.0.0.1", relay.port)).await.unwrap();
            let wait = std::time::Duration::from_millis(20);
            if let Ok(got) = tokio::time::timeout(wait, server.recv_from(&mut buffer)).await {
                let (_, from) = got.unwrap();
                server.send_to(b"\x16back", from).await.unwrap();
                came += 1;
            }
        }
        assert!(relay.lost.load(Ordering::Relaxed) >= 5);
    }

    #[test]
    fn an_answer_is_read_for_the_address_on_this_machine() {
        let first = format!("a=candidate:0 1 udp 9 ::1 5002 typ host\r\n{ANSWER}");
        assert_eq!(server_of(&first).unwrap(), SocketAddr::from(([127, 0, 0, 1], 5001)));
        assert_eq!(server_of(ANSWER).unwrap(), SocketAddr::from(([127, 0, 0, 1], 5001)));
        assert!(server_of("v=0\r\n").is_err());
        assert_eq!(hidden(ANSWER), "v=0\r\na=mid:0\r\n");
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(text in "\\PC{0,60}") {
            let _ = server_of(&format!("a=candidate:{text}"));
        }
    }
}
