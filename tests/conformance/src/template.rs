//! Templates in cases: what is known only when the case runs.
//!
//! | template | becomes |
//! |---|---|
//! | `@3`, `@-1` | the store's revision when the case began, plus that |
//! | `$member`, `$cluster`, `$term` | ids of the server, decimal; `$member.hex`, `$cluster.hex` as etcdctl prints them |
//! | `$client.url`, `$client.addr`, `$peer.url`, `$name`, `$version` | as the server was started, and what it calls itself |
//! | `${129:text #}` | the text 129 times, `#` replaced by 0, 1, ... |

use std::{collections::BTreeMap, fmt::Write};

/// Values for one case.
#[derive(Clone, Debug, Default)]
pub struct Template {
    /// The store's revision when the case began.
    pub base_revision: i64,
    /// Values of the `$` names.
    pub names: BTreeMap<&'static str, String>,
}

impl Template {
    /// `text` with every template filled in, or what is wrong with it.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['@', '$']) {
            out.push_str(&rest[..at]);
            let tail = &rest[at + 1..];
            rest = if rest[at..].starts_with('@') {
                self.fill_revision(tail, &mut out)?
            } else if let Some(repeat) = tail.strip_prefix('{') {
                self.fill_repeat(repeat, &mut out)?
            } else {
                self.fill_name(tail, &mut out)?
            };
        }
        out.push_str(rest);
        Ok(out)
    }

    fn fill_revision<'a>(&self, tail: &'a str, out: &mut String) -> Result<&'a str, String> {
        let digits_at = usize::from(tail.starts_with('-'));
        let digits = tail[digits_at..].bytes().take_while(u8::is_ascii_digit).count();
        let (offset, rest) = tail.split_at(digits_at + digits);
        let offset: i64 = offset.parse().map_err(|_| format!("@ wants a number, not {tail:?}"))?;
        write!(out, "{}", self.base_revision + offset).expect("a string takes all");
        Ok(rest)
    }

    fn fill_name<'a>(&self, tail: &'a str, out: &mut String) -> Result<&'a str, String> {
        // The longest first: $member.hex before $member.
        let name = self.names.iter().rev().find(|(name, _)| tail.starts_with(**name));
        let (name, value) =
            name.ok_or_else(|| format!("${} is no template", tail.split_whitespace().next().unwrap_or_default()))?;
        out.push_str(value);
        Ok(&tail[name.len()..])
    }

    fn fill_repeat<'a>(&self, tail: &'a str, out: &mut String) -> Result<&'a str, String> {
        let (count, body) = tail.split_once(':').ok_or("${COUNT:TEXT}")?;
        let count: usize = count.parse().map_err(|_| format!("{count:?} is no count"))?;
        let end = closing_brace(body).ok_or("${ without its }")?;
        let text = self.fill(&body[..end])?;
        for index in 0..count {
            if text.contains('#') {
                out.push_str(&text.replace('#', &index.to_string()));
            } else {
                out.push_str(&text);
            }
        }
        Ok(&body[end + 1..])
    }
}

/// Where the brace that is open before `text` closes.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let names = [("member", "7".to_owned()), ("member.hex", "07".to_owned())].into();
        let template = Template { base_revision: 10, names };
        let fill = |text| template.fill(text).expect("the template is right");
        assert_eq!(fill("a: @2 b: @-1, $member $member.hex"), "a: 12 b: 9, 7 07");
        assert_eq!(fill("${3:x}|${2:op { k: \"#\" r: @0 }}"), "xxx|op { k: \"0\" r: 10 }op { k: \"1\" r: 10 }");
    }

    #[test]
    fn wrong_templates_are_refused() {
        for text in ["@x", "$nothing", "${3:x", "${x:y}"] {
            assert!(Template::default().fill(text).is_err(), "{text}");
        }
    }
}
