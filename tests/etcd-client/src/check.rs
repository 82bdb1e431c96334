//! How a case says what is wrong.

use std::fmt;

use etcd_client::Error;

/// What a case ends with.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a case failed.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("an error that the case doesn't expect: {error}"))
    }
}

/// Fails unless `got` is `want`.
#[expect(clippy::needless_pass_by_value, reason = "cases compare what they have just made")]
pub(crate) fn same<T: PartialEq + fmt::Debug>(what: &str, got: T, want: T) -> Outcome {
    if got == want { Ok(()) } else { Err(Failure(format!("{what}: want {want:?}, got {got:?}"))) }
}

/// Fails unless `holds`.
pub(crate) fn ensure(what: &str, holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err(Failure(format!("this does not hold: {what}"))) }
}

/// What must be there, or a failure that names it.
pub(crate) fn some<T>(what: &str, value: Option<T>) -> Outcome<T> {
    value.ok_or_else(|| Failure(format!("there is no {what}")))
}

/// gRPC's numbers for the codes that cases expect.
pub(crate) const INVALID_ARGUMENT: i32 = 3;
pub(crate) const OUT_OF_RANGE: i32 = 11;

/// Fails unless the call was refused with this code and this text.
pub(crate) fn refused<T>(result: Result<T, Error>, code: i32, text: &str) -> Outcome {
    match result {
        Ok(_) => Err(Failure(format!("this must be refused with {text:?}, and is not"))),
        Err(Error::GRpcStatus(status)) => {
            same("code", i32::from(status.code()), code)?;
            same("text", status.message(), text)
        }
        Err(error) => Err(Failure(format!("this is no status of the server: {error}"))),
    }
}
