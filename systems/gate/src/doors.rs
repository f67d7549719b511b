//! The doors as the frame thread sees them: inputs in, outputs out, and one table of peers for all.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kaos_kernel::burst::CapacityWindow;
use kaos_kernel::fault::FaultKind;
use kaos_kernel::ids::PeerId;
use kaos_kernel::input::{Door, Input};
use kaos_kernel::output::{Channel, Close, Outputs, Send};
use kaos_rudp::Micros;

use crate::bridge::link::{Link, WhenFull, close_code};
use crate::bridge::{BURST_US, Bridge, Completion, Drained, SocketEvent};
use crate::identity::credentials::Credentials;
use crate::intake::InputBudget;
use crate::peers::{Slots, Transport};
use crate::stats::Stats;
use crate::udp::{SendRefused, UdpDoor, UdpSetup};

/// The doors.
pub struct Doors {
    slots: Slots,
    udp: Option<UdpDoor>,
    bridge: Arc<Bridge>,
    credentials: Arc<Credentials>,
    stats: Arc<Stats>,
    /// Inputs that came while outputs were handed out.
    pending: Vec<Input>,
    /// Something was left in a door.
    more: bool,
    drained: Drained,
    /// Peers with a channel that was refused in this batch.
    refused: Vec<PeerId>,
    /// Connections with something to write.
    touched: Vec<Arc<Link>>,
    /// The most rows of these lists since `window` was told.
    most: usize,
    window: CapacityWindow,
}

impl Doors {
    /// The doors around a bridge, and a UDP socket when there is one. `peers_max` bounds the peers of all.
    ///
    /// # Errors
    /// The operating system gives no thread for handshakes.
    pub fn new(
        bridge: Arc<Bridge>,
        credentials: Arc<Credentials>,
        stats: Arc<Stats>,
        udp: Option<UdpSetup>,
        peers_max: u32,
    ) -> io::Result<Self> {
        let udp = udp.map(|setup| UdpDoor::new(setup, &bridge, stats.clone())).transpose()?;
        Ok(Doors {
            slots: Slots::new(peers_max, stats.clone()),
            udp,
            bridge,
            credentials,
            stats,
            pending: Vec::new(),
            more: false,
            drained: Drained::default(),
            refused: Vec::new(),
            touched: Vec::new(),
            most: 0,
            window: CapacityWindow::default(),
        })
    }

    /// Sleeps until something comes in, until [`Bridge::stop`] is called, or for `time` (`None`: without end). Returns
    /// whether something came.
    pub fn wait(&self, time: Option<Duration>) -> bool {
        self.bridge.wait(self.udp.as_ref().map(UdpDoor::fd), time)
    }

    /// As [`Doors::wait`], for a runner that is stopping already: the wish to stop does not wake it.
    pub fn wait_while_stopping(&self, time: Option<Duration>) -> bool {
        self.bridge.wait_while_stopping(self.udp.as_ref().map(UdpDoor::fd), time)
    }

    /// When the transport wants to be pumped, whatever happens; in microseconds of the runner's clock.
    pub fn time_out_us(&self) -> Option<u64> {
        self.udp.as_ref().and_then(UdpDoor::time_out).map(|at| at.0)
    }

    /// Returns whether there is something for the next frame to take.
    pub fn waiting(&self) -> bool {
        self.more || !self.pending.is_empty() || !self.bridge.is_empty()
    }

    /// Returns whether no peer is left and everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.slots.each().next().is_none() && self.udp.as_ref().is_none_or(UdpDoor::is_empty)
    }

    /// Reads all doors and turns what came in into inputs. `now_us` is the runner's clock, in microseconds since any
    /// fixed start.
    pub fn receive(&mut self, now_us: u64, inputs: &mut Vec<Input>) {
        let now = Micros(now_us);
        self.most = self.most.max(self.pending.len());
        inputs.append(&mut self.pending);
        self.more = false;
        if let Some(udp) = &mut self.udp {
            let mut budget = InputBudget::new(inputs);
            self.more |= udp.receive(now);
            self.more |= udp.drain_events(now, &mut self.slots, &self.credentials, &mut budget);
        }
        let mut drained = std::mem::take(&mut self.drained);
        self.bridge.drain(now_us, &mut drained);
        self.most =
            self.most.max(drained.completions.len()).max(drained.calls.len()).max(drained.events.len());
        for completion in drained.completions.drain(..) {
            match completion {
                Completion::Input(input) => inputs.push(input),
                Completion::Writable(link) => inputs.extend(link.peer().map(|peer| Input::Writable { peer })),
            }
        }
        inputs.append(&mut drained.calls);
        for event in drained.events.drain(..) {
            self.socket_event(event, inputs);
        }
        self.drained = drained;
        self.give_back(now_us);
    }

    /// Gives the memory of bursts back, once a second.
    fn give_back(&mut self, now_us: u64) {
        let most = std::mem::take(&mut self.most);
        let Some(rows) = self.window.keep(now_us, BURST_US, most) else { return };
        self.drained.completions.shrink_to(rows);
        self.drained.calls.shrink_to(rows);
        self.drained.events.shrink_to(rows);
        self.pending.shrink_to(rows);
        self.refused.shrink_to(rows);
        self.touched.shrink_to(rows);
    }

    fn socket_event(&mut self, event: SocketEvent, inputs: &mut Vec<Input>) {
        match event {
            SocketEvent::Open(link) => match self.slots.open(Transport::Web(link.clone())) {
                Some(peer) => {
                    link.set_peer(Some(peer));
                    inputs.push(Input::Open { peer, door: Door::WebSocket, address: link.address });
                }
                None => link.close(close_code(FaultKind::Busy.code()), FaultKind::Busy.name()),
            },
            SocketEvent::Start(link, opening) => {
                inputs.extend(link.peer().into_iter().flat_map(|peer| opening.clone().inputs(peer)));
            }
            SocketEvent::Data(link, bytes, _) => {
                inputs.extend(link.peer().map(|peer| Input::Data { peer, bytes }));
            }
            SocketEvent::Gone(link, reason) => {
                if let Some(peer) = link.peer() {
                    link.set_peer(None);
                    self.slots.close(peer);
                    inputs.push(Input::Gone { peer, reason });
                }
            }
        }
    }

    /// Hands a frame's messages, closes and replies to the doors, and empties these lists of `outputs`.
    ///
    /// Messages go before closes, so that a peer gets the last ones; refusals are collected after the closes, so that no
    /// closed peer is told of one; UDP is transmitted last, when everything is in its queues.
    pub fn send(&mut self, now_us: u64, outputs: &mut Outputs) {
        let now = Micros(now_us);
        for send in outputs.sends.drain(..) {
            self.send_message(send);
        }
        for Close { peer, code, reason } in outputs.closes.drain(..) {
            match self.slots.close(peer) {
                Some(Transport::Udp(rudp)) => {
                    if let Some(udp) = &mut self.udp {
                        udp.close(now, rudp, code, reason);
                    }
                }
                Some(Transport::Web(link)) => {
                    link.set_peer(None);
                    link.close(close_code(code), reason);
                }
                None => {}
            }
        }
        self.most = self.most.max(self.refused.len()).max(self.touched.len());
        for peer in self.refused.drain(..) {
            // A peer that was closed in the same frame needs to hear nothing more.
            if let Some(row) = self.slots.get(peer) {
                let (control, data) = (row.control.take(), row.data.take());
                self.pending.push(Input::Blocked { peer, control, data });
            }
        }
        for link in self.touched.drain(..) {
            link.wake.notify_one();
        }
        for reply in outputs.replies.drain(..) {
            self.bridge.reply(reply);
        }
        if let Some(udp) = &mut self.udp {
            udp.transmit(now);
        }
    }

    /// Sends what the transport wants to send, without a frame: acknowledgements and repetitions.
    pub fn transmit(&mut self, now_us: u64) {
        if let Some(udp) = &mut self.udp {
            udp.transmit(Micros(now_us));
        }
    }

    fn send_message(&mut self, send: Send) {
        let Send { peer, channel, seq, head, body } = send;
        let Some(row) = self.slots.get(peer) else { return };
        let counted = seq > 0;
        let refused = match channel {
            Channel::Control => &mut row.control,
            Channel::Data | Channel::Unreliable => &mut row.data,
        };
        if counted && refused.is_some() {
            return;
        }
        let parts: [&[u8]; 2] = [&head, &body];
        let sent = match &row.transport {
            Transport::Udp(rudp) => match &mut self.udp {
                Some(udp) => udp.send(*rudp, channel, &parts),
                None => Err(SendRefused::Never),
            },
            Transport::Web(link) => {
                let when_full = match channel {
                    _ if counted => WhenFull::Retry,
                    Channel::Control => WhenFull::UseReserve,
                    Channel::Data | Channel::Unreliable => WhenFull::Drop,
                };
                if link.push(&parts, when_full) {
                    self.stats.door(Door::WebSocket).went(head.len() + body.len());
                    // Sends of one peer mostly follow each other.
                    if self.touched.last().is_none_or(|last| !Arc::ptr_eq(last, link)) {
                        self.touched.push(link.clone());
                    }
                    Ok(())
                } else {
                    Err(SendRefused::Full)
                }
            }
        };
        if matches!(sent, Err(SendRefused::Full)) && counted {
            let first = row.control.is_none() && row.data.is_none();
            match channel {
                Channel::Control => row.control = Some(seq),
                Channel::Data | Channel::Unreliable => row.data = Some(seq),
            }
            if first {
                self.refused.push(peer);
            }
        }
    }

    /// The frame thread ends: open connections are closed with `stopping`, nobody gets an answer any more.
    /// What the UDP door has to send for that is sent by further [`Doors::transmit`]s.
    pub fn shut(&mut self, now_us: u64) {
        let (code, word) = (FaultKind::Stopping.code(), FaultKind::Stopping.name());
        let peers: Vec<PeerId> = self.slots.each().map(|row| row.peer).collect();
        for peer in peers {
            match self.slots.close(peer) {
                Some(Transport::Web(link)) => link.close(close_code(code), word),
                Some(Transport::Udp(rudp)) => {
                    if let Some(udp) = &mut self.udp {
                        udp.close(Micros(now_us), rudp, code, word);
                    }
                }
                None => {}
            }
        }
        self.bridge.close();
    }
}

/// Closes the connections when the frame thread panicked, too.
impl Drop for Doors {
    fn drop(&mut self) {
        for row in self.slots.each() {
            if let Transport::Web(link) = &row.transport {
                link.close(close_code(FaultKind::Internal.code()), FaultKind::Internal.name());
            }
        }
        self.bridge.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn send(peer: PeerId, channel: Channel, seq: u64, len: usize) -> Send {
        Send { peer, channel, seq, head: Default::default(), body: vec![0; len].into() }
    }

    #[test]
    fn what_a_full_connection_refuses_is_told_once_by_channel() {
        let bridge = Arc::new(Bridge::new().expect("a descriptor"));
        let credentials = Arc::new(Credentials::new(b"", true));
        let stats = Arc::new(Stats::default());
        let mut doors = Doors::new(bridge.clone(), credentials, stats, None, 8).expect("doors");
        let link = Arc::new(Link::new(IpAddr::from([127, 0, 0, 1])));
        bridge.event(SocketEvent::Open(link.clone()));
        let mut inputs = Vec::new();
        doors.receive(0, &mut inputs);
        let peer = link.peer().expect("numbered");
        assert!(matches!(inputs[..], [Input::Open { .. }]));
        let mut outputs = Outputs::default();
        for seq in 1..=4 {
            outputs.sends.push(send(peer, Channel::Data, seq, 60_000));
        }
        // Uncounted: dropped without a word. Smaller and counted in the other channel: it still fits.
        outputs.sends.push(send(peer, Channel::Unreliable, 0, 60_000));
        outputs.sends.push(send(peer, Channel::Control, 9, 10));
        // Would fit, but comes after what did not.
        outputs.sends.push(send(peer, Channel::Data, 5, 10));
        doors.send(0, &mut outputs);
        inputs.clear();
        doors.receive(0, &mut inputs);
        assert_eq!(inputs, [Input::Blocked { peer, control: None, data: Some(3) }]);
        let mut bytes = Vec::new();
        assert!(link.take_work(&mut bytes).expect("work").writable);
        assert_eq!(bytes.len(), 120_010);
        bridge.complete(Completion::Writable(link.clone()));
        outputs.closes.push(Close { peer, code: 25, reason: "kicked" });
        inputs.clear();
        doors.receive(0, &mut inputs);
        assert_eq!(inputs, [Input::Writable { peer }]);
        doors.send(0, &mut outputs);
        assert_eq!(link.take_work(&mut bytes).expect("work").close, Some((4025, "kicked".to_owned())));
        assert!(doors.is_empty());
    }
}
