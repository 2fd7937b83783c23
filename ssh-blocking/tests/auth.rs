//! Authentication: each method, refusals, several factors, banners, host keys.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{TestServer, config, keys, new_key, options};
use ssh_blocking::ssh_proto::config::AuthMethod;
use ssh_blocking::ssh_proto::{self, Secret};
use ssh_blocking::{AuthOutcome, Client, ClientOptions, Error, HostKeyPolicy, Method};

#[test]
fn a_password_is_right_or_wrong() {
    let server = TestServer::start();
    let client = server.connect();
    let AuthOutcome::Refused {
        methods,
        partial_success,
    } = client.auth_password("user", "wrong").unwrap()
    else {
        panic!("a wrong password was taken");
    };
    assert!(methods.iter().any(|method| method == "password"));
    assert!(!partial_success);
    assert!(client.auth_password("user", "secret").unwrap().success());
    assert_eq!(client.session().unwrap().user.as_deref(), Some("user"));
    server.seen.wait_for("authenticated user");
}

#[test]
fn a_key_is_right_or_wrong() {
    let server = TestServer::start();
    let client = server.connect();
    assert!(!client.auth_public_key("user", new_key()).unwrap().success());
    assert!(
        client
            .auth_public_key("user", Arc::clone(&keys().1))
            .unwrap()
            .success()
    );
    assert!(client.exec("echo x").output().unwrap().status.success());
}

#[test]
fn nothing_runs_before_authentication() {
    let server = TestServer::start();
    let client = server.connect();
    let error = client.exec("echo x").output().unwrap_err();
    assert!(
        matches!(error, Error::Misuse(ssh_proto::Misuse::NotAuthenticated)),
        "{error}"
    );
}

#[test]
fn no_proof_does_where_the_server_says_so() {
    let mut config = config();
    let server = TestServer::start();
    let outcome = server.connect().auth_none("anybody").unwrap();
    assert!(!outcome.success(), "the configuration does not list it");
    config.auth_methods.push(AuthMethod::None);
    let server = TestServer::start_with(config, |options| options);
    assert!(server.connect().auth_none("anybody").unwrap().success());
    assert!(!server.connect().auth_none("user").unwrap().success());
}

#[test]
fn a_key_elsewhere_signs_when_the_server_wants_it() {
    let server = TestServer::start();
    let client = server.connect();
    let key = Arc::clone(&keys().1);
    let mut asked = 0;
    let stranger = new_key();
    let outcome = client.auth_external("user", stranger.public().clone(), |_| {
        asked += 1;
        None
    });
    assert!(!outcome.unwrap().success());
    assert_eq!(asked, 0, "a key that would not do is not asked to sign");
    let outcome = client.auth_external("user", key.public().clone(), |request| {
        asked += 1;
        key.sign(request.algorithm(), request.data()).ok()
    });
    assert!(outcome.unwrap().success());
    assert_eq!(asked, 1);
    assert!(server.seen.has("key offered"));
}

#[test]
fn a_key_elsewhere_that_cannot_sign_is_a_refusal() {
    let server = TestServer::start();
    let client = server.connect();
    let key = keys().1.public().clone();
    assert!(
        !client
            .auth_external("user", key, |_| None)
            .unwrap()
            .success()
    );
    assert!(client.auth_password("user", "secret").unwrap().success());
}

#[test]
fn questions_are_answered_round_by_round() {
    let server = TestServer::start();
    let client = server.connect();
    let mut rounds = Vec::new();
    let outcome = client.auth_keyboard_interactive("user", |prompts| {
        rounds.push(prompts.name().to_owned());
        Some(match prompts.prompts() {
            [colour, code] => {
                assert!(colour.echo && !code.echo);
                assert_eq!(prompts.instruction(), "two questions");
                vec![Secret::from("blue"), Secret::from("42")]
            }
            _ => vec![Secret::from("yes")],
        })
    });
    assert!(outcome.unwrap().success());
    assert_eq!(rounds, ["round one", "round two"]);
}

#[test]
fn a_user_who_gives_up_can_try_something_else() {
    let server = TestServer::start();
    let client = server.connect();
    let error = client
        .auth_keyboard_interactive("user", |_| None)
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(client.auth_password("user", "secret").unwrap().success());
}

#[test]
fn an_expired_password_is_changed() {
    let server = TestServer::start();
    let client = server.connect();
    let outcome = client.auth_password("expired", "old").unwrap();
    let AuthOutcome::PasswordExpired { prompt } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(prompt, "choose another");
    let outcome = client.auth_password_with_change("expired", "old", |prompt| {
        assert_eq!(prompt, "choose another");
        Some(Secret::from("new"))
    });
    assert!(outcome.unwrap().success());
}

#[test]
fn two_factors_are_both_wanted() {
    let server = TestServer::start();
    let client = server.connect();
    let outcome = client
        .auth_public_key("factors", Arc::clone(&keys().1))
        .unwrap();
    let AuthOutcome::Refused {
        methods,
        partial_success: true,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(methods, ["password"]);
    assert!(client.auth_password("factors", "secret").unwrap().success());
}

#[test]
fn several_methods_are_tried_in_order_and_only_where_they_fit() {
    let server = TestServer::start();
    let client = server.connect();
    let mut asked = 0;
    let mut ask = || {
        asked += 1;
        Some(Secret::from(if asked == 1 { "wrong" } else { "secret" }))
    };
    let outcome = client
        .authenticate(
            "factors",
            &mut [
                Method::AskPassword {
                    ask: &mut ask,
                    tries: 3,
                },
                Method::PublicKey(Arc::new(new_key())),
                Method::PublicKey(Arc::clone(&keys().1)),
            ],
        )
        .unwrap();
    assert!(outcome.success(), "{outcome:?}");
    assert_eq!(asked, 2);
}

#[test]
fn no_method_left_is_a_refusal() {
    let server = TestServer::start();
    let outcome = server
        .connect()
        .authenticate("user", &mut [Method::PublicKey(Arc::new(new_key()))])
        .unwrap();
    assert!(
        matches!(outcome, AuthOutcome::Refused { .. }),
        "{outcome:?}"
    );
}

#[test]
fn a_banner_is_shown() {
    let mut config = config();
    config.banner = Some("authorised use only\n".into());
    let server = TestServer::start_with(config, |options| options);
    let seen = Arc::new(Mutex::new(String::new()));
    let banner = Arc::clone(&seen);
    let options = options().on_banner(move |text| banner.lock().unwrap().push_str(text));
    let client = Client::connect(server.handle.address(), options).unwrap();
    assert!(client.auth_password("user", "secret").unwrap().success());
    assert_eq!(*seen.lock().unwrap(), "authorised use only\n");
}

#[test]
fn a_wrong_host_key_is_refused_with_both_fingerprints() {
    let server = TestServer::start();
    let pinned = new_key().public().fingerprint_sha256();
    let options = ClientOptions::new(HostKeyPolicy::fingerprint(&pinned));
    let error = Client::connect(server.handle.address(), options).unwrap_err();
    let Error::HostKey(refused) = &error else {
        panic!("{error}");
    };
    assert_eq!(refused.shown, keys().0.public().fingerprint_sha256());
    assert_eq!(refused.expected, std::slice::from_ref(&pinned));
    let text = error.to_string();
    assert!(
        text.contains(&pinned) && text.contains(&refused.shown),
        "{text}"
    );
}

#[test]
fn a_callback_judges_the_host_key() {
    let server = TestServer::start();
    for verdict in [true, false] {
        let policy = HostKeyPolicy::ask(move |key| {
            assert_eq!(key, keys().0.public());
            verdict
        });
        let result = Client::connect(server.handle.address(), ClientOptions::new(policy));
        assert_eq!(result.is_ok(), verdict);
    }
}

#[test]
fn too_many_failures_end_the_connection() {
    let server = TestServer::start();
    let client = server.connect();
    let error = (0..100)
        .find_map(|_| client.auth_password("user", "wrong").err())
        .expect("a hundred failures");
    assert!(matches!(error, Error::Connection(_)), "{error}");
    assert!(!client.is_alive());
}

#[test]
fn a_peer_that_says_nothing_runs_into_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let begin = Instant::now();
    let options = options().connect_timeout(Duration::from_millis(200));
    let error = Client::connect(listener.local_addr().unwrap(), options).unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_stage_that_timed_out_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = ssh_proto::config::ClientConfig::new();
    config.transport.deadlines.version = Some(Duration::from_millis(100));
    let error =
        Client::connect(listener.local_addr().unwrap(), options().config(config)).unwrap_err();
    let stage = ssh_proto::error::Stage::VersionExchange;
    assert!(
        matches!(error, Error::Connection(ssh_proto::Error::TimedOut(at)) if at == stage),
        "{error}"
    );
}

#[test]
fn a_name_is_tried_address_by_address() {
    let server = TestServer::start();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let addresses = [closed, server.handle.address()];
    let options = options().connect_timeout(Duration::from_secs(10));
    let client = Client::connect(&addresses[..], options).unwrap();
    assert_eq!(client.peer_address(), Some(server.handle.address()));
}

#[test]
fn another_thread_cancels_an_attempt() {
    let server = TestServer::start();
    let client = server.connect();
    let other = client.clone();
    let result = client.auth_keyboard_interactive("user", move |_| {
        other.disconnect();
        Some(vec![Secret::from("blue"), Secret::from("42")])
    });
    assert!(result.is_err());
    assert!(!client.is_alive());
}
