//! What is acknowledged, when, and in what form.

use super::*;
use crate::coding::Reader;

const DELAY: Duration = Duration::from_millis(10);

fn receive(numbers: impl IntoIterator<Item = u64>) -> Received {
    let mut received = Received::default();
    for number in numbers {
        if received.arrival(number) == Arrival::Fresh {
            received.insert(Micros(0), number, Content::Reliable, DELAY);
        }
    }
    received
}

/// The last of those that are due.
fn newest(received: &mut Received, now: Micros) -> Ack {
    loop {
        let ack = received.take_ack(now).unwrap();
        if !received.is_waiting() {
            return ack;
        }
    }
}

fn check(received: &mut Received, is_received: impl Fn(u64) -> bool, from: u64) {
    let ack = newest(received, Micros(800));
    let mut bytes = Vec::new();
    ack.encode(&mut bytes);
    let decoded = Ack::decode(&mut Reader::new(&bytes)).unwrap();
    assert_eq!(decoded, ack);
    for number in from..=ack.largest + 2 {
        assert_eq!(decoded.contains(number), is_received(number), "{number} in {ack:?}");
    }
}

#[test]
fn acks_say_exactly_what_came() {
    check(&mut receive(0..1), |n| n < 1, 0);
    check(&mut receive(0..200), |n| n < 200, 0);
    check(&mut receive((0..60).filter(|n| n % 3 != 1)), |n| n % 3 != 1 && n < 60, 0);
    check(&mut receive([5, 3, 9]), |n| [3, 5, 9].contains(&n), 0);
    let far = |n: u64| n < 20 || (40..50).contains(&n) || n == 70 || (140..150).contains(&n);
    check(&mut receive((0..150).filter(|&n| far(n))), far, 0);
    // More than three ranges behind the field: the older ones are not reported.
    let comb = |n: u64| n.is_multiple_of(10) && n <= 200;
    check(&mut receive((0..=200).filter(|&n| comb(n))), comb, 110);
}

#[test]
fn what_the_other_side_knows_is_not_said_again() {
    let mut received = receive((0..100).filter(|n| n % 2 == 0));
    received.ack_was_seen(98);
    received.insert(Micros(0), 99, Content::Reliable, DELAY);
    let mut bytes = Vec::new();
    newest(&mut received, Micros(0)).encode(&mut bytes);
    assert_eq!(bytes, [99, 0, 0, 1], "largest, delay, shape, run");
    received.insert(Micros(0), 51, Content::Reliable, DELAY);
    let ack = received.take_ack(Micros(0)).unwrap();
    assert!(ack.contains(51), "late under the floor");
}

#[test]
fn a_refused_packet_is_neither_acknowledged_nor_looked_at_again() {
    let mut received = receive([0, 1]);
    received.refuse(2);
    received.insert(Micros(0), 3, Content::Reliable, DELAY);
    received.refuse(4);
    assert_eq!((received.arrival(2), received.arrival(4)), (Arrival::Doubled, Arrival::Doubled));
    assert_eq!(received.expected(), 5);
    let ack = received.take_ack(Micros(0)).unwrap();
    assert_eq!(ack.largest, 3);
    assert!(ack.contains(1) && !ack.contains(2) && ack.contains(3) && !ack.contains(4));
}

#[test]
fn the_replay_window_moves_with_the_largest() {
    let received = receive([0, 1, 300]);
    assert_eq!(received.arrival(300), Arrival::Doubled);
    assert_eq!(received.arrival(299), Arrival::Fresh);
    assert_eq!(received.arrival(45), Arrival::Fresh);
    assert_eq!(received.arrival(44), Arrival::TooOld);
    assert_eq!(received.arrival(1), Arrival::TooOld);
    for step in [1, 63, 64, 65, 127, 128, 200, 255] {
        let received = receive([1000, 1000 + step]);
        for behind in 0..256 {
            let seen = received.arrival(1000 + step - behind) == Arrival::Doubled;
            assert_eq!(seen, behind == 0 || behind == step, "step {step} behind {behind}");
        }
    }
}

/// Batches of all sizes and losses between two polls: everything that came is reported.
#[test]
fn whatever_came_in_a_batch_is_told() {
    let mut rng = crate::lab::Rng::new(1);
    for round in 0..300 {
        let loss = [0.0, 0.005, 0.02, 0.1, 0.3, 0.6][round % 6];
        // The longest batch that fits into the parts when much is missing.
        let batch = 1 + rng.below(if loss > 0.05 { 1_000 } else { 2_400 });
        let (mut received, mut next, mut came, mut told) = (Received::default(), 0, vec![], vec![]);
        let mut acks = 0;
        for _ in 0..4 {
            for number in next..next + batch {
                if !rng.chance(loss) {
                    received.insert(Micros(number), number, Content::Reliable, DELAY);
                    came.push(number);
                }
            }
            next += batch;
            acks = 0;
            while received.is_due(Micros(next)) {
                let ack = received.take_ack(Micros(next)).unwrap();
                assert_eq!(ack.delay_us, next - ack.largest);
                acks += 1;
                told.push(ack);
            }
            assert!(acks <= 1 + PARTS_MAX * 2 && !received.is_waiting());
            assert!(loss > 0.0 || acks == 1, "no gap needs no parts");
        }
        let mut once = 0;
        for &number in &came {
            let times = told.iter().filter(|ack| ack.contains(number)).count();
            assert!(times > 0, "round {round}, loss {loss}, batches of {batch}: {number}");
            once += usize::from(times == 1 && number >= next - batch);
        }
        // One of the acknowledgements may be lost.
        assert!(loss > 0.02 || acks < 2 || once == 0, "{once} of {} were told once", came.len());
    }
}

#[test]
fn a_steady_stream_gets_an_acknowledgement_for_two() {
    let mut received = receive([0]);
    assert!(received.is_due(Micros(0)), "the first stands alone");
    received.take_ack(Micros(0));
    received.insert(Micros(5_000), 1, Content::Reliable, DELAY);
    assert!(!received.is_due(Micros(14_999)) && received.is_due(Micros(15_000)));
    received.insert(Micros(10_000), 2, Content::Reliable, DELAY);
    assert!(received.is_due(Micros(10_000)), "every second");
    received.take_ack(Micros(10_000));
    assert!(!received.is_waiting());
    received.insert(Micros(20_001), 3, Content::Reliable, DELAY);
    assert!(received.is_due(Micros(20_001)), "no other will come while it is held back");
    received.take_ack(Micros(20_001));
    received.insert(Micros(20_003), 4, Content::NotEliciting, DELAY);
    assert!(!received.is_waiting(), "acks are not acked");
    received.insert(Micros(20_004), 5, Content::Unreliable, DELAY);
    assert_eq!(received.deadline(), Micros(70_004));
}

#[test]
fn after_a_gap_each_packet_is_acknowledged_for_a_while() {
    let mut received = receive([0]);
    received.insert(Micros(1_000), 2, Content::Reliable, DELAY);
    let mut at_once = 0;
    for number in 3..1_000 {
        received.take_ack(Micros(number * 5_000));
        received.insert(Micros(number * 5_000), number, Content::Reliable, DELAY);
        at_once += u64::from(received.is_due(Micros(number * 5_000)));
    }
    assert_eq!(at_once, 254);
    received.insert(Micros(5_001_000), 1_001, Content::Reliable, DELAY);
    received.take_ack(Micros(5_001_000));
    received.insert(Micros(5_002_000), 1_002, Content::Reliable, DELAY);
    assert!(!received.is_due(Micros(5_002_000)), "in a fast stream every second is enough");
}

#[test]
fn forged_acks_do_not_decode() {
    let decode = |bytes: &[u8]| Ack::decode(&mut Reader::new(bytes));
    assert!(decode(&[5, 0, 0, 5]).is_ok());
    assert!(decode(&[5, 0, 0, 6]).is_err(), "a run below zero");
    assert!(decode(&[5, 0, 1, 0, 0xff]).is_err(), "a field below zero");
    assert!(decode(&[5, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(), "a field of nine bytes");
    assert!(decode(&[5, 0, 0x40, 0]).is_err(), "four ranges");
    assert!(decode(&[5, 0, 0x10, 0, 0, 0]).is_err(), "a range below zero");
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let mut bytes = huge.to_vec();
    bytes.extend([0, 0x30]);
    bytes.extend(huge.repeat(7));
    assert!(decode(&bytes).is_err());
}
