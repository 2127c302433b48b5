//! One UDP port for all peers: shared sockets, one per local address, and a virtual socket per peer and address.
//!
//! The crate behind this room binds sockets per connection and ignores its own setting for a shared one, so each
//! connection is given a [`Runtime`] of its own that hands out virtual sockets. A datagram finds its peer by the user
//! fragment of a STUN check, and after that by its remote address (the way of RFC 5245 implementations that share a
//! port). An address is only ever learnt from a check that names a registered fragment.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

use super::PeerError;
use super::stun;
use super::tap::Tap;

/// Datagrams that may wait for one peer on one address: 1.3 MB of video, a quarter of a second of 40 Mbps.
const INBOX_DATAGRAMS: usize = 1024;
/// No datagram of WebRTC is larger: DTLS and SCTP stay below the path MTU.
const MAX_DATAGRAM: usize = 2048;
/// How many datagrams one wake-up reads before others get a turn.
const READ_BURST: usize = 64;
/// Kernel buffer of a shared socket: the IDRs of many cameras arrive together.
const KERNEL_BUFFER_BYTES: usize = 4 << 20;

/// What happened to datagrams that reached nobody.
#[derive(Debug, Default)]
pub(super) struct MuxCounters {
    /// From an address that no peer is known at.
    pub(super) unknown: AtomicU64,
    /// The peer's inbox was full.
    pub(super) overflow: AtomicU64,
    /// The kernel's send buffer was full.
    pub(super) unsent: AtomicU64,
}

/// The shared sockets and the table of who is where.
pub(super) struct Mux {
    sockets: Vec<Arc<Shared>>,
    port: u16,
    routes: Mutex<Routes>,
    next_id: AtomicU64,
    pub(super) counters: MuxCounters,
    stop: CancellationToken,
}

struct Shared {
    ip: IpAddr,
    io: UdpSocket,
}

#[derive(Default)]
struct Routes {
    by_ufrag: HashMap<String, Arc<Route>>,
    by_address: HashMap<(usize, SocketAddr), Arc<Route>>,
}

/// One peer's place in the table: an inbox for each shared socket.
pub(super) struct Route {
    id: u64,
    inboxes: Vec<Mutex<Inbox>>,
    tap: Arc<Tap>,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<(SocketAddr, Box<[u8]>)>,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mux {
    /// Binds one socket per local address, all on `port` (0: the system chooses one that is free everywhere), and starts
    /// to read.
    pub(super) fn bind(addresses: &[IpAddr], port: u16) -> Result<Arc<Self>, PeerError> {
        let (sockets, port) = bind_everywhere(addresses, port)?;
        let mux = Arc::new(Self {
            sockets,
            port,
            routes: Mutex::default(),
            next_id: AtomicU64::new(0),
            counters: MuxCounters::default(),
            stop: CancellationToken::new(),
        });
        for index in 0..mux.sockets.len() {
            tokio::spawn(Arc::clone(&mux).read(index));
        }
        Ok(mux)
    }

    /// The one port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The local addresses that have a socket.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.sockets.iter().map(|shared| shared.ip).collect()
    }

    /// Ends the readers.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// A place for a new peer.
    pub(super) fn route(&self, tap: Arc<Tap>) -> Arc<Route> {
        Arc::new(Route {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            inboxes: self.sockets.iter().map(|_| Mutex::default()).collect(),
            tap,
        })
    }

    /// From now on, checks that name `ufrag` are `route`'s. A fragment that it had before (an ICE restart gives a new one)
    /// teaches no address any more; the peer is still known at those that it taught.
    pub(super) fn register(&self, ufrag: &str, route: &Arc<Route>) {
        let mut routes = lock(&self.routes);
        routes.by_ufrag.retain(|_, known| known.id != route.id);
        routes.by_ufrag.insert(ufrag.to_owned(), Arc::clone(route));
    }

    /// Forgets everything about a peer.
    pub(super) fn forget(&self, route: &Route) {
        let mut routes = lock(&self.routes);
        routes.by_ufrag.retain(|_, known| known.id != route.id);
        routes.by_address.retain(|_, known| known.id != route.id);
    }

    async fn read(self: Arc<Self>, index: usize) {
        let Some(shared) = self.sockets.get(index).cloned() else { return };
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let ready = tokio::select! {
                () = self.stop.cancelled() => return,
                ready = shared.io.readable() => ready,
            };
            if let Err(error) = ready {
                tracing::error!(%error, ip = %shared.ip, "the media socket failed");
                return;
            }
            for _ in 0..READ_BURST {
                match shared.io.try_recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        if let Some(datagram) = buffer.get(..length) {
                            self.deliver(index, from, datagram, Instant::now());
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // ICMP answers of peers that are gone surface here; they concern nobody else.
                    Err(error) => tracing::trace!(%error, "receive"),
                }
            }
        }
    }

    fn deliver(&self, index: usize, from: SocketAddr, datagram: &[u8], now: Instant) {
        let route = {
            let mut routes = lock(&self.routes);
            match stun::local_ufrag(datagram).and_then(|ufrag| routes.by_ufrag.get(ufrag).cloned()) {
                Some(route) => {
                    let known = routes.by_address.get(&(index, from));
                    if known.is_none_or(|known| known.id != route.id) {
                        routes.by_address.insert((index, from), Arc::clone(&route));
                    }
                    Some(route)
                }
                None => routes.by_address.get(&(index, from)).cloned(),
            }
        };
        let Some(route) = route else {
            self.counters.unknown.fetch_add(1, Ordering::Relaxed);
            return;
        };
        route.tap.on_datagram_in(datagram, now);
        let Some(inbox) = route.inboxes.get(index) else { return };
        let mut inbox = lock(inbox);
        if inbox.datagrams.len() >= INBOX_DATAGRAMS {
            self.counters.overflow.fetch_add(1, Ordering::Relaxed);
            return;
        }
        inbox.datagrams.push_back((from, datagram.into()));
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn bind_everywhere(addresses: &[IpAddr], port: u16) -> Result<(Vec<Arc<Shared>>, u16), PeerError> {
    // With port 0 the first socket draws a port, and the others may find it taken: then draw again.
    const DRAWS: usize = 20;
    let mut refused = None;
    'draw: for _ in 0..if port == 0 { DRAWS } else { 1 } {
        let mut sockets: Vec<Arc<Shared>> = Vec::new();
        let mut chosen = port;
        for &ip in addresses {
            let at = SocketAddr::new(ip, chosen);
            match bind_one(at) {
                Ok(io) => {
                    if chosen == 0 {
                        chosen = io.local_addr().map_err(|source| PeerError::Bind { at, source })?.port();
                    }
                    sockets.push(Arc::new(Shared { ip, io }));
                }
                // An interface may lose its address, or hold an IPv6 one that is not usable yet.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    tracing::warn!(%at, %error, "no media socket on this address");
                }
                Err(source) => {
                    refused = Some(PeerError::Bind { at, source });
                    continue 'draw;
                }
            }
        }
        if !sockets.is_empty() {
            return Ok((sockets, chosen));
        }
    }
    Err(refused.unwrap_or(PeerError::NoAddress))
}

fn bind_one(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel may grant less; a smaller buffer is no reason to fail.
    let _ = socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(KERNEL_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    UdpSocket::from_std(socket.into())
}

/// One peer's end of one shared socket.
struct Virtual {
    mux: Arc<Mux>,
    route: Arc<Route>,
    index: usize,
    local: SocketAddr,
}

impl fmt::Debug for Virtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Virtual").field("local", &self.local).field("peer", &self.route.id).finish()
    }
}

impl AsyncUdpSocket for Virtual {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let length = transmit.contents.len();
        let Some(shared) = self.mux.sockets.get(self.index) else { return Poll::Ready(Ok(length)) };
        // Dated before the call: the other side may have the datagram before this thread goes on, and would seem to have had it
        // before it went out.
        let now = Instant::now();
        match shared.io.try_send_to(transmit.contents, transmit.destination) {
            Ok(_) => self.route.tap.on_datagram_out(transmit.contents, now),
            // Waiting would need a waker per peer, and tokio keeps only the last: the network may lose a datagram, so
            // may we.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.mux.counters.unsent.fetch_add(1, Ordering::Relaxed);
            }
            // An unreachable candidate is the business of ICE, not an end of the socket.
            Err(error) => tracing::trace!(%error, to = %transmit.destination, "send"),
        }
        Poll::Ready(Ok(length))
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Some(inbox) = self.route.inboxes.get(self.index) else { return Poll::Pending };
        let mut inbox = lock(inbox);
        let mut filled = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta.iter_mut()) {
            let Some((from, datagram)) = inbox.datagrams.pop_front() else { break };
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *meta = RecvMeta::default();
            meta.addr = from;
            meta.len = length;
            meta.stride = length.max(1);
            filled += 1;
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        inbox.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A runtime for one connection: tokio's, except that its UDP sockets are virtual.
pub(super) struct PeerRuntime {
    mux: Arc<Mux>,
    route: Arc<Route>,
    inner: TokioRuntime,
}

impl PeerRuntime {
    pub(super) fn new(mux: Arc<Mux>, route: Arc<Route>) -> Self {
        Self { mux, route, inner: TokioRuntime }
    }
}

impl fmt::Debug for PeerRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerRuntime")
    }
}

impl Runtime for PeerRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        self.inner.spawn(future)
    }

    /// The socket that the connection bound is only a name: it is closed, and its address stands for the shared socket of
    /// the same IP address.
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let local = socket.local_addr()?;
        let index = self.mux.sockets.iter().position(|shared| shared.ip == local.ip()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::AddrNotAvailable, format!("no shared socket on {}", local.ip()))
        })?;
        Ok(Arc::new(Virtual { mux: Arc::clone(&self.mux), route: Arc::clone(&self.route), index, local }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        self.inner.connect_tcp(remote)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        self.inner.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.inner.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.inner.yield_now()
    }

    fn name(&self) -> &'static str {
        "sightline"
    }
}

/// The machine's addresses that a peer could dial: every interface's and loopback, without IPv6 link-local ones, which
/// mean nothing without a zone.
pub(super) fn local_addresses() -> Vec<IpAddr> {
    let mut found = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => {
            for address in interfaces.iter().map(if_addrs::Interface::ip) {
                let link_local = match address {
                    IpAddr::V4(v4) => v4.is_link_local(),
                    IpAddr::V6(v6) => v6.is_unicast_link_local(),
                };
                if !link_local && !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        Err(error) => tracing::warn!(%error, "the interfaces cannot be listed: media on loopback only"),
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_share_the_port_that_was_drawn() {
        let mux = Mux::bind(&[IpAddr::V4(Ipv4Addr::LOCALHOST), "127.0.0.2".parse().unwrap()], 0).unwrap();
        assert_eq!(mux.addresses().len(), 2);
        for shared in &mux.sockets {
            assert_eq!(shared.io.local_addr().unwrap().port(), mux.port());
        }
        mux.stop();
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_it() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Mux::bind(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], port).err().unwrap();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }

    fn check(ufrag: &str) -> Vec<u8> {
        let user = format!("{ufrag}:x");
        let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        message.extend([0; 12]);
        message.extend([0, 6]);
        message.extend(u16::try_from(user.len()).unwrap().to_be_bytes());
        message.extend(user.as_bytes());
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[tokio::test]
    async fn media_follows_the_address_that_a_check_taught() {
        let mux = Mux::bind(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0).unwrap();
        let (a, b) = (mux.route(Tap::new()), mux.route(Tap::new()));
        mux.register("aaaa", &a);
        mux.register("bbbb", &b);
        let from: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let media = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
        let waiting = |route: &Route| lock(&route.inboxes[0]).datagrams.len();

        mux.deliver(0, from, &media, Instant::now());
        assert_eq!(mux.counters.unknown.load(Ordering::Relaxed), 1, "nobody is known there yet");
        mux.deliver(0, from, &check("cccc"), Instant::now());
        assert_eq!(mux.counters.unknown.load(Ordering::Relaxed), 2, "an unknown fragment teaches nothing");
        mux.deliver(0, from, &check("aaaa"), Instant::now());
        mux.deliver(0, from, &media, Instant::now());
        assert_eq!((waiting(&a), waiting(&b)), (2, 0));
        mux.deliver(0, from, &check("bbbb"), Instant::now());
        mux.deliver(0, from, &media, Instant::now());
        assert_eq!((waiting(&a), waiting(&b)), (2, 2), "a new connection from the same port takes it over");
        mux.forget(&b);
        mux.deliver(0, from, &media, Instant::now());
        assert_eq!(mux.counters.unknown.load(Ordering::Relaxed), 3);
        mux.stop();
    }

    #[tokio::test]
    async fn after_an_ice_restart_the_new_fragment_counts() {
        let mux = Mux::bind(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0).unwrap();
        let route = mux.route(Tap::new());
        mux.register("aaaa", &route);
        let [old, new, other]: [SocketAddr; 3] =
            ["127.0.0.1:4000", "127.0.0.1:4001", "127.0.0.1:4002"].map(|at| at.parse().unwrap());
        mux.deliver(0, old, &check("aaaa"), Instant::now());
        mux.register("bbbb", &route);
        mux.deliver(0, new, &check("bbbb"), Instant::now());
        mux.deliver(0, old, &check("aaaa"), Instant::now());
        assert_eq!(lock(&route.inboxes[0]).datagrams.len(), 3, "also from the address that is known");
        mux.deliver(0, other, &check("aaaa"), Instant::now());
        assert_eq!(mux.counters.unknown.load(Ordering::Relaxed), 1, "the old fragment teaches nothing any more");
        mux.stop();
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_loses_its_own_datagrams_only() {
        let mux = Mux::bind(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0).unwrap();
        let route = mux.route(Tap::new());
        mux.register("aaaa", &route);
        let from: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        for _ in 0..INBOX_DATAGRAMS + 10 {
            mux.deliver(0, from, &check("aaaa"), Instant::now());
        }
        assert_eq!(lock(&route.inboxes[0]).datagrams.len(), INBOX_DATAGRAMS);
        assert_eq!(mux.counters.overflow.load(Ordering::Relaxed), 10);
        mux.stop();
    }
}
