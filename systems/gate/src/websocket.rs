//! One WebSocket connection: its bytes become events for the frame, and what the frame queued becomes frames.

mod frames;

use std::convert::Infallible;
use std::future::ready;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{Frame, Payload, Role, WebSocketRead, WebSocketWrite};
use kaos_kernel::fault::Fault;
use kaos_kernel::input::{Door, Gone};
use kaos_wire::limits::{HEADER, WEBSOCKET_FRAME_MAX};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::bridge::link::{IN_CREDIT, Link, WhenFull, close_code};
use crate::bridge::{Bridge, Completion, SocketEvent, weight};
use crate::identity::credentials::Credentials;
use crate::kaos::handshake::{Handshake, Received};
use crate::kaos::start::{Opening, farewell};
use crate::stats::Stats;
use crate::websocket::frames::{Frames, ended};

/// How long a connection that was told to close may take to write what is queued, and to hear the other
/// side's close.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Reads of up to 4 KiB that a connection gets which is to close.
const DISCARDS_MAX: u32 = 256;

/// So many frames are read in a row before others on this thread have their turn: those that lie in the read buffer
/// already wait for nothing.
const FRAMES_IN_A_ROW: u32 = 64;

/// A buffer that grew beyond this is given back when it is empty.
const BUFFER_KEPT: usize = 64 * 1024;

/// A close code and one word.
type CloseFrame = (u16, &'static str);

/// Why a connection ends, for the frame, and how it is closed, for the other side.
type Ending = (Gone, CloseFrame);

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

/// Reads until the connection ends. Says why, and how to close.
async fn read<R>(reader: WebSocketRead<R>, link: &Arc<Link>, server: &Server) -> Ending
where
    R: AsyncRead + Unpin,
{
    let Err(ending) = read_messages(reader, link, server).await;
    ending
}

async fn read_messages<R>(
    mut reader: WebSocketRead<R>,
    link: &Arc<Link>,
    server: &Server,
) -> Result<Infallible, Ending>
where
    R: AsyncRead + Unpin,
{
    reader.set_auto_close(false);
    reader.set_auto_pong(false);
    // The library refuses what is as long as this.
    reader.set_max_message_size(WEBSOCKET_FRAME_MAX + 1);
    let mut handshake = Handshake::default();
    let mut frames = Frames::new();
    let mut in_a_row = 0;
    loop {
        in_a_row += 1;
        if in_a_row == FRAMES_IN_A_ROW {
            in_a_row = 0;
            yield_now().await;
        }
        // It answers nothing by itself.
        let frame = reader.read_frame(&mut |_| ready(Ok::<(), Infallible>(()))).await;
        let frame = frame.map_err(|error| ended(&error))?;
        if let Some(bytes) = frames.add(frame, link)? {
            receive(&mut handshake, bytes, link, server).await?;
        }
    }
}

/// Does what a message asks for.
///
/// The frame hears of a message before it hears that the connection is gone, so that an empty message still ends its
/// session.
async fn receive(
    handshake: &mut Handshake,
    bytes: Bytes,
    link: &Arc<Link>,
    server: &Server,
) -> Result<(), Ending> {
    server.stats.door(Door::WebSocket).came(bytes.len());
    match handshake.receive(bytes, |first| Opening::read(first, &server.credentials, crate::random)) {
        Received::Start(opening) => {
            server.bridge.event(SocketEvent::Start(link.clone(), opening));
            Ok(())
        }
        Received::Data(bytes) => hand_on(link, server, bytes).await,
        Received::Empty(bytes, fault) => {
            hand_on(link, server, bytes).await?;
            Err(refuse(link, Gone::Protocol, &fault))
        }
        Received::Refused(fault) => {
            server.stats.starts_refused.fetch_add(1, Ordering::Relaxed);
            Err(refuse(link, Gone::Local, &fault))
        }
    }
}

/// Queues the SessionEnd that says why. Returns how the connection ends.
fn refuse(link: &Link, reason: Gone, fault: &Fault) -> Ending {
    link.push(&[&farewell(fault)], WhenFull::UseReserve);
    (reason, (close_code(fault.kind.code()), fault.kind.name()))
}

/// Hands data to the frame, once there is credit for it.
///
/// # Errors
/// The frame thread has ended.
async fn hand_on(link: &Arc<Link>, server: &Server, bytes: Bytes) -> Result<(), Ending> {
    let weight = weight(&bytes).min(IN_CREDIT);
    let cost = u32::try_from(weight).unwrap_or(u32::MAX);
    let stopping = |_| (Gone::Local, (1001, "stopping"));
    // Its own credit first: a connection that has none must not hold what all share. The frame gives both back when it
    // takes the data.
    link.credit.acquire_many(cost).await.map_err(stopping)?.forget();
    server.bridge.credit.acquire_many(cost).await.map_err(stopping)?.forget();
    server.bridge.event(SocketEvent::Data(link.clone(), bytes, weight));
    Ok(())
}

/// Writes what is queued, until the close is written or the connection breaks.
async fn write<W>(mut writer: WebSocketWrite<W>, link: &Arc<Link>, server: &Server)
where
    W: AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    loop {
        let Some(work) = link.take_work(&mut bytes) else {
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
