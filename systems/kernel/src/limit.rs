//! Rate limits on frame time: the generic cell rate algorithm (ITU-T I.371), with one number of state per key.

mod settings;
pub use settings::LimitSettings;

use std::collections::BTreeMap;
use std::net::IpAddr;

use bevy_ecs::prelude::*;

/// A rate in units per second, with a burst. A unit is what the limit counts: a message, a byte, a call.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Nanoseconds in which one unit refills; at least 1.
    unit_ns: u64,
    /// Nanoseconds in which a whole burst refills.
    burst_ns: u64,
}

impl Rate {
    /// `per_sec` units per second, and `burst` units at once. A `per_sec` of 0 counts as 1, and one above 1,000,000,000
    /// as that. With a `burst` of 0 no unit passes.
    pub fn new(per_sec: u32, burst: u32) -> Self {
        let unit_ns = (1_000_000_000 / u64::from(per_sec.max(1))).max(1);
        Rate { unit_ns, burst_ns: unit_ns.saturating_mul(u64::from(burst)) }
    }

    /// `units`, capped at a burst: more than a burst could never be taken at once.
    pub(crate) fn at_most_a_burst(self, units: u32) -> u64 {
        u64::from(units).min(self.burst_ns / self.unit_ns)
    }

    /// One unit per `secs` seconds, and `burst` units at once. A `secs` of 0 counts as 1.
    pub(crate) fn slow(secs: u32, burst: u32) -> Self {
        let unit_ns = u64::from(secs.max(1)) * 1_000_000_000;
        Rate { unit_ns, burst_ns: unit_ns.saturating_mul(u64::from(burst)) }
    }
}

/// The state of one key: its theoretical arrival time, in nanoseconds since frame 0. At that time and later the whole
/// burst is available.
#[derive(Clone, Copy, Default, Debug)]
pub struct Gcra(u64);

impl Gcra {
    /// Takes `units` if they are available at `now_ns`, which is in nanoseconds since frame 0. 0 units pass unless the
    /// key is in debt.
    ///
    /// # Errors
    /// The milliseconds until `units` will be available, at least 1; nothing is taken.
    pub fn take(&mut self, now_ns: u64, units: u64, rate: Rate) -> Result<(), u32> {
        let arrival = self.0.max(now_ns).saturating_add(units.saturating_mul(rate.unit_ns));
        let latest = now_ns.saturating_add(rate.burst_ns);
        if arrival > latest {
            let wait_ms = (arrival - latest).div_ceil(1_000_000);
            return Err(u32::try_from(wait_ms).unwrap_or(u32::MAX).max(1));
        }
        self.0 = arrival;
        Ok(())
    }

    /// Takes `units` whether or not they are available. A key in debt has to wait until the debt is refilled.
    pub fn charge(&mut self, now_ns: u64, units: u64, rate: Rate) {
        self.0 = self.0.max(now_ns).saturating_add(units.saturating_mul(rate.unit_ns));
    }

    /// The theoretical arrival time, in nanoseconds since frame 0, for the state hash.
    pub(crate) fn arrival_time(&self) -> u64 {
        self.0
    }

    /// Whether the whole burst is available again, as for a new key.
    pub fn is_even(&self, now_ns: u64) -> bool {
        self.0 <= now_ns
    }
}

/// The most addresses in a table: 65,536 rows of 48 bytes are 3 MiB, and more addresses than a server admits sessions
/// by default.
pub const ADDRESSES_MAX: usize = 1 << 16;

/// A table with a row per [`subject`] address that was active lately, [`ADDRESSES_MAX`] at most.
#[derive(Debug)]
pub struct ByAddress<R> {
    rows: BTreeMap<IpAddr, R>,
    /// The number of rows at which idle rows are removed before one is added; less than 64 counts as 64. After each
    /// removal it is twice the number of rows that were kept, at most [`ADDRESSES_MAX`].
    sweep_at: usize,
    /// The time until which a full table is not searched for idle rows again, in nanoseconds since frame 0.
    swept_until: u64,
}

impl<R> Default for ByAddress<R> {
    fn default() -> Self {
        ByAddress { rows: BTreeMap::new(), sweep_at: 0, swept_until: 0 }
    }
}

impl<R: Default> ByAddress<R> {
    /// The row of an address, which is added when it is missing. From time to time this removes the rows for which
    /// `idle` is true. `None`: the table is full, and no row was idle; a full table is searched for idle rows once a
    /// second.
    pub fn row(&mut self, address: IpAddr, now_ns: u64, idle: impl Fn(&R) -> bool) -> Option<&mut R> {
        let address = subject(address);
        if !self.rows.contains_key(&address) && self.rows.len() >= self.sweep_at.max(64) {
            if now_ns < self.swept_until {
                return None;
            }
            self.rows.retain(|_, row| !idle(row));
            self.sweep_at = (self.rows.len() * 2).min(ADDRESSES_MAX);
            if self.rows.len() >= ADDRESSES_MAX {
                self.swept_until = now_ns + 1_000_000_000;
                return None;
            }
        }
        Some(self.rows.entry(address).or_default())
    }

    /// The row of an address; `None`: it has no row.
    pub fn get_mut(&mut self, address: IpAddr) -> Option<&mut R> {
        self.rows.get_mut(&subject(address))
    }

    /// The number of addresses in the table.
    #[expect(clippy::len_without_is_empty, reason = "no caller needs it")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// The state of one address.
#[derive(Clone, Copy, Default, Debug)]
struct AddressRow {
    /// Its open peers.
    peers: u32,
    /// Its budget for calls over HTTP.
    calls: Gcra,
    /// Its budget for starts of sessions.
    starts: Gcra,
}

/// Limits by address. A new address is refused while the table is full and no address in it is idle. An address is idle
/// when it has no open peer and its budgets are full.
#[derive(Resource, Default, Debug)]
pub(crate) struct Addresses {
    rows: ByAddress<AddressRow>,
}

/// The milliseconds after which a new address may try again when the table is full.
const FULL_TABLE_RETRY_MS: u32 = 1000;

impl Addresses {
    /// The row of an address; `None`: the table is full.
    fn row(&mut self, address: IpAddr, now_ns: u64) -> Option<&mut AddressRow> {
        let idle =
            |row: &AddressRow| row.peers == 0 && row.calls.is_even(now_ns) && row.starts.is_even(now_ns);
        self.rows.row(address, now_ns, idle)
    }

    /// Counts a peer that opened. `false`: the address has `limit.address_peers_max` already, or the table is full; the
    /// peer is not counted and has to be closed.
    pub(crate) fn open(&mut self, address: IpAddr, now_ns: u64, limits: &LimitSettings) -> bool {
        let Some(row) = self.row(address, now_ns) else { return false };
        let admitted = row.peers < limits.address_peers_max;
        row.peers += u32::from(admitted);
        admitted
    }

    /// Stops counting a peer that was admitted and is gone.
    pub(crate) fn close(&mut self, address: IpAddr) {
        if let Some(row) = self.rows.get_mut(address) {
            row.peers = row.peers.saturating_sub(1);
        }
    }

    /// Takes `cost`, at most a burst, from the address's budget for calls: what a call costs before its request is
    /// read.
    ///
    /// # Errors
    /// The milliseconds until that is available, at least 1.
    pub(crate) fn call(
        &mut self,
        address: IpAddr,
        now_ns: u64,
        cost: u32,
        limits: &LimitSettings,
    ) -> Result<(), u32> {
        let rate = Rate::new(limits.address_calls, limits.address_calls_burst);
        self.row(address, now_ns).ok_or(FULL_TABLE_RETRY_MS)?.calls.take(
            now_ns,
            rate.at_most_a_burst(cost),
            rate,
        )
    }

    /// Takes the rest of a call's `price`, of which [`Addresses::call`] took `paid` already. Together they are at most
    /// a burst.
    ///
    /// # Errors
    /// The milliseconds until the whole price is available, because a caller that tries again pays `paid` again, too.
    pub(crate) fn call_for(
        &mut self,
        address: IpAddr,
        now_ns: u64,
        paid: u32,
        price: u32,
        limits: &LimitSettings,
    ) -> Result<(), u32> {
        let rate = Rate::new(limits.address_calls, limits.address_calls_burst);
        let rest = rate.at_most_a_burst(price).saturating_sub(paid.into());
        let taken = self.row(address, now_ns).ok_or(FULL_TABLE_RETRY_MS)?.calls.take(now_ns, rest, rate);
        let again_ms = u64::from(paid).saturating_mul(rate.unit_ns).div_ceil(1_000_000);
        taken.map_err(|ms| ms.saturating_add(u32::try_from(again_ms).unwrap_or(u32::MAX)))
    }

    /// Takes the price of a reply or of a handler's work from the address's budget for calls, even if that puts it in
    /// debt.
    pub(crate) fn charge(&mut self, address: IpAddr, now_ns: u64, cost: u32, limits: &LimitSettings) {
        let rate = Rate::new(limits.address_calls, limits.address_calls_burst);
        if let Some(row) = self.row(address, now_ns) {
            row.calls.charge(now_ns, u64::from(cost), rate);
        }
    }

    /// Takes one start of a session from the address's budget.
    ///
    /// # Errors
    /// The milliseconds until a start is available, at least 1.
    pub(crate) fn start(&mut self, address: IpAddr, now_ns: u64, limits: &LimitSettings) -> Result<(), u32> {
        let rate = Rate::new(limits.address_starts, limits.address_starts_burst);
        self.row(address, now_ns).ok_or(FULL_TABLE_RETRY_MS)?.starts.take(now_ns, 1, rate)
    }
}

/// The address that limits count: an IPv4 address itself, or the /64 network that an IPv6 subscriber gets (RFC 6177).
pub fn subject(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate::new(10, 5);
        let mut gcra = Gcra::default();
        for _ in 0..5 {
            assert_eq!(gcra.take(0, 1, rate), Ok(()));
        }
        assert_eq!(gcra.take(0, 1, rate), Err(100));
        assert_eq!(gcra.take(100_000_000, 1, rate), Ok(()));
        assert_eq!(gcra.take(100_000_000, 1, rate), Err(100));
    }

    #[test]
    fn a_price_over_the_burst_passes_once_nothing_is_owed_and_the_told_wait_is_enough() {
        let limits = LimitSettings { address_calls: 10, address_calls_burst: 20, ..LimitSettings::default() };
        let mut addresses = Addresses::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut ask = |now_ms: u64, price: u32| {
            let now_ns = now_ms * 1_000_000;
            addresses.call(address, now_ns, 1, &limits)?;
            addresses.call_for(address, now_ns, 1, price, &limits)
        };
        assert_eq!(ask(0, 1000), Ok(()), "all of the burst");
        assert_eq!(ask(200, 5), Err(400), "two are there, and one of them goes for reading this");
        assert_eq!(ask(600, 5), Ok(()), "so it is");
        assert_eq!(ask(1000, 1000), Err(1700));
        assert_eq!(ask(2700, 1000), Ok(()), "when nothing is owed, the dearest call passes");
    }

    #[test]
    fn addresses_are_forgotten_when_even() {
        let limits = LimitSettings::default();
        let mut addresses = Addresses::default();
        for n in 0..100_000u32 {
            let now_ns = u64::from(n) * 1_000_000_000;
            assert_eq!(addresses.call(IpAddr::from(n.to_be_bytes()), now_ns, 1, &limits), Ok(()));
        }
        assert!(addresses.rows.len() <= 128, "{}", addresses.rows.len());
    }

    #[test]
    fn a_full_table_refuses_the_new_knows_the_old_and_empties() {
        let limits = LimitSettings::default();
        let mut addresses = Addresses::default();
        let at = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..ADDRESSES_MAX as u32 {
            assert!(addresses.open(at(n), 0, &limits));
        }
        assert!(!addresses.open(at(u32::MAX), 0, &limits));
        assert!(addresses.open(at(7), 0, &limits), "one that is known is served");
        for n in 0..ADDRESSES_MAX as u32 {
            addresses.close(at(n));
        }
        assert!(!addresses.open(at(u32::MAX), 999_999_999, &limits), "looked through once a second");
        assert!(addresses.open(at(u32::MAX), 1_000_000_000, &limits));
        assert!(addresses.rows.len() <= 2, "the even ones are forgotten");
    }

    #[test]
    fn one_subscriber_is_one_address() {
        let limits = LimitSettings { address_peers_max: 1, ..LimitSettings::default() };
        let mut addresses = Addresses::default();
        let (a, b) = ("2001:db8::1".parse().expect("v6"), "2001:db8::2".parse().expect("v6"));
        assert!(addresses.open(a, 0, &limits));
        assert!(!addresses.open(b, 0, &limits));
        addresses.close(a);
        assert!(addresses.open(b, 0, &limits));
    }
}
