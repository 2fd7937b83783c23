//! The commands of a trace, given to a connection. Questions are answered by their numbers, which are the same again
//! because they are drawn: the tokens that answer them are made of these.

use std::time::Instant;

use crate::auth::{
    KeyOffer, LoginAttempt, PasswordChange, Prompts, SignaturePurpose, SignatureRequest,
};
use crate::channel::{
    Answer, Channel, GlobalRequestToken, OpenFailureReason, OpenRequest, RequestToken,
};
use crate::connection::event::HostKeyOffer;
use crate::connection::role::{ClientRole, Role, ServerRole};
use crate::connection::{Client, Connection, Server};
use crate::error::DisconnectReason;
use crate::key::PublicKey;
use crate::names::SignatureAlgorithm;
use crate::packet::Draft;
use crate::replay::command::Command;
use crate::replay::fields::Serial;

/// What only a client does, and all else. A command of the other role does nothing: the output tells.
pub(super) fn client(client: &mut Client, command: &Command, data: &[u8], now: Instant) {
    match command {
        Command::AcceptHostKey { serial } => _ = client.accept_host_key(host_key(*serial)),
        Command::RejectHostKey { serial } => _ = client.reject_host_key(host_key(*serial)),
        Command::Authenticate {
            user, credential, ..
        } => _ = client.authenticate(user, credential.clone(), now),
        Command::Answer { serial, answers } => {
            _ = client.answer(Prompts::numbered(serial.0), answers);
        }
        Command::ChangePassword { serial, old, new } => {
            let request = PasswordChange::numbered(serial.0);
            _ = client.change_password(request, old.clone(), new.clone());
        }
        Command::SupplySignature { serial, signature } => {
            let signature = signature.as_ref().map(|signature| &*signature.0);
            _ = client.supply_signature(signature_request(*serial), signature);
        }
        Command::RequestForward { address, .. } => {
            _ = client.request_forward(address.clone(), now);
        }
        Command::CancelForward { forward, .. } => _ = client.cancel_forward(*forward, now),
        Command::NoMoreSessions { .. } => _ = client.no_more_sessions(now),
        Command::Start { id, .. }
        | Command::Pty { id, .. }
        | Command::Env { id, .. }
        | Command::Resize { id, .. }
        | Command::Signal { id, .. }
        | Command::Break { id, .. } => {
            if let Some(channel) = client.channel(*id) {
                client_channel(channel, command);
            }
        }
        _ => common(client, command, data, now),
    }
}

fn client_channel(mut channel: Channel<'_, ClientRole>, command: &Command) {
    match command {
        Command::Start { program, .. } => _ = channel.start(program.lent()),
        Command::Pty { pty, .. } => _ = channel.pty(pty),
        Command::Env { name, value, .. } => _ = channel.env(&name.0, &value.0),
        Command::Resize { size, .. } => _ = channel.resize(*size),
        Command::Signal { signal, .. } => _ = channel.signal(signal),
        Command::Break { ms, .. } => _ = channel.send_break(*ms),
        _ => {}
    }
}

/// What only a server does, and all else.
pub(super) fn server(server: &mut Server, command: &Command, data: &[u8], now: Instant) {
    match command {
        Command::AcceptKey { serial } => _ = server.accept_key(key_offer(*serial)),
        Command::RefuseKey { serial } => _ = server.refuse_key(key_offer(*serial)),
        Command::Grant { serial } => _ = server.grant(LoginAttempt::numbered(serial.0)),
        Command::Refuse { serial } => _ = server.refuse(LoginAttempt::numbered(serial.0)),
        Command::Partial { serial, methods } => {
            _ = server.partial(LoginAttempt::numbered(serial.0), methods);
        }
        Command::Prompt { serial, round } => {
            _ = server.prompt(LoginAttempt::numbered(serial.0), round);
        }
        Command::RequirePasswordChange { serial, prompt } => {
            _ = server.require_password_change(LoginAttempt::numbered(serial.0), prompt);
        }
        Command::Banner { text } => _ = server.banner(text),
        Command::SupplySignature { serial, signature } => {
            let signature = signature.as_ref().map(|signature| &*signature.0);
            _ = server.supply_signature(signature_request(*serial), signature);
        }
        Command::ExitStatus { id, .. } | Command::ExitSignal { id, .. } => {
            if let Some(channel) = server.channel(*id) {
                server_channel(channel, command);
            }
        }
        _ => common(server, command, data, now),
    }
}

fn server_channel(mut channel: Channel<'_, ServerRole>, command: &Command) {
    match command {
        Command::ExitStatus { status, .. } => _ = channel.send_exit_status(*status),
        Command::ExitSignal { exit, .. } => _ = channel.send_exit_signal(exit),
        _ => {}
    }
}

/// What both roles do. Results need no look: whatever they are, the output shows it.
fn common<R: Role>(connection: &mut Connection<R>, command: &Command, data: &[u8], now: Instant) {
    match command {
        Command::Input { stale, .. } => connection.handle_copy(data, *stale, now),
        Command::Eof { .. } => connection.handle_eof(now),
        Command::Timeout { .. } => connection.handle_timeout(now),
        Command::Open { kind, .. } => _ = connection.open(kind.lent(), now),
        Command::AcceptOpen { id, data } => {
            _ = connection.accept_open(OpenRequest::numbered(*id), &data.0);
        }
        Command::RefuseOpen {
            id,
            reason,
            description,
        } => {
            let reason = OpenFailureReason(*reason);
            _ = connection.refuse_open(OpenRequest::numbered(*id), reason, description);
        }
        Command::GlobalRequest {
            name,
            data,
            want_reply,
            ..
        } => _ = connection.global_request(name, &data.0, *want_reply, now),
        Command::AnswerGlobal {
            serial,
            wants_port,
            answer,
        } => {
            let answer = match answer {
                Some(data) => Answer::Accept(&data.0),
                None => Answer::Refuse,
            };
            let token = GlobalRequestToken::numbered(*serial, *wants_port);
            _ = connection.answer_global(token, answer);
        }
        Command::Rekey { .. } => _ = connection.rekey(now),
        Command::Ignore { len } => _ = connection.ignore(*len),
        Command::Ping { data, .. } => _ = connection.ping(&data.0, now),
        Command::Disconnect { reason, text, .. } => {
            connection.disconnect(DisconnectReason(*reason), text, now);
        }
        Command::Discard { id, .. }
        | Command::LayOutNow { id, .. }
        | Command::CombineStderr { id }
        | Command::Request { id, .. }
        | Command::Reply { id, .. }
        | Command::ChannelEof { id }
        | Command::EndOfWrite { id }
        | Command::Close { id }
        | Command::Release { id }
        | Command::SetReceiveWindow { id, .. } => {
            if let Some(channel) = connection.channel(*id) {
                common_channel(channel, command);
            }
        }
        _ => {}
    }
}

fn common_channel<R: Role>(mut channel: Channel<'_, R>, command: &Command) {
    match command {
        Command::Discard { stream, .. } => channel.discard(*stream),
        // What became of it is seen in what comes after.
        Command::LayOutNow { stream, .. } => {
            _ = channel.lay_out_now(*stream, &mut Draft::new());
        }
        Command::CombineStderr { .. } => channel.combine_stderr(),
        Command::Request {
            name,
            data,
            want_reply,
            ..
        } => _ = channel.request(name, &data.0, *want_reply),
        Command::Reply { id, serial, accept } => {
            _ = channel.reply(RequestToken::numbered(*id, *serial), *accept);
        }
        Command::ChannelEof { .. } => channel.eof(),
        Command::EndOfWrite { .. } => _ = channel.end_of_write(),
        Command::Close { .. } => channel.close(),
        Command::Release { .. } => channel.release(),
        Command::SetReceiveWindow { bytes, .. } => channel.set_receive_window(*bytes),
        _ => {}
    }
}

fn host_key(serial: Serial) -> HostKeyOffer {
    HostKeyOffer::new(serial.0, no_key())
}

fn key_offer(serial: Serial) -> KeyOffer {
    KeyOffer::numbered(serial.0, no_key())
}

fn signature_request(serial: Serial) -> SignatureRequest {
    let (purpose, algorithm) = (SignaturePurpose::HostKey, SignatureAlgorithm::Ed25519);
    SignatureRequest::new(serial.0, purpose, no_key(), algorithm, Vec::new())
}

/// Nobody looks at the key in a token that is handed back.
fn no_key() -> PublicKey {
    PublicKey::from_ed25519(&[0; 32])
}
