//! What the driver does to its stream while much comes in.

mod common;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use common::{MIB, Seen, config, log_in, options, serve, server, soon};
use ssh_tokio::Client;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

#[derive(Default)]
struct Counts {
    driver_polls: AtomicUsize,
    reads: AtomicUsize,
    /// Reads that found nothing.
    in_vain: AtomicUsize,
    bytes: AtomicUsize,
    writes: AtomicUsize,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A stream that is watched.
struct Watched(DuplexStream, Arc<Counts>);

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        if polled.is_ready() {
            count(&self.1.reads);
            let len = buf.filled().len() - before;
            self.1.bytes.fetch_add(len, Ordering::Relaxed);
        } else {
            count(&self.1.in_vain);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        count(&self.1.writes);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn much_is_read_at_a_time_and_nothing_is_asked_for_in_vain() {
    let server = server(config(), &Arc::new(Seen::default()), |options| options);
    let (near, far) = tokio::io::duplex(256 * 1024);
    let serving = serve(&server, far);
    let counts = Arc::new(Counts::default());
    let stream = Watched(near, Arc::clone(&counts));
    let connecting = Client::connect_stream(stream, options());
    let (client, driver) = soon(connecting).await.unwrap();
    let polled = Arc::clone(&counts);
    let mut driver = Box::pin(driver);
    let driving = tokio::spawn(std::future::poll_fn(move |cx| {
        count(&polled.driver_polls);
        driver.as_mut().poll(cx)
    }));
    log_in(&client).await;
    let before = [&counts.reads, &counts.bytes].map(|count| count.load(Ordering::Relaxed));
    let output = soon(client.exec(format!("flood {}", 8 * MIB)).output()).await;
    assert_eq!(output.unwrap().stdout.len(), 8 * MIB);
    let [reads, bytes, in_vain, polls, writes] = [
        &counts.reads,
        &counts.bytes,
        &counts.in_vain,
        &counts.driver_polls,
        &counts.writes,
    ]
    .map(|count| count.load(Ordering::Relaxed));
    let at_a_time = (bytes - before[1]) / (reads - before[0]);
    assert!(at_a_time > 32 * 1024, "{at_a_time} bytes at a time");
    // A poll of the driver ends with one, unless it has its fill; besides that only what was written makes it look again.
    // The handshake was polled elsewhere.
    let reasons = polls + writes + 8;
    assert!(in_vain <= reasons, "{in_vain} in vain, for {reasons}");
    drop(client);
    soon(driving).await.unwrap().unwrap();
    soon(serving).await.unwrap().unwrap();
}
