//! gRPC statuses: a code, a message, and how both travel in trailers.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// A gRPC status code.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// Every code, at the index of its number.
            pub const ALL: [Self; CODE_COUNT] = [$(Self::$name,)*];

            /// As metrics and error texts name it: `OK`, `InvalidArgument`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The number in decimal, as the `grpc-status` trailer has it.
            fn header_value(self) -> HeaderValue {
                HeaderValue::from_static(match self {
                    $(Self::$name => stringify!($number),)*
                })
            }
        }
    };
}

/// How many codes there are: their numbers are `0..CODE_COUNT`.
pub const CODE_COUNT: usize = 17;

codes! {
    /// Success.
    Ok = 0 "OK",
    /// The caller gave up.
    Canceled = 1 "Canceled",
    /// An error without a code of its own.
    Unknown = 2 "Unknown",
    /// The request is wrong whatever the state.
    InvalidArgument = 3 "InvalidArgument",
    /// Too late.
    DeadlineExceeded = 4 "DeadlineExceeded",
    /// There is no such thing.
    NotFound = 5 "NotFound",
    /// There is such a thing already.
    AlreadyExists = 6 "AlreadyExists",
    /// The caller may not.
    PermissionDenied = 7 "PermissionDenied",
    /// Out of quota or space.
    ResourceExhausted = 8 "ResourceExhausted",
    /// The state does not allow it.
    FailedPrecondition = 9 "FailedPrecondition",
    /// Lost against a concurrent change.
    Aborted = 10 "Aborted",
    /// Past a valid range.
    OutOfRange = 11 "OutOfRange",
    /// No such method here.
    Unimplemented = 12 "Unimplemented",
    /// An invariant is broken, or the bytes are not gRPC.
    Internal = 13 "Internal",
    /// Not now; clients try again.
    Unavailable = 14 "Unavailable",
    /// Stored data is damaged.
    DataLoss = 15 "DataLoss",
    /// No valid credentials.
    Unauthenticated = 16 "Unauthenticated",
}

impl Code {
    /// The number on the wire, 0 to 16.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// How a call ended. Clients compare the message byte for byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// The text; borrowed for all of [`crate::errors`].
    pub message: Cow<'static, str>,
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

impl Status {
    /// A status whose text is known at compile time.
    #[must_use]
    pub const fn fixed(code: Code, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message) }
    }

    /// A status with a text made at run time.
    #[must_use]
    pub const fn new(code: Code, message: String) -> Self {
        Self { code, message: Cow::Owned(message) }
    }

    /// A request whose protobuf can't be read.
    #[must_use]
    pub fn undecodable(error: &prost::DecodeError) -> Self {
        Self::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
    }

    /// Adds `grpc-status`, and `grpc-message` if there is a text.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, self.code.header_value());
        if !self.message.is_empty() {
            headers.insert(GRPC_MESSAGE, self.message_value());
        }
    }

    /// The trailers of a call that ended so.
    #[must_use]
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        self.write_to(&mut trailers);
        trailers
    }

    /// The text as a header: printable ASCII as it is, everything else and `%` as `%XX`.
    fn message_value(&self) -> HeaderValue {
        if !self.message.bytes().all(travels_as_is) {
            return shared_value(percent_encode(&self.message));
        }
        match &self.message {
            Cow::Borrowed(text) => HeaderValue::from_static(text),
            Cow::Owned(text) => shared_value(text.clone()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.code.name(), self.message)
    }
}

impl std::error::Error for Status {}

fn travels_as_is(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'%'
}

fn shared_value(ascii: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(ascii)).expect("printable ASCII is a valid header value")
}

fn percent_encode(text: &str) -> String {
    let hex =
        |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble is a hex digit").to_ascii_uppercase();
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if travels_as_is(byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_at_their_numbers() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), index);
            assert_eq!(code.header_value(), index.to_string().as_str());
        }
        assert_eq!(Code::Ok.name(), "OK");
        assert_eq!(Code::ALL[16].name(), "Unauthenticated");
    }

    #[test]
    fn message_is_percent_encoded_outside_printable_ascii() {
        let value = |text: &str| Status::new(Code::Unknown, text.to_owned()).message_value();
        assert_eq!(value("plain text, 1 & 2"), "plain text, 1 & 2");
        assert_eq!(value("100%\n\u{e9}\u{7f}"), "100%25%0A%C3%A9%7F");
    }

    #[test]
    fn success_has_no_message_trailer() {
        let trailers = Status::fixed(Code::Ok, "").trailers();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["grpc-status"], "0");
    }

    #[test]
    fn display_is_the_text_of_go_clients() {
        let status = crate::errors::PERMISSION_DENIED;
        assert_eq!(status.to_string(), "rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    }
}
