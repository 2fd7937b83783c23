//! New keys while channels are at work (RFC 4253 section 9).

use conformance::scenario::{
    Act, Deed, Scenario, bye, command, exit, join, open, read_all, read_stderr, write, write_stderr,
};

use crate::everywhere;

#[test]
fn keys_change_under_load_in_both_directions() {
    let scenario = Scenario::new()
        .heavy()
        .configure(|client, server| {
            client.transport.rekey.bytes = 300_000;
            server.transport.rekey.bytes = 200_000;
            client.transport.limits.cheap_rekeys = u32::MAX;
            server.transport.limits.cheap_rekeys = u32::MAX;
        })
        .channel(
            command("cat")
                .client([write(1_000_000), Act::Eof])
                .client([read_all()])
                .server([Act::Echo, exit(0)]),
        )
        .channel(
            command("both")
                .client([read_all()])
                .client([read_stderr()])
                .server([write(500_000), exit(0)])
                .server([write_stderr(500_000)]),
        )
        .client([
            open("cat"),
            open("both"),
            join("cat"),
            join("both"),
            Deed::AwaitRekeys(3),
            bye(),
        ]);
    everywhere(
        &scenario,
        r#"
        client: in; new keys; disconnected
        client both: opened; data 500000 of server's; stderr 500000 of server's errors; exit 0; eof; closed
        client cat: opened; data 1000000 of client's; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server both: exec both granted; closed
        server cat: exec cat granted; data 1000000 of client's; eof; closed
        "#,
    );
}

#[test]
fn each_side_starts_a_key_exchange_while_data_flows() {
    let scenario = Scenario::new()
        .heavy()
        .channel(
            command("up")
                .client([
                    write(1_000_000),
                    Act::Await("rekeyed"),
                    write(1_000),
                    Act::Eof,
                ])
                .server([read_all(), exit(0)]),
        )
        .channel(command("down").client([read_all()]).server([
            write(1_000_000),
            Act::Await("rekeyed"),
            write(1_000),
            exit(0),
        ]))
        .client([
            open("up"),
            open("down"),
            Deed::Rekey,
            Deed::AwaitRekeys(1),
            Deed::Mark("once"),
            Deed::AwaitRekeys(2),
            Deed::Mark("rekeyed"),
            join("up"),
            join("down"),
            bye(),
        ])
        .server([
            Deed::Await("once"),
            Deed::AwaitRekeys(1),
            Deed::Rekey,
            Deed::AwaitRekeys(2),
        ]);
    everywhere(
        &scenario,
        r#"
        client: in; new keys; new keys; disconnected
        client down: opened; data 1001000 of server's; exit 0; eof; closed
        client up: opened; exit 0; eof; closed
        server: new keys; new keys; publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server down: exec down granted; closed
        server up: exec up granted; data 1001000 of client's; eof; closed
        "#,
    );
}

#[test]
fn both_sides_may_start_a_key_exchange_at_once() {
    let cat = command("cat")
        .client([
            write(500_000),
            Act::Await("client has new keys"),
            write(500_000),
            Act::Eof,
        ])
        .client([read_all()])
        .server([Act::Echo, exit(0)]);
    let scenario = Scenario::new()
        .heavy()
        .channel(cat)
        .client([
            open("cat"),
            Deed::Mark("ready"),
            Deed::Rekey,
            Deed::AwaitRekeys(1),
            Deed::Mark("client has new keys"),
            join("cat"),
            Deed::Await("server has new keys"),
            bye(),
        ])
        .server([
            Deed::Await("ready"),
            Deed::Rekey,
            Deed::AwaitRekeys(1),
            Deed::Mark("server has new keys"),
        ]);
    everywhere(
        &scenario,
        r#"
        client: in; new keys; disconnected
        client cat: opened; data 1000000 of client's; exit 0; eof; closed
        server: new keys; publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server cat: exec cat granted; data 1000000 of client's; eof; closed
        "#,
    );
}

#[test]
fn many_channels_work_at_once_while_one_is_stalled_and_keys_change() {
    let mut scenario = Scenario::new()
        .heavy()
        .configure(|client, server| {
            client.transport.rekey.bytes = 500_000;
            server.transport.limits.cheap_rekeys = u32::MAX;
            client.transport.limits.cheap_rekeys = u32::MAX;
        })
        .channel(
            command("stalled")
                .client([Act::Await("go"), read_all()])
                .server([write(4_000_000), exit(0)]),
        );
    let mut deeds = vec![open("stalled")];
    let mut client = vec!["client: in; new keys; disconnected".to_owned()];
    let mut server = vec![
        r#"server: publickey of alice accepted; alice is in; disconnected by the peer: 11 """#
            .to_owned(),
    ];
    let names: Vec<String> = (0..40).map(|i| format!("c{i:02}")).collect();
    for name in &names {
        scenario = scenario.channel(
            command(name)
                .client([write(30_000), Act::Eof])
                .client([read_all()])
                .server([Act::Echo, exit(0)]),
        );
        deeds.push(open(name));
        client.push(format!(
            "client {name}: opened; data 30000 of client's; exit 0; eof; closed"
        ));
        server.push(format!(
            "server {name}: exec {name} granted; data 30000 of client's; eof; closed"
        ));
    }
    client.push("client stalled: opened; data 4000000 of server's; exit 0; eof; closed".to_owned());
    server.push("server stalled: exec stalled granted; closed".to_owned());
    deeds.extend(names.iter().map(|name| join(name)));
    deeds.extend([
        Deed::AwaitRekeys(2),
        Deed::Mark("go"),
        join("stalled"),
        bye(),
    ]);
    client.append(&mut server);
    everywhere(&scenario.client(deeds), &client.join("\n"));
}
