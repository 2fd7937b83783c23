//! The algorithms of a connection.

use std::borrow::Cow;
use std::fmt::Debug;
use std::time::Duration;

use russh::keys::Algorithm;
use russh::{Limits, Preferred, cipher, kex, mac};

use super::Fields;
use crate::Failure;
use crate::common::is_extension;

/// russh's defaults, and behind them what it has and does not offer of itself; or one algorithm of each kind that is named.
pub(super) fn preferred(fields: &Fields) -> Result<Preferred, Failure> {
    let mut preferred = Preferred::default();
    let kex = preferred.kex.to_mut();
    if let Some(name) = fields.some("kex") {
        let name = known(kex::Name::try_from(name), name)?;
        kex.retain(is_extension);
        kex.insert(0, name);
    } else {
        let more = [
            kex::ECDH_SHA2_NISTP256,
            kex::ECDH_SHA2_NISTP384,
            kex::ECDH_SHA2_NISTP521,
        ];
        for name in more {
            if !kex.contains(&name) {
                kex.insert(0, name);
            }
        }
    }
    if let Some(name) = fields.some("cipher") {
        preferred.cipher = Cow::Owned(vec![known(cipher::Name::try_from(name), name)?]);
    } else {
        preferred.cipher.to_mut().push(cipher::AES_128_GCM);
    }
    if let Some(name) = fields.some("mac") {
        preferred.mac = Cow::Owned(vec![known(mac::Name::try_from(name), name)?]);
    }
    if let Some(name) = fields.some("host_key") {
        preferred.key = Cow::Owned(vec![known(name.parse::<Algorithm>(), name)?]);
    }
    Ok(preferred)
}

fn known<T, E: Debug>(algorithm: Result<T, E>, name: &str) -> Result<T, Failure> {
    algorithm.map_err(|_| format!("russh does not know {name}").into())
}

/// New keys after so many bytes.
pub(super) fn limits(fields: &Fields) -> Result<Limits, Failure> {
    if fields.some("rekey").is_none() {
        return Ok(Limits::default());
    }
    let bytes = fields.number("rekey")?;
    Ok(Limits::new(bytes, bytes, Duration::from_secs(3600)))
}
