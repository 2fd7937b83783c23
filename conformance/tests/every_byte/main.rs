//! The stream of one side ends behind every byte of a whole session, or fails there: in every adapter, in both roles. The
//! call that is under way says so and names the stage, nobody is let in too early, and what had come whole is delivered.

mod blocking;
mod line;
mod mio;
mod side;
mod tokio;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use line::{Cut, End};
use side::{Session, Who};

/// A session that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Plays a session again and again; the line to one side ends behind another byte each time.
fn wherever_it(end: End, play: impl Fn(Option<(Who, Cut)>) -> Session + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let playing = thread::spawn(move || {
        let play = |cut| {
            let session = play(cut);
            // The test has given up, if nobody hears it.
            _ = tell.send(());
            session
        };
        for who in [Who::Client, Who::Server] {
            let whole = play(None);
            let plan = whole.plan(who);
            for after in 0..plan.len() {
                let cut = Cut { after, end };
                plan.judge(cut, &play(Some((who, cut))));
            }
            // Nothing that was cut off before has harmed anybody.
            assert_eq!(play(None).plan(who), plan);
        }
    });
    loop {
        match told.recv_timeout(PATIENCE) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        }
    }
    if let Err(panic) = playing.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn threads_on_a_pair_of_halves_that_ends_behind_any_byte_hear_at_which_stage() {
    wherever_it(End::Eof, blocking::on_halves);
}

#[test]
fn threads_on_a_pair_of_halves_that_fails_behind_any_byte_hear_why() {
    wherever_it(End::Failure, blocking::on_halves);
}

#[test]
fn threads_on_a_socket_that_ends_behind_any_byte_hear_at_which_stage() {
    wherever_it(End::Eof, blocking::on_sockets);
}

#[test]
fn tasks_on_a_stream_that_ends_behind_any_byte_hear_at_which_stage() {
    wherever_it(End::Eof, tokio::play);
}

#[test]
fn tasks_on_a_stream_that_fails_behind_any_byte_hear_why() {
    wherever_it(End::Failure, tokio::play);
}

#[test]
fn sessions_of_an_event_loop_whose_stream_ends_behind_any_byte_hear_at_which_stage() {
    wherever_it(End::Eof, mio::play);
}

#[test]
fn sessions_of_an_event_loop_whose_stream_fails_behind_any_byte_hear_why() {
    wherever_it(End::Failure, mio::play);
}
