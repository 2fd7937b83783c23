//! The connection protocol: channels, requests about them, requests about the connection (RFC 4254).
#![expect(missing_docs, dead_code, reason = "stub")]
pub(crate) mod recv;
use crate::config::TransportConfig;
use crate::connection::{
    cx::Cx,
    role::{Role, Side},
};
use crate::error::{Error, Misuse};
use crate::limits::Limits;
use crate::log::Log;
use crate::packet::{Input, output::Output};
use std::time::Instant;

/// A stream of a channel: its data, or extended data of some type (RFC 4254 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream(pub u32);

impl Stream {
    /// `CHANNEL_DATA`: standard input one way, standard output the other.
    pub const DATA: Self = Self(0);
    /// `SSH_EXTENDED_DATA_STDERR`.
    pub const STDERR: Self = Self(1);
}
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) offset: usize,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelId(u32);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u32);
#[derive(Debug)]
pub struct OpenRequest;
#[derive(Debug)]
pub struct GlobalRequestToken;
#[derive(Debug)]
pub struct GlobalRequestReceived;
#[derive(Debug)]
pub struct OpenFailureReason(pub u32);
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer<'a> {
    Accept(&'a [u8]),
    Refuse,
}
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenChannel<'a> {
    Session,
    C(&'a str),
}
#[derive(Debug)]
pub(crate) enum Notice {
    Channel(ChannelId),
    OpenRequested(OpenRequest),
    GlobalRequested(GlobalRequestReceived),
    GlobalReplied {
        request: RequestId,
        reply: Option<Vec<u8>>,
    },
}
#[derive(Debug)]
pub struct Channel<'a, R: Role> {
    x: &'a u8,
    r: std::marker::PhantomData<R>,
}
#[derive(Debug)]
pub(crate) struct Channels;
impl Channels {
    pub(crate) fn new(_: Side, _: &TransportConfig) -> Self {
        Self
    }
    pub(crate) fn enable(&mut self) {}
    pub(crate) fn handle<E: From<Notice>>(
        &mut self,
        _: Payload<'_>,
        _: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        Ok(())
    }
    pub(crate) fn flush_owed<E: From<Notice>>(&mut self, _: &mut Cx<'_, E>) {}
    pub(crate) fn end<E: From<Notice>>(&mut self, _: &mut Cx<'_, E>) {}
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    pub(crate) fn handle_timeout<E: From<Notice>>(&mut self, _: &mut Cx<'_, E>) {}
    pub(crate) fn settle(&mut self, i: Input) -> Option<Input> {
        Some(i)
    }
    pub(crate) fn spare(&mut self) -> Option<Input> {
        None
    }
    pub(crate) fn trim(&mut self) {}
    pub(crate) fn idle_memory(&self) -> usize {
        0
    }
    pub(crate) fn send_keepalive<E>(&mut self, _: &mut Cx<'_, E>) {}
    pub(crate) fn channel<'a, R: Role>(
        &'a mut self,
        _: ChannelId,
        _: &'a mut Output,
        _: &'a mut Log,
        _: Limits,
        _: Instant,
    ) -> Option<Channel<'a, R>> {
        None
    }
    pub(crate) fn open<E>(
        &mut self,
        _: OpenChannel<'_>,
        _: &mut Cx<'_, E>,
    ) -> Result<ChannelId, Misuse> {
        Err(Misuse::Blocked)
    }
    pub(crate) fn accept_open<E>(
        &mut self,
        _: OpenRequest,
        _: &[u8],
        _: &mut Cx<'_, E>,
    ) -> Result<ChannelId, Misuse> {
        Err(Misuse::Blocked)
    }
    pub(crate) fn refuse_open<E>(
        &mut self,
        _: OpenRequest,
        _: OpenFailureReason,
        _: &str,
        _: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        Err(Misuse::Blocked)
    }
    pub(crate) fn global_request<E>(
        &mut self,
        _: &str,
        _: &[u8],
        _: bool,
        _: &mut Cx<'_, E>,
    ) -> Result<RequestId, Misuse> {
        Err(Misuse::Blocked)
    }
    pub(crate) fn answer_global<E>(
        &mut self,
        _: GlobalRequestToken,
        _: Answer<'_>,
        _: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        Err(Misuse::Blocked)
    }
}
