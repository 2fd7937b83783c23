//! Channels that are no sessions: opened, refused, closed (RFC 4254 sections 5.1 and 7.2).

use conformance::scenario::{
    Act, ChannelScript, Deed, Kind, Scenario, bye, command, exit, join, open, read, read_all, write,
};
use ssh_proto::OpenFailureReason;

use crate::everywhere;

#[test]
fn direct_channels_are_channels_like_others() {
    let scenario = Scenario::new()
        .channel(
            ChannelScript::new("tcp", Kind::DirectTcpip("db.example", 5432))
                .client([write(8), Act::Eof, read_all()])
                .server([Act::Echo, Act::Eof, Act::Close]),
        )
        .channel(
            ChannelScript::new("path", Kind::DirectStreamlocal("/run/db"))
                .client([read(100), write(50), Act::Close])
                .server([write(100), read_all(), Act::Close]),
        );
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client path: opened; data 100 of server's; closed
        client tcp: opened; data 8 of client's; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server path: direct-streamlocal /run/db accepted; data 50 of client's; closed
        server tcp: direct-tcpip db.example:5432 from 127.0.0.1:0 accepted; data 8 of client's; eof; closed
        "#,
    );
}

#[test]
fn a_channel_is_refused_with_its_reason() {
    let refused = |name: &str, port, reason, text| {
        ChannelScript::new(name, Kind::DirectTcpip("db.example", port)).refused(reason, text)
    };
    let scenario = Scenario::new()
        .channel(refused(
            "a",
            1,
            OpenFailureReason::ADMINISTRATIVELY_PROHIBITED,
            "not you",
        ))
        .channel(refused(
            "b",
            2,
            OpenFailureReason::CONNECT_FAILED,
            "nobody there",
        ))
        .channel(refused("c", 3, OpenFailureReason::UNKNOWN_CHANNEL_TYPE, ""))
        .channel(refused(
            "d",
            4,
            OpenFailureReason::RESOURCE_SHORTAGE,
            "too many",
        ))
        .channel(refused(
            "e",
            5,
            OpenFailureReason(0xfe00_1234),
            "for reasons of our own",
        ))
        .channel(ChannelScript::new(
            "f",
            Kind::Custom("unheard-of@example.com", ""),
        ));
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: not opened: 1 "not you"
        client b: not opened: 2 "nobody there"
        client c: not opened: 3
        client d: not opened: 4 "too many"
        client e: not opened: 4261417524 "for reasons of our own"
        client f: not opened: 3
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: direct-tcpip db.example:1 from 127.0.0.1:0 refused
        server b: direct-tcpip db.example:2 from 127.0.0.1:0 refused
        server c: direct-tcpip db.example:3 from 127.0.0.1:0 refused
        server d: direct-tcpip db.example:4 from 127.0.0.1:0 refused
        server e: direct-tcpip db.example:5 from 127.0.0.1:0 refused
        "#,
    );
}

#[test]
fn no_more_sessions_are_opened_when_that_was_promised() {
    let scenario = Scenario::new()
        .channel(command("a").client([read_all()]).server([
            Act::Await("promised"),
            write(4),
            exit(0),
        ]))
        .channel(command("b"))
        .channel(
            ChannelScript::new("c", Kind::DirectTcpip("db.example", 5432)).server([Act::Close]),
        )
        .client([
            open("a"),
            Deed::NoMoreSessions,
            open("b"),
            open("c"),
            Deed::Mark("promised"),
            join("a"),
            join("c"),
            bye(),
        ]);
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; data 4 of server's; exit 0; eof; closed
        client b: not started: misuse: unusable argument: there were to be no more sessions
        client c: opened; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: exec a granted; closed
        server c: direct-tcpip db.example:5432 from 127.0.0.1:0 accepted; closed
        "#,
    );
}

#[test]
fn more_channels_may_be_wanted_at_once_than_may_be_pending() {
    let mut scenario = Scenario::new().configure(|client, server| {
        client.transport.limits.pending_opens = 4;
        server.transport.limits.pending_opens = 4;
    });
    let names: Vec<String> = (0..40).map(|i| format!("c{i:02}")).collect();
    let mut client = vec!["client: in; disconnected".to_owned()];
    let mut server = vec![
        r#"server: publickey of alice accepted; alice is in; disconnected by the peer: 11 """#
            .to_owned(),
    ];
    for name in &names {
        scenario = scenario.channel(
            command(name)
                .client([read_all()])
                .server([write(9), exit(0)]),
        );
        client.push(format!(
            "client {name}: opened; data 9 of server's; exit 0; eof; closed"
        ));
        server.push(format!("server {name}: exec {name} granted; closed"));
    }
    let mut deeds = vec![Deed::OpenAtOnce(names.clone())];
    deeds.extend(names.iter().map(|name| join(name)));
    deeds.push(bye());
    client.append(&mut server);
    everywhere(&scenario.client(deeds), &client.join("\n"));
}
