//! Scenarios of one client and one server: each over several networks in memory and over a real loopback socket, in
//! both cases with the same code.

use std::time::Duration;

use conformance::app::pattern_bytes;
use conformance::pair::{Gathered, Pair, host_key, user_key};
use conformance::wire::Network;
use ssh_proto::key::KeyKind;
use ssh_proto::{
    AuthMethod, ClientConfig, Credential, OpenChannel, Program, Proof, ServerConfig, Signal, Stream,
};

/// Runs a scenario over every network.
fn everywhere(scenario: impl Fn(&mut Pair)) {
    let server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    scenario(&mut Pair::new(
        ClientConfig::new(),
        server,
        Network::Pieces(1),
    ));
    with(|_, _| {}, scenario);
}

/// Runs a scenario that moves megabytes over every network but the one that moves single bytes.
fn with_much_data(scenario: impl Fn(&mut Pair)) {
    with(|_, _| {}, scenario);
}

/// Runs a scenario over every network, with configurations of its own.
fn with(change: impl Fn(&mut ClientConfig, &mut ServerConfig), scenario: impl Fn(&mut Pair)) {
    let configs = || {
        let mut client = ClientConfig::new();
        let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
        change(&mut client, &mut server);
        (client, server)
    };
    for network in [
        Network::Whole,
        Network::Pieces(1_000),
        Network::Random(5),
        Network::Delayed(Duration::from_millis(50)),
    ] {
        let (client, server) = configs();
        scenario(&mut Pair::new(client, server, network));
    }
    let (client, server) = configs();
    scenario(&mut Pair::on_loopback(client, server));
}

fn finished(pair: &mut Pair, command: &str) -> Gathered {
    let id = pair.exec(command);
    pair.finish(id)
}

#[test]
fn a_command_runs_and_its_status_comes_before_the_close() {
    everywhere(|pair| {
        pair.login();
        let gathered = finished(pair, "exit 7");
        assert_eq!(gathered.status, Some(7));
        assert_eq!(
            gathered.order,
            ["opened", "replied", "status", "eof", "closed"]
        );
    });
}

#[test]
fn a_signal_that_ended_a_command_is_told() {
    everywhere(|pair| {
        pair.login();
        let gathered = finished(pair, "killed");
        let signal = gathered.signal.expect("a signal");
        assert_eq!(
            (signal.signal, signal.message.as_str()),
            (Signal::TERM, "so be it")
        );
        assert_eq!(gathered.status, None);
    });
}

#[test]
fn a_refused_command_leaves_the_channel_for_another() {
    everywhere(|pair| {
        pair.login();
        let id = pair.exec("no-such-program");
        pair.until("an answer", |pair| pair.gathered(id).replies == [false]);
        pair.client
            .channel(id)
            .expect("the channel")
            .start(Program::Exec(b"exit 0"))
            .expect("a second try");
        let gathered = pair.finish(id);
        assert_eq!(
            (gathered.replies, gathered.status),
            (vec![false, true], Some(0))
        );
    });
}

#[test]
fn what_is_written_comes_back() {
    everywhere(|pair| {
        pair.login();
        let id = pair.exec("cat");
        pair.until("the channel", |pair| pair.gathered(id).opened.is_some());
        let bytes = pattern_bytes(300_000);
        pair.write(id, &bytes);
        pair.eof(id);
        let gathered = pair.finish(id);
        assert!(gathered.out == bytes);
        assert_eq!(gathered.status, Some(0));
    });
}

#[test]
fn both_streams_carry_more_than_their_windows() {
    with_much_data(|pair| {
        pair.login();
        let gathered = finished(pair, "both 3000000");
        let bytes = pattern_bytes(3_000_000);
        assert!(gathered.out == bytes && gathered.err == bytes);
        assert_eq!(gathered.status, Some(0));
    });
}

#[test]
fn a_half_closed_channel_still_carries_the_other_way() {
    everywhere(|pair| {
        pair.login();
        let id = pair.exec("count");
        pair.until("the channel", |pair| pair.gathered(id).opened.is_some());
        pair.write(id, &pattern_bytes(100_000));
        pair.eof(id);
        assert_eq!(pair.finish(id).out, b"100000 true");
    });
}

#[test]
fn keys_change_under_load_in_both_directions() {
    let rekey_often = |client: &mut ClientConfig, server: &mut ServerConfig| {
        client.transport.rekey.bytes = 300_000;
        server.transport.rekey.bytes = 200_000;
        client.transport.limits.cheap_rekeys = u32::MAX;
        server.transport.limits.cheap_rekeys = u32::MAX;
    };
    with(rekey_often, |pair| {
        pair.login();
        let id = pair.exec("cat");
        let other = pair.exec("both 500000");
        pair.until("the channel", |pair| pair.gathered(id).opened.is_some());
        let bytes = pattern_bytes(1_000_000);
        pair.write(id, &bytes);
        pair.eof(id);
        assert!(pair.finish(id).out == bytes);
        let other = pair.finish(other);
        assert!(other.out == bytes[..500_000] && other.err == bytes[..500_000]);
        let rekeys = pair.log.iter().filter(|line| *line == "Rekeyed").count();
        assert!(rekeys >= 3, "{rekeys}");
    });
}

#[test]
fn a_reader_that_stops_holds_up_only_its_own_channel() {
    with_much_data(|pair| {
        pair.login();
        let stalled = pair.exec("source 9000000");
        pair.stall(stalled, true);
        for _ in 0..3 {
            assert!(finished(pair, "source 200000").out == pattern_bytes(200_000));
        }
        pair.stall(stalled, false);
        assert!(pair.finish(stalled).out == pattern_bytes(9_000_000));
    });
}

#[test]
fn two_ends_that_both_upload_do_not_deadlock() {
    with_much_data(|pair| {
        pair.login();
        let up = pair.exec("count");
        let down = pair.exec("source 2000000");
        pair.until("the channel", |pair| pair.gathered(up).opened.is_some());
        pair.write(up, &pattern_bytes(2_000_000));
        pair.eof(up);
        assert_eq!(pair.finish(up).out, b"2000000 true");
        assert!(pair.finish(down).out == pattern_bytes(2_000_000));
    });
}

#[test]
fn direct_tcpip_and_subsystems_are_channels_like_others() {
    everywhere(|pair| {
        pair.login();
        let id = pair.open(OpenChannel::DirectTcpip {
            host: "db.example",
            port: 5432,
            originator: ("127.0.0.1", 9),
        });
        pair.until("the channel", |pair| pair.gathered(id).opened.is_some());
        pair.write(id, b"select 1");
        pair.eof(id);
        assert_eq!(pair.finish(id).out, b"select 1");
        assert!(
            pair.app
                .log
                .iter()
                .any(|line| line == "direct-tcpip db.example:5432")
        );

        let id = pair.open(OpenChannel::Session);
        pair.client
            .channel(id)
            .expect("the channel")
            .start(Program::Subsystem("echo"))
            .expect("a request");
        pair.until("the channel", |pair| pair.gathered(id).opened.is_some());
        pair.write(id, b"hello");
        pair.eof(id);
        assert_eq!(pair.finish(id).out, b"hello");
    });
}

#[test]
fn kinds_and_requests_of_the_callers_own_carry_data_both_ways() {
    let own = |_: &mut ClientConfig, server: &mut ServerConfig| {
        server
            .transport
            .own
            .channel_kinds
            .push("own@example.com".to_owned());
        server
            .transport
            .own
            .global_requests
            .push("ask@example.com".to_owned());
    };
    with(own, |pair| {
        pair.login();
        let id = pair.open(OpenChannel::Custom {
            kind: "own@example.com",
            data: b"hi",
        });
        pair.until("the channel", |pair| pair.gathered(id).opened.is_some());
        assert_eq!(
            pair.gathered(id).opened.as_deref(),
            Some(&b"you said hi"[..])
        );
        pair.eof(id);
        pair.finish(id);
        pair.client
            .global_request("ask@example.com", b"what", true, pair.now)
            .expect("a request");
        pair.client
            .global_request("other@example.com", b"what", true, pair.now)
            .expect("a request");
        pair.settle();
        let replies: Vec<_> = pair
            .log
            .iter()
            .filter(|line| line.starts_with("global"))
            .collect();
        assert_eq!(
            replies,
            [
                &format!("global reply {:?}", Some(b"what".to_vec())),
                "global reply None"
            ]
        );
    });
}

#[test]
fn an_unknown_kind_of_channel_is_refused_with_its_reason() {
    everywhere(|pair| {
        pair.login();
        let id = pair.open(OpenChannel::Custom {
            kind: "unheard-of@example.com",
            data: b"",
        });
        pair.until("a refusal", |pair| pair.gathered(id).refused.is_some());
        assert!(
            pair.gathered(id)
                .refused
                .as_deref()
                .is_some_and(|text| text.starts_with("3: "))
        );
    });
}

#[test]
fn many_channels_come_and_go() {
    everywhere(|pair| {
        pair.login();
        for round in 0..3 {
            let ids: Vec<_> = (0..30).map(|i| pair.exec(&format!("exit {i}"))).collect();
            for (i, id) in ids.into_iter().enumerate() {
                assert_eq!(pair.finish(id).status, Some(i as u32), "round {round}");
            }
        }
    });
}

#[test]
fn stderr_may_be_read_in_one_stream_with_stdout() {
    everywhere(|pair| {
        pair.login();
        let id = pair.open(OpenChannel::Session);
        {
            let mut channel = pair.client.channel(id).expect("the channel");
            channel.combine_stderr();
            channel
                .start(Program::Exec(b"both 1000"))
                .expect("a request");
        }
        let gathered = pair.finish(id);
        assert_eq!((gathered.out.len(), gathered.err.len()), (2_000, 0));
        assert!(gathered.out.starts_with(&pattern_bytes(1_000)));
    });
}

#[test]
fn data_that_nobody_wants_is_dropped_and_its_window_given_back() {
    with_much_data(|pair| {
        pair.login();
        let id = pair.exec("both 5000000");
        pair.client
            .channel(id)
            .expect("the channel")
            .discard(Stream::STDERR);
        let gathered = pair.finish(id);
        assert!(gathered.err.is_empty() && gathered.out.len() == 5_000_000);
    });
}

#[test]
fn a_second_factor_follows_the_first_and_only_both_let_in() {
    everywhere(|pair| {
        pair.app.judge = Some(Box::new(|server, attempt| {
            let both = attempt.completed().contains(&AuthMethod::PublicKey);
            match attempt.proof() {
                Proof::PublicKey(_) => server.partial(attempt, &[AuthMethod::Password]),
                Proof::Password(password) if both && password.expose() == b"sesame" => {
                    server.grant(attempt)
                }
                _ => server.refuse(attempt),
            }
            .expect("an open question");
        }));
        let mut attempt = |credential, outcome: &str| {
            pair.client
                .authenticate("alice", credential, pair.now)
                .expect("an attempt");
            pair.until(outcome, |pair| {
                pair.log.last().is_some_and(|line| line == outcome)
            });
        };
        let refused = |partial| {
            format!(
                r#"AuthenticationRefused {{ methods: ["password"], partial_success: {partial} }}"#
            )
        };
        attempt(Credential::public_key(user_key()), &refused(true));
        attempt(Credential::password("wrong"), &refused(false));
        attempt(Credential::password("sesame"), "Authenticated");
        assert_eq!(finished(pair, "exit 0").status, Some(0));
    });
}
