//! Authentication: each method, refusals, several factors, host keys, attempts whose future is dropped.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{TestServer, config, keys, new_key, options, soon};
use ssh_tokio::ssh_proto::config::AuthMethod;
use ssh_tokio::ssh_proto::{self, Misuse, Secret};
use ssh_tokio::{AuthOutcome, Client, ClientOptions, Error, HostKeyPolicy, Method};

#[tokio::test]
async fn a_password_is_right_or_wrong() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let outcome = soon(client.auth_password("user", "wrong")).await.unwrap();
    let AuthOutcome::Refused {
        methods,
        partial_success,
    } = outcome
    else {
        panic!("a wrong password was taken");
    };
    assert!(methods.iter().any(|method| method == "password"));
    assert!(!partial_success);
    let outcome = soon(client.auth_password("user", "secret")).await.unwrap();
    assert!(outcome.success());
    assert_eq!(client.session().unwrap().user.as_deref(), Some("user"));
    server.seen.wait_for("authenticated user").await;
}

#[tokio::test]
async fn a_key_is_right_or_wrong() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let outcome = soon(client.auth_public_key("user", new_key())).await;
    assert!(!outcome.unwrap().success());
    common::log_in(&client).await;
    assert!(
        soon(client.exec("echo x").status())
            .await
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn nothing_runs_before_authentication() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let error = soon(client.exec("echo x").output()).await.unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::NotAuthenticated)));
}

#[tokio::test]
async fn no_proof_does_where_the_server_says_so() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let outcome = soon(client.auth_none("anybody")).await.unwrap();
    assert!(!outcome.success(), "the configuration does not list it");
    let mut config = config();
    config.auth_methods.push(AuthMethod::None);
    let server = TestServer::start_with(config, |options| options).await;
    let client = server.connect().await;
    assert!(!soon(client.auth_none("user")).await.unwrap().success());
    assert!(soon(client.auth_none("anybody")).await.unwrap().success());
}

#[tokio::test]
async fn a_key_elsewhere_signs_when_the_server_wants_it() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let key = &keys().1;
    let stranger = new_key().public().clone();
    let outcome = client.auth_external("user", stranger, |_| async {
        panic!("a key that would not do is not asked to sign")
    });
    assert!(!soon(outcome).await.unwrap().success());
    let cannot = client.auth_external("user", key.public().clone(), |_| async { None });
    assert!(!soon(cannot).await.unwrap().success());
    let outcome = client.auth_external("user", key.public().clone(), |request| {
        let signature = key.sign(request.algorithm(), request.data()).ok();
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            signature
        }
    });
    assert!(soon(outcome).await.unwrap().success());
}

#[tokio::test]
async fn questions_are_answered_round_by_round() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let given_up = client.auth_keyboard_interactive("user", |_| async { None });
    assert!(matches!(soon(given_up).await, Err(Error::Cancelled)));
    let rounds = Mutex::new(Vec::new());
    let outcome = client.auth_keyboard_interactive("user", |prompts| {
        rounds.lock().unwrap().push(prompts.name().to_owned());
        let answers = match prompts.prompts() {
            [colour, code] => {
                assert!(colour.echo && !code.echo);
                vec![Secret::from("blue"), Secret::from("42")]
            }
            _ => vec![Secret::from("yes")],
        };
        async { Some(answers) }
    });
    assert!(soon(outcome).await.unwrap().success());
    assert_eq!(*rounds.lock().unwrap(), ["round one", "round two"]);
}

#[tokio::test]
async fn an_expired_password_is_changed() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let outcome = soon(client.auth_password("expired", "old")).await.unwrap();
    let AuthOutcome::PasswordExpired { prompt } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(prompt, "choose another");
    let outcome = client.auth_password_with_change("expired", "old", |prompt| {
        assert_eq!(prompt, "choose another");
        async { Some(Secret::from("new")) }
    });
    assert!(soon(outcome).await.unwrap().success());
}

#[tokio::test]
async fn several_methods_are_tried_in_order_and_only_where_they_fit() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let mut asked = 0;
    let mut methods = [
        Method::ask_password(
            || {
                asked += 1;
                let password = if asked == 1 { "wrong" } else { "secret" };
                async move { Some(Secret::from(password)) }
            },
            3,
        ),
        Method::PublicKey(Arc::new(new_key())),
        Method::PublicKey(Arc::clone(&keys().1)),
    ];
    let outcome = soon(client.authenticate("factors", &mut methods)).await;
    assert!(outcome.unwrap().success());
    drop(methods);
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn no_method_left_is_a_refusal() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let mut methods = [Method::PublicKey(Arc::new(new_key()))];
    let outcome = soon(client.authenticate("user", &mut methods)).await;
    assert!(matches!(outcome, Ok(AuthOutcome::Refused { .. })));
}

#[tokio::test]
async fn an_attempt_whose_future_was_dropped_does_not_answer_the_next_one() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    // The verdict takes 200 ms.
    let slow = client.auth_password("slow", "wrong");
    assert!(
        tokio::time::timeout(Duration::from_millis(50), slow)
            .await
            .is_err()
    );
    // Its refusal must not be taken for the verdict on this one.
    let outcome = soon(client.auth_password("user", "secret")).await.unwrap();
    assert!(outcome.success());
}

#[tokio::test]
async fn a_dropped_attempt_that_succeeds_is_told_to_the_next_one() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let slow = client.auth_password("slow", "secret");
    assert!(
        tokio::time::timeout(Duration::from_millis(50), slow)
            .await
            .is_err()
    );
    let error = soon(client.auth_password("user", "secret"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::AlreadyAuthenticated)));
    assert_eq!(client.session().unwrap().user.as_deref(), Some("slow"));
}

#[tokio::test]
async fn a_question_whose_future_was_dropped_makes_way() {
    let server = TestServer::start().await;
    let client = server.connect().await;
    let stuck = client.auth_keyboard_interactive("user", |_| std::future::pending());
    assert!(
        tokio::time::timeout(Duration::from_millis(100), stuck)
            .await
            .is_err()
    );
    let outcome = soon(client.auth_password("user", "secret")).await.unwrap();
    assert!(outcome.success());
}

#[tokio::test]
async fn another_host_key_is_refused_with_both_fingerprints() {
    let server = TestServer::start().await;
    let expected = new_key().public().fingerprint_sha256();
    let options = ClientOptions::new(HostKeyPolicy::fingerprint(expected.clone()));
    let error = soon(Client::connect(server.handle.address(), options))
        .await
        .unwrap_err();
    let Error::HostKey(refused) = error else {
        panic!("{error}");
    };
    assert_eq!(refused.expected, [expected]);
    assert_eq!(refused.shown, keys().0.public().fingerprint_sha256());
}

#[tokio::test]
async fn a_host_key_can_be_thought_about() {
    let server = TestServer::start().await;
    let policy = HostKeyPolicy::ask(|key| {
        let fine = key == keys().0.public();
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            fine
        }
    });
    let connecting = Client::connect_spawn(server.handle.address(), ClientOptions::new(policy));
    assert!(soon(connecting).await.unwrap().is_alive());
    let policy = HostKeyPolicy::ask(|_| async { false });
    let connecting = Client::connect_spawn(server.handle.address(), ClientOptions::new(policy));
    let error = soon(connecting).await.unwrap_err();
    assert!(matches!(error, Error::HostKey(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = options().connect_timeout(Duration::from_millis(100));
    let error = soon(Client::connect(listener.local_addr().unwrap(), options))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
}

#[tokio::test]
async fn a_stage_that_takes_too_long_is_a_timeout_of_the_protocol() {
    let (near, _far) = tokio::io::duplex(1024);
    let mut config = ssh_proto::ClientConfig::new();
    config.transport.deadlines.version = Some(Duration::from_millis(50));
    let error = soon(Client::connect_stream(near, options().config(config)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Connection(ssh_proto::Error::TimedOut(_))),
        "{error}"
    );
}

#[tokio::test]
async fn a_banner_is_shown_and_log_records_come() {
    let mut config = config();
    config.banner = Some("welcome, or not".into());
    let server = TestServer::start_with(config, |options| options).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let records = Arc::new(Mutex::new(0));
    let (shown, counted) = (Arc::clone(&seen), Arc::clone(&records));
    let mut config = ssh_proto::ClientConfig::new();
    config.transport.log = ssh_proto::log::LogLevel::Info;
    let options = options()
        .config(config)
        .on_banner(move |text| shown.lock().unwrap().push(text.to_owned()))
        .on_log(move |_| *counted.lock().unwrap() += 1);
    let client = soon(Client::connect_spawn(server.handle.address(), options))
        .await
        .unwrap();
    common::log_in(&client).await;
    assert_eq!(*seen.lock().unwrap(), ["welcome, or not"]);
    assert!(*records.lock().unwrap() > 0);
}
