//! Keys: what opens and what does not, changes of keys, forged packets.

use super::*;
use crate::packet::Writer;

fn split() -> Split {
    Split::for_tests([1; 32], [2; 32])
}

fn pair(suite: Suite, change_after: u64) -> (Keys, Keys) {
    (
        Keys::new(suite, Side::Connector, &split(), change_after),
        Keys::new(suite, Side::Acceptor, &split(), change_after),
    )
}

fn sealed(keys: &mut Keys, number: u64) -> Vec<u8> {
    let mut datagram = Vec::new();
    Writer::new(&mut datagram, Some(7), number, number.checked_sub(1), None).ping();
    keys.seal(number, &mut datagram);
    datagram
}

fn opens(keys: &mut Keys, now: Micros, number: u64, datagram: &[u8]) -> bool {
    let Some(header) = Header::parse(datagram) else { return false };
    let mut datagram = datagram.to_vec();
    let opened = keys.open(now, Duration::from_millis(100), &header, number, &mut datagram);
    opened.is_ok_and(|frames| frames == [1])
}

const NOW: Micros = Micros(1_000_000);

#[test]
fn one_flipped_bit_another_number_or_another_side_is_refused() {
    for suite in [Suite::Plaintext, Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let (mut client, mut server) = pair(suite, 1000);
        let datagram = sealed(&mut client, 9);
        assert_eq!(datagram.len(), 1 + 4 + 2 + 1 + TAG_BYTES);
        assert_eq!(datagram[7] == 1, suite == Suite::Plaintext, "the frame is readable");
        assert!(opens(&mut server, NOW, 9, &datagram));
        server.sleep();
        assert!(!server.are_awake() && opens(&mut server, NOW, 9, &datagram) && server.are_awake());
        client.sleep();
        assert_eq!(sealed(&mut client, 9), datagram, "keys that slept are the same");
        assert!(!opens(&mut server, NOW, 8, &datagram));
        assert!(!opens(&mut client.clone(), NOW, 9, &datagram));
        for bit in 0..datagram.len() * 8 {
            let mut bad = datagram.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&mut server, NOW, 9, &bad), "{suite:?}, bit {bit}");
        }
        for length in 0..datagram.len() {
            assert!(!opens(&mut server, NOW, 9, &datagram[..length]));
        }
        assert_eq!(server.changes(), 0, "a forged phase changes nothing");
    }
}

#[test]
fn keys_change_after_so_many_packets_and_overtaken_ones_still_open_for_a_while() {
    for suite in [Suite::Plaintext, Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let (mut client, mut server) = pair(suite, 10);
        let late = sealed(&mut client, 5);
        assert!(!client.change(9, Some(8)));
        assert!(!client.change(10, None), "nothing of this phase was acknowledged");
        assert!(client.change(10, Some(0)));
        assert!(!client.change(11, Some(9)), "nothing of the new phase was");
        let (first, second) = (sealed(&mut client, 10), sealed(&mut client, 11));
        assert_eq!(first[0] & FLAG_PHASE, FLAG_PHASE);
        // The second of the new phase overtakes the first.
        assert!(opens(&mut server, NOW, 11, &second));
        server.sleep();
        assert!(opens(&mut server, NOW, 10, &first));
        assert_eq!((server.changes(), server.deadline()), (1, Some(NOW + Duration::from_millis(100))));
        assert!(opens(&mut server, NOW, 5, &late));
        assert!(!opens(&mut server, NOW + Duration::from_millis(100), 5, &late), "its key is forgotten");
        assert_eq!(server.deadline(), None);
        // And the next change, back to the first value of the bit.
        assert!(client.change(20, Some(10)));
        let third = sealed(&mut client, 20);
        assert_eq!(third[0] & FLAG_PHASE, 0);
        assert!(opens(&mut server, NOW, 20, &third));
        assert!(!opens(&mut server, NOW, 5, &late), "two phases ago");
    }
}

#[test]
fn whoever_only_acknowledges_asks_once_when_it_is_time() {
    let (_, mut server) = pair(Suite::Aes256Gcm, 10);
    assert!(!server.must_ask(9, None) && !server.change(9, None));
    assert!(!server.must_ask(10, Some(3)), "then the key changes");
    assert!(!server.change(10, None) && server.must_ask(10, None));
    assert!(!server.must_ask(11, None), "it was asked");
    assert!(server.change(15, Some(10)));
    assert!(!server.must_ask(25, Some(10)), "the first packet of the phase did");
}

#[test]
fn the_keys_wear_out() {
    for (suite, limit) in [(Suite::Aes256Gcm, 1 << 52), (Suite::ChaCha20Poly1305, 1u64 << 36)] {
        let (mut client, mut server) = pair(suite, 10);
        assert_eq!(suite.failed_max(), limit);
        let mut bad = sealed(&mut client, 1);
        bad[8] ^= 1;
        server.pretend_failed(2);
        assert!(!opens(&mut server, NOW, 1, &bad) && !server.are_worn(1));
        assert!(!opens(&mut server, NOW, 1, &bad) && server.are_worn(1));
        assert!(!client.are_worn(SEALED_MAX - 1) && client.are_worn(SEALED_MAX));
    }
}
