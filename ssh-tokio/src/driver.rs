//! The future that a client's connection lives in, and the attendant of either role: what answers the peer's questions.

use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ssh_proto::error::DisconnectReason;
use ssh_proto::{ClientRole, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::BoxFuture;
use crate::Error;
use crate::core::Shared;
use crate::observers::Observers;
use crate::pump::{Pump, verdict};

/// Answers questions of the peer. What it runs was written by others.
pub(crate) struct Attendant {
    future: Option<BoxFuture<'static, ()>>,
}

impl Attendant {
    pub(crate) fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::boxed(Box::pin(future))
    }

    pub(crate) const fn boxed(future: BoxFuture<'static, ()>) -> Self {
        Self {
            future: Some(future),
        }
    }

    /// A panic ends this connection and no other.
    fn poll<R: Role>(&mut self, shared: &Shared<R>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        match panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(_) => shared.disconnect(DisconnectReason::BY_APPLICATION, "internal error"),
        }
        self.future = None;
        Poll::Ready(())
    }
}

/// Bytes and answers of one connection, in one future.
pub(crate) struct Drive<T, R: Role> {
    // Dropped first: what it holds may be the last handle, and the pump then knows.
    attendant: Attendant,
    pump: Pump<T, R>,
    shared: Arc<Shared<R>>,
}

impl<T, R> Drive<T, R>
where
    T: AsyncRead + AsyncWrite + Unpin,
    R: Role,
{
    pub(crate) fn new(
        shared: Arc<Shared<R>>,
        io: T,
        observers: Observers,
        attendant: Attendant,
    ) -> Self {
        Self {
            attendant,
            pump: Pump::new(Arc::clone(&shared), io, observers),
            shared,
        }
    }
}

impl<T, R> Future for Drive<T, R>
where
    T: AsyncRead + AsyncWrite + Unpin,
    R: Role,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (attendant, shared) = (&mut this.attendant, &this.shared);
        match this.pump.poll(cx, |cx| attendant.poll(shared, cx)) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(verdict(&this.shared)),
        }
    }
}

/// What a client's connection lives in: it moves the bytes and runs the timers while it is polled. Spawn it, or poll it
/// beside what uses the [`Client`](crate::Client).
///
/// It is ready when the connection has ended and its stream was shut down: with `Ok` when either side said so, with the
/// reason otherwise. Dropping it before ends the connection at once: everything that waits on it fails.
#[must_use = "nothing moves unless it is polled"]
pub struct Driver<T> {
    inner: Drive<T, ClientRole>,
}

impl<T> Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    pub(crate) const fn new(inner: Drive<T, ClientRole>) -> Self {
        Self { inner }
    }

    /// Has the current runtime poll it. The task ends with the connection.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn spawn(self) -> JoinHandle<Result<(), Error>>
    where
        T: Send + 'static,
    {
        tokio::spawn(self)
    }

    /// Drives the connection until `future` is ready, for callers that do not want a task of its own. It may be called
    /// again; in between nothing moves. When the connection ends first, `future` is still waited for: it is told.
    ///
    /// Cancellation: the driver is not touched by it; `future` is dropped.
    pub async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let mut over = false;
        std::future::poll_fn(|cx| {
            // The driver first: what it finds is what the future waits for.
            if !over {
                over = Pin::new(&mut self.inner).poll(cx).is_ready();
            }
            future.as_mut().poll(cx)
        })
        .await
    }
}

impl<T> Future for Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().inner).poll(cx)
    }
}

impl<T> fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}
