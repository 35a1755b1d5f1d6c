//! The routes, one line each.

use http::{Method, StatusCode};

use super::App;
use super::answer::Answer;
use super::request::{Request, shown};
use super::{actions, tell};

/// What there is.
struct Route {
    method: Method,
    /// `{}` stands for any one part.
    path: &'static str,
    /// Of its parameters and of what it says.
    about: &'static str,
    /// Asked by those who cannot have a token.
    open: bool,
    does: Does,
}

#[derive(Clone, Copy)]
enum Does {
    /// Answers at once.
    Now(fn(&App, &Request) -> Result<Answer, Answer>),
    /// Waits for the data plane.
    Reload,
}

const fn get(path: &'static str, about: &'static str, now: fn(&App, &Request) -> Result<Answer, Answer>) -> Route {
    Route { method: Method::GET, path, about, open: false, does: Does::Now(now) }
}

const fn post(path: &'static str, about: &'static str, does: Does) -> Route {
    Route { method: Method::POST, path, about, open: false, does }
}

const fn open(path: &'static str, about: &'static str, now: fn(&App, &Request) -> Result<Answer, Answer>) -> Route {
    Route { method: Method::GET, path, about, open: true, does: Does::Now(now) }
}

const ROUTES: &[Route] = &[
    open("/", "a page for browsers, for others this list", root),
    open("/healthz", "ok: the process lives", tell::healthz),
    open("/readyz", "ready, or 503 and why not", tell::readyz),
    get("/metrics", "for Prometheus", tell::metrics),
    get("/topology", "every pool and server, with all that was counted", tell::topology),
    get("/config", "the configuration in force, without secrets", tell::config),
    get("/events", "?last=100&after=N  what happened, oldest first", tell::events),
    get("/slowlog", "?last=100  requests that took long, newest first", tell::slow_log),
    get("/hotkeys", "?top=20  keys that are asked for most, and the largest", tell::hot_keys),
    get("/schema", "the shape of all that is answered as JSON, as JSON Schema", tell::schema),
    get("/explain", "?pool=P&key=K  where a key is now, and why", tell::explain),
    post("/reload", "reads the configuration anew", Does::Reload),
    post(
        "/loglevel",
        "?level=debug  0 to 11, or by name; until the file has another one",
        Does::Now(actions::log_level),
    ),
    post("/pools/{}/servers/{}/eject", "?for=60s  takes a server out of use", Does::Now(actions::eject)),
    post("/pools/{}/servers/{}/admit", "takes an ejected server back", Does::Now(actions::admit)),
];

impl Route {
    fn is_at(&self, path: &[String]) -> bool {
        let mut parts = self.path.split('/').skip(1);
        path.iter().all(|part| parts.next().is_some_and(|own| own == "{}" || own == part)) && parts.next().is_none()
    }
}

/// Without one that is known there is nothing to see.
pub(super) fn needs_token(request: &Request) -> bool {
    !ROUTES.iter().any(|route| route.open && route.is_at(&request.path))
}

/// Has it answered.
pub(super) async fn answer(app: &App, request: &Request) -> Answer {
    let there: Vec<&Route> = ROUTES.iter().filter(|route| route.is_at(&request.path)).collect();
    let Some(route) = there.iter().find(|route| route.method == request.method) else {
        return match there.first() {
            Some(route) if route.method == Method::GET => Answer::not_allowed("GET, HEAD"),
            Some(_) => Answer::not_allowed("POST"),
            None => {
                let path = shown(&format!("/{}", request.path.join("/")));
                Answer::error(StatusCode::NOT_FOUND, &format!("there is no {path}; / lists what there is"))
            }
        };
    };
    match route.does {
        Does::Now(answer) => answer(app, request).unwrap_or_else(|refused| refused),
        Does::Reload => actions::reload(app, request).await.unwrap_or_else(|refused| refused),
    }
}

/// `GET /`
fn root(_: &App, request: &Request) -> Result<Answer, Answer> {
    tell::root(request, list)
}

/// All of them, for people.
fn list() -> String {
    let mut text = format!("Outrigger {}\n\n", env!("CARGO_PKG_VERSION"));
    for route in ROUTES {
        let path = route.path.replacen("{}", "P", 1).replacen("{}", "S", 1);
        text += &format!("{:4} {path:30} {}\n", route.method.as_str(), route.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_found_by_all_parts_of_a_path() {
        let find = |path: &str| {
            let path: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
            ROUTES.iter().find(|route| route.is_at(&path)).map(|route| route.path)
        };
        assert_eq!(find("/"), Some("/"));
        assert_eq!(find("/pools/a/servers/b/eject"), Some("/pools/{}/servers/{}/eject"));
        for nothing in ["//", "/healthz/", "/health", "/healthz/x", "/pools/a/servers/b", "/pools/a/servers/b/eject/x"]
        {
            assert_eq!(find(nothing), None, "{nothing}");
        }
    }
}
