//! etcd's versions, as far as Downgrade compares them.

/// Major and minor: what a cluster's version consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Minor {
    pub major: u64,
    pub minor: u64,
}

impl Minor {
    pub(super) fn is_one_minor_below(self, other: Self) -> bool {
        self.major == other.major && self.minor + 1 == other.minor
    }
}

/// Reads `X.Y` or `X.Y.Z`, with whatever a semantic version may have behind that.
pub(super) fn parse(text: &str) -> Option<Minor> {
    let (text, suffix) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    if suffix.len() == 1 {
        return None;
    }
    let mut numbers = text.split('.').map(|part| part.parse::<u32>().ok().filter(|_| !part.starts_with('+')));
    let (major, minor) = (numbers.next()??, numbers.next()??);
    // What has a suffix has a patch number.
    let has_patch = match numbers.next() {
        None => suffix.is_empty(),
        Some(patch) => patch.is_some(),
    };
    (has_patch && numbers.next().is_none()).then_some(Minor { major: major.into(), minor: minor.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_a_patch_number() {
        for text in ["3.5", "3.5.0", "3.5.21", "3.5.0-rc.1", "3.5.0+git"] {
            assert_eq!(parse(text), Some(Minor { major: 3, minor: 5 }), "{text}");
        }
        for text in ["", "3", "3.", "v3.5", "3.5.x", "3.5.0.0", "3.-5", "3.5-rc", "3.5.0-", ".", "..", "a.b", "3.+5"] {
            assert_eq!(parse(text), None, "{text}");
        }
        let five = Minor { major: 3, minor: 5 };
        assert!(Minor { major: 3, minor: 4 }.is_one_minor_below(five));
        assert!(!five.is_one_minor_below(five) && !Minor { major: 2, minor: 4 }.is_one_minor_below(five));
    }
}
