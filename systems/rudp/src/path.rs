//! Where the packets of a connection go: the proven address, and the trial of a new one.
//!
//! A connection is found by its id, so its peer may appear at another address: its router forgot a mapping, or its
//! phone changed networks. Somebody who copies packets looks the same. So a genuine packet from a new address, with a
//! number higher than all before, only begins a *trial* (RFC 9000, section 9): packets go to the new address, with at
//! most three times the bytes that came from there, and each of the two addresses is sent a challenge of eight random
//! bytes. The answer to the challenge of the new address, coming from there, is the proof. Until then:
//! * a newer packet from the proven address ends the trial;
//! * an answer to the challenge of the proven address, wherever it comes from, shows that the peer still receives
//!   there: packets go there again, while the trial waits for its proof;
//! * three probe time-outs without a proof end the trial.

use std::{mem, net::SocketAddr, time::Duration};

use crate::timer::Micros;

/// Bytes of a challenge and of its answer.
pub(crate) const CHALLENGE_BYTES: usize = 8;
/// Bytes that may be sent to an unproven address for each byte that came from it.
pub(crate) const ALLOWANCE_FACTOR: usize = 3;
/// How many probe time-outs a trial lasts.
const TRIAL_PTOS: u32 = 3;
/// Trials without a proof that may follow each other at once.
const TRIALS_MAX: u8 = 4;
/// The time after which one more may begin. A walker changes networks less often, and a copier cannot silence the peer
/// for a round trip more often than that.
const TRIAL_EVERY: Duration = Duration::from_secs(5);
/// Challenges that may wait to be answered. Their sender repeats any others.
const ANSWERS_MAX: usize = 2;

/// A challenge, or the answer to one.
pub(crate) type Challenge = [u8; CHALLENGE_BYTES];

/// See the module.
pub(crate) struct Path {
    proven: SocketAddr,
    /// `None` while the peer stays where it is.
    trial: Option<Box<Trial>>,
    /// The other side's challenges.
    answers: [Challenge; ANSWERS_MAX],
    answers_count: u8,
    /// Trials without a proof that still count against `TRIALS_MAX`, and since when the oldest of them is being
    /// forgotten.
    trials: u8,
    trials_since: Micros,
}

struct Trial {
    addr: SocketAddr,
    /// Bytes that may still be sent to `addr`.
    allowance: usize,
    /// For `addr`, and for the proven address.
    challenges: [Challenge; 2],
    are_due: [bool; 2],
    proven_answered: bool,
    next_at: Micros,
    wait: Duration,
    ends_at: Micros,
}

/// What a packet or the time has done to the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Nothing,
    /// Packets go to an address on trial now.
    Tried,
    /// Packets go to the proven address again.
    Returned,
    /// The address on trial has become the proven one. The value is the old one.
    Moved(SocketAddr),
    /// Too many trials: the packet is taken in, but its address is not followed.
    Refused,
}

impl Path {
    pub(crate) fn new(now: Micros, addr: SocketAddr) -> Path {
        Path {
            proven: addr,
            trial: None,
            answers: [[0; CHALLENGE_BYTES]; ANSWERS_MAX],
            answers_count: 0,
            trials: 0,
            trials_since: now,
        }
    }

    /// The address that has shown that it receives.
    pub(crate) fn proven(&self) -> SocketAddr {
        self.proven
    }

    /// Where packets go.
    pub(crate) fn target(&self) -> SocketAddr {
        match &self.trial {
            Some(trial) if !trial.proven_answered => trial.addr,
            _ => self.proven,
        }
    }

    /// Bytes that may be sent to `target` now.
    pub(crate) fn allowance(&self) -> usize {
        match &self.trial {
            Some(trial) if !trial.proven_answered => trial.allowance,
            _ => usize::MAX,
        }
    }

    pub(crate) fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// A genuine packet of `bytes` came from `from`; `newest`: its number is higher than all before. If a trial begins,
    /// it lasts `TRIAL_PTOS` times `pto`, and takes its challenges from `random`.
    pub(crate) fn on_packet(
        &mut self,
        now: Micros,
        from: SocketAddr,
        bytes: usize,
        newest: bool,
        pto: Duration,
        random: impl FnOnce() -> [u8; 32],
    ) -> Change {
        match &mut self.trial {
            Some(trial) if trial.addr == from => {
                trial.allowance = trial.allowance.saturating_add(bytes * ALLOWANCE_FACTOR);
                return Change::Nothing;
            }
            Some(_) if from == self.proven && newest => return self.give_up(),
            _ if from == self.proven || !newest || !is_somewhere(&from) => return Change::Nothing,
            _ => {}
        }
        if !self.may_try(now) {
            return Change::Refused;
        }
        let random = random();
        let (mut new, mut old) = ([0; CHALLENGE_BYTES], [0; CHALLENGE_BYTES]);
        new.copy_from_slice(&random[..CHALLENGE_BYTES]);
        old.copy_from_slice(&random[CHALLENGE_BYTES..2 * CHALLENGE_BYTES]);
        let wait = pto * 3 / 4;
        self.trial = Some(Box::new(Trial {
            addr: from,
            allowance: bytes * ALLOWANCE_FACTOR,
            challenges: [new, old],
            are_due: [true; 2],
            proven_answered: false,
            next_at: now + wait,
            wait,
            ends_at: now + pto * TRIAL_PTOS,
        }));
        Change::Tried
    }

    /// An answer came from `from`.
    pub(crate) fn on_answer(&mut self, from: SocketAddr, answer: &Challenge) -> Change {
        let Some(trial) = &mut self.trial else { return Change::Nothing };
        if *answer == trial.challenges[0] && from == trial.addr {
            let old = mem::replace(&mut self.proven, from);
            self.trial = None;
            self.trials = self.trials.saturating_sub(1);
            return Change::Moved(old);
        }
        if *answer == trial.challenges[1] && !mem::replace(&mut trial.proven_answered, true) {
            trial.are_due[1] = false;
            return Change::Returned;
        }
        Change::Nothing
    }

    fn give_up(&mut self) -> Change {
        match self.trial.take() {
            Some(trial) if trial.proven_answered => Change::Nothing,
            Some(_) => Change::Returned,
            None => Change::Nothing,
        }
    }

    fn may_try(&mut self, now: Micros) -> bool {
        while self.trials > 0 && self.trials_since + TRIAL_EVERY <= now {
            self.trials -= 1;
            self.trials_since += TRIAL_EVERY;
        }
        if self.trials == TRIALS_MAX {
            return false;
        }
        if self.trials == 0 {
            self.trials_since = now;
        }
        self.trials += 1;
        true
    }

    // ---- the other side's challenges ----

    /// A challenge came from `from`. It is answered only if packets go there anyway.
    pub(crate) fn on_challenge(&mut self, from: SocketAddr, challenge: Challenge) {
        let count = usize::from(self.answers_count);
        if from == self.target() && count < ANSWERS_MAX && !self.answers[..count].contains(&challenge) {
            self.answers[count] = challenge;
            self.answers_count += 1;
        }
    }

    pub(crate) fn has_answers(&self) -> bool {
        self.answers_count > 0
    }

    pub(crate) fn pop_answer(&mut self) -> Option<Challenge> {
        self.answers_count = self.answers_count.checked_sub(1)?;
        Some(self.answers[usize::from(self.answers_count)])
    }

    // ---- out ----

    /// The next challenge to send, and where to. Its datagram has `bytes`.
    pub(crate) fn pop_challenge(&mut self, bytes: usize) -> Option<(SocketAddr, Challenge)> {
        let trial = self.trial.as_mut()?;
        if mem::take(&mut trial.are_due[0]) && trial.allowance >= bytes {
            return Some((trial.addr, trial.challenges[0]));
        }
        mem::take(&mut trial.are_due[1]).then_some((self.proven, trial.challenges[1]))
    }

    /// `bytes` left for `to`.
    pub(crate) fn on_sent(&mut self, to: SocketAddr, bytes: usize) {
        if let Some(trial) = &mut self.trial
            && trial.addr == to
        {
            trial.allowance = trial.allowance.saturating_sub(bytes);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Micros> {
        self.trial.as_ref().map(|trial| trial.next_at.min(trial.ends_at))
    }

    pub(crate) fn on_timeout(&mut self, now: Micros) -> Change {
        let Some(trial) = &mut self.trial else { return Change::Nothing };
        if trial.ends_at <= now {
            return self.give_up();
        }
        if trial.next_at <= now {
            trial.are_due = [true, !trial.proven_answered];
            trial.wait = trial.wait * 3 / 2;
            trial.next_at = now + trial.wait;
        }
        Change::Nothing
    }
}

/// Whether it is an address that can be sent to.
fn is_somewhere(addr: &SocketAddr) -> bool {
    addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTO: Duration = Duration::from_millis(100);
    const START: Micros = Micros(1_000_000);

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 7))
    }

    fn random() -> [u8; 32] {
        let mut random = [1; 32];
        random[8..16].fill(2);
        random
    }

    /// A packet from `from`, newer than all before.
    fn newer(path: &mut Path, now: Micros, from: SocketAddr) -> Change {
        path.on_packet(now, from, 30, true, PTO, random)
    }

    fn tried() -> Path {
        let mut path = Path::new(START, addr(1));
        assert_eq!(newer(&mut path, START, addr(2)), Change::Tried);
        path
    }

    #[test]
    fn only_the_right_bytes_from_the_right_place_are_a_proof() {
        let mut path = tried();
        assert_eq!((path.target(), path.proven(), path.allowance()), (addr(2), addr(1), 90));
        assert_eq!(path.pop_challenge(30), Some((addr(2), [1; 8])));
        path.on_sent(addr(2), 30);
        assert_eq!(path.pop_challenge(30), Some((addr(1), [2; 8])));
        path.on_sent(addr(1), 30);
        assert_eq!((path.pop_challenge(30), path.allowance()), (None, 60));
        assert_eq!(path.on_answer(addr(2), &[3; 8]), Change::Nothing);
        assert_eq!(path.on_answer(addr(3), &[1; 8]), Change::Nothing);
        assert_eq!(path.on_answer(addr(1), &[1; 8]), Change::Nothing);
        assert_eq!(path.on_answer(addr(2), &[1; 8]), Change::Moved(addr(1)));
        assert_eq!((path.target(), path.allowance(), path.deadline()), (addr(2), usize::MAX, None));
        assert_eq!(path.on_answer(addr(2), &[1; 8]), Change::Nothing);
    }

    #[test]
    fn the_proven_address_is_gone_back_to() {
        let mut path = tried();
        let older = path.on_packet(START, addr(1), 30, false, PTO, random);
        assert_eq!(older, Change::Nothing);
        assert_eq!(newer(&mut path, START, addr(1)), Change::Returned);
        assert_eq!((path.target(), path.deadline()), (addr(1), None));

        let mut path = tried();
        assert_eq!(path.on_answer(addr(2), &[2; 8]), Change::Returned, "the peer still receives there");
        assert_eq!((path.target(), path.allowance()), (addr(1), usize::MAX));
        assert_eq!(path.on_answer(addr(2), &[1; 8]), Change::Moved(addr(1)), "and at the new one, too");

        let mut path = tried();
        let mut challenges = 0;
        for ms in 0..400 {
            let now = START + Duration::from_millis(ms);
            let change = path.on_timeout(now);
            assert_eq!(change, if ms == 300 { Change::Returned } else { Change::Nothing }, "{ms} ms");
            while path.pop_challenge(30).is_some() {
                challenges += 1;
            }
        }
        assert_eq!(challenges, 6, "three each, with back-off");
    }

    #[test]
    fn trials_are_counted() {
        let mut path = Path::new(START, addr(1));
        let mut tried = 0;
        for round in 0..200u64 {
            let now = START + Duration::from_millis(100 * round);
            tried += u32::from(newer(&mut path, now, addr(2)) == Change::Tried);
            newer(&mut path, now, addr(1));
        }
        assert_eq!(tried, 4 + 3, "four at once, then one each five seconds");
    }

    #[test]
    fn challenges_are_answered_once_and_only_where_packets_go() {
        let mut path = Path::new(START, addr(1));
        path.on_challenge(addr(2), [9; 8]);
        assert!(!path.has_answers());
        for byte in [5, 5, 6, 7] {
            path.on_challenge(addr(1), [byte; 8]);
        }
        assert_eq!(
            [path.pop_answer(), path.pop_answer(), path.pop_answer()],
            [Some([6; 8]), Some([5; 8]), None]
        );
    }
}
