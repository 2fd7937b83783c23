//! What calls say once the connection has ended.

mod common;

use std::time::Duration;

use common::{TestServer, config};
use ssh_blocking::{Error, ssh_proto};

#[test]
fn an_attempt_after_the_end_says_why_the_connection_ended() {
    let mut config = config();
    config.transport.deadlines.authentication = Some(Duration::from_millis(100));
    let server = TestServer::start_with(config, |options| options);
    let client = server.connect();
    while client.is_alive() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let error = client.auth_password("user", "secret").unwrap_err();
    assert!(
        matches!(error, Error::Connection(ssh_proto::Error::Disconnected(_))),
        "{error:?}"
    );
}
