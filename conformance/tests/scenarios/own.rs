//! Kinds of channels and requests of the caller's own, in both directions; PING; requests that only want an answer.

use std::time::Duration;

use conformance::scenario::{
    Act, ChannelScript, Deed, Kind, Scenario, ask, bye, custom, join, open, read_all, write,
};
use ssh_proto::config::Keepalive;
use ssh_proto::{ClientConfig, OpenFailureReason, ServerConfig};

use crate::everywhere;

const KIND: &str = "own@example.com";

fn both_know(client: &mut ClientConfig, server: &mut ServerConfig) {
    for own in [&mut client.transport.own, &mut server.transport.own] {
        own.channel_kinds.push(KIND.into());
        own.channel_requests.push("poke@example.com".into());
        own.global_requests.push("ask@example.com".into());
    }
}

fn kind(name: &str, data: &'static str) -> ChannelScript {
    ChannelScript::new(name, Kind::Custom(KIND, data))
}

#[test]
fn own_kinds_carry_data_both_ways() {
    let scenario = Scenario::new()
        .configure(both_know)
        .channel(
            kind("up", "hi")
                .accepted_with("you said hi")
                .client([write(1_000), Act::Eof, read_all()])
                .server([Act::Echo, Act::Close]),
        )
        .channel(kind("no", "no").refused(OpenFailureReason::CONNECT_FAILED, "not now"))
        .channel(
            kind("down", "hello")
                .by_server()
                .accepted_with("you said hello")
                .server([write(2_000), Act::Eof, read_all()])
                .client([Act::Echo, Act::Close]),
        )
        .channel(
            kind("down-no", "down no")
                .by_server()
                .refused(OpenFailureReason::RESOURCE_SHORTAGE, "too many"),
        )
        .client([
            open("up"),
            open("no"),
            join("up"),
            Deed::Await("server down is over"),
            Deed::Await("server down-no is over"),
            join("down"),
            bye(),
        ])
        .server([open("down"), open("down-no")]);
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client down: own@example.com "hello" accepted; data 2000 of server's; eof; closed
        client down-no: own@example.com "down no" refused
        client no: not opened: 2 "not now"
        client up: opened "you said hi"; data 1000 of client's; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server down: opened "you said hello"; data 2000 of server's; closed
        server down-no: not opened: 4 "too many"
        server no: own@example.com "no" refused
        server up: own@example.com "hi" accepted; data 1000 of client's; eof; closed
        "#,
    );
}

#[test]
fn own_requests_are_answered_both_ways() {
    let poke = |data| custom("poke@example.com", data);
    let scenario = Scenario::new().configure(both_know).channel(
        kind("a", "")
            .client([
                ask(poke("gently")),
                ask(poke("not at all")),
                Act::Ask(poke("silently"), false),
                ask(custom("unheard-of@example.com", "")),
                ask(custom("keepalive@openssh.com", "")),
                Act::Await("answered"),
                Act::Close,
            ])
            .server([
                Act::Expect("poke@example.com \"silently\" granted"),
                ask(poke("back")),
                ask(poke("nothing back")),
                ask(custom("unheard-of@example.com", "")),
                ask(custom("keepalive@openssh.com", "")),
                Act::Mark("answered"),
            ]),
    );
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; poke@example.com "gently": granted; poke@example.com "not at all": refused; poke@example.com "silently"; unheard-of@example.com "": refused; keepalive@openssh.com "": refused; poke@example.com "back" granted; poke@example.com "nothing back" refused; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: own@example.com "" accepted; poke@example.com "back": granted; poke@example.com "nothing back": refused; unheard-of@example.com "": refused; keepalive@openssh.com "": refused; poke@example.com "gently" granted; poke@example.com "not at all" refused; poke@example.com "silently" granted; closed
        "#,
    );
}

#[test]
fn requests_about_the_connection_are_answered_both_ways() {
    let global = |name, data, want_reply| Deed::Global {
        name,
        data,
        want_reply,
    };
    let deeds = [
        global("ask@example.com", "what", true),
        global("ask@example.com", "nothing", true),
        global("ask@example.com", "quietly", false),
        global("unheard-of@example.com", "", true),
        global("keepalive@openssh.com", "", true),
    ];
    let mut client = deeds.to_vec();
    // Of the two ends only a server says that it answers PING.
    client.extend([
        Deed::Ping,
        Deed::Mark("your turn"),
        Deed::Await("done"),
        bye(),
    ]);
    let mut server = vec![Deed::Await("your turn")];
    server.extend(deeds);
    server.push(Deed::Mark("done"));
    let scenario = Scenario::new()
        .configure(both_know)
        .client(client)
        .server(server);
    everywhere(
        &scenario,
        r#"
        client: in; ask@example.com: "you said what"; ask@example.com: refused; ask@example.com sent; unheard-of@example.com: refused; keepalive@openssh.com: refused; pong; ask@example.com "what" granted; ask@example.com "nothing" refused; ask@example.com "quietly" granted; disconnected
        server: ask@example.com: "you said what"; ask@example.com: refused; ask@example.com sent; unheard-of@example.com: refused; keepalive@openssh.com: refused; publickey of alice accepted; alice is in; ask@example.com "what" granted; ask@example.com "nothing" refused; ask@example.com "quietly" granted; disconnected by the peer: 11 ""
        "#,
    );
}

#[test]
fn a_client_refuses_channels_that_it_did_not_ask_for() {
    let by_server = |name: &str, kind| ChannelScript::new(name, kind).by_server();
    let scenario = Scenario::new()
        .channel(by_server("a", Kind::Custom(KIND, "")))
        .channel(by_server(
            "b",
            Kind::ForwardedTcpip("localhost", 80, "127.0.0.1", 9),
        ))
        .channel(by_server("c", Kind::ForwardedStreamlocal("/run/x")))
        .channel(by_server("d", Kind::Custom("session", "")))
        .channel(by_server("e", Kind::Custom("direct-tcpip", "")))
        .channel(by_server("f", Kind::Custom("x11", "")))
        .channel(by_server("g", Kind::Custom("auth-agent@openssh.com", "")))
        .client([Deed::Await("server g is over"), bye()])
        .server(["a", "b", "c", "d", "e", "f", "g"].map(open));
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: not opened: 3
        server b: not opened: 1
        server c: not opened: 1
        server d: not opened: 1
        server e: not opened: 1
        server f: not opened: 3
        server g: not opened: 3
        "#,
    );
}

#[test]
fn keepalives_do_not_disturb_the_answers_to_other_requests() {
    let global = |data| Deed::Global {
        name: "ask@example.com",
        data,
        want_reply: true,
    };
    let rest = Deed::Rest(Duration::from_millis(20));
    let mut client = Vec::new();
    let mut server = Vec::new();
    for (mine, yours) in [("one", "eins"), ("no, two", "zwei"), ("three", "no, drei")] {
        client.extend([global(mine), rest.clone()]);
        server.extend([global(yours), rest.clone()]);
    }
    client.extend([Deed::Await("done"), bye()]);
    server.push(Deed::Mark("done"));
    let scenario = Scenario::new()
        .configure(|client, server| {
            both_know(client, server);
            // Nobody is taken for dead here: how long that takes is tested where time can be told.
            let keepalive = Keepalive {
                interval: Duration::from_millis(3),
                count: 1_000_000,
            };
            client.transport.keepalive = Some(keepalive);
            server.transport.keepalive = Some(keepalive);
        })
        .client(client)
        .server(server);
    everywhere(
        &scenario,
        r#"
        client: in; ask@example.com: "you said one"; ask@example.com: refused; ask@example.com: "you said three"; ask@example.com "eins" granted; ask@example.com "zwei" granted; ask@example.com "no, drei" refused; disconnected
        server: ask@example.com: "you said eins"; ask@example.com: "you said zwei"; ask@example.com: refused; publickey of alice accepted; alice is in; ask@example.com "one" granted; ask@example.com "no, two" refused; ask@example.com "three" granted; disconnected by the peer: 11 ""
        "#,
    );
}
