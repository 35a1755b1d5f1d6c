//! What can be asked, one function a path.

use std::sync::Arc;

use http::StatusCode;
use schemars::schema_for;
use serde_json::json;

use super::App;
use super::answer::Answer;
use super::request::{Request, shown};
use crate::admin::{
    EventsView, HotKeysView, METRICS_TYPE, PAGE, PAGE_POLICY, SlowLogView, Sources, TopologyView,
    events as events_view, hot_keys as hot_keys_view, metrics as families, slow_log as slow_log_view, topology as view,
};
use crate::config::effective;
use crate::pool::{Explanation, SharedPool};

/// Names that a message shows at the most.
const NAMES: usize = 100;

/// `GET /`: the page for browsers, what there is for others.
pub(super) fn root(request: &Request, list: impl Fn() -> String) -> Result<Answer, Answer> {
    // The page may have its own in the address.
    Ok(if request.wants_html { Answer::page(PAGE, PAGE_POLICY) } else { Answer::text(list()) })
}

/// `GET /healthz`
pub(super) fn healthz(_: &App, _: &Request) -> Result<Answer, Answer> {
    Ok(Answer::text("ok\n"))
}

/// `GET /readyz`
pub(super) fn readyz(app: &App, _: &Request) -> Result<Answer, Answer> {
    match app.sources.not_ready() {
        None => Ok(Answer::text("ready\n")),
        Some(why) => Ok(Answer::text(format!("{why}\n")).with_status(StatusCode::SERVICE_UNAVAILABLE)),
    }
}

/// `GET /metrics`; Prometheus can be configured to send parameters.
pub(super) fn metrics(app: &App, _: &Request) -> Result<Answer, Answer> {
    Ok(Answer::of_kind(METRICS_TYPE, families(&app.sources)))
}

/// `GET /topology`
pub(super) fn topology(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&[])?;
    Ok(Answer::json(&view(&app.sources)))
}

/// `GET /config`
pub(super) fn config(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&[])?;
    let settings = app.sources.topology.borrow().settings.clone();
    Ok(Answer::of_kind("application/yaml; charset=utf-8", effective(&settings)))
}

/// `GET /events?last=100&after=N`
pub(super) fn events(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&["last", "after"])?;
    Ok(Answer::json(&events_view(&app.sources.events, request.count("last", 100)?, request.number("after", 0)?)))
}

/// `GET /slowlog?last=100`
pub(super) fn slow_log(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&["last"])?;
    Ok(Answer::json(&slow_log_view(&app.sources, request.count("last", 100)?)))
}

/// `GET /hotkeys?top=20`
pub(super) fn hot_keys(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&["top"])?;
    Ok(Answer::json(&hot_keys_view(&app.sources, request.count("top", 20)?)))
}

/// `GET /schema`: by path, what a client may rely on.
pub(super) fn schema(_: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&[])?;
    Ok(Answer::json(&json!({
        "/topology": schema_for!(TopologyView),
        "/events": schema_for!(EventsView),
        "/explain": schema_for!(Explanation),
        "/slowlog": schema_for!(SlowLogView),
        "/hotkeys": schema_for!(HotKeysView),
    })))
}

/// `GET /explain?pool=P&key=K`
pub(super) fn explain(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&["pool", "key"])?;
    let missing = |what| Answer::error(StatusCode::BAD_REQUEST, &format!("{what} is missing: /explain?pool=P&key=K"));
    let name = request.read("pool", "allowed: the name of a pool", |text| Some(text.to_owned()))?;
    let pool = find_pool(&app.sources, &name.ok_or_else(|| missing("pool"))?)?;
    let key = request.bytes("key").filter(|key| !key.is_empty()).ok_or_else(|| missing("key"))?;
    let routing = pool.health.routing().load_full();
    let stand_in = pool.stand_in.as_ref().map(|other| (&*other.settings, other.health.routing().load_full()));
    let stand_in = stand_in.as_ref().map(|(settings, routing)| (*settings, &**routing));
    Ok(Answer::json(&Explanation::of(&pool.settings, &routing, stand_in, key)))
}

/// # Errors
/// The answer, if there is no such pool.
pub(super) fn find_pool(sources: &Sources, name: &str) -> Result<Arc<SharedPool>, Answer> {
    let topology = sources.topology.borrow().clone();
    let found = topology.pools.iter().find(|pool| pool.settings.name == name).cloned();
    found.ok_or_else(|| {
        let names: Vec<&str> = topology.pools.iter().take(NAMES).map(|pool| pool.settings.name.as_str()).collect();
        let text = format!("no pool '{}'; there are: {}", shown(name), names.join(", "));
        Answer::error(StatusCode::NOT_FOUND, &text)
    })
}
