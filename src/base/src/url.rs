//! URLs of listeners and members, checked as etcd checks them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::limits::URLS_MAX;

/// How a connection is protected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scheme {
    /// Plaintext over TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// Plaintext over a unix socket.
    Unix,
    /// TLS over a unix socket.
    Unixs,
}

impl Scheme {
    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Unixs)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }
}

/// A URL without path: a scheme and `host:port`, or the path of a unix socket. Shown as it was given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Url {
    scheme: Scheme,
    /// What follows `://`.
    authority: String,
}

/// Where to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BindAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Url {
    /// Reads one URL.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, authority) =
            text.split_once("://").ok_or_else(|| format!("\"{text}\" is no URL: write http://host:port"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        };
        let url = Self { scheme, authority: authority.to_owned() };
        match scheme {
            Scheme::Http | Scheme::Https if authority.contains(['/', '?', '#']) => {
                Err(format!("URL must not contain a path: {text}"))
            }
            Scheme::Http | Scheme::Https if url.host_port().is_none() => {
                Err(format!("URL address does not have the form \"host:port\": {text}"))
            }
            Scheme::Unix | Scheme::Unixs if authority.is_empty() => {
                Err(format!("URL names no socket: write {}://path, not {text}", scheme.name()))
            }
            _ => Ok(url),
        }
    }

    /// Reads a comma-separated list; at least one, sorted as etcd sorts them.
    ///
    /// # Errors
    /// What is wrong with one of them, in one line.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut urls = text.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort_by_key(ToString::to_string);
        if urls.len() > URLS_MAX {
            return Err(format!("{} URLs: {URLS_MAX} are the most", urls.len()));
        }
        Ok(urls)
    }

    /// How connections are protected.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host:port`, or the path of the socket.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host without brackets, and the port. None for a unix socket.
    #[must_use]
    pub fn host_port(&self) -> Option<(&str, u16)> {
        if matches!(self.scheme, Scheme::Unix | Scheme::Unixs) {
            return None;
        }
        let (host, port) = self.authority.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        // parse() alone would take "+80".
        port.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
        Some((host, port.parse().ok()?))
    }

    /// Where to listen for this URL. Names other than `localhost` are refused: they may mean something else tomorrow.
    ///
    /// # Errors
    /// Its host is a name.
    pub fn bind_address(&self) -> Result<BindAddress, String> {
        let Some((host, port)) = self.host_port() else {
            return Ok(BindAddress::Unix(PathBuf::from(&self.authority)));
        };
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host
                .parse()
                .map_err(|_| format!("expected IP in URL for binding ({self}): write an IP address or localhost"))?,
        };
        Ok(BindAddress::Tcp(SocketAddr::new(ip, port)))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_are_read_and_shown_unchanged() {
        for text in ["http://localhost:2379", "https://10.0.0.1:2379", "http://[::1]:80", "unix:///run/x.sock"] {
            assert_eq!(Url::parse(text).expect("a good URL").to_string(), text);
        }
        assert_eq!(Url::parse(" HTTP://a:1 ").expect("a good URL").to_string(), "http://a:1");
        let v6 = Url::parse("http://[::1]:80").expect("a good URL");
        assert_eq!(v6.host_port(), Some(("::1", 80)));
    }

    #[test]
    fn bad_urls_are_refused_with_etcds_words() {
        let expected = [
            ("localhost:2379", "is no URL"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs"),
            ("http://a", "does not have the form \"host:port\""),
            ("http://a:", "does not have the form \"host:port\""),
            ("http://a:99999", "does not have the form \"host:port\""),
            ("http://a:+1", "does not have the form \"host:port\""),
            ("http://::1:80", "does not have the form \"host:port\""),
            ("http://a:1/", "must not contain a path"),
            ("http://a:1?x", "must not contain a path"),
            ("unix://", "names no socket"),
            ("", "is no URL"),
        ];
        for (text, want) in expected {
            let error = Url::parse(text).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn only_addresses_and_localhost_can_be_bound() {
        let bind = |text: &str| Url::parse(text).expect("a good URL").bind_address();
        let localhost = "127.0.0.1:2379".parse().expect("an address");
        assert_eq!(bind("http://localhost:2379"), Ok(BindAddress::Tcp(localhost)));
        assert_eq!(bind("unix:///run/x"), Ok(BindAddress::Unix(PathBuf::from("/run/x"))));
        for text in ["http://example.com:1", "http://:1"] {
            assert!(bind(text).expect_err(text).contains("expected IP in URL for binding"));
        }
    }

    #[test]
    fn lists_are_sorted() {
        let urls = Url::parse_list("http://b:1,http://a:1").expect("good URLs");
        assert_eq!(urls[0].to_string(), "http://a:1");
        assert!(Url::parse_list("http://b:1,").is_err());
        let many = |count: usize| vec!["http://a:1"; count].join(",");
        assert!(Url::parse_list(&many(URLS_MAX)).is_ok() && Url::parse_list(&many(URLS_MAX + 1)).is_err());
    }
}
