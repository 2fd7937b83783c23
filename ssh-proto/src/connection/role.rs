//! The two roles of a connection.

/// Which side of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ClientRole {}
    impl Sealed for super::ServerRole {}
}

/// The role of a connection. Sealed: there are [`ClientRole`] and [`ServerRole`].
pub trait Role: sealed::Sealed {}

/// The client of a connection.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "it has no values")]
pub enum ClientRole {}

/// The server of a connection.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "it has no values")]
pub enum ServerRole {}

impl Role for ClientRole {}
impl Role for ServerRole {}
