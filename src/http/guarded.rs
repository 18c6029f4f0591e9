//! A stream that ends itself when its client takes too long, and that closes so that the client can
//! still read the answer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use super::activity::{Activity, Phase, Timeouts};
use crate::types::Instant;

/// A stream under the timers of [`Timeouts`].
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    activity: Activity,
    timeouts: Timeouts,
    /// Wakes the reader when what the client owes is due; then ends the lingering.
    read_timer: Pin<Box<Sleep>>,
    /// Wakes the writer when nothing could be written for too long.
    write_timer: Pin<Box<Sleep>>,
    write_stalled: bool,
    /// Our half is closed; what still comes is thrown away.
    lingering: bool,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, activity: Activity, timeouts: Timeouts) -> Self {
        let now = Instant::now();
        Self {
            stream,
            activity,
            timeouts,
            read_timer: Box::pin(sleep_until(now)),
            write_timer: Box::pin(sleep_until(now)),
            write_stalled: false,
            lingering: false,
        }
    }

    fn expire(&self, phase: Phase) -> io::Error {
        self.activity.expire(phase);
        io::Error::new(io::ErrorKind::TimedOut, phase.as_str())
    }

    /// Nothing to read: waits until what the client owes is due, then fails.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let now = Instant::now();
            let wake_at = match self.activity.due(&self.timeouts) {
                Some((phase, at)) if at <= now => return Poll::Ready(Err(self.expire(phase))),
                Some((_, at)) => at,
                // Nothing is owed while the server is at work. HTTP/2 answers end on tasks of their
                // own, without waking this reader, so it looks again by itself.
                None => now + self.timeouts.idle,
            };
            let timer = &mut self.read_timer;
            // While nothing is owed, the timer is left where it is: every read would move it.
            if timer.is_elapsed() || timer.deadline() > wake_at || timer.deadline() <= now {
                timer.as_mut().reset(wake_at);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }

    /// Passes on what a write came to; fails when none could go on for too long.
    fn poll_written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.write_stalled {
                self.write_stalled = false;
                self.activity.wrote(true);
            }
            return written;
        }
        if !self.write_stalled {
            self.write_stalled = true;
            self.activity.wrote(false);
            self.write_timer.as_mut().reset(Instant::now() + self.timeouts.write);
        }
        ready!(self.write_timer.as_mut().poll(cx));
        Poll::Ready(Err(self.expire(Phase::Write)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let n_before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.activity.read(&buf.filled()[n_before..]);
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_due(cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.poll_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.poll_written(cx, flushed)
    }

    /// Closes our half, then reads on for a moment: closing a socket with unread bytes in it makes
    /// the kernel send a reset, which can take the answer away from a client still uploading.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.lingering {
            let closed = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.poll_written(cx, closed))?;
            this.lingering = true;
            this.read_timer.as_mut().reset(Instant::now() + this.timeouts.linger);
        }
        let mut scratch = [0; 4096];
        while this.read_timer.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if buf.filled().is_empty() => break,
                Ok(()) => {}
                Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        first_byte: Duration::from_secs(5),
        header: Duration::from_secs(5),
        idle: Duration::from_secs(60),
        write: Duration::from_secs(30),
        linger: Duration::from_secs(1),
    };

    fn pair() -> (DuplexStream, Guarded<DuplexStream>, Activity) {
        let (client, server) = duplex(64);
        let activity = Activity::new();
        (client, Guarded::new(server, activity.clone(), TIMEOUTS), activity)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_given_up() {
        let (_client, mut server, activity) = pair();
        let began = Instant::now();
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(activity.expired(), Some(Phase::FirstByte));
        assert_eq!(began.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dribbled_head_is_given_up_and_an_idle_connection_is_not() {
        let (mut client, mut server, activity) = pair();
        client.write_all(b"GET").await.unwrap();
        server.read_exact(&mut [0; 3]).await.unwrap();
        drop(activity.begin().answered());
        let began = Instant::now();
        let (read, ()) = tokio::join!(server.read_u8(), async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            client.write_u8(b'G').await.unwrap();
        });
        assert_eq!(read.unwrap(), b'G');
        assert_eq!(began.elapsed().as_secs(), 50);
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(activity.expired(), Some(Phase::Header));
        assert_eq!(began.elapsed().as_secs(), 55);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_reading_is_given_up() {
        let (_client, mut server, activity) = pair();
        let error = server.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(activity.expired(), Some(Phase::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_slow_but_reads_is_not_idle() {
        let (mut client, server, activity) = pair();
        client.write_all(b"GET").await.unwrap();
        let (mut from_client, mut to_client) = tokio::io::split(server);
        from_client.read_exact(&mut [0; 3]).await.unwrap();
        // The answer is handed over whole; what is left of it is in the way to the socket.
        drop(activity.begin().answered());
        let began = Instant::now();
        let write = async { to_client.write_all(&[0; 640]).await.unwrap() };
        let read = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                client.read_exact(&mut [0; 64]).await.unwrap();
            }
        };
        let both = async { tokio::join!(write, read) };
        tokio::select! {
            _all_of_it = both => {}
            ended = from_client.read_u8() => panic!("{ended:?} after {:?}", began.elapsed()),
        }
        assert_eq!(began.elapsed().as_secs(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn what_still_comes_after_the_answer_is_read_for_a_moment() {
        let (mut client, mut server, _activity) = pair();
        let began = Instant::now();
        let (closed, written) = tokio::join!(server.shutdown(), client.write_all(&[0; 10_000]));
        closed.unwrap();
        written.unwrap();
        assert_eq!(began.elapsed().as_secs(), 1, "the client never closed its half");
    }
}
