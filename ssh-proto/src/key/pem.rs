//! The armor around an OpenSSH private key: base64 between two marker lines. In: a file. Out: the bytes
//! inside, or what the file is instead.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use super::{Format, KeyError};
use crate::Secret;
use crate::limits::KEY_FILE_LEN;
use crate::wire::Malformed;

const MAX_FILE_TEXT: &str = "a private key file has at most 64 KiB";

const BEGIN: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &[u8] = b"-----END OPENSSH PRIVATE KEY-----";

/// OpenSSH breaks its lines here.
const LINE_LEN: usize = 70;

/// The bytes inside the armor. Blanks and line ends of any kind are passed over.
pub(super) fn decode(file: &[u8]) -> Result<Secret, KeyError> {
    if file.len() > KEY_FILE_LEN {
        return Err(KeyError::Limit(MAX_FILE_TEXT));
    }
    let file = trimmed(file);
    let Some(file) = file.strip_prefix(BEGIN) else {
        return Err(KeyError::Foreign(detect(file)));
    };
    let problem = |problem| KeyError::malformed("END line", problem);
    let end = file.windows(END.len()).position(|window| window == END);
    let (text, end) = end
        .and_then(|end| file.split_at_checked(end))
        .ok_or_else(|| problem(Malformed::Truncated))?;
    if end.len() != END.len() {
        return Err(problem(Malformed::Trailing));
    }
    // The right size at once: a buffer that grows leaves its contents behind.
    let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
    base64.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; base64.len()]);
    let len = Base64::decode(base64.as_slice(), &mut bytes)
        .map_err(|_| KeyError::malformed("base64", Malformed::Encoding))?
        .len();
    bytes.truncate(len);
    Ok(Secret::new(std::mem::take(&mut *bytes)))
}

/// Puts `bytes` into the armor.
pub(super) fn encode(bytes: &[u8]) -> Result<Secret, KeyError> {
    let mut base64 = Zeroizing::new(vec![0; Base64::encoded_len(bytes)]);
    Base64::encode(bytes, &mut base64).map_err(|_| KeyError::Limit(MAX_FILE_TEXT))?;
    let lines = base64.chunks(LINE_LEN);
    let len = base64.len().saturating_add(lines.len());
    let len = len.saturating_add(BEGIN.len()).saturating_add(END.len());
    let len = len.saturating_add(2);
    if len > KEY_FILE_LEN {
        return Err(KeyError::Limit(MAX_FILE_TEXT));
    }
    let mut file = Zeroizing::new(Vec::with_capacity(len));
    for line in std::iter::once(BEGIN).chain(lines).chain([END]) {
        file.extend_from_slice(line);
        file.push(b'\n');
    }
    Ok(Secret::new(std::mem::take(&mut *file)))
}

/// The file without blanks at its ends and without the byte order mark of some editors.
fn trimmed(file: &[u8]) -> &[u8] {
    file.strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(file)
        .trim_ascii()
}

/// What kind of key file this is, by its first words.
pub(super) fn detect(file: &[u8]) -> Format {
    let file = trimmed(file);
    let pem = [
        ("OPENSSH PRIVATE KEY", Format::OpensshPrivate),
        ("RSA PRIVATE KEY", Format::Pkcs1Private),
        ("RSA PUBLIC KEY", Format::Pkcs1Public),
        ("EC PRIVATE KEY", Format::Sec1Private),
        ("EC PARAMETERS", Format::Sec1Private),
        ("DSA PRIVATE KEY", Format::DsaPrivate),
        ("PRIVATE KEY", Format::Pkcs8Private),
        ("ENCRYPTED PRIVATE KEY", Format::Pkcs8EncryptedPrivate),
        ("PUBLIC KEY", Format::SpkiPublic),
        ("CERTIFICATE", Format::X509Certificate),
        ("SSH SIGNATURE", Format::SshSignature),
    ];
    if let Some(rest) = file.strip_prefix(b"-----BEGIN ") {
        return pem
            .into_iter()
            .find(|(label, _)| {
                rest.strip_prefix(label.as_bytes())
                    .is_some_and(|rest| rest.starts_with(b"-----"))
            })
            .map_or(Format::OtherPem, |(_, format)| format);
    }
    let starts = [
        (&b"PuTTY-User-Key-File-"[..], Format::PuttyPrivate),
        (b"---- BEGIN SSH2 PUBLIC KEY ----", Format::Rfc4716Public),
        (b"---- BEGIN SSH2 ", Format::SshComPrivate),
        (b"SSH PRIVATE KEY FILE FORMAT ", Format::Ssh1Private),
    ];
    if let Some((_, format)) = starts.iter().find(|(start, _)| file.starts_with(start)) {
        return *format;
    }
    let mut words = file
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    match (words.next(), words.next()) {
        // Every blob starts with the length of a name that is shorter than 64 KiB.
        (Some(name), Some(blob)) if blob.starts_with(b"AAAA") => {
            if name.ends_with(b"-cert-v01@openssh.com") {
                Format::OpensshCertificate
            } else {
                Format::OpensshPublic
            }
        }
        _ => Format::Unknown,
    }
}
