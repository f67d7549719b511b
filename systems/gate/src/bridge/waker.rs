//! Waiting on the frame thread: for the sockets, for a wake from other threads, or for a moment in nanoseconds.
//!
//! On Linux the wake is an eventfd, elsewhere a UDP socket that talks to itself. Nobody writes to it unless
//! the frame thread has said that it is about to sleep.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};

/// Wakes one sleeping thread.
#[derive(Debug)]
pub struct Waker {
    /// The thread sleeps, or is about to.
    armed: AtomicBool,
    signal: Signal,
}

impl Waker {
    /// Makes one.
    ///
    /// # Errors
    /// The operating system gives no more descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Waker { armed: AtomicBool::new(false), signal: Signal::new()? })
    }

    /// Wakes the thread if it sleeps. Costs one atomic swap when it does not.
    pub fn wake(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            self.signal.raise();
        }
    }

    /// Sleeps until `wake`, until `socket` can be read (or written, if it says so), or for `time_out` (`None`:
    /// without end). `ready` is asked once more before sleeping, so that nothing that came in between is
    /// missed. Returns whether it woke for anything but the time.
    pub fn wait(
        &self,
        socket: Option<(BorrowedFd<'_>, bool)>,
        time_out: Option<Duration>,
        ready: impl FnOnce() -> bool,
    ) -> bool {
        self.armed.store(true, Ordering::SeqCst);
        if ready() {
            self.armed.store(false, Ordering::SeqCst);
            return true;
        }
        let time_out = time_out.and_then(|time| Timespec::try_from(time).ok());
        let own = PollFd::from_borrowed_fd(self.signal.fd(), PollFlags::IN);
        // An error here is a signal that came, or no memory for a moment: the caller looks at the time anyway.
        let came = match socket {
            Some((socket, and_write)) => {
                let wanted = if and_write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                let mut fds = [own, PollFd::from_borrowed_fd(socket, wanted)];
                poll(&mut fds, time_out.as_ref())
            }
            None => poll(&mut [own], time_out.as_ref()),
        };
        self.armed.store(false, Ordering::SeqCst);
        let came = came.unwrap_or(0) > 0;
        if came {
            self.signal.clear();
        }
        came
    }
}

/// Sleeps for `time`, to the nanosecond if the operating system can.
pub fn pause(time: Duration) {
    if let Ok(time) = Timespec::try_from(time) {
        let _ = poll(&mut [], Some(&time));
    }
}

/// Asks the operating system to end this thread's sleeps when they are over and not up to 50 µs later.
pub fn sleep_exactly() {
    #[cfg(target_os = "linux")]
    {
        // Refused in some containers; then frames are 50 µs later and nothing else is different.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    }
}

#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Signal(rustix::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Signal {
    fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Signal(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    fn raise(&self) {
        // Full means that it was raised before.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Signal(std::net::UdpSocket);

#[cfg(not(target_os = "linux"))]
impl Signal {
    fn new() -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        socket.set_nonblocking(true)?;
        Ok(Signal(socket))
    }

    fn raise(&self) {
        let _ = self.0.send(&[1]);
    }

    fn clear(&self) {
        while self.0.recv(&mut [0; 8]).is_ok() {}
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
