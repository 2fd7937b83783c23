//! A server that lets everybody in and hands its connections to the test.

use std::sync::{Mutex, mpsc};

use ssh_blocking::ssh_proto::key::PublicKey;
use ssh_blocking::ssh_proto::{ForwardAddress, LoginAttempt};
use ssh_blocking::{Handler, Server, ServerConnection, ServerOptions, Verdict};

use crate::common::config;

struct Open(mpsc::Sender<ServerConnection>);

impl Handler for Open {
    fn connected(&mut self, connection: &ServerConnection) {
        self.0.send(connection.clone()).unwrap();
    }

    fn check_key_offer(&mut self, _: &str, _: &PublicKey) -> bool {
        true
    }

    fn check_auth_public_key(&mut self, _: &LoginAttempt, _: &PublicKey) -> Verdict {
        Verdict::Accept
    }

    /// Grants every listener and has none: the test opens the channels.
    fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
        address.port()
    }

    fn check_cancel_forward(&mut self, _: &ForwardAddress) -> bool {
        true
    }
}

pub(crate) fn server() -> (Server, mpsc::Receiver<ServerConnection>) {
    let (sender, connections) = mpsc::channel();
    let sender = Mutex::new(sender);
    let options = ServerOptions::new(config(), move |_| Open(sender.lock().unwrap().clone()));
    (Server::new(options), connections)
}
