//! Data: both directions, both streams, windows, half-close, and ends in every order (RFC 4254 sections 5.2 and 5.3).

use conformance::scenario::{
    Act, Deed, Exit, Kind, Run, Scenario, bye, command, exec, exit, join, open, program, read,
    read_all, read_stderr, session, write, write_stderr,
};
use ssh_proto::Stream;

use crate::everywhere;

const OWN: &str = "own@example.com";

#[test]
fn what_is_written_comes_back() {
    let cat = command("cat")
        .client([write(300_000), Act::Eof])
        .client([read_all()])
        .server([Act::Echo, exit(0)]);
    everywhere(
        &Scenario::new().channel(cat),
        r#"
        client: in; disconnected
        client cat: opened; data 300000 of client's; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server cat: exec cat granted; data 300000 of client's; eof; closed
        "#,
    );
}

#[test]
fn both_streams_carry_more_than_their_windows() {
    let both = command("both")
        .client([read_all()])
        .client([read_stderr()])
        .server([write(3_000_000), exit(0)])
        .server([write_stderr(3_000_000)]);
    everywhere(
        &Scenario::new().channel(both).heavy(),
        r#"
        client: in; disconnected
        client both: opened; data 3000000 of server's; stderr 3000000 of server's errors; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server both: exec both granted; closed
        "#,
    );
}

#[test]
fn stderr_goes_both_ways_where_both_ends_want_it() {
    let own = conformance::scenario::ChannelScript::new("own", Kind::Custom(OWN, ""))
        .client([write(1_000), write_stderr(2_000), Act::Eof])
        .client([read_all(), read_stderr()])
        .server([
            read_all(),
            read_stderr(),
            write_stderr(3_000),
            write(4_000),
            Act::Close,
        ]);
    let scenario = Scenario::new().channel(own).configure(|_, server| {
        server.transport.own.channel_kinds.push(OWN.into());
    });
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client own: opened; data 4000 of server's; stderr 3000 of server's errors; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server own: own@example.com "" accepted; data 1000 of client's; stderr 2000 of client's errors; eof; closed
        "#,
    );
}

#[test]
fn stderr_may_be_read_in_one_stream_with_stdout() {
    let writes = [write(1_000), write_stderr(1_000), write(500), exit(0)];
    let mut at_once = program("a", Run::Exec("a".into()));
    at_once.kind = Kind::Program {
        run: Run::Exec("a".into()),
        pty: None,
        env: Vec::new(),
        combine_stderr: true,
    };
    let scenario = Scenario::new()
        .channel(
            at_once
                .client([read_all(), read_stderr()])
                .server(writes.clone()),
        )
        .channel(
            session("b")
                .client([Act::CombineStderr, exec("b"), read_all()])
                .server(writes),
        )
        // What came before is not lost by it.
        .channel(
            session("c")
                .client([
                    exec("c"),
                    Act::Await("written"),
                    read(700),
                    Act::CombineStderr,
                    read_all(),
                ])
                .server([write(700), write_stderr(800), Act::Mark("written"), exit(0)]),
        );
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; data 1000 of server's + 1000 of server's errors + 500 of server's; stderr none; exit 0; eof; closed
        client b: opened; exec b: granted; data 1000 of server's + 1000 of server's errors + 500 of server's; exit 0; eof; closed
        client c: opened; exec c: granted; data 700 of server's + 800 of server's errors; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: exec a granted; closed
        server b: exec b granted; closed
        server c: exec c granted; closed
        "#,
    );
}

#[test]
fn data_that_nobody_wants_is_dropped_and_its_window_given_back() {
    let a = command("a")
        .client([Act::Discard(Stream::STDERR), read_all(), read_stderr()])
        .server([write_stderr(5_000_000), write(100_000), exit(0)]);
    let b = command("b")
        .client([Act::Discard(Stream::DATA), read_stderr()])
        .server([write(5_000_000), write_stderr(100), exit(0)]);
    everywhere(
        &Scenario::new().channel(a).channel(b).heavy(),
        r#"
        client: in; disconnected
        client a: opened; data 100000 of server's; stderr none; exit 0; eof; closed
        client b: opened; stderr 100 of server's errors; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: exec a granted; closed
        server b: exec b granted; closed
        "#,
    );
}

#[test]
fn a_half_closed_channel_still_carries_the_other_way() {
    let up_first = command("a")
        .client([write(100_000), Act::Eof, read_all()])
        .server([read_all(), write(50_000), exit(0)]);
    let down_first = command("b")
        .client([read_all(), write(100_000), Act::Eof])
        .server([write(50_000), Act::Eof, read_all(), exit(0)]);
    everywhere(
        &Scenario::new().channel(up_first).channel(down_first),
        r#"
        client: in; disconnected
        client a: opened; data 50000 of server's; exit 0; eof; closed
        client b: opened; data 50000 of server's; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: exec a granted; data 100000 of client's; eof; closed
        server b: exec b granted; data 100000 of client's; eof; closed
        "#,
    );
}

#[test]
fn a_program_may_end_in_any_order() {
    let scenario = Scenario::new()
        // The status after EOF.
        .channel(command("a").client([read_all(), Act::Mark("eof")]).server([
            write(10),
            Act::Eof,
            Act::Await("eof"),
            exit(5),
        ]))
        // The status before the data, as it is read.
        .channel(command("b").client([read_all()]).server([
            Act::Exit(Exit::Code(6)),
            write(10),
            Act::Return(Exit::Missing),
        ]))
        // CLOSE without EOF.
        .channel(command("c").client([read_all()]).server([
            write(10),
            Act::Exit(Exit::Code(7)),
            Act::Close,
        ]))
        // The client's CLOSE first: how the program ends is of interest to nobody.
        .channel(command("d").client([read(10), Act::Close]).server([
            write(10),
            read_all(),
            Act::Return(Exit::Missing),
        ]))
        // EOF, then CLOSE of the client, while the program writes nothing.
        .channel(command("e").client([Act::Eof, Act::Close]).server([
            read_all(),
            Act::Await("server e is over"),
            Act::Return(Exit::Missing),
        ]));
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; data 10 of server's; exit 5; eof; closed
        client b: opened; data 10 of server's; exit 6; eof; closed
        client c: opened; data 10 of server's; exit 7; closed
        client d: opened; data 10 of server's; closed
        client e: opened; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: exec a granted; closed
        server b: exec b granted; closed
        server c: exec c granted; closed
        server d: exec d granted; data none; closed
        server e: exec e granted; data none; eof; closed
        "#,
    );
}

#[test]
fn what_is_unread_at_the_close_can_still_be_read() {
    let late = command("late")
        .client([Act::Await("client late is over"), read_all(), read_stderr()])
        .server([write(40_000), write_stderr(50_000), exit(0)]);
    everywhere(
        &Scenario::new().channel(late),
        r#"
        client: in; disconnected
        client late: opened; data 40000 of server's; stderr 50000 of server's errors; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server late: exec late granted; closed
        "#,
    );
}

#[test]
fn a_writer_is_told_that_nobody_reads_any_more() {
    let yes = command("yes")
        .client([read(10_000), Act::EndOfWrite])
        .server([
            Act::WriteUntilClosed(Stream::DATA),
            write_stderr(100),
            exit(0),
        ])
        .client([read_stderr()]);
    everywhere(
        &Scenario::new().channel(yes).heavy(),
        r#"
        client: in; disconnected
        client yes: opened; data 10000 of server's; stderr 100 of server's errors; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server yes: nobody reads; exec yes granted; closed
        "#,
    );
}

#[test]
fn a_writer_is_told_that_the_channel_is_closed() {
    let yes = command("yes").client([read(10_000), Act::Close]).server([
        Act::WriteUntilClosed(Stream::DATA),
        Act::Mark("told"),
        Act::Return(Exit::Missing),
    ]);
    let deeds = [open("yes"), join("yes"), Deed::Await("told"), bye()];
    everywhere(
        &Scenario::new().channel(yes).heavy().client(deeds),
        r#"
        client: in; disconnected
        client yes: opened; data 10000 of server's; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server yes: nobody reads; exec yes granted; closed
        "#,
    );
}

#[test]
fn a_reader_that_stops_holds_up_only_its_own_channel() {
    let mut scenario = Scenario::new().heavy().channel(
        command("stalled")
            .client([Act::Await("client c is over"), read_all()])
            .server([write(5_000_000), exit(0)]),
    );
    for name in ["a", "b", "c"] {
        let other = command(name)
            .client([read_all()])
            .server([write(2_200_000), exit(0)]);
        scenario = scenario.channel(other);
    }
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; data 2200000 of server's; exit 0; eof; closed
        client b: opened; data 2200000 of server's; exit 0; eof; closed
        client c: opened; data 2200000 of server's; exit 0; eof; closed
        client stalled: opened; data 5000000 of server's; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: exec a granted; closed
        server b: exec b granted; closed
        server c: exec c granted; closed
        server stalled: exec stalled granted; closed
        "#,
    );
}

#[test]
fn two_ends_that_both_upload_do_not_deadlock() {
    let scenario = Scenario::new()
        .heavy()
        .channel(
            command("up")
                .client([write(2_500_000), Act::Eof, read_all()])
                .server([read_all(), exit(0)]),
        )
        .channel(
            command("down")
                .client([read_all()])
                .server([write(2_500_000), exit(0)]),
        )
        // Both at once on one channel, and nobody reads before everything is written.
        .channel(
            command("both")
                .client([write(1_500_000), Act::Eof, read_all()])
                .server([write(1_500_000), Act::Eof, read_all(), exit(0)]),
        );
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client both: opened; data 1500000 of server's; exit 0; eof; closed
        client down: opened; data 2500000 of server's; exit 0; eof; closed
        client up: opened; data none; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server both: exec both granted; data 1500000 of client's; eof; closed
        server down: exec down granted; closed
        server up: exec up granted; data 2500000 of client's; eof; closed
        "#,
    );
}
