//! The messages, one struct each, named as in the RFCs without `SSH_MSG_`. Fields borrow from the packet.
//!
//! There is no enum of all messages: numbers 30 to 49 and 60 to 79 mean different things in different
//! methods (RFC 4250 section 4.1), so the layer that knows what a number means parses it.

pub mod auth;
pub mod connection;
pub mod kex;
pub mod modes;
pub mod transport;

use crate::error::PeerError;
use crate::wire::{Malformed, NameList, Reader, Writer};

/// Most messages that are no data fit in so many bytes: their payload does not grow while it is written.
const MOST_PAYLOADS: usize = 256;

/// A message of the protocol: a number and fields.
pub trait Message<'a>: Sized {
    /// The message number (RFC 4250 section 4.1).
    const NUMBER: u8;

    /// Reads the message from a packet's payload, number included. The whole payload must be used.
    fn decode(payload: &'a [u8]) -> Result<Self, PeerError>;

    /// Appends number and fields.
    fn encode(&self, writer: &mut Writer<'_>);

    /// The message as the payload of a packet.
    fn to_payload(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(MOST_PAYLOADS);
        self.encode(&mut Writer::new(&mut payload));
        payload
    }
}

/// A field of a message.
pub trait Field<'a>: Sized {
    /// Takes the field off the reader.
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed>;
    /// Appends the field.
    fn write(&self, writer: &mut Writer<'_>);
}

impl<'a> Field<'a> for bool {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.boolean()
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.boolean(*self);
    }
}

impl<'a> Field<'a> for u32 {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.uint32()
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.uint32(*self);
    }
}

impl<'a> Field<'a> for [u8; 16] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.array()
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self);
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.string()
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.string(self);
    }
}

impl<'a> Field<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.text()
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.string(self.as_bytes());
    }
}

impl<'a> Field<'a> for NameList<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.name_list()
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.string(self.as_str().as_bytes());
    }
}

/// What stands behind the fields that every message of the number has: its meaning depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rest<'a>(pub &'a [u8]);

impl<'a> Field<'a> for Rest<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self(reader.rest()))
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.0);
    }
}

/// Declares a message: number, fields in wire order, each with its RFC name.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident $(<$lt:lifetime>)? = $number:literal { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name $(<$lt>)? {
            $(#[doc = concat!("`", stringify!($field), "` of the RFC.")] pub $field: $type,)*
        }

        impl<'a> $crate::msg::Message<'a> for $name $(<$lt>)? {
            const NUMBER: u8 = $number;

            fn decode(payload: &'a [u8]) -> Result<Self, $crate::error::PeerError> {
                let mut reader = $crate::wire::Reader::new(payload);
                let fault = |field| move |problem| $crate::error::PeerError::Malformed {
                    message: $number, field, problem,
                };
                match reader.byte() {
                    Ok($number) => {}
                    Ok(_) => return Err(fault("message number")($crate::wire::Malformed::Value)),
                    Err(problem) => return Err(fault("message number")(problem)),
                }
                $(let $field = <$type as $crate::msg::Field<'a>>::read(&mut reader)
                    .map_err(fault(stringify!($field)))?;)*
                reader.finish().map_err(fault("end of message"))?;
                Ok(Self { $($field),* })
            }

            fn encode(&self, writer: &mut $crate::wire::Writer<'_>) {
                writer.byte($number);
                $($crate::msg::Field::write(&self.$field, writer);)*
            }
        }
    };
}
use message;

#[cfg(test)]
mod tests;
