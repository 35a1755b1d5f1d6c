//! The page at `/`: what an operator wants to see at a glance, live. One document without a reference to anything else; what it
//! shows it asks the proxy for, as any program can: `/topology`, `/events`, `/hotkeys`. It holds no secret: it is given to
//! whoever asks, and asks for the token itself.
//!
//! Names and keys are anybody's bytes. The page puts them in as text only, and [`PAGE_POLICY`] allows its own
//! script and style, by their hashes, and nothing else. Whoever changes either finds the new hash in a failing test below.

macro_rules! style {
    () => {
        include_str!("page.css")
    };
}

macro_rules! script {
    () => {
        concat!(include_str!("numbers.js"), include_str!("parts.js"), include_str!("pools.js"), include_str!("page.js"))
    };
}

/// The document, to be served as `text/html; charset=utf-8`.
pub const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<style>",
    style!(),
    "</style>\n",
    include_str!("page.html"),
    "<script>",
    script!(),
    "</script>\n</html>\n"
);

/// The header `Content-Security-Policy` that belongs to [`PAGE`].
pub const PAGE_POLICY: &str = concat!(
    "default-src 'none'; connect-src 'self'; img-src data:; ",
    "style-src 'sha256-4mZ+hU7ekDnxPn2c/SP5SF5cYlx+YktH/eaFcLxt4NI='; ",
    "script-src 'sha256-KPoFq2/brTDeuiOzhzFXSoLbFE/2EqIwhsHJRLbWnoQ='; ",
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; ",
    "require-trusted-types-for 'script'; trusted-types 'none'"
);

#[cfg(test)]
mod tests {
    use super::*;

    /// As `Content-Security-Policy` writes it.
    fn hash(text: &str) -> String {
        format!("'sha256-{}'", base64(&<sha2::Sha256 as sha2::Digest>::digest(text)))
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |three: &[u8]| {
            let number = (0..3).fold(0, |sum, at| sum << 8 | usize::from(three.get(at).copied().unwrap_or_default()));
            let digit = |at| if at > three.len() { '=' } else { char::from(DIGITS[number >> (18 - 6 * at) & 63]) };
            [digit(0), digit(1), digit(2), digit(3)]
        };
        bytes.chunks(3).flat_map(group).collect()
    }

    #[test]
    fn the_policy_allows_the_style_and_the_script_of_the_page() {
        assert_eq!(base64(b"outrigger"), "b3V0cmlnZ2Vy");
        assert_eq!(base64(b"outrigge"), "b3V0cmlnZ2U=");
        for (what, text) in [("style", style!()), ("script", script!())] {
            let allowed = format!("{what}-src {};", hash(text));
            assert!(PAGE_POLICY.contains(&allowed), "the {what} was changed: it needs {allowed}");
        }
    }

    #[test]
    fn the_page_is_one_document_and_small() {
        assert!(PAGE.len() < 60_000, "{} bytes", PAGE.len());
        assert_eq!(PAGE.matches("<style").count(), 1);
        assert_eq!(PAGE.matches("<script").count(), 1);
        for outside in ["http://", "https://", "url(", "@import", " src="] {
            let own = if outside == "http://" { PAGE.matches("http://www.w3.org/2000/svg").count() } else { 0 };
            assert_eq!(PAGE.matches(outside).count(), own, "the page refers to something else: {outside}");
        }
        for html in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!PAGE.contains(html), "the page makes HTML of text: {html}");
        }
    }
}
