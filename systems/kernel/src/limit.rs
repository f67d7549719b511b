//! Rate limits on frame numbers: the generic cell rate algorithm (ITU-T I.371), one number a key.

mod settings;
pub use settings::LimitSettings;

use std::collections::BTreeMap;
use std::net::IpAddr;

use bevy_ecs::prelude::*;

/// A rate: so many units a second, so many at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Nanoseconds that one unit costs.
    unit_ns: u64,
    /// Nanoseconds that may be run up beforehand.
    burst_ns: u64,
}

impl Rate {
    /// `per_sec` units a second, none counting as one, and `burst` at once.
    pub fn new(per_sec: u32, burst: u32) -> Self {
        let unit_ns = (1_000_000_000 / u64::from(per_sec.max(1))).max(1);
        Rate { unit_ns, burst_ns: unit_ns.saturating_mul(u64::from(burst)) }
    }

    /// So many units, or as many as may be taken at once: more would never be there.
    pub(crate) fn at_most_a_burst(self, units: u32) -> u64 {
        u64::from(units).min(self.burst_ns / self.unit_ns)
    }

    /// One unit in so many seconds, so many at once.
    pub(crate) fn slow(secs: u32, burst: u32) -> Self {
        let unit_ns = u64::from(secs.max(1)) * 1_000_000_000;
        Rate { unit_ns, burst_ns: unit_ns.saturating_mul(u64::from(burst)) }
    }
}

/// The state of one key: its theoretical arrival time, in nanoseconds of the grid. A unit that comes no earlier finds nothing
/// run up.
#[derive(Clone, Copy, Default, Debug)]
pub struct Gcra(u64);

impl Gcra {
    /// Takes `units`.
    ///
    /// # Errors
    /// In how many milliseconds they would be there, at least 1.
    pub fn take(&mut self, now_ns: u64, units: u64, rate: Rate) -> Result<(), u32> {
        let even = self.0.max(now_ns).saturating_add(units.saturating_mul(rate.unit_ns));
        let allowed = now_ns.saturating_add(rate.burst_ns);
        if even > allowed {
            let wait_ms = (even - allowed).div_ceil(1_000_000);
            return Err(u32::try_from(wait_ms).unwrap_or(u32::MAX).max(1));
        }
        self.0 = even;
        Ok(())
    }

    /// Takes `units`, whatever is there: a debt is paid off before anything else is taken.
    pub fn charge(&mut self, now_ns: u64, units: u64, rate: Rate) {
        self.0 = self.0.max(now_ns).saturating_add(units.saturating_mul(rate.unit_ns));
    }

    /// The theoretical arrival time, for the state hash.
    pub(crate) fn arrival_time(&self) -> u64 {
        self.0
    }

    /// Is nothing run up any more?
    pub fn is_even(&self, now_ns: u64) -> bool {
        self.0 <= now_ns
    }
}

/// Addresses that are remembered: 65,536 rows of 48 bytes are 3 MiB and more attackers than a session table holds.
pub const ADDRESSES_MAX: usize = 1 << 16;

/// A row for each address that has done something lately, for [`subject`]s. At most [`ADDRESSES_MAX`] are remembered.
#[derive(Debug)]
pub struct ByAddress<R> {
    rows: BTreeMap<IpAddr, R>,
    /// Rows after which idle ones are thrown out; doubles with what must be remembered.
    sweep_at: usize,
    /// Before this, in nanoseconds, a full table is not gone through again.
    swept_until: u64,
}

impl<R> Default for ByAddress<R> {
    fn default() -> Self {
        ByAddress { rows: BTreeMap::new(), sweep_at: 0, swept_until: 0 }
    }
}

impl<R: Default> ByAddress<R> {
    /// The address's row, made when there is none; rows that are `idle` are forgotten now and then. `None` when the
    /// table is full of others: it is gone through again after a second.
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

    /// The address's row, if there is one.
    pub fn get_mut(&mut self, address: IpAddr) -> Option<&mut R> {
        self.rows.get_mut(&subject(address))
    }

    /// How many addresses are remembered.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// What one address holds and did.
#[derive(Clone, Copy, Default, Debug)]
struct AddressRow {
    peers: u32,
    calls: Gcra,
    starts: Gcra,
}

/// Limits by address. When all addresses that are remembered are in debt or connected, a new one is refused.
#[derive(Resource, Default, Debug)]
pub(crate) struct Addresses {
    rows: ByAddress<AddressRow>,
}

impl Addresses {
    fn row(&mut self, address: IpAddr, now_ns: u64) -> Option<&mut AddressRow> {
        let idle =
            |row: &AddressRow| row.peers == 0 && row.calls.is_even(now_ns) && row.starts.is_even(now_ns);
        self.rows.row(address, now_ns, idle)
    }

    /// A peer opened; `false`: the address has too many.
    pub(crate) fn open(&mut self, address: IpAddr, now_ns: u64, limits: &LimitSettings) -> bool {
        let Some(row) = self.row(address, now_ns) else { return false };
        let admitted = row.peers < limits.address_peers_max;
        row.peers += u32::from(admitted);
        admitted
    }

    /// A peer that was admitted is gone.
    pub(crate) fn close(&mut self, address: IpAddr) {
        if let Some(row) = self.rows.get_mut(address) {
            row.peers = row.peers.saturating_sub(1);
        }
    }

    pub(crate) fn call(
        &mut self,
        address: IpAddr,
        now_ns: u64,
        cost: u32,
        limits: &LimitSettings,
    ) -> Result<(), u32> {
        let rate = Rate::new(limits.address_calls, limits.address_calls_burst);
        self.row(address, now_ns).ok_or(1000u32)?.calls.take(now_ns, rate.at_most_a_burst(cost), rate)
    }

    /// Takes the rest of a call's price, of which `paid` is there already. Together they are never more than a burst.
    ///
    /// # Errors
    /// In how many milliseconds the whole price would be there: whoever comes again pays from the beginning.
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
        let taken = self.row(address, now_ns).ok_or(1000u32)?.calls.take(now_ns, rest, rate);
        let again_ms = u64::from(paid).saturating_mul(rate.unit_ns).div_ceil(1_000_000);
        taken.map_err(|ms| ms.saturating_add(u32::try_from(again_ms).unwrap_or(u32::MAX)))
    }

    /// Takes what a call from this address turned out to cost.
    pub(crate) fn charge(&mut self, address: IpAddr, now_ns: u64, cost: u32, limits: &LimitSettings) {
        let rate = Rate::new(limits.address_calls, limits.address_calls_burst);
        if let Some(row) = self.row(address, now_ns) {
            row.calls.charge(now_ns, u64::from(cost), rate);
        }
    }

    pub(crate) fn start(&mut self, address: IpAddr, now_ns: u64, limits: &LimitSettings) -> Result<(), u32> {
        let rate = Rate::new(limits.address_starts, limits.address_starts_burst);
        self.row(address, now_ns).ok_or(1000u32)?.starts.take(now_ns, 1, rate)
    }
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 subscriber gets (RFC 6177).
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
