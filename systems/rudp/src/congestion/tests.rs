//! The algorithms on a calculated path: one queue, no packets.

use std::collections::VecDeque;

use super::*;
use crate::pacer::Pacer;

const MS: Duration = Duration::from_millis(1);

/// A bottleneck of `rate` bytes a second with a queue of `queue`, and a round trip of `base`.
struct Path {
    now: Micros,
    base: Duration,
    rate: u64,
    queue: Duration,
    /// How many of a thousand packets are lost before the queue, evenly spread.
    lost_per_mille: u64,
    busy: Micros,
    rtt_min: Duration,
    rtt: Duration,
    next: u64,
    /// Number, when it was sent, and when it is acknowledged; `None` for a lost packet, which is noticed with the next
    /// acknowledgement.
    flying: VecDeque<(u64, Micros, Option<Micros>)>,
    delivered: usize,
    wait_max: Duration,
    pacer: Pacer,
}

/// What an application has to send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// More than the window allows.
    Full,
    /// Less.
    Light,
}

impl Path {
    fn new(rate: u64, queue: Duration) -> Path {
        Path {
            now: Micros(1_000_000),
            base: MS * 50,
            rate,
            queue,
            lost_per_mille: 0,
            busy: Micros::ZERO,
            rtt_min: Duration::MAX,
            rtt: MS * 50,
            next: 0,
            flying: VecDeque::new(),
            delivered: 0,
            wait_max: Duration::ZERO,
            pacer: Pacer::default(),
        }
    }

    fn send(&mut self, control: &mut dyn Controller) {
        control.on_sent(self.now, self.flying.len() * PACKET);
        let wait = self.busy - self.now;
        let is_lost = self.next * self.lost_per_mille % 1000 < self.lost_per_mille || wait > self.queue;
        let back = (!is_lost).then(|| {
            self.wait_max = self.wait_max.max(wait);
            self.busy =
                self.busy.max(self.now) + Duration::from_micros(PACKET as u64 * 1_000_000 / self.rate);
            self.busy + self.base
        });
        self.flying.push_back((self.next, self.now, back));
        self.next += 1;
    }

    /// Sends all that the window allows for a time.
    fn run(&mut self, control: &mut dyn Controller, time: Duration) {
        self.run_under(Load::Full, control, time);
    }

    fn run_under(&mut self, load: Load, control: &mut dyn Controller, time: Duration) {
        let end = self.now + time;
        (self.delivered, self.wait_max) = (0, Duration::ZERO);
        while self.now < end {
            let most = if load == Load::Full { control.window() } else { 3 * PACKET };
            let mut paced = None;
            while self.flying.len() * PACKET < most.min(control.window()) {
                if !self.pacer.may_send(self.now, control.pacing_rate(), self.rtt) {
                    paced = Some(self.pacer.deadline());
                    break;
                }
                self.pacer.on_sent(PACKET);
                self.send(control);
            }
            let back = self.flying.iter().find_map(|packet| packet.2);
            if let Some(paced) = paced
                && back.is_none_or(|back| paced < back)
            {
                self.now = paced;
                continue;
            }
            let Some(at) = back else {
                self.flying.clear();
                self.now += MS * 200;
                control.on_persistent_loss();
                continue;
            };
            self.now = at;
            let lost = self.flying.iter().take_while(|packet| packet.2.is_none()).count() as u32;
            if lost > 0 {
                let number = self.flying[lost as usize - 1].0;
                self.flying.drain(..lost as usize);
                control.on_lost(&Lost { packets: lost, number, next: self.next });
            }
            let Some((number, sent_at, _)) = self.flying.pop_front() else { continue };
            let sample = self.now - sent_at;
            self.rtt_min = self.rtt_min.min(sample);
            self.rtt = (self.rtt * 7 + sample) / 8;
            self.delivered += PACKET;
            control.on_acked(&Acked {
                now: self.now,
                packets: 1,
                bytes: PACKET,
                number,
                sent_at,
                oldest_at: sent_at,
                next: self.next,
                rtt: Some(sample),
                rtt_min: self.rtt_min,
                rtt_smoothed: self.rtt,
                limited: load == Load::Full,
            });
        }
    }

    /// What the last `run` delivered, in per cent of what the path could carry.
    fn used(&self, time: Duration) -> u64 {
        (self.delivered as f64 * 100.0 / (self.rate as f64 * time.as_secs_f64())) as u64
    }
}

const MAX: usize = 16 * 1024 * 1024;

#[test]
fn one_train_tells_the_rate_and_the_queue_stays_short() {
    for rate in [125_000, 250_000, 1_250_000, 5_000_000, 12_500_000] {
        let (mut path, mut delay) = (Path::new(rate, MS * 500), Delay::new(MAX));
        path.run(&mut delay, MS * 1_000);
        assert!(path.used(MS * 1_000) >= 65, "{rate}: {} %", path.used(MS * 1_000));
        path.run(&mut delay, MS * 5_000);
        assert!(path.used(MS * 5_000) >= 95, "{rate}: {} %", path.used(MS * 5_000));
        // Four packets, the millisecond that does not count as a queue, and what a round overshoots.
        let most = Duration::from_micros(7 * PACKET as u64 * 1_000_000 / rate) + MS * 7;
        assert!(path.wait_max <= most, "{rate}: {:?} over {most:?}", path.wait_max);
    }
}

#[test]
fn eight_per_cent_of_random_loss_is_noise_and_twenty_is_not() {
    let mut path = Path::new(1_250_000, MS * 50);
    path.lost_per_mille = 80;
    let mut delay = Delay::new(MAX);
    path.run(&mut delay, MS * 1_000);
    path.run(&mut delay, MS * 5_000);
    assert!(path.used(MS * 5_000) >= 85, "{} %", path.used(MS * 5_000));
    path.lost_per_mille = 200;
    path.run(&mut delay, MS * 3_000);
    assert!(delay.window() <= 20 * PACKET, "{}", delay.window());
    path.lost_per_mille = 0;
    path.run(&mut delay, MS * 2_000);
    path.run(&mut delay, MS * 3_000);
    assert!(path.used(MS * 3_000) >= 90, "{} %", path.used(MS * 3_000));
}

#[test]
fn a_queue_too_short_to_be_seen_still_gets_its_cut() {
    // One millisecond at 10 Mbit/s: a single packet.
    let (mut path, mut delay) = (Path::new(1_250_000, MS), Delay::new(MAX));
    path.run(&mut delay, MS * 3_000);
    path.run(&mut delay, MS * 5_000);
    assert!(path.used(MS * 5_000) >= 70, "{} %", path.used(MS * 5_000));
    assert!(delay.window() <= 90 * PACKET, "{}", delay.window());
}

#[test]
fn who_sends_little_learns_nothing_about_much() {
    let paths = [Control::Delay(Delay::new(MAX)), Control::Cubic(Cubic::new(MAX))];
    for mut control in paths {
        let mut path = Path::new(250_000, MS * 500);
        path.run_under(Load::Light, &mut control, MS * 20_000);
        assert_eq!(control.window(), INITIAL);
    }
}

#[test]
fn a_slower_path_is_believed_within_two_rounds() {
    let (mut path, mut delay) = (Path::new(1_250_000, MS * 500), Delay::new(MAX));
    path.run(&mut delay, MS * 3_000);
    path.rate = 125_000;
    path.run(&mut delay, MS * 1_500);
    assert!(delay.window() <= 20 * PACKET, "{}", delay.window());
    path.run(&mut delay, MS * 1_500);
    path.run(&mut delay, MS * 3_000);
    assert!(path.used(MS * 3_000) >= 90);
    assert!(path.wait_max <= MS * 90, "{:?}", path.wait_max);
}

#[test]
fn silence_and_persistent_loss_begin_anew() {
    let (mut path, mut delay) = (Path::new(12_500_000, MS * 50), Delay::new(MAX));
    path.run(&mut delay, MS * 2_000);
    assert!(delay.window() > 300_000);
    delay.on_sent(path.now + MS * 11_000, 0);
    assert_eq!((delay.window(), delay.pacing_rate()), (INITIAL, RATE_MAX));
    delay.on_persistent_loss();
    assert_eq!(delay.window(), 4 * PACKET);
    assert!(delay.pacing_rate() >= RATE_MIN);
    delay.on_ecn(path.now, 0, 1);
}

#[test]
fn cubic_fills_the_queue_and_yields_to_loss() {
    let (mut path, mut cubic) = (Path::new(1_250_000, MS * 50), Cubic::new(MAX));
    path.run(&mut cubic, MS * 2_000);
    path.run(&mut cubic, MS * 20_000);
    assert!(path.used(MS * 20_000) >= 95, "{} %", path.used(MS * 20_000));
    assert!(path.wait_max >= MS * 40, "{:?}", path.wait_max);
    let window = cubic.window();
    cubic.on_lost(&Lost { packets: 1, number: path.next, next: path.next + 50 });
    assert_eq!(cubic.window(), (window as f64 * 0.7) as usize);
    cubic.on_lost(&Lost { packets: 1, number: path.next + 10, next: path.next + 60 });
    cubic.on_ecn(path.now, path.next + 20, path.next + 60);
    assert_eq!(cubic.window(), (window as f64 * 0.7) as usize, "once a round trip");
    cubic.on_persistent_loss();
    assert_eq!(cubic.window(), 2 * PACKET);
}

#[test]
fn hystart_leaves_slow_start_before_the_queue_is_full() {
    let (mut path, mut cubic) = (Path::new(1_250_000, MS * 2_000), Cubic::new(MAX));
    path.run(&mut cubic, MS * 1_000);
    assert!(path.wait_max < MS * 400, "{:?}", path.wait_max);
}
