//! Listeners at the server, and the channels that come of them (RFC 4254 section 7, OpenSSH's PROTOCOL section 2.4).

use conformance::scenario::{
    Act, ChannelScript, Deed, Kind, Scenario, bye, join, open, read_all, write,
};
use ssh_proto::{ForwardAddress, OpenFailureReason};

use crate::everywhere;

#[test]
fn connections_to_a_forwarded_port_become_channels() {
    let forwarded = |name: &str, from| {
        ChannelScript::new(
            name,
            Kind::ForwardedTcpip("localhost", 4242, "192.0.2.7", from),
        )
    };
    let bound = ForwardAddress::tcpip("localhost", 4242);
    let scenario = Scenario::new()
        .channel(
            forwarded("a", 1001)
                .server([write(100_000), Act::Eof, read_all(), Act::Close])
                .client([Act::Echo, Act::Eof]),
        )
        .channel(
            forwarded("b", 1002)
                .server([read_all(), write(10), Act::Close])
                .client([write(200_000), Act::Eof, read_all()]),
        )
        .channel(forwarded("c", 1003).refused(OpenFailureReason::CONNECT_FAILED, "nobody there"))
        .channel(forwarded("d", 1004))
        .client([
            Deed::Listen(ForwardAddress::tcpip("nowhere", 80)),
            Deed::Listen(ForwardAddress::tcpip("localhost", 0)),
            Deed::Mark("listening"),
            Deed::Await("connected"),
            join("a"),
            join("b"),
            Deed::Cancel(bound),
            Deed::Mark("cancelled"),
            Deed::Await("server d is over"),
            bye(),
        ])
        .server([
            Deed::Await("listening"),
            open("a"),
            open("b"),
            open("c"),
            Deed::Mark("connected"),
            Deed::Await("cancelled"),
            open("d"),
        ]);
    everywhere(
        &scenario,
        r#"
        client: in; listening on nowhere:80: refused; listening on localhost:4242; listening on localhost:4242 no more; disconnected
        client a: forwarded-tcpip localhost:4242 from 192.0.2.7:1001 accepted; data 100000 of server's; eof; closed
        client b: forwarded-tcpip localhost:4242 from 192.0.2.7:1002 accepted; data 10 of server's; closed
        client c: forwarded-tcpip localhost:4242 from 192.0.2.7:1003 refused
        server: publickey of alice accepted; alice is in; listen on nowhere:80 refused; listen on localhost:0 granted; listen on localhost:4242 cancelled; disconnected by the peer: 11 ""
        server a: opened; data 100000 of server's; eof; closed
        server b: opened; data 200000 of client's; eof; closed
        server c: not opened: 2 "nobody there"
        server d: not opened: 1
        "#,
    );
}

#[test]
fn connections_to_a_forwarded_path_become_channels() {
    let path = ForwardAddress::streamlocal("/run/db");
    let scenario = Scenario::new()
        .channel(
            ChannelScript::new("a", Kind::ForwardedStreamlocal("/run/db"))
                .server([write(1_000), Act::Eof, read_all()])
                .client([Act::Echo, Act::Close]),
        )
        .channel(ChannelScript::new(
            "b",
            Kind::ForwardedStreamlocal("/run/other"),
        ))
        .client([
            Deed::Listen(ForwardAddress::streamlocal("nowhere")),
            Deed::Listen(path.clone()),
            Deed::Mark("listening"),
            Deed::Await("server a is over"),
            Deed::Await("server b is over"),
            join("a"),
            Deed::Cancel(path),
            bye(),
        ])
        .server([Deed::Await("listening"), open("a"), open("b")]);
    everywhere(
        &scenario,
        r#"
        client: in; listening on nowhere: refused; listening on /run/db; listening on /run/db no more; disconnected
        client a: forwarded-streamlocal /run/db accepted; data 1000 of server's; eof; closed
        server: publickey of alice accepted; alice is in; listen on nowhere refused; listen on /run/db granted; listen on /run/db cancelled; disconnected by the peer: 11 ""
        server a: opened; data 1000 of server's; closed
        server b: not opened: 1
        "#,
    );
}
