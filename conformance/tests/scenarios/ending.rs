//! The end of a connection: announced by either side, or not at all (RFC 4253 section 11.1).

use conformance::scenario::{
    Act, ChannelScript, Deed, Exit, Scenario, command, exit, join, open, read, read_all, write,
};
use ssh_proto::error::DisconnectReason;

use crate::everywhere;

/// A program that waits for its input, and a client that waits for its output.
fn waiting() -> ChannelScript {
    command("waiting")
        .client([read(10), Act::Mark("begun"), read_all()])
        .server([write(10), read_all(), Act::Return(Exit::Missing)])
}

#[test]
fn the_client_says_why_it_disconnects() {
    let scenario = Scenario::new().channel(waiting()).client([
        open("waiting"),
        Deed::Await("begun"),
        Deed::Disconnect(DisconnectReason::BY_APPLICATION, "enough for today"),
    ]);
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client waiting: opened; reading: disconnected; data 10 of server's; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 "enough for today"
        server waiting: reading: disconnected by the peer: 11 "enough for today"; exec waiting granted; data none; closed
        "#,
    );
    let scenario = Scenario::new().client([Deed::Disconnect(
        DisconnectReason::HOST_KEY_NOT_VERIFIABLE,
        "",
    )]);
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        server: publickey of alice accepted; alice is in; disconnected by the peer: 9 ""
        "#,
    );
}

#[test]
fn the_server_says_why_it_disconnects() {
    let scenario = Scenario::new()
        .channel(waiting())
        .client([open("waiting"), join("waiting")])
        .server([
            Deed::Await("begun"),
            Deed::Disconnect(DisconnectReason::SERVICE_NOT_AVAILABLE, "going down"),
        ]);
    everywhere(
        &scenario,
        r#"
        client: in; disconnected by the peer: 7 "going down"
        client waiting: opened; reading: disconnected by the peer: 7 "going down"; data 10 of server's; closed
        server: publickey of alice accepted; alice is in; disconnected
        server waiting: reading: disconnected; exec waiting granted; data none; closed
        "#,
    );
}

#[test]
fn after_a_cut_both_know_and_what_had_arrived_is_there() {
    let scenario = Scenario::new()
        .configure(|_, server| {
            server
                .transport
                .own
                .global_requests
                .push("ask@example.com".into())
        })
        // What was written has arrived when the answer to a later request has.
        .channel(
            command("down")
                .client([Act::Await("cut"), read_all()])
                .server([
                    write(100_000),
                    Act::Mark("written"),
                    read_all(),
                    Act::Return(Exit::Missing),
                ]),
        )
        // What was acknowledged was read.
        .channel(
            command("up")
                .client([
                    write(70_000),
                    read(1),
                    Act::Mark("acknowledged"),
                    read_all(),
                ])
                .server([read(70_000), write(1), read_all(), exit(0)]),
        )
        // Nothing was lost of what had ended before.
        .channel(
            command("before")
                .client([read_all()])
                .server([write(30_000), exit(3)]),
        )
        .client([
            open("down"),
            open("up"),
            open("before"),
            join("before"),
            Deed::Await("written"),
            Deed::Await("acknowledged"),
            Deed::Global {
                name: "ask@example.com",
                data: "all there?",
                want_reply: true,
            },
            Deed::Cut,
            Deed::Mark("cut"),
        ]);
    everywhere(
        &scenario,
        r#"
        client: in; ask@example.com: "you said all there?"; cut
        client before: opened; data 30000 of server's; exit 3; eof; closed
        client down: opened; reading: cut; data 100000 of server's; closed
        client up: opened; reading: cut; data 1 of server's; closed
        server: publickey of alice accepted; alice is in; ask@example.com "all there?" granted; cut
        server before: exec before granted; closed
        server down: reading: cut; exec down granted; data none; closed
        server up: reading: cut; exec up granted; data 70000 of client's; closed
        "#,
    );
}
