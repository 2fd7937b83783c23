//! The one door to cryptography (rule 8 of the house): only this folder names a third-party crate
//! of the field. Everything behind it is total: no panic for any input.

pub(crate) mod agree;
pub(crate) mod cipher;
pub(crate) mod drbg;
pub(crate) mod hash;
pub(crate) mod kdf;
pub(crate) mod mac;
pub(crate) mod sign;
