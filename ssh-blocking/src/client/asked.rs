//! What a server asks of a client: kinds of channels and requests that the configuration lists, and channels of
//! listeners that the client asked for and takes care of itself. What nobody takes care of is refused.

use std::sync::Weak;

use ssh_proto::{
    Answer, ChannelId, ChannelRequest, ClientRole, GlobalRequestKind, GlobalRequestReceived,
    OpenFailureReason, OpenRequest, RequestToken,
};

use crate::channel::Owner;
use crate::driver::Shared;
use crate::pending::PendingChannel;

type OnOpen = Box<dyn FnMut(PendingChannel<ClientRole>) + Send>;
type CheckRequest = Box<dyn FnMut(ChannelId, &str, &[u8]) -> bool + Send>;
type CheckGlobal = Box<dyn FnMut(&str, &[u8]) -> Option<Vec<u8>> + Send>;

/// Who decides. At first nobody, which refuses.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) open: Option<OnOpen>,
    pub(super) request: Option<CheckRequest>,
    pub(super) global: Option<CheckGlobal>,
}

impl Asked {
    /// A channel that no forward takes.
    pub(super) fn open(
        &mut self,
        shared: &Shared<ClientRole>,
        owner: &Weak<Owner<ClientRole>>,
        request: OpenRequest,
    ) {
        match (&mut self.open, owner.upgrade()) {
            (Some(open), Some(owner)) => open(PendingChannel::new(owner, request)),
            _ => shared.act(|core| {
                let reason = OpenFailureReason::ADMINISTRATIVELY_PROHIBITED;
                _ = core.conn.refuse_open(request, reason, "");
            }),
        }
    }

    pub(super) fn request(
        &mut self,
        shared: &Shared<ClientRole>,
        id: ChannelId,
        request: &ChannelRequest,
        token: Option<RequestToken>,
    ) {
        let accepted = match (request, &mut self.request) {
            (ChannelRequest::Custom { name, data }, Some(check)) => check(id, name, data),
            _ => false,
        };
        if let Some(token) = token {
            shared.act(|core| {
                if let Some(mut channel) = core.conn.channel(id) {
                    _ = channel.reply(token, accepted);
                }
            });
        }
    }

    pub(super) fn global(&mut self, shared: &Shared<ClientRole>, request: GlobalRequestReceived) {
        let reply = match (&request.kind, &mut self.global) {
            (GlobalRequestKind::Custom { name, data }, Some(check)) => check(name, data),
            _ => None,
        };
        if let Some(token) = request.token {
            let answer = reply.as_deref().map_or(Answer::Refuse, Answer::Accept);
            shared.act(|core| _ = core.conn.answer_global(token, answer));
        }
    }
}
