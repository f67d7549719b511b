//! A stream whose writes fail when no byte goes out for a while, so that a client cannot hold a connection by not reading.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The time in which at least one waiting byte has to go out: as long as a request may take to come in.
pub(crate) const WRITE_TIME: Duration = Duration::from_secs(10);

/// The stream. Its writes fail with [`io::ErrorKind::TimedOut`] once [`WRITE_TIME`] has passed in which bytes waited
/// and none went out.
#[derive(Debug)]
pub(crate) struct WriteTimeout<S> {
    stream: S,
    /// Ends the writes, while bytes wait.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Somebody else looks after slow readers from now on.
    disarmed: Arc<AtomicBool>,
}

impl<S> WriteTimeout<S> {
    /// Around `stream`, until `disarmed` is set.
    pub(crate) fn new(stream: S, disarmed: Arc<AtomicBool>) -> Self {
        WriteTimeout { stream, stalled: None, disarmed }
    }

    /// The result of a write, or the time-out when its bytes have waited too long.
    fn or_timed_out<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() || self.disarmed.load(Ordering::Relaxed) {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIME)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.or_timed_out(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.or_timed_out(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.or_timed_out(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.or_timed_out(shut, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_ends_the_writes_and_a_slow_one_does_not() {
        let (there, mut here) = duplex(16);
        let mut stream = WriteTimeout::new(there, Arc::default());
        let began = Instant::now();
        let writing = async {
            let written = stream.write_all(&[7; 96]).await;
            (written.map_err(|error| error.kind()), began.elapsed())
        };
        let reading = async {
            // Five pieces of sixteen bytes, nine seconds apart, and then nothing more.
            let mut piece = [0; 16];
            for _ in 0..4 {
                sleep(Duration::from_secs(9)).await;
                here.read_exact(&mut piece).await.expect("memory does not fail");
            }
        };
        let ((written, after), ()) = tokio::join!(writing, reading);
        assert_eq!((written, after.as_secs()), (Err(io::ErrorKind::TimedOut), 4 * 9 + 10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_look_after_is_written_as_long_as_it_takes() {
        let (there, mut here) = duplex(16);
        let disarmed = Arc::new(AtomicBool::new(true));
        let mut stream = WriteTimeout::new(there, disarmed);
        let reading = async {
            sleep(Duration::from_secs(600)).await;
            here.read_exact(&mut [0; 32]).await
        };
        let (written, read) = tokio::join!(stream.write_all(&[7; 32]), reading);
        assert_eq!((written.is_ok(), read.is_ok()), (true, true));
    }
}
