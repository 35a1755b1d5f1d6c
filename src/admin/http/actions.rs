//! What can be ordered: a reload, another log level, a server out of use and back.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::answer::Answer;
use super::request::{Request, shown};
use super::{App, Reloaded};
use crate::config::{duration, level_name, levels_allowed, log_level as level};
use crate::health::{Report, Standing};
use crate::pool::SharedPool;
use crate::telemetry::date_and_time;

/// For a reload: name servers and file systems may be slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// As in a file.
const LONGEST: &str = "allowed: milliseconds or a whole number with a unit, ms, s, m or h (60s), at most 24 days";

/// `POST /reload`
pub(super) async fn reload(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&[])?;
    let unavailable = |why| Answer::error(StatusCode::SERVICE_UNAVAILABLE, why);
    let (done, outcome) = oneshot::channel();
    app.reload.try_send(done).map_err(|_| unavailable("the process ends, or other reloads wait already"))?;
    match tokio::time::timeout(PATIENCE, outcome).await {
        Ok(Ok(Reloaded::Changed(summary))) => Ok(Answer::json(&reloaded(app, "changed", Some(&summary)))),
        Ok(Ok(Reloaded::Same)) => Ok(Answer::json(&reloaded(app, "same", None))),
        Ok(Ok(Reloaded::Failed(problems))) => Err(Answer::error(StatusCode::UNPROCESSABLE_ENTITY, &problems)),
        Ok(Ok(Reloaded::NoFile)) => {
            let why = "not started with a configuration file, so there is nothing to read anew";
            Err(Answer::error(StatusCode::CONFLICT, why))
        }
        Ok(Err(_)) => Err(unavailable("the process ends")),
        Err(_) => Err(unavailable("the reload takes long and goes on; /events will tell how it went")),
    }
}

fn reloaded(app: &App, result: &str, summary: Option<&str>) -> Value {
    let config = app.sources.config.get();
    json!({
        "result": result,
        "summary": summary,
        "generation": config.generation,
        "hash": config.hash,
        "needs_restart": config.needs_restart,
    })
}

/// `POST /loglevel?level=debug`, or with the level in the body.
pub(super) fn log_level(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&["level"])?;
    let allowed = levels_allowed();
    let bad = |found: &str| Answer::error(StatusCode::BAD_REQUEST, &format!("{found}; {allowed}"));
    let wanted = match request.read("level", &allowed, level)? {
        Some(level) => level,
        None => {
            let body = String::from_utf8_lossy(&request.body);
            let found =
                if body.trim().is_empty() { "no level".to_owned() } else { format!("bad level '{}'", shown(&body)) };
            level(body.trim()).ok_or_else(|| bad(&found))?
        }
    };
    app.log.set_level(wanted);
    tracing::info!(level = wanted, "the log level was changed by the admin port");
    Ok(Answer::json(&json!({ "level": level_name(wanted), "number": wanted })))
}

/// `POST /pools/P/servers/S/eject?for=60s`
pub(super) fn eject(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&["for"])?;
    let time = request.read("for", LONGEST, duration)?;
    let (pool, server) = find(app, request)?;
    pool.health.eject_by_hand(server, time);
    Ok(Answer::json(&state(app, &pool, server)))
}

/// `POST /pools/P/servers/S/admit`
pub(super) fn admit(app: &App, request: &Request) -> Result<Answer, Answer> {
    request.only(&[])?;
    let (pool, server) = find(app, request)?;
    pool.health.admit_by_hand(server);
    let answer = Answer::json(&state(app, &pool, server));
    let waits = pool.health.report(server).standing == Standing::Ejected;
    Ok(if waits { answer.with_status(StatusCode::ACCEPTED) } else { answer })
}

/// The pool and the server that the path names.
fn find(app: &App, request: &Request) -> Result<(Arc<SharedPool>, usize), Answer> {
    let not_found = |text: String| Answer::error(StatusCode::NOT_FOUND, &text);
    let [_, pool, _, server, _] = request.path.as_slice() else { return Err(not_found("no such path".to_owned())) };
    let pool = super::tell::find_pool(&app.sources, pool)?;
    let Some(index) = pool.settings.servers.iter().position(|known| known.name == *server) else {
        let text = format!("pool '{}' has no server '{}'", pool.settings.name, shown(server));
        return Err(not_found(text));
    };
    if !pool.settings.health.eject {
        let why = "auto_eject_hosts is false in this pool: its servers are not probed, and nobody would bring one back";
        return Err(Answer::error(StatusCode::CONFLICT, why));
    }
    Ok((pool, index))
}

fn state(app: &App, pool: &SharedPool, server: usize) -> Value {
    let Report { standing, why, until, .. } = pool.health.report(server);
    let ejected = (0..pool.servers.len()).filter(|server| pool.health.report(*server).standing == Standing::Ejected);
    json!({
        "pool": pool.settings.name,
        "server": pool.settings.servers[server].name,
        "state": standing.name(),
        "until": until.map(|at| date_and_time(app.sources.wall(at))),
        "reason": (standing == Standing::Ejected).then_some(why),
        "ejected_servers": ejected.count(),
        "servers": pool.servers.len(),
    })
}
