//! Channels: their numbers, what each of them promises, and the table that lists them.

use std::{fmt, time::Duration};

/// The most channels of a connection.
pub(crate) const CHANNELS_MAX: usize = 32;

/// The number of a channel, 0 to 31. [`Channels`] says what it promises. Each channel has a sequence of its own, so
/// none waits for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(u8);

impl Channel {
    /// In the default table: reliable and ordered, for the session's own affairs; leaves before everything else.
    pub const CONTROL: Channel = Channel(0);
    /// In the default table: reliable and ordered, for the application.
    pub const DATA: Channel = Channel(1);
    /// In the default table: unreliable and sequenced. Messages may be lost, and are dropped if they arrive after a
    /// newer one.
    pub const UNRELIABLE: Channel = Channel(2);

    /// The channel with this number; `None` from 32 on.
    pub const fn new(number: u8) -> Option<Channel> {
        if (number as usize) < CHANNELS_MAX { Some(Channel(number)) } else { None }
    }

    /// The number, 0 to 31.
    pub const fn number(self) -> u8 {
        self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// From the low five bits of a frame type.
    pub(crate) const fn from_low_bits(byte: u8) -> Channel {
        Channel(byte & 0x1f)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {}", self.0)
    }
}

/// What a channel promises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChannelKind {
    /// Each message arrives at most once, in any order. Lost messages stay lost.
    Unreliable,
    /// As `Unreliable`, and no message arrives after a newer one: for states, of which only the newest counts.
    Sequenced,
    /// Each message arrives once, in any order, or the connection ends.
    Unordered,
    /// Each message arrives once and in order, or the connection ends.
    Ordered,
}

impl ChannelKind {
    /// Whether what is lost is sent again.
    pub const fn is_reliable(self) -> bool {
        matches!(self, ChannelKind::Unordered | ChannelKind::Ordered)
    }
}

/// How often a small reliable message (up to 200 bytes) is sent again before anybody misses it. Repeats ride in
/// datagrams that leave anyway; for others see [`ChannelConfig::tail_repeat`].
///
/// A message that was lost and sent again is late already: it is repeated once in any case.
///
/// All repeats to a peer together take at most half of its congestion window in a round trip. No repeats are sent while
/// messages wait for the path, or of a message that is known to have arrived.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Repeats {
    /// Once while more than 0.5 % of the datagrams are lost ([`Stats::loss_ppm`](crate::Stats::loss_ppm)), otherwise
    /// not at all. The default.
    Adaptive,
    /// Always this often, 0 to 3; more counts as 3.
    Fixed(u8),
}

/// The most repeats of a message.
pub(crate) const REPEATS_MAX: u8 = 3;

/// The settings of one channel. Both ends must agree on `kind`; the rest is up to the sender.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChannelConfig {
    /// What it promises.
    pub kind: ChannelKind,
    /// Channels with a lower number here always leave first; those with the same number take turns, a datagram each.
    /// Default 1. A channel that is never empty starves all those with a higher number.
    pub priority: u8,
    /// Reliable kinds only. Default [`Repeats::Adaptive`].
    pub repeats: Repeats,
    /// A repeat leaves no earlier than this after the message, and after its last repeat. Default 0: in the next
    /// datagrams. With a time longer than most bursts of loss (30 ms), messages survive these.
    pub repeat_spacing: Duration,
    /// Reliable kinds only: when no datagram with messages follows one with small messages for this long, these are
    /// repeated once in a datagram of their own. A repeat that is 10 ms overdue after its `repeat_spacing` gets a
    /// datagram of its own as well. Default `None`. For urgent messages that come rarely: with 10 ms, a lost one is
    /// repeated after those 10 ms instead of a probe time-out, which is over a round trip.
    pub tail_repeat: Option<Duration>,
    /// How long a message is worth sending. Default `None`: for ever. See [`SendOptions::lifetime`].
    pub lifetime: Option<Duration>,
}

impl ChannelConfig {
    /// A channel of this kind, all else by default.
    pub const fn new(kind: ChannelKind) -> ChannelConfig {
        ChannelConfig {
            kind,
            priority: 1,
            repeats: Repeats::Adaptive,
            repeat_spacing: Duration::ZERO,
            tail_repeat: None,
            lifetime: None,
        }
    }
}

/// Settings of one message.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SendOptions {
    /// How long the message is worth sending, from the latest time that the endpoint was told. `None`: as the channel
    /// has it; [`Duration::MAX`]: for ever.
    ///
    /// After it, an unreliable message that has not left yet, or not all of it, is dropped. A reliable one is no longer
    /// sent or repeated, and the receiver is told to go on without it, unless it has all of it. It may thus arrive or
    /// not; the order of the others stays. `Stats::expired` counts both.
    pub lifetime: Option<Duration>,
}

/// The channels of a connection. Default: 0 [`CONTROL`](Channel::CONTROL) `Ordered` with priority 0, 1
/// [`DATA`](Channel::DATA) `Ordered`, 2 [`UNRELIABLE`](Channel::UNRELIABLE) `Sequenced`, both with priority 1.
///
/// ```
/// use kaos_rudp::{Channel, ChannelConfig, ChannelKind, Config};
///
/// let voice = Channel::new(7).unwrap();
/// let mut config = Config::default();
/// config.channels.set(voice, ChannelConfig::new(ChannelKind::Unreliable));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channels([Option<ChannelConfig>; CHANNELS_MAX]);

impl Channels {
    /// No channel at all.
    pub const fn none() -> Channels {
        Channels([None; CHANNELS_MAX])
    }

    /// Adds a channel, or replaces it.
    pub const fn set(&mut self, channel: Channel, config: ChannelConfig) -> &mut Channels {
        self.0[channel.index()] = Some(config);
        self
    }

    /// Removes a channel.
    pub const fn remove(&mut self, channel: Channel) -> &mut Channels {
        self.0[channel.index()] = None;
        self
    }

    /// What a channel promises; `None` if there is no such channel.
    pub const fn get(&self, channel: Channel) -> Option<&ChannelConfig> {
        self.0[channel.index()].as_ref()
    }

    /// The same, to be changed.
    pub const fn get_mut(&mut self, channel: Channel) -> Option<&mut ChannelConfig> {
        self.0[channel.index()].as_mut()
    }

    /// What both ends must agree on, in eight bytes: FNV-1a over one byte per channel, 0 for none, else 1 to 4 for the
    /// kinds in their order. Quick, because every Hello is compared with it; who makes two tables collide on purpose
    /// has only itself to blame.
    pub(crate) fn digest(&self) -> [u8; 8] {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for channel in &self.0 {
            hash ^= channel.map_or(0, |channel| channel.kind as u64 + 1);
            hash = hash.wrapping_mul(0x0100_0000_01b3);
        }
        hash.to_le_bytes()
    }
}

impl Default for Channels {
    fn default() -> Channels {
        let mut channels = Channels::none();
        let control = ChannelConfig { priority: 0, ..ChannelConfig::new(ChannelKind::Ordered) };
        channels
            .set(Channel::CONTROL, control)
            .set(Channel::DATA, ChannelConfig::new(ChannelKind::Ordered))
            .set(Channel::UNRELIABLE, ChannelConfig::new(ChannelKind::Sequenced));
        channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_tells_kinds_apart_and_nothing_else() {
        let table = Channels::default();
        let mut other = table.clone();
        assert_eq!(Channel::new(31).map(Channel::number), Some(31));
        assert_eq!(Channel::new(32), None);
        if let Some(data) = other.get_mut(Channel::DATA) {
            (data.priority, data.repeats, data.lifetime) = (9, Repeats::Fixed(2), Some(Duration::ZERO));
        }
        assert_eq!(other.digest(), table.digest());
        other.set(Channel::DATA, ChannelConfig::new(ChannelKind::Unordered));
        assert_ne!(other.digest(), table.digest());
        other.set(Channel::DATA, ChannelConfig::new(ChannelKind::Ordered)).remove(Channel::UNRELIABLE);
        assert_ne!(other.digest(), table.digest());
        assert!(other.get(Channel::UNRELIABLE).is_none());
    }
}
