//! Rate limits by address for HTTP, before the frame hears of a call: what the frame refuses costs room in the journal too.

use std::net::IpAddr;
use std::sync::Mutex;

use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::limit::{ByAddress, Gcra, LimitSettings, Rate};
use tokio::time::Instant;

use crate::bridge::link::lock;

/// The door lets this many times through what the frame allows an address. The frame refuses the difference.
const FACTOR: u32 = 2;

/// Bytes of a body that count as one more call.
const CALL_BYTES: usize = 16 * 1024;

/// The budgets of all addresses. When all that are remembered are in debt, a new one is refused.
#[derive(Debug)]
pub(crate) struct Budgets {
    rate: Rate,
    since: Instant,
    rows: Mutex<ByAddress<Gcra>>,
}

impl Budgets {
    pub(crate) fn new(limits: &LimitSettings) -> Self {
        let times = |number: u32| number.saturating_mul(FACTOR);
        Budgets {
            rate: Rate::new(times(limits.address_calls), times(limits.address_calls_burst)),
            since: Instant::now(),
            rows: Mutex::default(),
        }
    }

    /// Takes one call.
    ///
    /// # Errors
    /// `rate_limited` with when to come back.
    pub(crate) fn call(&self, address: IpAddr) -> Result<(), Fault> {
        self.charge(address, 1)
    }

    /// Takes what a call's body costs.
    ///
    /// # Errors
    /// As [`Budgets::call`].
    pub(crate) fn body(&self, address: IpAddr, bytes: usize) -> Result<(), Fault> {
        self.charge(address, (bytes / CALL_BYTES) as u64)
    }

    fn charge(&self, address: IpAddr, units: u64) -> Result<(), Fault> {
        let now_ns = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut rows = lock(&self.rows);
        let taken = rows.row(address, now_ns, |row| row.is_even(now_ns)).ok_or(1000);
        taken.and_then(|row| row.take(now_ns, units, self.rate)).map_err(|retry_ms| {
            Fault::new(FaultKind::RateLimited, "too many calls from this address").retry_in_ms(retry_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kaos_kernel::limit::ADDRESSES_MAX;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_has_twice_what_the_frame_lets_it_do_and_long_bodies_count_for_more() {
        let budgets = Budgets::new(&LimitSettings {
            address_calls: 10,
            address_calls_burst: 20,
            ..LimitSettings::default()
        });
        let [a, b] = ["2001:db8::1", "2001:db8:0:1::1"].map(|text| text.parse().expect("an address"));
        for _ in 0..40 {
            assert_eq!(budgets.call(a), Ok(()));
        }
        let neighbour = "2001:db8::2".parse().expect("an address");
        let fault = budgets.call(neighbour).expect_err("one subscriber");
        assert_eq!((fault.kind, fault.retry_ms), (FaultKind::RateLimited, 50));
        assert_eq!(budgets.call(b), Ok(()));
        advance(Duration::from_secs(1)).await;
        assert_eq!(budgets.body(a, 256 * 1024), Ok(()));
        for _ in 0..4 {
            assert_eq!(budgets.call(a), Ok(()));
        }
        assert!(budgets.call(a).is_err(), "sixteen of the twenty went for the body");
        assert_eq!(budgets.body(a, CALL_BYTES - 1), Ok(()), "a short body is free");
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_forgotten_when_even_and_a_full_table_refuses_the_new() {
        let budgets = Budgets::new(&LimitSettings::default());
        let at = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..ADDRESSES_MAX as u32 {
            assert_eq!(budgets.call(at(n)), Ok(()));
        }
        assert!(budgets.call(at(u32::MAX)).is_err());
        assert_eq!(budgets.call(at(7)), Ok(()), "one that is known is served");
        advance(Duration::from_secs(2)).await;
        assert_eq!(budgets.call(at(u32::MAX)), Ok(()));
        assert_eq!(lock(&budgets.rows).len(), 1);
    }
}
