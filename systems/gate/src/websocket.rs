//! One WebSocket connection: its bytes become events for the frame, and what the frame queued becomes frames.

use std::convert::Infallible;
use std::future::ready;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocketError, WebSocketRead, WebSocketWrite};
use kaos_kernel::fault::FaultKind;
use kaos_kernel::input::{Door, Gone};
use kaos_kernel::limit::{Gcra, Rate};
use kaos_wire::limits::{HEADER, WEBSOCKET_FRAME_MAX};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use crate::bridge::link::{IN_CREDIT, Link, close_code};
use crate::bridge::{Bridge, Completion, SocketEvent, empty_message, weight};
use crate::identity::credentials::Credentials;
use crate::kaos::start::{Opening, farewell};
use crate::stats::Stats;

/// How long a connection that was told to close may take to write what is queued, and to hear the other
/// side's close.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Reads of up to 4 KiB that a connection gets which is to close.
const DISCARDS_MAX: u32 = 256;

/// Pings, pongs, and fragments that end no frame, that a connection may send a second. No message is in them, so no
/// limit of the session sees them.
const EXTRAS: u32 = 256;

/// How many of them may come at once.
const EXTRAS_BURST: u32 = 1024;

/// The longest payload of a ping or pong (RFC 6455 5.5).
const CONTROL_MAX: usize = 125;

/// So many frames are read in a row before others on this thread have their turn: those that lie in the read buffer
/// already wait for nothing.
const FRAMES_IN_A_ROW: u32 = 64;

/// Frames below this are copied out of the read buffer, which they would hold as a whole.
const COPY_BELOW: usize = 4096;

/// A buffer that grew beyond this is given back when it is empty.
const BUFFER_KEPT: usize = 64 * 1024;

/// A close code and one word.
type CloseFrame = (u16, &'static str);

/// What a connection needs of the server.
pub(crate) struct Server {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) stats: Arc<Stats>,
}

/// Serves a connection until it is gone. `stream` has done its handshake.
pub(crate) async fn serve<S>(stream: S, server: &Server, address: IpAddr)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let link = Arc::new(Link::new(address));
    server.bridge.event(SocketEvent::Open(link.clone()));
    let (mut from, mut to) = tokio::io::split(stream);
    {
        let (reader, writer) = fastwebsockets::after_handshake_split(&mut from, &mut to, Role::Server);
        let mut reading = pin!(read(reader, &link, server));
        let mut writing = pin!(write(writer, &link, server));
        let overdue = async {
            link.ending.notified().await;
            sleep(CLOSE_TIME).await;
        };
        let (reason, written) = tokio::select! {
            (reason, (code, word)) = &mut reading => {
                link.close(code, word);
                (reason, false)
            }
            () = &mut writing => (Gone::Local, true),
            () = overdue => (Gone::Local, true),
        };
        server.bridge.event(SocketEvent::Gone(link.clone(), reason));
        if !written {
            let _ = timeout(CLOSE_TIME, &mut writing).await;
        }
    }
    // What is still on its way here is read until the other side closes too: otherwise the operating system
    // would answer it with a reset, and throw away what is on its way there.
    let last = async {
        let _ = to.shutdown().await;
        let mut bytes = [0; 4096];
        for _ in 0..DISCARDS_MAX {
            if !matches!(from.read(&mut bytes).await, Ok(1..)) {
                break;
            }
        }
    };
    let _ = timeout(CLOSE_TIME, last).await;
}

/// Reads until there is nothing more to read. Says why, and how to close.
async fn read<R>(mut reader: WebSocketRead<R>, link: &Arc<Link>, server: &Server) -> (Gone, CloseFrame)
where
    R: AsyncRead + Unpin,
{
    reader.set_auto_close(false);
    reader.set_auto_pong(false);
    // The library refuses what is as long as this.
    reader.set_max_message_size(WEBSOCKET_FRAME_MAX + 1);
    let mut started = false;
    let mut parts: Option<BytesMut> = None;
    let (since, mut extras) = (Instant::now(), Gcra::default());
    let mut in_a_row = 0;
    loop {
        in_a_row += 1;
        if in_a_row == FRAMES_IN_A_ROW {
            in_a_row = 0;
            yield_now().await;
        }
        // It answers nothing by itself.
        let frame = match reader.read_frame(&mut |_| ready(Ok::<(), Infallible>(()))).await {
            Ok(frame) => frame,
            Err(error) => return ended(&error),
        };
        let control = matches!(frame.opcode, OpCode::Ping | OpCode::Pong);
        if control && frame.payload.len() > CONTROL_MAX {
            return (Gone::Protocol, (1002, "protocol"));
        }
        if control || !frame.fin {
            let now_ns = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if extras.take(now_ns, 1, Rate::new(EXTRAS, EXTRAS_BURST)).is_err() {
                return (Gone::Protocol, (1008, FaultKind::RateLimited.word()));
            }
        }
        let bytes = match (frame.opcode, &mut parts) {
            (OpCode::Close, _) => return (Gone::Closed, (1000, "")),
            (OpCode::Ping, _) => {
                link.pong(frame.payload.to_vec());
                continue;
            }
            (OpCode::Pong, _) => continue,
            (OpCode::Text, _) => return (Gone::Protocol, (1003, "binary_only")),
            (OpCode::Binary, None) if frame.fin => whole(frame.payload),
            (OpCode::Binary, None) => {
                parts = Some(BytesMut::from(&frame.payload[..]));
                continue;
            }
            (OpCode::Continuation, Some(collected)) => {
                if collected.len() + frame.payload.len() > WEBSOCKET_FRAME_MAX {
                    return (Gone::Protocol, (1009, "too_long"));
                }
                collected.extend_from_slice(&frame.payload);
                match frame.fin {
                    true => parts.take().unwrap_or_default().freeze(),
                    false => continue,
                }
            }
            (OpCode::Binary | OpCode::Continuation, _) => return (Gone::Protocol, (1002, "fragments")),
        };
        server.stats.door(Door::WebSocket).came(bytes.len());
        if started {
            let empty = bytes.is_empty();
            // The frame hears of an empty one too: it ends the session for it.
            if data(link, server, bytes).await.is_err() {
                return (Gone::Local, (1001, "stopping"));
            }
            if empty {
                let fault = empty_message();
                link.push(&[&farewell(&fault)], false, true);
                return (Gone::Protocol, (close_code(fault.kind.code()), fault.kind.word()));
            }
            continue;
        }
        match Opening::read(&bytes, &server.credentials) {
            Ok(opening) => {
                started = true;
                server.bridge.event(SocketEvent::Start(link.clone(), Box::new(opening)));
            }
            Err(fault) => {
                server.stats.starts_refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                link.push(&[&farewell(&fault)], false, true);
                return (Gone::Local, (close_code(fault.kind.code()), fault.kind.word()));
            }
        }
    }
}

fn whole(payload: Payload<'_>) -> Bytes {
    match payload {
        Payload::Bytes(bytes) if bytes.len() >= COPY_BELOW => bytes.freeze(),
        payload => Bytes::copy_from_slice(&payload),
    }
}

/// Hands data to the frame, once there is credit for it.
async fn data(link: &Arc<Link>, server: &Server, bytes: Bytes) -> Result<(), tokio::sync::AcquireError> {
    let weight = weight(&bytes).min(IN_CREDIT);
    let cost = u32::try_from(weight).unwrap_or(u32::MAX);
    // The frame gives both back when it takes the piece.
    link.credit.acquire_many(cost).await?.forget();
    server.bridge.credit.acquire_many(cost).await?.forget();
    server.bridge.event(SocketEvent::Data(link.clone(), bytes, weight));
    Ok(())
}

fn ended(error: &WebSocketError) -> (Gone, CloseFrame) {
    match error {
        WebSocketError::FrameTooLarge => (Gone::Protocol, (1009, "too_long")),
        WebSocketError::InvalidUTF8 => (Gone::Protocol, (1003, "binary_only")),
        WebSocketError::UnexpectedEOF | WebSocketError::IoError(_) | WebSocketError::ConnectionClosed => {
            (Gone::Closed, (1000, ""))
        }
        _ => (Gone::Protocol, (1002, "protocol")),
    }
}

/// Writes what is queued, until the close is written or the connection breaks.
async fn write<W>(mut writer: WebSocketWrite<W>, link: &Arc<Link>, server: &Server)
where
    W: AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    loop {
        let Some(work) = link.take(&mut bytes) else {
            link.wake.notified().await;
            continue;
        };
        if let Some(pong) = work.pong
            && writer.write_frame(Frame::pong(Payload::Owned(pong))).await.is_err()
        {
            return;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (frame, after) = rest.split_at(batch(rest));
            if writer.write_frame(Frame::binary(Payload::Borrowed(frame))).await.is_err() {
                return;
            }
            rest = after;
        }
        bytes.clear();
        if bytes.capacity() > BUFFER_KEPT {
            bytes = Vec::new();
        }
        if work.writable {
            server.bridge.complete(Completion::Writable(link.clone()));
        }
        if let Some((code, reason)) = work.close {
            let _ = writer.write_frame(Frame::close(code, reason.as_bytes())).await;
            let _ = writer.flush().await;
            return;
        }
    }
}

/// How many bytes of whole messages go into the next WebSocket frame.
fn batch(bytes: &[u8]) -> usize {
    if bytes.len() <= WEBSOCKET_FRAME_MAX {
        return bytes.len();
    }
    let mut end = 0;
    for message in kaos_wire::messages(bytes) {
        // The frame writes whole messages only.
        let Ok((_, payload)) = message else { break };
        let len = HEADER + payload.len();
        if end + len > WEBSOCKET_FRAME_MAX {
            break;
        }
        end += len;
    }
    if end == 0 { bytes.len() } else { end }
}

#[cfg(test)]
mod tests;
