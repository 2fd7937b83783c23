//! What `-L`, `-R` and `-D` say.

use std::path::PathBuf;

use ssh_mio::ForwardTarget;

/// Where a forward listens.
#[derive(Debug)]
pub(crate) enum Listen {
    Tcp(String, u16),
    Path(PathBuf),
}

/// One forward. A target of `None` asks each connection (SOCKS).
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) remote: bool,
    pub(crate) listen: Listen,
    pub(crate) target: Option<ForwardTarget>,
    /// As it was written.
    pub(crate) text: String,
}

impl Spec {
    pub(crate) fn parse(kind: char, text: &str) -> Result<Self, String> {
        let written = format!("-{kind} {text}");
        let bad = || format!("{written}: bad forwarding");
        let fields = fields(text).ok_or_else(bad)?;
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let port = |text: &str| text.parse::<u16>().map_err(|_| bad());
        let is_path = |text: &str| text.contains('/');
        let listen = |from: &[&str]| match from {
            [path] if is_path(path) => Ok(Listen::Path(path.into())),
            [at] => Ok(Listen::Tcp("localhost".to_owned(), port(at)?)),
            [bind, at] => Ok(Listen::Tcp((*bind).to_owned(), port(at)?)),
            _ => Err(bad()),
        };
        let (listen, target) = match (kind, fields.as_slice()) {
            ('L' | 'R', [from @ .., path]) if !from.is_empty() && is_path(path) => {
                (listen(from)?, Some(ForwardTarget::Path(path.into())))
            }
            ('L' | 'R', [from @ .., host, at]) if !from.is_empty() => {
                let target = ForwardTarget::from((*host, port(at)?));
                (listen(from)?, Some(target))
            }
            ('R' | 'D', from) => (listen(from)?, None),
            _ => return Err(bad()),
        };
        if matches!((&listen, &target), (Listen::Path(_), None)) {
            return Err(bad());
        }
        Ok(Self {
            remote: kind == 'R',
            listen,
            target,
            text: written,
        })
    }
}

/// What lies between colons; brackets hold an IPv6 address together.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (field, behind) = inner.split_once(']')?;
                match behind.strip_prefix(':') {
                    Some(behind) => (field, Some(behind)),
                    None if behind.is_empty() => (field, None),
                    None => return None,
                }
            }
            None => match rest.split_once(':') {
                Some((field, behind)) => (field, Some(behind)),
                None => (rest, None),
            },
        };
        fields.push(field.to_owned());
        match behind {
            Some(behind) => rest = behind,
            None => return Some(fields),
        }
    }
}
