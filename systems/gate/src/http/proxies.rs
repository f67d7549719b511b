//! Proxies in front of the server: whose `X-Forwarded-For` is believed, and which address a request then comes from.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;

/// One entry a proxy: every proxy adds the address that it was called from, so the last ones are the nearest.
const FORWARDED: &str = "x-forwarded-for";

/// The proxies that are trusted. None by default: the header is ignored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Proxies(Vec<Net>);

impl Proxies {
    /// Reads addresses (`127.0.0.1`, `::1`) and networks (`10.0.0.0/8`).
    ///
    /// # Errors
    /// The first entry that is neither.
    pub fn parse(entries: &[String]) -> Result<Self, &str> {
        entries
            .iter()
            .map(|entry| entry.parse().map_err(|()| entry.as_str()))
            .collect::<Result<_, _>>()
            .map(Proxies)
    }

    /// Returns whether this is the address of a trusted proxy.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.holds(address))
    }

    /// Returns the address of the caller, for a connection from `peer`. If `peer` is a trusted proxy, that is the last
    /// address in the header that is not itself a trusted proxy: anybody may have written the entries before it. If there
    /// is no such address, or the entry is not an address, it is `peer`.
    ///
    /// Never loopback unless `peer` is: what is local to a proxy is not local here.
    pub(crate) fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trust(peer) {
            return peer;
        }
        let lines = headers.get_all(FORWARDED).iter().rev();
        let mut entries = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',').map(address));
        let caller = entries.find(|entry| entry.is_none_or(|address| !self.trust(address))).flatten();
        caller.filter(|caller| !caller.is_loopback() && !caller.is_unspecified()).unwrap_or(peer)
    }
}

/// An entry of the header: an address, with a port or without.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let address = entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Net {
    address: IpAddr,
    bits: u32,
}

impl Net {
    fn holds(self, other: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| (a ^ b).checked_shr(width - self.bits).unwrap_or(0) == 0;
        match (self.address, other.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Net {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, bits)| (a, Some(bits)));
        let address: IpAddr = address.parse().map_err(drop)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), str::parse).map_err(drop)?;
        if bits <= width { Ok(Net { address, bits }) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(entries: &[&str]) -> Proxies {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        Proxies::parse(&entries).expect("addresses")
    }

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED, axum::http::HeaderValue::from_bytes(line).expect("a value"));
        }
        headers
    }

    #[test]
    fn addresses_and_networks_are_read_and_nothing_else() {
        for wrong in
            ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::/129", "10.0.0.0/-1", "1.2.3.4:5"]
        {
            assert_eq!(Proxies::parse(&[wrong.to_owned()]), Err(wrong));
        }
        for (net, address, holds) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
        ] {
            assert_eq!(proxies(&[net]).trust(address.parse().expect("an address")), holds, "{net} {address}");
        }
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_caller() {
        let trusted = proxies(&["10.0.0.0/8", "127.0.0.1"]);
        let many = "1.2.3.4,".repeat(1000) + "198.51.100.9";
        for (peer, lines, caller) in [
            ("127.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            ("127.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("127.0.0.1", &["2001:db8::7"], "2001:db8::7"),
            ("127.0.0.1", &["[2001:db8::7]:80"], "2001:db8::7"),
            ("127.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            // Through two proxies; what the caller wrote itself stands before its address.
            ("10.0.0.2", &["1.1.1.1, nonsense, 203.0.113.9 , 10.0.0.1"], "203.0.113.9"),
            ("10.0.0.2", &["1.1.1.1", "203.0.113.9", "10.0.0.1,127.0.0.1"], "203.0.113.9"),
            ("10.0.0.2", &[many.as_str()], "198.51.100.9"),
            // Not a proxy: it may write what it likes.
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            // Nothing to go by.
            ("10.0.0.2", &[], "10.0.0.2"),
            ("10.0.0.2", &[""], "10.0.0.2"),
            ("10.0.0.2", &["10.0.0.7, 127.0.0.1"], "10.0.0.2"),
            ("10.0.0.2", &["203.0.113.9, unknown"], "10.0.0.2"),
            ("10.0.0.2", &["203.0.113.9, ,"], "10.0.0.2"),
            ("10.0.0.2", &["999.0.113.9"], "10.0.0.2"),
            ("10.0.0.2", &["::1"], "10.0.0.2"),
            ("10.0.0.2", &["0.0.0.0"], "10.0.0.2"),
        ] {
            let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let is = trusted.caller(peer.parse().expect("an address"), &headers(&bytes));
            assert_eq!(is.to_string(), caller, "{peer} {lines:?}");
        }
        let peer = IpAddr::from([10, 0, 0, 2]);
        assert_eq!(trusted.caller(peer, &headers(&[b"203.0.113.9, \xff\xfe"])), peer);
        assert_eq!(Proxies::default().caller(peer, &headers(&[b"203.0.113.9"])), peer);
    }
}
