//! A recording as a conversation, line by line: the time, who speaks, what is said.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use ssh_proto::log::LogLevel;
use ssh_proto::replay::{Player, Step, Trace};

/// The names of the messages (RFC 4250 section 4.1, and those of OpenSSH).
const MESSAGES: [(u8, &str); 33] = [
    (1, "DISCONNECT"),
    (2, "IGNORE"),
    (3, "UNIMPLEMENTED"),
    (4, "DEBUG"),
    (5, "SERVICE_REQUEST"),
    (6, "SERVICE_ACCEPT"),
    (7, "EXT_INFO"),
    (20, "KEXINIT"),
    (21, "NEWKEYS"),
    (30, "KEX_INIT"),
    (31, "KEX_REPLY"),
    (50, "USERAUTH_REQUEST"),
    (51, "USERAUTH_FAILURE"),
    (52, "USERAUTH_SUCCESS"),
    (53, "USERAUTH_BANNER"),
    (60, "USERAUTH_60"),
    (61, "USERAUTH_61"),
    (80, "GLOBAL_REQUEST"),
    (81, "REQUEST_SUCCESS"),
    (82, "REQUEST_FAILURE"),
    (90, "CHANNEL_OPEN"),
    (91, "CHANNEL_OPEN_CONFIRMATION"),
    (92, "CHANNEL_OPEN_FAILURE"),
    (93, "CHANNEL_WINDOW_ADJUST"),
    (94, "CHANNEL_DATA"),
    (95, "CHANNEL_EXTENDED_DATA"),
    (96, "CHANNEL_EOF"),
    (97, "CHANNEL_CLOSE"),
    (98, "CHANNEL_REQUEST"),
    (99, "CHANNEL_SUCCESS"),
    (100, "CHANNEL_FAILURE"),
    (192, "PING"),
    (193, "PONG"),
];

/// Replays a recording and prints it; with `bytes`, every packet's.
pub(crate) fn print(
    trace: &Trace,
    start: Instant,
    bytes: bool,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let mut player = Player::with_log(trace, start, LogLevel::Packet, bytes);
    let mut now = Duration::ZERO;
    let role = if trace.is_client() {
        "a client"
    } else {
        "a server"
    };
    writeln!(out, "recording of {role}, {} steps", trace.steps().len())?;
    while let Some(step) = player.step()? {
        now = step.at().unwrap_or(now);
        if let Some(does) = told(step) {
            line(out, now, "caller", &does)?;
        }
        while let Some(record) = player.poll_log() {
            let (speaker, text) = match record.text.split_once(" message ") {
                Some(("received", rest)) => ("<-", named(rest)),
                Some(("sent", rest)) => ("->", named(rest)),
                _ => ("", format!("({}) {}", record.layer, record.text)),
            };
            line(out, now, speaker, &text)?;
        }
        if let Some(event) = player.event_text() {
            line(out, now, "event", event)?;
        }
    }
    let end = if trace.is_whole() {
        "the recording is whole"
    } else {
        "the recording stops here"
    };
    writeln!(
        out,
        "{} bytes sent, all as recorded; {end}",
        player.output_len()
    )?;
    Ok(())
}

/// `94, 20 bytes` with the name of the message in front.
fn named(rest: &str) -> String {
    let number = rest
        .split(',')
        .next()
        .and_then(|number| number.parse().ok());
    let name = MESSAGES.iter().find(|(known, _)| Some(*known) == number);
    match name {
        Some((_, name)) => format!("{name} ({rest})"),
        None => format!("message {rest}"),
    }
}

fn line(out: &mut impl Write, at: Duration, speaker: &str, text: &str) -> std::io::Result<()> {
    let time = format!("{}.{:06}", at.as_secs(), at.subsec_micros());
    for (i, text) in text.lines().enumerate() {
        let (time, speaker) = if i == 0 { (&*time, speaker) } else { ("", "") };
        writeln!(out, "{time:>12}  {speaker:<6}  {text}")?;
    }
    Ok(())
}

/// What a step's command is, without secrets; nothing for those that only move bytes or take events.
fn told(step: &Step) -> Option<String> {
    let command = step.command();
    let mut words = command.split(' ');
    let verb = words.next()?;
    match verb {
        "event" | "channel-event" | "output-consumed" | "output-swapped" | "timeout" => None,
        "input" if step.data().is_empty() => None,
        "input" => Some(format!("{} bytes came", step.data().len())),
        // Time, user, method; no password.
        "authenticate" => {
            let words: Vec<&str> = words.skip(1).take(2).collect();
            Some(format!("authenticate {}", words.join(" ")))
        }
        "answer" | "change-password" | "supply-signature" => Some(verb.to_owned()),
        "write" => {
            let mut text = format!("write {}", words.collect::<Vec<_>>().join(" "));
            _ = write!(text, " \"{}\"", step.data().escape_ascii());
            Some(text)
        }
        _ if step.at().is_some() => Some(format!(
            "{verb} {}",
            words.skip(1).collect::<Vec<_>>().join(" ")
        )),
        _ => Some(command),
    }
}
