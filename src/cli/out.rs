//! Where the words go: results to standard output, troubles to standard error, colours only on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The two outputs.
pub(super) struct Out {
    color: bool,
    error_color: bool,
}

impl Out {
    pub(super) fn new() -> Out {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        Out {
            color: wanted && std::io::stdout().is_terminal(),
            error_color: wanted && std::io::stderr().is_terminal(),
        }
    }

    /// A line of the result. Whoever closed the pipe does not want to know more.
    pub(super) fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    pub(super) fn error(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{} {text}", paint(self.error_color, "31;1", "error:"));
    }

    pub(super) fn warning(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{} {text}", paint(self.error_color, "33;1", "warning:"));
    }

    /// For people who watch: standard error, so that results can be piped.
    pub(super) fn remark(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// A line that is written over the one before, on a terminal; nothing elsewhere.
    pub(super) fn progress(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            let mut err = std::io::stderr();
            let _ = write!(err, "\r\x1b[2K{text}");
            let _ = err.flush();
        }
    }

    pub(super) fn bold(&self, text: &str) -> String {
        paint(self.color, "1", text)
    }

    pub(super) fn dim(&self, text: &str) -> String {
        paint(self.color, "2", text)
    }

    pub(super) fn green(&self, text: &str) -> String {
        paint(self.color, "32;1", text)
    }

    pub(super) fn red(&self, text: &str) -> String {
        paint(self.color, "31;1", text)
    }
}

fn paint(color: bool, code: &str, text: &str) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Now, for how long something took.
#[expect(clippy::disallowed_methods, reason = "the command line is outside the frame")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Seconds of Unix time.
#[expect(clippy::disallowed_methods, reason = "the command line is outside the frame")]
pub(super) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Waits, on a thread that has nothing else to do.
#[expect(clippy::disallowed_methods, reason = "the command line is outside the frame")]
pub(super) fn sleep_ms(ms: u64) {
    std::thread::sleep(std::time::Duration::from_millis(ms));
}

/// 1234567 as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
