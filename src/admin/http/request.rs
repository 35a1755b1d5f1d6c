//! A request as the routes see it: method, path, parameters, body.

use http::header::ACCEPT;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::answer::Answer;

/// Longest path with its parameters.
const MOST_PATH: usize = 8 << 10;
/// Most parameters.
const MOST_PARAMETERS: usize = 16;

/// What was asked.
#[derive(Debug)]
pub struct Request {
    /// `HEAD` counts as `GET`.
    pub method: Method,
    /// Parts of the path, decoded: `/pools/a%2Fb` is `pools` and `a/b`.
    pub path: Vec<String>,
    /// In their order, decoded. A key may be any bytes.
    parameters: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// A browser asks.
    pub wants_html: bool,
}

impl Request {
    /// # Errors
    /// The answer, if it cannot be understood.
    pub(super) fn of(method: Method, uri: &Uri, headers: &HeaderMap, body: Vec<u8>) -> Result<Self, Answer> {
        let length = uri.path().len() + uri.query().map_or(0, str::len);
        if length > MOST_PATH {
            return Err(Answer::error(StatusCode::URI_TOO_LONG, "a path with its parameters may have 8 KiB"));
        }
        let bad = |what: &str| Answer::error(StatusCode::BAD_REQUEST, what);
        let text = |part: &str| String::from_utf8(decoded(part, false)?).ok();
        let path: Option<Vec<String>> = uri.path().split('/').skip(1).map(text).collect();
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((String::from_utf8(decoded(name, true)?).ok()?, decoded(value, true)?))
        };
        let parameters: Option<Vec<_>> = pairs.take(MOST_PARAMETERS + 1).map(pair).collect();
        let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let request = Self {
            method: if method == Method::HEAD { Method::GET } else { method },
            path: path.ok_or_else(|| bad("the path has a bad %-escape or is no UTF-8"))?,
            parameters: parameters.ok_or_else(|| bad("a parameter has a bad %-escape"))?,
            body,
            wants_html: accepts.contains("text/html"),
        };
        if request.parameters.len() > MOST_PARAMETERS {
            return Err(bad("too many parameters"));
        }
        Ok(request)
    }

    /// # Errors
    /// The answer, if there are others, or one of them twice.
    pub fn only(&self, known: &[&str]) -> Result<(), Answer> {
        for (index, (name, _)) in self.parameters.iter().enumerate() {
            let twice = self.parameters[..index].iter().any(|(other, _)| other == name);
            if twice || !known.contains(&name.as_str()) {
                let allowed = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let (name, fault) = (shown(name), if twice { "given twice" } else { "unknown" });
                let why = format!("parameter '{name}' {fault}; allowed: {allowed}");
                return Err(Answer::error(StatusCode::BAD_REQUEST, &why));
            }
        }
        Ok(())
    }

    /// A parameter, if it is there.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }

    /// What `read` makes of a parameter; `None`: it is not there.
    ///
    /// # Errors
    /// The answer, if it makes nothing of it.
    pub fn read<T>(&self, name: &str, allowed: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Answer> {
        let Some(value) = self.bytes(name) else { return Ok(None) };
        let found = std::str::from_utf8(value).ok().and_then(read);
        let why = || format!("bad value of '{name}': '{}'; {allowed}", shown(&String::from_utf8_lossy(value)));
        found.map(Some).ok_or_else(|| Answer::error(StatusCode::BAD_REQUEST, &why()))
    }

    /// How many there may be in the answer, or this if it is not said.
    ///
    /// # Errors
    /// The answer, if it is no number.
    pub fn count(&self, name: &str, default: u64) -> Result<usize, Answer> {
        Ok(usize::try_from(self.number(name, default)?).unwrap_or(usize::MAX))
    }

    /// A number, or this if there is none.
    ///
    /// # Errors
    /// The answer, if it is no number.
    pub fn number(&self, name: &str, default: u64) -> Result<u64, Answer> {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
        Ok(self.read(name, "allowed: a whole number", digits)?.unwrap_or(default))
    }
}

/// Clipped, for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

/// With its %-escapes replaced; in parameters a plus is a space.
fn decoded(text: &str, plus: bool) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str) -> Result<Request, Answer> {
        Request::of(Method::HEAD, &uri.parse().unwrap(), &HeaderMap::new(), Vec::new())
    }

    #[test]
    fn paths_and_parameters_are_decoded() {
        let request = request("/pools/a%2Fb/x?pool=a+b&key=%00%ff%2B&flag&n=12").unwrap();
        assert_eq!(request.method, Method::GET);
        assert_eq!(request.path, ["pools", "a/b", "x"]);
        assert_eq!(request.bytes("pool"), Some(&b"a b"[..]));
        assert_eq!(request.bytes("key"), Some(&b"\0\xff+"[..]));
        assert_eq!(request.bytes("flag"), Some(&b""[..]));
        assert_eq!((request.number("n", 1).unwrap(), request.number("m", 1).unwrap()), (12, 1));
        assert!(request.number("pool", 1).is_err() && request.number("key", 1).is_err());
        assert!(request.only(&["pool", "key", "flag", "n"]).is_ok());
        assert!(request.only(&["pool", "key", "flag"]).is_err());
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        for bad in ["/%", "/%4", "/%gg", "/%ff", "/a?%", "/a?b=%zz", "/a?b=%4", "/a?%ff=1"] {
            assert!(request(bad).is_err(), "{bad}");
        }
        assert!(request(&format!("/{}", "a".repeat(9000))).is_err());
        assert!(request(&format!("/?{}", "a=1&".repeat(17))).is_err());
        assert!(request("/?a=1&a=2").unwrap().only(&["a"]).is_err());
    }
}
