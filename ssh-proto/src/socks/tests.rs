//! Both sides, byte for byte and in any pieces.

use proptest::prelude::*;

use super::*;
use crate::error::Misuse;

/// What a proxy that was handed `bytes` in pieces of `chunk` wants, has to say, and has taken.
fn proxy(bytes: &[u8], chunk: usize) -> (Option<SocksEvent>, Vec<u8>, usize, SocksProxy) {
    let mut proxy = SocksProxy::new();
    let mut taken = 0;
    for piece in bytes.chunks(chunk) {
        let len = proxy.handle_bytes(piece);
        taken += len;
        if len < piece.len() {
            break;
        }
    }
    let said = proxy.output().to_vec();
    proxy.consume_output(usize::MAX);
    (proxy.poll_event(), said, taken, proxy)
}

fn connect(host: &str, port: u16) -> Option<SocksEvent> {
    Some(SocksEvent::Connect {
        host: host.to_owned(),
        port,
    })
}

#[test]
fn requests_of_all_versions_are_understood_and_nothing_behind_them_is_taken() {
    let long = "h".repeat(255);
    let by_long_name = [
        &b"\x05\x01\x00\x05\x01\x00\x03\xff"[..],
        long.as_bytes(),
        b"\x01\xbb",
    ]
    .concat();
    let cases: &[(&[u8], &str, u16)] = &[
        (b"\x04\x01\x00\x50\xc0\x00\x02\x01user\x00", "192.0.2.1", 80),
        (b"\x04\x01\x00\x50\xc0\x00\x02\x01\x00", "192.0.2.1", 80),
        (
            b"\x04\x01\x01\xbb\x00\x00\x00\x07\x00host.example\x00",
            "host.example",
            443,
        ),
        (b"\x04\x01\x01\xbb\x00\x00\x00\x00\x00", "0.0.0.0", 443),
        (
            b"\x05\x02\x02\x00\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50",
            "192.0.2.1",
            80,
        ),
        (
            b"\x05\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50",
            "2001:db8::1",
            80,
        ),
        (&by_long_name, &long, 443),
    ];
    for (request, host, port) in cases {
        let bytes = [request, &b"data"[..]].concat();
        for chunk in [1, 2, 3, 7, bytes.len()] {
            let (event, said, taken, mut proxy) = proxy(&bytes, chunk);
            assert_eq!(event, connect(host, *port));
            assert_eq!(taken, request.len());
            let v5 = request[0] == 5;
            assert_eq!(said, if v5 { &b"\x05\x00"[..] } else { b"" });
            assert!(!proxy.is_done());
            proxy.accept().unwrap();
            assert!(proxy.is_done());
            let granted: &[u8] = if v5 {
                b"\x05\0\0\x01\0\0\0\0\0\0"
            } else {
                b"\0\x5a\0\0\0\0\0\0"
            };
            assert_eq!(proxy.output(), granted);
            assert_eq!(proxy.refuse(SocksFailure::GENERAL), Err(Misuse::StaleToken));
            assert_eq!(proxy.handle_bytes(b"more"), 0);
        }
    }
}

#[test]
fn what_is_not_served_is_refused_in_the_words_of_its_version() {
    let failed = |error| Some(SocksEvent::Failed(error));
    let rejected = b"\0\x5b\0\0\0\0\0\0".to_vec();
    let reply = |code| [5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0].to_vec();
    let long = [&b"\x04\x01\0\x50\xc0\0\x02\x01"[..], &[b'u'; 300]].concat();
    let cases: &[(&[u8], SocksError, Vec<u8>)] = &[
        (b"GET / HTTP/1.1\r\n", SocksError::Version(b'G'), vec![]),
        (b"\x05\x00", SocksError::Method, vec![5, 0xff]),
        (b"\x05\x02\x01\x02", SocksError::Method, vec![5, 0xff]),
        (
            b"\x04\x02\0\x50\xc0\0\x02\x01\0",
            SocksError::Command(2),
            rejected.clone(),
        ),
        (
            b"\x04\x01\0\x50\0\0\0\x01\0\0",
            SocksError::Name,
            rejected.clone(),
        ),
        (&long, SocksError::Name, rejected),
        (
            b"\x05\x01\0\x05\x03\0\x01\xc0\0\x02\x01\0\x50",
            SocksError::Command(3),
            reply(7),
        ),
        (
            b"\x05\x01\0\x05\x01\0\x02",
            SocksError::AddressType(2),
            reply(8),
        ),
        (
            b"\x05\x01\0\x05\x01\0\x03\0\0\x50",
            SocksError::Name,
            reply(1),
        ),
        (
            b"\x05\x01\0\x05\x01\0\x03\x03a\0b\0\x50",
            SocksError::Name,
            reply(1),
        ),
        (b"\x05\x01\0\x04", SocksError::Version(4), reply(1)),
    ];
    for (bytes, error, answer) in cases {
        for chunk in [1, 3, bytes.len()] {
            let (event, said, _, mut proxy) = proxy(bytes, chunk);
            assert_eq!((event, said), (failed(*error), answer.clone()), "{bytes:?}");
            assert!(proxy.is_done());
            assert_eq!(proxy.accept(), Err(Misuse::StaleToken));
        }
    }
}

#[test]
fn a_refusal_says_why_in_socks_5_and_that_in_socks_4() {
    for (version, said) in [
        (SocksVersion::V5, SocksFailure::CONNECTION_REFUSED),
        (SocksVersion::V4, SocksFailure::GENERAL),
    ] {
        let mut client = SocksClient::new(version, "localhost", 22).unwrap();
        let mut proxy = SocksProxy::new();
        proxy.handle_bytes(client.output());
        proxy.refuse(SocksFailure::CONNECTION_REFUSED).unwrap();
        client.handle_bytes(proxy.output());
        assert_eq!(client.poll_event(), Some(SocksReply::Refused(said)));
        // A refusal is never a success.
        let mut proxy = SocksProxy::new();
        proxy.handle_bytes(client.output());
        proxy.refuse(SocksFailure(0)).unwrap();
        assert_ne!(proxy.output().get(1), Some(&90));
    }
}

#[test]
fn a_client_names_only_what_its_version_can() {
    assert!(SocksClient::new(SocksVersion::V4, "::1", 1).is_err());
    for host in ["", "two words", "n\u{e4}me", &"x".repeat(256)] {
        assert!(
            SocksClient::new(SocksVersion::V5, host, 1).is_err(),
            "{host}"
        );
    }
}

#[test]
fn a_client_takes_no_nonsense_for_a_reply() {
    let cases: &[(SocksVersion, &[u8], SocksError)] = &[
        (SocksVersion::V4, b"\x05\0", SocksError::Version(5)),
        (SocksVersion::V4, b"\0\x01\0\0\0\0\0\0", SocksError::Reply),
        (SocksVersion::V5, b"\x04", SocksError::Version(4)),
        (SocksVersion::V5, b"\x05\xff", SocksError::Method),
        (
            SocksVersion::V5,
            b"\x05\0\x05\0\0\x09",
            SocksError::AddressType(9),
        ),
    ];
    for (version, bytes, error) in cases {
        let mut client = SocksClient::new(*version, "host", 1).unwrap();
        client.handle_bytes(bytes);
        assert_eq!(client.poll_event(), Some(SocksReply::Failed(*error)));
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_lead_to_the_same_end_within_bounds(
        version in 3_u8..7,
        rest in proptest::collection::vec(any::<u8>(), 0..700),
        chunk in 1_usize..40,
    ) {
        let bytes = [&[version][..], &rest].concat();
        let whole = proxy(&bytes, bytes.len());
        let pieces = proxy(&bytes, chunk);
        prop_assert_eq!(&whole.0, &pieces.0);
        prop_assert_eq!(&whole.1, &pieces.1);
        prop_assert_eq!(whole.2, pieces.2);
        prop_assert!(whole.2 <= 8 + 2 * 256 + 300);
        prop_assert!(whole.1.len() <= 12);
    }

    #[test]
    fn both_sides_understand_each_other(
        v5 in any::<bool>(),
        host in "[!-~]{1,255}",
        port in any::<u16>(),
        chunk in 1_usize..40,
        data in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let version = if v5 { SocksVersion::V5 } else { SocksVersion::V4 };
        let mut client = SocksClient::new(version, &host, port)?;
        let asked = [client.output(), &data].concat();
        let (event, said, taken, mut proxy) = proxy(&asked, chunk);
        prop_assert_eq!(event, connect(&host, port));
        prop_assert_eq!(taken, asked.len() - data.len());
        proxy.accept()?;
        let answer = [&said, proxy.output(), &data].concat();
        let mut taken = 0;
        for piece in answer.chunks(chunk) {
            taken += client.handle_bytes(piece);
        }
        prop_assert_eq!(client.poll_event(), Some(SocksReply::Connected));
        prop_assert_eq!(taken, answer.len() - data.len());
    }
}
