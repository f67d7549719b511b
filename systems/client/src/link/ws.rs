//! A WebSocket: one task that connects and then reads, one that writes, and bounded queues between them and the driver.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocket, WebSocketError, WebSocketWrite,
};
use http_body_util::Empty;
use hyper::Request;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kaos_rudp::Micros;
use kaos_wire::limits::WEBSOCKET_FRAME_MAX;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::Core;

/// Frames that wait for the driver. When it is full the socket is not read, and TCP slows the server down.
const INCOMING_MAX: usize = 64;

/// Frames that wait for the socket. When the queue is full, messages stay in the core.
const OUTGOING_MAX: usize = 16;

/// Messages go into one frame up to this size; a longer one has a frame to itself.
const FRAME_BYTES: usize = 16 * 1024;

type Io = TokioIo<Upgraded>;

enum Incoming {
    Open,
    Frame(Bytes),
    Closed(String),
}

pub(crate) struct WsLink {
    incoming: mpsc::Receiver<Incoming>,
    /// Taken by `ready`, handled by `pump`.
    first: Option<Incoming>,
    outgoing: mpsc::Sender<Vec<u8>>,
    /// `outgoing` was full: `ready` waits for room in it, too.
    blocked: bool,
    open: bool,
    reader: JoinHandle<()>,
}

impl Drop for WsLink {
    /// Without a goodbye: whoever wants one calls [`WsLink::finish`].
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl WsLink {
    pub(super) fn dial(addr: SocketAddr, host: &str, path: &str) -> WsLink {
        let (to_driver, incoming) = mpsc::channel(INCOMING_MAX);
        let (outgoing, from_driver) = mpsc::channel(OUTGOING_MAX);
        let (host, path) = (host.to_owned(), path.to_owned());
        let reader = tokio::spawn(async move {
            let why = run(addr, &host, &path, &to_driver, from_driver).await.err();
            let why = why.unwrap_or_else(|| "closed by the server".to_owned());
            let _ = to_driver.send(Incoming::Closed(why)).await;
        });
        WsLink { incoming, first: None, outgoing, blocked: false, open: false, reader }
    }

    pub(super) async fn ready(&mut self) {
        if self.first.is_some() {
            return;
        }
        tokio::select! {
            next = self.incoming.recv() => {
                self.first = Some(next.unwrap_or_else(|| Incoming::Closed("closed".to_owned())));
            }
            _ = self.outgoing.reserve(), if self.blocked => {}
        }
    }

    pub(super) fn pump(&mut self, now: Micros, core: &mut Core) -> bool {
        while let Some(incoming) = self.first.take().or_else(|| self.incoming.try_recv().ok()) {
            match incoming {
                Incoming::Open => {
                    self.open = true;
                    core.opened(now);
                }
                Incoming::Frame(bytes) => core.receive(now, None, &bytes),
                Incoming::Closed(why) => {
                    core.closed(now, &why);
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn flush(&mut self, core: &mut Core) {
        while self.open && core.peek().is_some() {
            let Ok(place) = self.outgoing.try_reserve() else {
                // A writer that is gone is not waited for: the reader reports the end.
                self.blocked = !self.outgoing.is_closed();
                return;
            };
            self.blocked = false;
            let mut frame = Vec::new();
            while let Some((_, message)) = core.peek() {
                if !frame.is_empty() && frame.len() + message.len() > FRAME_BYTES {
                    break;
                }
                frame.extend_from_slice(message);
                core.advance();
            }
            place.send(frame);
        }
    }

    pub(super) async fn finish(mut self) {
        // The writer sends what is queued and then a close frame; the reader ends when the server has answered it.
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.outgoing, closed));
        let drained = async { while self.incoming.recv().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), drained).await;
    }
}

/// Connects, then reads until the end. An error is a few words for people.
async fn run(
    addr: SocketAddr,
    host: &str,
    path: &str,
    to_driver: &mpsc::Sender<Incoming>,
    from_driver: mpsc::Receiver<Vec<u8>>,
) -> Result<(), String> {
    let socket = handshake(addr, host, path).await?;
    let (mut read, write) = socket.split(tokio::io::split);
    read.set_max_message_size(WEBSOCKET_FRAME_MAX + 1);
    read.set_auto_apply_mask(true);
    let mut read = FragmentCollectorRead::new(read);
    // Pongs and the answer to a close go through the writer, too.
    let (answers, from_reader) = mpsc::channel::<(OpCode, Vec<u8>)>(4);
    let writer = AbortOnDrop(tokio::spawn(write_all(write, from_driver, from_reader)));
    if to_driver.send(Incoming::Open).await.is_err() {
        return Ok(());
    }
    let result = read_all(&mut read, to_driver, answers).await;
    drop(writer);
    result
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn handshake(addr: SocketAddr, host: &str, path: &str) -> Result<WebSocket<Io>, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(addr).await.map_err(|error| words(&error))?;
    stream.set_nodelay(true).map_err(|error| words(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
    // Ends by itself after the upgrade, and when the sender is dropped.
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(path)
        .header("host", host)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", fastwebsockets::handshake::generate_key())
        .header("sec-websocket-version", "13")
        .body(Empty::<Bytes>::new())
        .map_err(|error| words(&error))?;
    let response = sender.send_request(request).await.map_err(|error| words(&error))?;
    if response.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("the server answers {} instead of opening a WebSocket", response.status()));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| words(&error))?;
    Ok(WebSocket::after_handshake(TokioIo::new(upgraded), Role::Client))
}

async fn read_all(
    read: &mut FragmentCollectorRead<ReadHalf<Io>>,
    to_driver: &mpsc::Sender<Incoming>,
    answers: mpsc::Sender<(OpCode, Vec<u8>)>,
) -> Result<(), String> {
    loop {
        let mut answer = |frame: Frame<'_>| {
            // A server that floods with pings gets no pongs.
            let _ = answers.try_send((frame.opcode, frame.payload.to_vec()));
            std::future::ready(Ok::<(), WebSocketError>(()))
        };
        let frame = read.read_frame(&mut answer).await.map_err(|error| error.to_string())?;
        match frame.opcode {
            OpCode::Binary => {
                let bytes = match frame.payload {
                    Payload::Bytes(bytes) => bytes.freeze(),
                    other => Bytes::from(other.to_vec()),
                };
                if to_driver.send(Incoming::Frame(bytes)).await.is_err() {
                    return Ok(());
                }
            }
            OpCode::Close => return Ok(()),
            OpCode::Text => return Err("the server sent text, which the protocol does not have".to_owned()),
            OpCode::Ping | OpCode::Pong | OpCode::Continuation => {}
        }
    }
}

async fn write_all(
    mut write: WebSocketWrite<WriteHalf<Io>>,
    mut from_driver: mpsc::Receiver<Vec<u8>>,
    mut from_reader: mpsc::Receiver<(OpCode, Vec<u8>)>,
) {
    write.set_auto_apply_mask(true);
    loop {
        let frame = tokio::select! {
            frame = from_driver.recv() => match frame {
                Some(bytes) => Frame::binary(Payload::Owned(bytes)),
                // The driver says goodbye.
                None => Frame::close(1000, b""),
            },
            Some((opcode, payload)) = from_reader.recv() => {
                Frame::new(true, opcode, None, Payload::Owned(payload))
            }
        };
        let last = frame.opcode == OpCode::Close;
        if write.write_frame(frame).await.is_err() || last {
            return;
        }
    }
}
