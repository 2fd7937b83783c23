use super::*;
use proptest::prelude::*;

fn written(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buf = Vec::new();
    fill(&mut Writer::new(&mut buf));
    buf
}

/// The examples of RFC 4251 section 5 that are not negative.
#[test]
fn mpints_are_those_of_the_rfc() {
    let cases: [(&[u8], &[u8]); 3] = [
        (&[], &[0, 0, 0, 0]),
        (
            &[0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
            &[0, 0, 0, 8, 0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
        ),
        (&[0x80], &[0, 0, 0, 2, 0x00, 0x80]),
    ];
    for (magnitude, encoded) in cases {
        assert_eq!(written(|w| _ = w.mpint(magnitude)), encoded);
        assert_eq!(Reader::new(encoded).mpint(), Ok(magnitude));
    }
}

#[test]
fn a_negative_mpint_is_refused() {
    assert_eq!(
        Reader::new(&[0, 0, 0, 2, 0xed, 0xcc]).mpint(),
        Err(Malformed::Negative)
    );
}

#[test]
fn needless_zeros_before_an_mpint_are_tolerated() {
    assert_eq!(Reader::new(&[0, 0, 0, 3, 0, 0, 5]).mpint(), Ok(&[5][..]));
}

#[test]
fn name_lists_keep_their_order_and_pass_over_stray_commas() {
    let list = NameList::parse(b"zlib,none,").unwrap();
    assert_eq!(list.iter().collect::<Vec<_>>(), ["zlib", "none"]);
    assert_eq!(NameList::parse(b"").unwrap().first(), None);
    assert_eq!(NameList::parse(b"a b"), Err(Malformed::Encoding));
    assert_eq!(
        written(|w| _ = w.name_list(["zlib", "none"])),
        b"\0\0\0\x09zlib,none"
    );
}

#[test]
fn a_length_beyond_the_bytes_is_truncation() {
    assert_eq!(
        Reader::new(&[0xff, 0xff, 0xff, 0xff, 1]).string(),
        Err(Malformed::Truncated)
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        string in prop::collection::vec(any::<u8>(), 0..64),
        number in prop::collection::vec(any::<u8>(), 0..64),
        names in prop::collection::vec("[a-z0-9@.-]{1,12}", 0..8),
        (small, long, flag) in any::<(u32, u64, bool)>(),
    ) {
        let bytes = written(|w| {
            w.string(&string).mpint(&number).name_list(names.iter().map(String::as_str));
            w.uint32(small).uint64(long).boolean(flag).nested(|inner| _ = inner.string(&string));
        });
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.string(), Ok(&string[..]));
        let zeros = number.iter().take_while(|&&b| b == 0).count();
        prop_assert_eq!(reader.mpint(), Ok(&number[zeros..]));
        prop_assert_eq!(reader.name_list().unwrap().iter().collect::<Vec<_>>(), names);
        prop_assert_eq!(reader.uint32(), Ok(small));
        prop_assert_eq!(reader.uint64(), Ok(long));
        prop_assert_eq!(reader.boolean(), Ok(flag));
        prop_assert_eq!(Reader::new(reader.string().unwrap()).string(), Ok(&string[..]));
        prop_assert!(reader.finish().is_ok());
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut reader = Reader::new(&bytes);
        while reader.mpint().is_ok() && !reader.is_empty() {}
        let _ = Reader::new(&bytes).name_list();
        let _ = Reader::new(&bytes).text();
    }
}
