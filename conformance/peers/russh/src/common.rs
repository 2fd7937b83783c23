//! What all parts share: options, the runtime, keys, a client that has logged in.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use lexopt::prelude::*;
use russh::client::{self, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{Preferred, cipher, kex};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::Failure;

/// The command line after the name of the part.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) port: u16,
    pub(crate) host_keys: Vec<PathBuf>,
    pub(crate) authorized_keys: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) user: Option<String>,
    /// What is no option.
    pub(crate) values: Vec<OsString>,
    one_thread: bool,
    cipher: Option<cipher::Name>,
    kex: Option<kex::Name>,
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("port") => options.port = parser.value()?.parse()?,
                Long("host-key") => options.host_keys.push(parser.value()?.into()),
                Long("authorized-keys") => options.authorized_keys = Some(parser.value()?.into()),
                Long("key") => options.key = Some(parser.value()?.into()),
                Long("user") => options.user = Some(parser.value()?.string()?),
                Long("runtime") => {
                    options.one_thread = match parser.value()?.to_str() {
                        Some("current") => true,
                        Some("multi") => false,
                        _ => return Err("--runtime wants current or multi".into()),
                    };
                }
                Long("cipher") => {
                    let name = parser.value()?.string()?;
                    let known = cipher::Name::try_from(name.as_str());
                    options.cipher =
                        Some(known.map_err(|()| format!("russh does not know cipher {name}"))?);
                }
                Long("kex") => {
                    let name = parser.value()?.string()?;
                    let known = kex::Name::try_from(name.as_str());
                    options.kex =
                        Some(known.map_err(|()| format!("russh does not know kex {name}"))?);
                }
                Value(value) => options.values.push(value),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }

    pub(crate) fn runtime(&self) -> io::Result<Runtime> {
        let mut builder = if self.one_thread {
            Builder::new_current_thread()
        } else {
            Builder::new_multi_thread()
        };
        builder.enable_all().build()
    }

    /// russh's defaults, with one cipher and one key exchange where that was asked for. It knows aes128-gcm, but offers
    /// it only on request: here it comes last.
    pub(crate) fn preferred(&self) -> Preferred {
        let mut preferred = Preferred::default();
        match self.cipher {
            Some(cipher) => preferred.cipher = Cow::Owned(vec![cipher]),
            None => preferred.cipher.to_mut().push(cipher::AES_128_GCM),
        }
        if let Some(kex) = self.kex {
            // The other names of this list announce extensions, such as the strict key exchange.
            let mut list = vec![kex];
            list.extend(preferred.kex.iter().copied().filter(is_extension));
            preferred.kex = Cow::Owned(list);
        }
        preferred
    }

    pub(crate) fn client(&self) -> Result<Login, Failure> {
        let path = self.key.as_ref().ok_or("--key is missing")?;
        let host = self.values.first().ok_or("HOST is missing")?;
        Ok(Login {
            config: Arc::new(client::Config {
                preferred: self.preferred(),
                nodelay: true,
                ..client::Config::default()
            }),
            host: host.clone().string()?,
            port: self.port,
            user: self.user.clone().unwrap_or_else(|| "user".into()),
            key: Arc::new(load_secret_key(path, None)?),
        })
    }
}

pub(crate) fn is_extension(name: &kex::Name) -> bool {
    let name = name.as_ref();
    name.starts_with("ext-info-") || name.starts_with("kex-strict-")
}

/// How to make connections that have logged in.
#[derive(Clone)]
pub(crate) struct Login {
    config: Arc<client::Config>,
    host: String,
    port: u16,
    user: String,
    key: Arc<PrivateKey>,
}

/// Trusts every host key.
pub(crate) struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

impl Login {
    /// Connects and authenticates with the key.
    pub(crate) async fn connect(&self) -> Result<Handle<Trusting>, Failure> {
        let address = (self.host.as_str(), self.port);
        let mut client = client::connect(Arc::clone(&self.config), address, Trusting).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), None);
        let result = client
            .authenticate_publickey(self.user.clone(), key)
            .await?;
        if result.success() {
            Ok(client)
        } else {
            Err("permission denied".into())
        }
    }
}

/// As many descriptors as the system allows.
pub(crate) fn more_descriptors() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
