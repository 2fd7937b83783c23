//! A server for the tests of forwarding.

use std::sync::Arc;

use ssh_blocking::ssh_proto::key::PublicKey;
use ssh_blocking::ssh_proto::{ForwardAddress, LoginAttempt, OpenKind};
use ssh_blocking::{
    Client, ForwardPolicy, Forwarding, Handler, OpenVerdict, Server, ServerConnection,
    ServerHandle, ServerOptions, Verdict,
};

use crate::common::{config, keys, options};

struct User(Forwarding);

impl Handler for User {
    fn connected(&mut self, connection: &ServerConnection) {
        self.0.connected(connection);
    }
    fn check_key_offer(&mut self, _: &str, _: &PublicKey) -> bool {
        true
    }
    fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        assert_eq!(key, keys().1.public());
        Verdict::Accept
    }
    fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            other => self.0.check_open(other),
        }
    }
    fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
        self.0.check_forward(address)
    }
    fn forward_granted(&mut self, address: &ForwardAddress) {
        self.0.granted(address);
    }
    fn check_cancel_forward(&mut self, address: &ForwardAddress) -> bool {
        self.0.cancel(address)
    }
}

/// A server that forwards what the policy grants, and does nothing else.
pub(crate) fn server(policy: ForwardPolicy) -> ServerHandle {
    let options = ServerOptions::new(config(), move |_| User(Forwarding::new(policy.clone())));
    Server::new(options).bind("127.0.0.1:0").unwrap()
}

pub(crate) fn generous() -> ForwardPolicy {
    ForwardPolicy::new()
        .listen_on_loopback()
        .listen_on_paths(|_| true)
        .connect(|_| true)
}

/// Connected and authenticated.
pub(crate) fn client(server: &ServerHandle) -> Client {
    let client = Client::connect(server.address(), options()).unwrap();
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).unwrap().success());
    client
}
