//! How many handshakes an address may ask for: GCRA, with one point in time per address, in a bounded table.
//!
//! Only addresses that a cookie has proved come here, so nobody can use up another's share.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use crate::{config::Config, timer::Micros};

/// Addresses remembered at once: 200 KB. Each costs its owner a real handshake and is forgotten after
/// `handshake_interval` if no other follows, so thousands at once are an attack by someone with very many addresses.
const ADDRESSES_MAX: usize = 4096;
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub(crate) struct Limiter {
    /// By address: when its burst is whole again (GCRA's theoretical arrival time).
    whole_at: BTreeMap<u128, Micros>,
    prune_at: Micros,
}

impl Limiter {
    /// Whether `ip` may begin a handshake now; counts it if so.
    pub(crate) fn allows(&mut self, now: Micros, ip: IpAddr, config: &Config) -> bool {
        let ip = ip.to_canonical();
        if config.handshake_interval.is_zero() || ip.is_loopback() {
            return true;
        }
        self.prune(now);
        let key = network(ip);
        let known = self.whole_at.get(&key).copied();
        if known.is_none() && self.whole_at.len() >= ADDRESSES_MAX {
            return false;
        }
        let whole_at = known.unwrap_or(now).max(now);
        let allowed = config.handshake_interval.saturating_mul(config.handshake_burst.max(1) - 1);
        if whole_at - now > allowed {
            return false;
        }
        self.whole_at.insert(key, whole_at + config.handshake_interval);
        true
    }

    /// Forgets addresses whose burst is whole again. Looks once a second.
    pub(crate) fn prune(&mut self, now: Micros) {
        if self.prune_at <= now && !self.whole_at.is_empty() {
            self.whole_at.retain(|_, whole_at| *whole_at > now);
            self.prune_at = now + PRUNE_EVERY;
        }
    }
}

/// An IPv4 address, or the first 64 bits of an IPv6 address, which a household is given as a whole.
fn network(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_then_one_an_interval_each_address_for_itself() {
        let config = Config { handshake_burst: 3, ..Config::default() };
        let (mut limiter, start) = (Limiter::default(), Micros::from_millis(5000));
        let mut taken = |now, text| limiter.allows(now, ip(text), &config);
        assert_eq!([1, 2, 3, 4, 5].map(|_| taken(start, "10.0.0.1")), [true, true, true, false, false]);
        assert!(taken(start, "10.0.0.2"));
        assert!(!taken(start, "::ffff:10.0.0.1"), "the same address, written otherwise");
        let later = start + Duration::from_millis(50);
        assert_eq!([1, 2].map(|_| taken(later, "10.0.0.1")), [true, false]);
        let later = start + Duration::from_secs(1);
        assert_eq!([1, 2, 3, 4].map(|_| taken(later, "10.0.0.1")), [true, true, true, false]);
        // One household of IPv6, whatever its last 64 bits say.
        let household =
            ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:1:2:3", "2001:db8::4", "2001:db8:0:1::4"];
        assert_eq!(household.map(|text| taken(start, text)), [true, true, true, false, true]);
        assert!((0..100).all(|_| taken(start, "127.0.0.1") && taken(start, "::1")));
    }

    #[test]
    fn the_table_is_bounded_and_empties() {
        let (mut limiter, config) = (Limiter::default(), Config::default());
        let now = Micros::from_millis(1);
        let many = |limiter: &mut Limiter, now| {
            (0..10_000u32)
                .filter(|&n| limiter.allows(now, IpAddr::from((n + (10 << 24)).to_be_bytes()), &config))
                .count()
        };
        assert_eq!(many(&mut limiter, now), ADDRESSES_MAX);
        assert_eq!(limiter.whole_at.len(), ADDRESSES_MAX);
        limiter.prune(now + Duration::from_secs(2));
        assert!(limiter.whole_at.is_empty());
    }
}
