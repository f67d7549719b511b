//! QUIC: quinn-proto 0.11 with rustls and ring, a self-signed certificate, no session resumption.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use kaos_rudp::Micros;
use quinn_proto::{
    AckFrequencyConfig, ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, ServerConfig, StreamEvent, StreamId, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use crate::stack::{Host, Stack};

/// How messages are carried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ride {
    /// One stream, each message after its length in two bytes.
    Stream,
    /// A stream for each message: no order between them.
    StreamEach,
    /// Unreliable datagrams.
    Datagram,
}

/// quinn-proto with settings.
#[derive(Clone, Copy)]
pub(crate) struct QuinnStack {
    pub(crate) ride: Ride,
    /// Acknowledgements of every packet, with the ACK frequency extension.
    pub(crate) eager_acks: bool,
    /// Address validation by Retry, which is off by default.
    pub(crate) retry: bool,
}

impl QuinnStack {
    /// The defaults.
    pub(crate) fn plain(ride: Ride) -> QuinnStack {
        QuinnStack { ride, eager_acks: false, retry: false }
    }

    fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        if self.ride == Ride::StreamEach {
            // The default of 100 would hold messages back. Each one costs memory from the beginning.
            transport.max_concurrent_uni_streams(VarInt::from_u32(4096));
        }
        if self.eager_acks {
            let mut acks = AckFrequencyConfig::default();
            acks.ack_eliciting_threshold(VarInt::from_u32(0));
            acks.max_ack_delay(Some(Duration::from_millis(1)));
            transport.ack_frequency_config(Some(acks));
        }
        Arc::new(transport)
    }

    fn host(&self, endpoint: Endpoint) -> QuinnHost {
        QuinnHost {
            endpoint,
            settings: *self,
            connections: Vec::new(),
            touched: Vec::new(),
            arrived: Vec::new(),
            timers: BTreeSet::new(),
            peers: Vec::new(),
            out_streams: BTreeMap::new(),
            in_streams: BTreeMap::new(),
            replies: Vec::new(),
            buf: Vec::with_capacity(2048),
        }
    }
}

impl Stack for QuinnStack {
    fn name(&self) -> String {
        let ride = match self.ride {
            Ride::Stream => "one stream",
            Ride::StreamEach => "stream per message (unordered)",
            Ride::Datagram => "datagrams",
        };
        let acks = if self.eager_acks { ", ACK of every packet" } else { "" };
        let retry = if self.retry { ", Retry" } else { "" };
        format!("quinn {ride}{acks}{retry}")
    }

    fn server(&self, _: Micros, _: SocketAddr, _: usize, seed: u64) -> Box<dyn Host> {
        let mut config = ServerConfig::with_crypto(crypto().0.clone());
        config.transport = self.transport();
        let seed = Some(wide(seed));
        Box::new(self.host(Endpoint::new(Arc::default(), Some(Arc::new(config)), true, seed)))
    }

    fn client(&self, now: Micros, to: SocketAddr, index: usize, seed: u64) -> Box<dyn Host> {
        let mut config = ClientConfig::new(crypto().1.clone());
        config.transport_config(self.transport());
        let seed = wide(seed ^ (index as u64 + 1) << 32);
        let mut host = self.host(Endpoint::new(Arc::new(EndpointConfig::default()), None, true, Some(seed)));
        match host.endpoint.connect(at(now), config, to, "lab") {
            Ok((handle, connection)) => host.insert(handle, connection),
            Err(error) => unreachable!("a name, an address, settings: {error}"),
        }
        Box::new(host)
    }
}

fn wide(seed: u64) -> [u8; 32] {
    let mut bytes = [5; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

/// quinn wants `Instant`s; only differences count.
fn at(now: Micros) -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "the zero of virtual time")]
    let start = START.get_or_init(Instant::now);
    *start + Duration::from_micros(now.0)
}

/// Made once: a certificate, and both sides' use of it.
fn crypto() -> &'static (Arc<QuicServerConfig>, Arc<QuicClientConfig>) {
    static CRYPTO: OnceLock<(Arc<QuicServerConfig>, Arc<QuicClientConfig>)> = OnceLock::new();
    CRYPTO.get_or_init(|| make_crypto().unwrap_or_else(|error| unreachable!("fixed settings: {error}")))
}

fn make_crypto() -> Result<(Arc<QuicServerConfig>, Arc<QuicClientConfig>), Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(vec!["lab".into()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    server.max_early_data_size = u32::MAX;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    Ok((Arc::new(QuicServerConfig::try_from(server)?), Arc::new(QuicClientConfig::try_from(client)?)))
}

struct One {
    connection: Connection,
    /// In the list `touched`: has to be asked for datagrams.
    is_touched: bool,
    /// In the list `arrived`: has to be asked for events.
    is_arrived: bool,
    timer: Option<Instant>,
}

struct QuinnHost {
    endpoint: Endpoint,
    settings: QuinnStack,
    connections: Vec<Option<One>>,
    touched: Vec<usize>,
    arrived: Vec<usize>,
    timers: BTreeSet<(Instant, usize)>,
    peers: Vec<usize>,
    out_streams: BTreeMap<usize, Pending>,
    in_streams: BTreeMap<(usize, StreamId), Vec<u8>>,
    replies: Vec<(SocketAddr, Vec<u8>)>,
    buf: Vec<u8>,
}

/// The only stream of a connection, and what it did not take of the last message.
struct Pending {
    stream: StreamId,
    rest: Vec<u8>,
}

impl QuinnHost {
    fn insert(&mut self, handle: ConnectionHandle, connection: Connection) {
        let index = handle.0;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(One { connection, is_touched: false, is_arrived: false, timer: None });
        self.touch(index);
    }

    /// Something happened to a connection.
    fn touch(&mut self, index: usize) {
        let Some(one) = self.connections[index].as_mut() else { return };
        if !one.is_touched {
            one.is_touched = true;
            self.touched.push(index);
        }
        if !one.is_arrived {
            one.is_arrived = true;
            self.arrived.push(index);
        }
    }

    fn read(&mut self, index: usize, stream: StreamId, message: &mut dyn FnMut(&[u8])) {
        let Some(one) = self.connections[index].as_mut() else { return };
        let buffer = self.in_streams.entry((index, stream)).or_default();
        let mut is_over = false;
        let mut receive = one.connection.recv_stream(stream);
        if let Ok(mut chunks) = receive.read(true) {
            loop {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
                    Ok(None) => {
                        is_over = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
            let _ = chunks.finalize();
        }
        if self.settings.ride == Ride::Stream {
            let mut start = 0;
            while let Some(&[low, high]) = buffer.get(start..start + 2).and_then(|at| at.first_chunk()) {
                let end = start + 2 + usize::from(u16::from_le_bytes([low, high]));
                let Some(bytes) = buffer.get(start + 2..end) else { break };
                message(bytes);
                start = end;
            }
            buffer.drain(..start);
        } else if is_over {
            message(buffer);
        }
        if is_over {
            self.in_streams.remove(&(index, stream));
        }
    }
}

impl Host for QuinnHost {
    fn handle(&mut self, now: Micros, from: SocketAddr, bytes: &mut [u8]) {
        let now = at(now);
        self.buf.clear();
        match self.endpoint.handle(now, from, None, None, BytesMut::from(&bytes[..]), &mut self.buf) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(one) = self.connections[handle.0].as_mut() {
                    one.connection.handle_event(event);
                }
                self.touch(handle.0);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                if self.settings.retry && !incoming.remote_address_validated() {
                    if let Ok(transmit) = self.endpoint.retry(incoming, &mut self.buf) {
                        self.replies.push((transmit.destination, self.buf[..transmit.size].to_vec()));
                    }
                } else if let Ok((handle, connection)) =
                    self.endpoint.accept(incoming, now, &mut self.buf, None)
                {
                    self.insert(handle, connection);
                }
            }
            Some(DatagramEvent::Response(transmit)) => {
                self.replies.push((transmit.destination, self.buf[..transmit.size].to_vec()));
            }
            None => {}
        }
    }

    fn tick(&mut self, now: Micros) {
        let now = at(now);
        while let Some(&(due, index)) = self.timers.first().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, index));
            if let Some(one) = self.connections[index].as_mut() {
                one.timer = None;
                one.connection.handle_timeout(now);
            }
            self.touch(index);
        }
    }

    fn receive(&mut self, message: &mut dyn FnMut(&[u8])) {
        let mut arrived = std::mem::take(&mut self.arrived);
        for index in arrived.drain(..) {
            while let Some(one) = self.connections[index].as_mut() {
                one.is_arrived = false;
                match one.connection.poll() {
                    Some(Event::Connected) => self.peers.push(index),
                    Some(Event::DatagramReceived) => {
                        while let Some(bytes) = one.connection.datagrams().recv() {
                            message(&bytes);
                        }
                    }
                    Some(Event::Stream(StreamEvent::Opened { dir: Dir::Uni })) => {
                        while let Some(stream) = self.connections[index]
                            .as_mut()
                            .and_then(|one| one.connection.streams().accept(Dir::Uni))
                        {
                            self.read(index, stream, message);
                        }
                    }
                    Some(Event::Stream(StreamEvent::Readable { id })) => self.read(index, id, message),
                    Some(_) => {}
                    None => break,
                }
            }
        }
        self.arrived = arrived;
    }

    fn send(&mut self, _: Micros, peer: usize, bytes: &[u8]) -> bool {
        let index = self.peers[peer];
        let Some(one) = self.connections[index].as_mut() else { return false };
        let connection = &mut one.connection;
        let is_sent = match self.settings.ride {
            Ride::Datagram => connection.datagrams().send(bytes::Bytes::copy_from_slice(bytes), true).is_ok(),
            Ride::StreamEach => match connection.streams().open(Dir::Uni) {
                Some(stream) => {
                    // A message is far smaller than the room of a new stream.
                    let is_whole = connection.send_stream(stream).write(bytes) == Ok(bytes.len());
                    is_whole && connection.send_stream(stream).finish().is_ok()
                }
                None => false,
            },
            Ride::Stream => {
                let pending = match self.out_streams.entry(index) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let Some(stream) = connection.streams().open(Dir::Uni) else { return false };
                        entry.insert(Pending { stream, rest: Vec::new() })
                    }
                };
                let mut out = connection.send_stream(pending.stream);
                if !pending.rest.is_empty() {
                    let written = out.write(&pending.rest).unwrap_or(0);
                    pending.rest.drain(..written);
                }
                if pending.rest.is_empty() {
                    pending.rest.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
                    pending.rest.extend_from_slice(bytes);
                    let written = out.write(&pending.rest).unwrap_or(0);
                    pending.rest.drain(..written);
                    true
                } else {
                    false
                }
            }
        };
        if !one.is_touched {
            one.is_touched = true;
            self.touched.push(index);
        }
        is_sent
    }

    fn transmit(&mut self, now: Micros, datagram: &mut dyn FnMut(SocketAddr, &[u8])) {
        let now = at(now);
        for (to, bytes) in self.replies.drain(..) {
            datagram(to, &bytes);
        }
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            let Some(one) = self.connections[index].as_mut() else { continue };
            one.is_touched = false;
            // What a full stream left over goes first.
            if let Some(pending) = self.out_streams.get_mut(&index)
                && !pending.rest.is_empty()
            {
                let written = one.connection.send_stream(pending.stream).write(&pending.rest).unwrap_or(0);
                pending.rest.drain(..written);
            }
            loop {
                while let Some(event) = one.connection.poll_endpoint_events() {
                    if let Some(event) = self.endpoint.handle_event(ConnectionHandle(index), event) {
                        one.connection.handle_event(event);
                    }
                }
                self.buf.clear();
                match one.connection.poll_transmit(now, 1, &mut self.buf) {
                    Some(transmit) => datagram(transmit.destination, &self.buf[..transmit.size]),
                    None => break,
                }
            }
            let timer = one.connection.poll_timeout();
            if timer != one.timer {
                if let Some(old) = one.timer {
                    self.timers.remove(&(old, index));
                }
                one.timer = timer;
                if let Some(timer) = timer {
                    self.timers.insert((timer, index));
                }
            }
        }
        self.touched = touched;
    }

    fn connected(&self) -> usize {
        self.peers.len()
    }
}
