//! Sessions: programs, and what belongs to them (RFC 4254 section 6).

use conformance::scenario::{
    Act, Exit, Kind, Run, Scenario, ask, bye, command, custom, env, exec, exit, join, open,
    program, read, read_all, resize, session, signal, write,
};
use ssh_proto::msg::modes::Mode;
use ssh_proto::{ChannelRequest, ExitSignal, OpenFailureReason, PtyRequest, Signal};

use crate::everywhere;

fn pty(term: &str) -> PtyRequest {
    PtyRequest {
        term: term.into(),
        columns: 80,
        rows: 24,
        width_px: 640,
        height_px: 480,
        modes: [(Mode::ECHO, 0), (Mode::TTY_OP_ISPEED, 38_400)]
            .into_iter()
            .collect(),
    }
}

#[test]
fn a_command_runs_and_its_status_comes_before_the_close() {
    let work = command("work").client([read_all()]).server([exit(7)]);
    everywhere(
        &Scenario::new().channel(work),
        r#"
        client: in; disconnected
        client work: opened; data none; exit 7; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server work: exec work granted; closed
        "#,
    );
}

#[test]
fn a_signal_that_ended_a_command_is_told() {
    let killed = |signal, core_dumped, message: &str| {
        Act::Return(Exit::Signal(ExitSignal {
            signal,
            core_dumped,
            message: message.into(),
        }))
    };
    let scenario = Scenario::new()
        .channel(command("a").server([killed(Signal::TERM, false, "so be it")]))
        .channel(command("b").server([killed(Signal::SEGV, true, "")]))
        .channel(command("c").server([Act::Return(Exit::Missing)]));
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; killed by TERM "so be it"; eof; closed
        client b: opened; killed by SEGV "", core dumped; eof; closed
        client c: opened; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: exec a granted; closed
        server b: exec b granted; closed
        server c: exec c granted; closed
        "#,
    );
}

#[test]
fn a_refused_command_leaves_the_channel_for_another() {
    let scenario = Scenario::new()
        .channel(
            session("a")
                .client([exec("no-such"), exec("such"), read_all()])
                .server([write(10), exit(0)]),
        )
        .channel(command("no-such-either").client([read_all()]));
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; exec no-such: refused; exec such: granted; data 10 of server's; exit 0; eof; closed
        client no-such-either: not started: refused
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server ?: exec no-such-either refused
        server a: exec no-such refused; exec such granted; closed
        "#,
    );
}

#[test]
fn a_second_command_is_refused_by_both_ends() {
    let second = custom("exec", "\0\0\0\u{6}second");
    let a = session("a")
        .client([
            exec("first"),
            exec("second"),
            ask(second),
            Act::Mark("asked"),
            read_all(),
        ])
        .server([Act::Await("asked"), exit(0)]);
    let scenario = Scenario::new().channel(a);
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; exec first: granted; exec second: misuse: not possible on this channel: it has a program already; exec "\0\0\0\u{6}second": refused; data none; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: exec first granted; closed
        "#,
    );
}

#[test]
fn a_shell_has_a_terminal_with_its_modes_and_an_environment() {
    let shell = session("a")
        .client([
            ask(ChannelRequest::Pty(pty("xterm"))),
            env("LC_A", "b c"),
            env("noise", "1"),
            ask(ChannelRequest::Shell),
            write(5),
            Act::Eof,
            read_all(),
        ])
        .server([Act::Echo, exit(0)]);
    everywhere(
        &Scenario::new().channel(shell),
        r#"
        client: in; disconnected
        client a: opened; pty-req xterm 80x24 640x480 53=0 128=38400: granted; env LC_A=b c: granted; env noise=1: refused; shell: granted; data 5 of client's; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: pty-req xterm 80x24 640x480 53=0 128=38400 granted; env LC_A=b c granted; env noise=1 refused; shell granted; data 5 of client's; eof; closed
        "#,
    );
}

#[test]
fn everything_about_a_program_may_be_asked_for_at_once() {
    let kind = |run, term| Kind::Program {
        run,
        pty: Some(pty(term)),
        env: vec![("LC_A", "b"), ("noise", "1"), ("LC_D", "")],
        combine_stderr: false,
    };
    let mut shell = program("a", Run::Shell)
        .client([read_all()])
        .server([write(9), exit(0)]);
    shell.kind = kind(Run::Shell, "vt100");
    let mut command = command("b");
    // A command that needs a terminal is not run without one.
    command.kind = kind(Run::Exec("b".into()), "nothing");
    let scenario = Scenario::new().channel(shell).channel(command);
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; data 9 of server's; exit 0; eof; closed
        client b: not started: refused
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server ?: pty-req nothing 80x24 640x480 53=0 128=38400 refused
        server a: pty-req vt100 80x24 640x480 53=0 128=38400 granted; env LC_A=b granted; env noise=1 refused; env LC_D= granted; shell granted; closed
        "#,
    );
}

#[test]
fn sizes_signals_and_breaks_reach_the_program() {
    let a = session("a")
        .client([
            ask(ChannelRequest::Pty(pty("xterm"))),
            exec("top"),
            resize(100, 40),
            read(1),
            resize(120, 50),
            signal(Signal::INT),
            read(1),
            ask(ChannelRequest::Break { ms: 500 }),
            ask(ChannelRequest::Break { ms: 7 }),
            signal(Signal::TERM),
            read_all(),
        ])
        .server([
            Act::Expect("window-change 100x40 granted"),
            write(1),
            Act::Expect("window-change 120x50 granted"),
            Act::Expect("signal INT granted"),
            write(1),
            Act::Expect("signal TERM granted"),
            exit(143),
        ]);
    everywhere(
        &Scenario::new().channel(a),
        r#"
        client: in; disconnected
        client a: opened; pty-req xterm 80x24 640x480 53=0 128=38400: granted; exec top: granted; window-change 100x40; window-change 120x50; signal INT; break 500: granted; break 7: refused; signal TERM; data 2 of server's; exit 143; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: pty-req xterm 80x24 640x480 53=0 128=38400 granted; exec top granted; window-change 100x40 granted; window-change 120x50 granted; signal INT granted; break 500 granted; break 7 refused; signal TERM granted; closed
        "#,
    );
}

#[test]
fn a_subsystem_is_started_by_its_name() {
    let scenario = Scenario::new()
        .channel(
            program("a", Run::Subsystem("echo".into()))
                .client([write(100), Act::Eof, read_all()])
                .server([Act::Echo, exit(0)]),
        )
        .channel(program("b", Run::Subsystem("nothing".into())))
        .channel(
            session("c")
                .client([ask(ChannelRequest::Subsystem("quota".into())), read_all()])
                .server([write(3), exit(0)]),
        );
    everywhere(
        &scenario,
        r#"
        client: in; disconnected
        client a: opened; data 100 of client's; exit 0; eof; closed
        client b: not started: refused
        client c: opened; subsystem quota: granted; data 3 of server's; exit 0; eof; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server ?: subsystem nothing refused
        server a: subsystem echo granted; data 100 of client's; eof; closed
        server c: subsystem quota granted; closed
        "#,
    );
}

#[test]
fn a_session_may_end_with_nothing_in_it() {
    let a = session("a").client([Act::Close]);
    let b = session("b").client([Act::Eof, Act::Close]);
    everywhere(
        &Scenario::new().channel(a).channel(b),
        r#"
        client: in; disconnected
        client a: opened; closed
        client b: opened; closed
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        "#,
    );
}

#[test]
fn a_refused_session_is_told_why() {
    let a = session("a").refused(OpenFailureReason::RESOURCE_SHORTAGE, "too many");
    let b = command("b").refused(OpenFailureReason::RESOURCE_SHORTAGE, "too many");
    everywhere(
        &Scenario::new().channel(a).channel(b),
        r#"
        client: in; disconnected
        client a: not opened: 4 "too many"
        client b: not opened: 4 "too many"
        server: publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server a: session refused
        "#,
    );
}

#[test]
fn many_commands_come_and_go() {
    let mut scenario = Scenario::new();
    let mut deeds = Vec::new();
    let mut client = vec!["client: in; disconnected".to_owned()];
    let mut server = vec![
        r#"server: publickey of alice accepted; alice is in; disconnected by the peer: 11 """#
            .to_owned(),
    ];
    for round in 0..3 {
        let names: Vec<String> = (0..20).map(|i| format!("r{round}c{i:02}")).collect();
        for (name, status) in names.iter().zip(round * 20..) {
            scenario = scenario.channel(command(name).server([exit(status)]));
            client.push(format!("client {name}: opened; exit {status}; eof; closed"));
            server.push(format!("server {name}: exec {name} granted; closed"));
        }
        deeds.extend(names.iter().map(|name| open(name)));
        deeds.extend(names.iter().map(|name| join(name)));
    }
    deeds.push(bye());
    client.append(&mut server);
    everywhere(&scenario.client(deeds), &client.join("\n"));
}
