//! gRPC statuses as a client sees them.

use std::fmt;

/// A gRPC status code, kept as the number that came over the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

/// The codes in the order of their numbers.
const NAMES: [&str; 17] = [
    "Ok",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

impl Code {
    /// Success.
    pub const OK: Self = Self(0);
    /// No status of gRPC came back.
    pub const UNKNOWN: Self = Self(2);
    /// The deadline passed, at the server or here.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// The server does not know the method.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// The answer breaks the protocol.
    pub const INTERNAL: Self = Self(13);
    /// The connection is gone, or could not be made.
    pub const UNAVAILABLE: Self = Self(14);

    /// The code that gRPC gives this name, such as `InvalidArgument`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let index = NAMES.iter().position(|known| *known == name)?;
        Some(Self(u32::try_from(index).expect("there are 17 names")))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0).ok().and_then(|index| NAMES.get(index)) {
            Some(name) => f.write_str(name),
            None => write!(f, "Code({})", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a call failed: the server's status, or one made here when the connection failed or the answer made no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// What kind of failure.
    pub code: Code,
    /// The text, percent-decoded.
    pub message: String,
}

impl Status {
    /// A status of this client's own.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

impl From<h2::Error> for Status {
    fn from(error: h2::Error) -> Self {
        Self::new(Code::UNAVAILABLE, format!("connection: {error}"))
    }
}

/// The status in a header block, if there is one: trailers, or the headers of an answer without a body.
pub(crate) fn status_of(headers: &http::HeaderMap) -> Option<Result<(), Status>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    if Code(code) == Code::OK {
        return Some(Ok(()));
    }
    let message = headers.get("grpc-message").map_or_else(String::new, |value| percent_decode(value.as_bytes()));
    Some(Err(Status::new(Code(code), message)))
}

fn percent_decode(encoded: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_decoded_and_stray_percents_kept() {
        assert_eq!(percent_decode(b"a%20b%0A%e2%82%ac 100%"), "a b\n\u{20ac} 100%");
        assert_eq!(percent_decode(b"%zz%2"), "%zz%2");
    }

    #[test]
    fn codes_have_the_names_of_grpc() {
        assert_eq!(Code::from_name("Unauthenticated"), Some(Code(16)));
        assert_eq!(Code::UNAVAILABLE.to_string(), "Unavailable");
        assert_eq!(Code(99).to_string(), "Code(99)");
    }
}
