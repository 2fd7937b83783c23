//! From the first packet behind authentication on.

use super::*;

#[test]
fn what_follows_success_in_the_same_read_is_taken() {
    let mut pair = Pair::default();
    let attempt = pair.attempt(Credential::public_key(user_key()));
    pair.server.grant(attempt).unwrap();
    // As OpenSSH does, which tells its other host keys at once.
    pair.server
        .global_request("hostkeys-00@openssh.com", b"", false, pair.now)
        .unwrap();
    pair.run(usize::MAX);
    assert_eq!(pair.client.closed(), None);
    assert!(pair.client.is_authenticated());
}

#[test]
fn what_waited_behind_the_attempt_is_taken_when_it_is_granted() {
    let mut pair = Pair::default();
    pair.client
        .authenticate("alice", Credential::public_key(user_key()), pair.now)
        .unwrap();
    while !format!("{:?}", pair.client.auth).contains("Waiting") {
        pair.carry(usize::MAX);
        if let Some(ClientEvent::HostKeyOffered(offer)) = pair.client.poll_event() {
            pair.client.accept_host_key(offer).unwrap();
        }
    }
    // A client that is sure of itself.
    pair.client
        .out
        .transport(&Raw(b"\x50\0\0\0\x01x\0"));
    pair.carry(usize::MAX);
    let Some(ServerEvent::LoginAttempted(attempt)) = pair.server.poll_event() else {
        panic!("no attempt");
    };
    assert!(pair.server.stalled);
    pair.server.grant(attempt).unwrap();
    pair.run(usize::MAX);
    assert_eq!(pair.server.closed(), None);
}
