//! Logging in (RFC 4252, RFC 4256).

use conformance::scenario::{Login, Scenario, command, exit};
use ssh_proto::AuthMethod;

use crate::everywhere;

fn after(logins: impl Into<Vec<Login>>) -> Scenario {
    Scenario::new()
        .logins(logins)
        .channel(command("work").server([exit(0)]))
}

#[test]
fn a_password_lets_in_once_it_is_right() {
    let logins = [
        Login::Password("alice", "wrong"),
        Login::Password("alice", "sesame"),
    ];
    everywhere(
        &after(logins),
        r#"
        client: refused, publickey,password,keyboard-interactive; in; disconnected
        client work: opened; exit 0; eof; closed
        server: password of alice refused; password of alice accepted; alice is in; disconnected by the peer: 11 ""
        server work: exec work granted; closed
        "#,
    );
}

#[test]
fn an_expired_password_is_changed() {
    let logins = [
        Login::Password("forgetful", "sesame"),
        Login::Change("forgetful", "wrong", "tahini"),
        Login::Change("forgetful", "sesame", "tahini"),
    ];
    everywhere(
        &after(logins),
        r#"
        client: expired, "choose another"; told "choose another", refused, publickey,password,keyboard-interactive; told "choose another", in; disconnected
        client work: opened; exit 0; eof; closed
        server: password of forgetful expired; password of forgetful expired; password change of forgetful refused; password of forgetful expired; password change of forgetful accepted; forgetful is in; disconnected by the peer: 11 ""
        server work: exec work granted; closed
        "#,
    );
}

#[test]
fn a_key_may_sign_here_or_elsewhere() {
    everywhere(
        &after([Login::Key("bob"), Login::Key("alice")]),
        r#"
        client: refused, publickey,password,keyboard-interactive; in; disconnected
        client work: opened; exit 0; eof; closed
        server: publickey of bob refused; publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server work: exec work granted; closed
        "#,
    );
    everywhere(
        &after([Login::External("bob"), Login::External("alice")]),
        r#"
        client: refused, publickey,password,keyboard-interactive; in; disconnected
        client work: opened; exit 0; eof; closed
        server: key offer of bob accepted; publickey of bob refused; key offer of alice accepted; publickey of alice accepted; alice is in; disconnected by the peer: 11 ""
        server work: exec work granted; closed
        "#,
    );
}

#[test]
fn several_rounds_of_questions_are_answered() {
    let logins = [
        Login::Answers("quiz", &[&["blue", "43"]]),
        Login::Answers("quiz", &[&["blue", "42"], &["no"]]),
        Login::Answers("quiz", &[&["blue", "42"], &["yes"]]),
    ];
    everywhere(
        &after(logins),
        r#"
        client: first asked Colour: Code:, refused, publickey,password,keyboard-interactive; first asked Colour: Code:, second asked Sure?, refused, publickey,password,keyboard-interactive; first asked Colour: Code:, second asked Sure?, in; disconnected
        client work: opened; exit 0; eof; closed
        server: keyboard-interactive of quiz asked; answers of quiz refused; keyboard-interactive of quiz asked; answers of quiz asked; answers of quiz refused; keyboard-interactive of quiz asked; answers of quiz asked; answers of quiz accepted; quiz is in; disconnected by the peer: 11 ""
        server work: exec work granted; closed
        "#,
    );
}

#[test]
fn a_second_factor_follows_the_first_and_only_both_let_in() {
    let logins = [
        Login::Password("factors", "sesame"),
        Login::Key("factors"),
        Login::Password("factors", "wrong"),
        Login::Password("factors", "sesame"),
    ];
    everywhere(
        &after(logins),
        r#"
        client: refused, publickey,password,keyboard-interactive; refused, password, partial success; refused, password; in; disconnected
        client work: opened; exit 0; eof; closed
        server: password of factors refused; publickey of factors accepted in part; password of factors refused; password of factors accepted; factors is in; disconnected by the peer: 11 ""
        server work: exec work granted; closed
        "#,
    );
}

#[test]
fn nothing_lets_in_who_needs_no_proof() {
    let scenario = after([Login::None("alice"), Login::None("anybody")]).configure(|_, server| {
        server.auth_methods.push(AuthMethod::None);
        server.banner = Some("be welcome\n".into());
    });
    everywhere(
        &scenario,
        r#"
        client: refused, publickey,password,keyboard-interactive; in; banner "be welcome\n"; disconnected
        client work: opened; exit 0; eof; closed
        server: none of alice refused; none of anybody accepted; anybody is in; disconnected by the peer: 11 ""
        server work: exec work granted; closed
        "#,
    );
}

#[test]
fn who_guesses_too_often_is_thrown_out() {
    let scenario = after([Login::Password("alice", "guess"); 7]);
    everywhere(
        &scenario,
        r#"
        client: refused, publickey,password,keyboard-interactive; refused, publickey,password,keyboard-interactive; refused, publickey,password,keyboard-interactive; refused, publickey,password,keyboard-interactive; refused, publickey,password,keyboard-interactive; disconnected by the peer: 14 "too many authentication failures"; disconnected by the peer: 14 "too many authentication failures"
        client work: not started: disconnected by the peer: 14 "too many authentication failures"
        server: password of alice refused; password of alice refused; password of alice refused; password of alice refused; password of alice refused; password of alice refused; protocol error by the peer: too many authentication failures
        "#,
    );
}
