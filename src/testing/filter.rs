//! What goes wrong between a client and its server, on purpose: silence, deafness, and bytes that no client sends.
//!
//! The client is the real one, so it may not notice what a test sends in its name. The filter keeps such messages out of its
//! sight: each end gets the other's counts in its own numbers, and answers to what the client never asked are dropped.

use std::collections::BTreeSet;

use bytes::Bytes;
use kaos_client::Micros;
use kaos_wire::v1::{Counts, session_start};
use kaos_wire::{Channel, ClientMessage, Opcode, ServerMessage, counted, decode_client, decode_server};
use kaos_wire::{encode, messages, v1};

/// What stands between a client and the door. By default everything passes.
#[derive(Default)]
pub(super) struct Filter {
    /// Nothing that the client says leaves it: not even who it is.
    mute: bool,
    /// Nothing passes, neither way.
    pub(super) dead: bool,
    /// Its heartbeats acknowledge nothing.
    pub(super) deaf: bool,
    /// Bytes were sent in its name.
    injected: bool,
    sent: Streams,
    received: Streams,
}

/// The counted messages of one direction, control and data.
#[derive(Default)]
struct Streams([Stream; 2]);

/// The counted messages of a channel as the server counts them, and those among them that the client knows nothing of.
#[derive(Default)]
struct Stream {
    count: u64,
    hidden: BTreeSet<u64>,
}

impl Filter {
    /// A client that says nothing and hears everything.
    pub(super) fn mute() -> Filter {
        Filter { mute: true, ..Filter::default() }
    }

    /// What leaves of a message of the client.
    pub(super) fn outward(&mut self, message: Bytes) -> Option<Bytes> {
        if self.mute || self.dead {
            return None;
        }
        let (op, payload) = messages(&message).next()?.ok()?;
        if let Some(channel) = counted(op) {
            self.sent.pass(channel);
        }
        let told = |received: Option<Counts>| received.map(|counts| self.received.outer(counts));
        let mut changed = Vec::new();
        let written = match decode_client(op, payload) {
            Ok(ClientMessage::Heartbeat(mut beat)) if self.deaf => {
                beat.received = Some(Counts::default());
                encode(Opcode::Heartbeat, &beat, &mut changed)
            }
            Ok(ClientMessage::Heartbeat(mut beat)) if self.injected => {
                beat.received = told(beat.received);
                encode(Opcode::Heartbeat, &beat, &mut changed)
            }
            Ok(ClientMessage::SessionStart(mut start)) if self.injected => {
                if let Some(session_start::Credentials::Resume(resume)) = &mut start.credentials {
                    resume.received = told(resume.received);
                }
                encode(Opcode::SessionStart, &*start, &mut changed)
            }
            _ => return Some(message),
        };
        written.ok().map(|()| changed.into())
    }

    /// What leaves of bytes that a test sends in the client's name.
    pub(super) fn inject(&mut self, bytes: Bytes) -> Option<Bytes> {
        if self.dead {
            return None;
        }
        self.injected = true;
        for (op, _) in messages(&bytes).map_while(Result::ok) {
            if let Some(channel) = counted(op) {
                self.sent.hide(channel);
            }
        }
        Some(bytes)
    }

    /// What the client gets of the server's bytes. `asked` tells whether it asked for an answer.
    pub(super) fn inward(
        &mut self,
        now: Micros,
        bytes: Bytes,
        asked: impl Fn(&ServerMessage<'_>) -> bool,
    ) -> Option<Bytes> {
        if self.dead {
            return None;
        }
        let mut passed = Vec::new();
        for (op, payload) in messages(&bytes).map_while(Result::ok) {
            match decode_server(op, payload).ok()? {
                ServerMessage::SessionStarted(started) => {
                    let started = self.started(*started);
                    encode(Opcode::SessionStart, &started, &mut passed).ok()?;
                }
                ServerMessage::Heartbeat(mut beat) => {
                    beat.received = beat.received.map(|counts| self.sent.inner(counts));
                    // The answer to a heartbeat of the test's own. The client adds one to the time, which may be 0.
                    if beat.client_time_us > now.0 + 1 {
                        beat.client_time_us = 0;
                    }
                    encode(Opcode::Heartbeat, &beat, &mut passed).ok()?;
                }
                message => {
                    let hidden = self.injected && !asked(&message);
                    match counted(op) {
                        Some(channel) if hidden => self.received.hide(channel),
                        Some(channel) => self.received.pass(channel),
                        None => {}
                    }
                    if !hidden {
                        kaos_wire::encode_raw(Opcode::from_u8(op)?, payload, &mut passed).ok()?;
                    }
                }
            }
        }
        (!passed.is_empty()).then(|| passed.into())
    }

    /// Both ends begin anew where the server says.
    fn started(&mut self, mut started: v1::SessionStarted) -> v1::SessionStarted {
        let (received, base) = (started.received.unwrap_or_default(), started.base.unwrap_or_default());
        self.sent.rewind(received);
        self.received.rewind(base);
        started.received = Some(self.sent.inner(received));
        started.base = Some(self.received.inner(base));
        started
    }
}

impl Streams {
    fn of(&mut self, channel: Channel) -> &mut Stream {
        let [control, data] = &mut self.0;
        match channel {
            Channel::Control => control,
            Channel::Data | Channel::Unreliable => data,
        }
    }

    fn pass(&mut self, channel: Channel) {
        self.of(channel).count += 1;
    }

    fn hide(&mut self, channel: Channel) {
        let stream = self.of(channel);
        stream.count += 1;
        stream.hidden.insert(stream.count);
    }

    /// The server's counts in the client's numbers.
    fn inner(&self, counts: Counts) -> Counts {
        let [control, data] = &self.0;
        Counts { control: control.inner(counts.control), data: data.inner(counts.data) }
    }

    /// The client's counts in the server's numbers.
    fn outer(&self, counts: Counts) -> Counts {
        let [control, data] = &self.0;
        Counts { control: control.outer(counts.control), data: data.outer(counts.data) }
    }

    fn rewind(&mut self, counts: Counts) {
        let [control, data] = &mut self.0;
        control.rewind(counts.control);
        data.rewind(counts.data);
    }
}

impl Stream {
    fn inner(&self, outer: u64) -> u64 {
        outer - self.hidden.range(..=outer).count() as u64
    }

    /// The most that it can mean: hidden messages that follow at once have arrived, too.
    fn outer(&self, inner: u64) -> u64 {
        self.hidden.iter().fold(inner, |outer, at| if *at <= outer + 1 { outer + 1 } else { outer })
    }

    /// Goes back to `count`: what comes after it is sent again, but for what is hidden.
    fn rewind(&mut self, count: u64) {
        self.count = count;
        self.hidden.retain(|at| *at <= count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_to_each_end_in_its_own_numbers() {
        let mut streams = Streams::default();
        // Of six messages the client knows the third and the sixth.
        for known in [false, false, true, false, false, true] {
            if known { streams.pass(Channel::Data) } else { streams.hide(Channel::Data) }
        }
        let [_, data] = &streams.0;
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(|outer| data.inner(outer)), [0, 0, 0, 1, 1, 1, 2]);
        assert_eq!([0, 1, 2].map(|inner| data.outer(inner)), [2, 5, 6]);
        let [_, data] = &mut streams.0;
        data.rewind(4);
        assert_eq!((data.count, data.inner(4), data.outer(1), data.outer(2)), (4, 1, 4, 5));
    }
}
