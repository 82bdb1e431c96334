//! `PLINTH_VERIFY`: how much of the data a start proves before it serves.

use crate::start_error::StartError;

/// The environment variable. `all` proves every page of every tree file; without it only what the newest checkpoint wrote is proven, and only
/// after anything but a clean stop.
const VERIFY_VAR: &str = "PLINTH_VERIFY";

/// Whether every page is to be proven.
pub(super) fn wants_all() -> Result<bool, StartError> {
    parse(std::env::var_os(VERIFY_VAR).as_ref().and_then(|value| value.to_str()))
}

fn parse(value: Option<&str>) -> Result<bool, StartError> {
    match value {
        None | Some("") => Ok(false),
        Some("all") => Ok(true),
        Some(other) => Err(StartError::usage(format!("{VERIFY_VAR}={other}: set it to \"all\", or leave it out"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_switches_it_on_and_anything_else_is_refused() {
        assert_eq!((parse(None), parse(Some("")), parse(Some("all"))), (Ok(false), Ok(false), Ok(true)));
        let error = parse(Some("al")).expect_err("not a value");
        assert!(error.to_string().contains("PLINTH_VERIFY=al") && error.exit_code() == 2, "{error}");
    }
}
