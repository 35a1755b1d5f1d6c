//! Who may ask: whoever has the token; without one, whoever reaches the address, but no page of a stranger's that runs in
//! the browser of somebody who does.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::Answer;
use super::request::Request;
use super::routes;
use crate::config::{AdminSettings, ListenAddress, Secret};

/// # Errors
/// The answer, if it may not be asked.
pub(super) fn check(settings: &AdminSettings, headers: &HeaderMap, request: &Request) -> Result<(), Answer> {
    match &settings.token {
        Some(token) if routes::needs_token(request) => check_token(token, headers),
        // No stranger knows it.
        Some(_) => Ok(()),
        None => check_origin(settings, headers, request),
    }
}

fn check_token(token: &Secret, headers: &HeaderMap) -> Result<(), Answer> {
    let sent = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let sent =
        sent.and_then(|value| value.split_at_checked(7).filter(|(word, _)| word.eq_ignore_ascii_case(b"bearer ")));
    match sent {
        Some((_, sent)) if token.is(sent.trim_ascii()) => Ok(()),
        Some(_) => Err(Answer::unauthorized("this is not the token")),
        None => Err(Answer::unauthorized("a token is needed: Authorization: Bearer ...")),
    }
}

/// A name that somebody else owns can be made to lead here (DNS rebinding), and a page anywhere can post here.
fn check_origin(settings: &AdminSettings, headers: &HeaderMap, request: &Request) -> Result<(), Answer> {
    let refuse = |why: &str| Err(Answer::error(StatusCode::FORBIDDEN, why));
    let host = headers.get(HOST).map_or(Some(""), |value| value.to_str().ok());
    let Some(host) = host else { return refuse("the Host header is no text") };
    let by_tcp = matches!(settings.listen, Some(ListenAddress::Tcp { .. }));
    let sure = host.is_empty() || is_nobodys_name(host);
    if by_tcp && !settings.reaches_beyond_this_machine() && !sure {
        return refuse("without a token the Host must be localhost or an address");
    }
    match headers.get(ORIGIN) {
        Some(origin) if request.method != Method::GET => {
            let own = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
            if sure && own == Some(host) { Ok(()) } else { refuse("without a token other pages may order nothing") }
        }
        _ => Ok(()),
    }
}

/// `localhost` or an address, with or without a port.
fn is_nobodys_name(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let known = name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok();
    known && port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    fn settings(listen: &str, token: Option<&str>) -> AdminSettings {
        let token = token.map(|token| Secret(token.to_owned()));
        AdminSettings { listen: ListenAddress::parse(listen), asked_for: true, token }
    }

    /// Whether it is let in.
    fn asked(settings: &AdminSettings, method: Method, path: &'static str, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| drop(map.insert(*name, value.parse().unwrap())));
        let request = Request::of(method, &Uri::from_static(path), &map, Vec::new()).unwrap();
        check(settings, &map, &request).is_ok()
    }

    #[test]
    fn with_a_token_nothing_else_counts() {
        let settings = settings("0.0.0.0:1", Some("secret"));
        let get = |value: &str| {
            asked(&settings, Method::GET, "/topology", &[("authorization", value), ("host", "evil.example")])
        };
        assert!(get("Bearer secret") && get("bearer  secret"));
        for wrong in ["Bearer secre", "Bearer secrets", "Bearer Secret", "Bearer", "secret", "Basic secret", "Bearer "]
        {
            assert!(!get(wrong), "{wrong}");
        }
        assert!(!asked(&settings, Method::GET, "/topology", &[]));
        assert!(asked(&settings, Method::GET, "/healthz", &[]) && asked(&settings, Method::GET, "/readyz", &[]));
        assert!(asked(&settings, Method::GET, "/", &[]), "there is nothing secret in the page");
        assert!(!asked(&settings, Method::POST, "/reload", &[]));
    }

    #[test]
    fn on_loopback_only_names_that_nobody_owns_are_let_in() {
        for listen in ["127.0.0.1:22223", "localhost:22223", "[::1]:22223"] {
            let settings = settings(listen, None);
            let get = |host| asked(&settings, Method::GET, "/config", &[("host", host)]);
            for good in ["127.0.0.1:22223", "localhost", "LOCALHOST:1", "[::1]:22223", "[::1]", "10.0.0.1"] {
                assert!(get(good), "{good}");
            }
            for bad in ["evil.example", "localhost.evil.example:22223", "127.0.0.1.evil.example", "127.0.0.1:x", "[x]"]
            {
                assert!(!get(bad), "{bad}");
            }
        }
        for elsewhere in ["/run/admin.sock", "0.0.0.0:22223", "proxy.internal:1"] {
            assert!(asked(&settings(elsewhere, None), Method::GET, "/config", &[("host", "proxy.internal")]));
        }
    }

    #[test]
    fn pages_of_others_order_nothing() {
        for listen in ["127.0.0.1:1", "0.0.0.0:1", "/run/admin.sock"] {
            let settings = settings(listen, None);
            let post = |host, origin| asked(&settings, Method::POST, "/reload", &[("host", host), ("origin", origin)]);
            assert!(post("127.0.0.1:1", "http://127.0.0.1:1"), "our own page");
            assert!(asked(&settings, Method::POST, "/reload", &[("host", "127.0.0.1:1")]), "no page");
            for origin in ["http://evil.example", "https://127.0.0.1:1", "http://127.0.0.1:2", "null"] {
                assert!(!post("127.0.0.1:1", origin), "{origin}");
            }
            assert!(!post("evil.example:1", "http://evil.example:1"), "rebound");
        }
    }
}
