//! Commands on keys whatever their value, on the whole store, and on the connection.

use super::numbers::integer;
use super::{Call, Outcome, SYNTAX, wrong_arity};
use crate::protocol::redis::{REDIS_VERSION, Version};

pub fn del(call: &mut Call<'_>) -> Outcome {
    let removed = call.args.iter().filter(|key| call.store.remove(key, call.now).is_some()).count();
    call.reply.integer(removed as i64);
    Ok(())
}

/// EXISTS and TOUCH: a key given twice counts twice.
pub fn exists(call: &mut Call<'_>) -> Outcome {
    let found = call.args.iter().filter(|key| call.store.get(key, call.now).is_some()).count();
    call.reply.integer(found as i64);
    Ok(())
}

pub fn type_(call: &mut Call<'_>) -> Outcome {
    let found = call.store.peek(call.arg(0), call.now).is_some();
    call.reply.status(if found { "string" } else { "none" });
    Ok(())
}

pub fn dbsize(call: &mut Call<'_>) -> Outcome {
    // Redis looks for expired keys all the time; here it is enough to do so when someone counts.
    call.store.purge(call.now);
    call.reply.integer(call.store.len() as i64);
    Ok(())
}

/// FLUSHALL and FLUSHDB: there is one database.
pub fn flush(call: &mut Call<'_>) -> Outcome {
    let known = |mode: &&[u8]| mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async");
    if call.args.len() > 1 || !call.args.iter().all(known) {
        return Err(SYNTAX.into());
    }
    call.store.clear();
    call.reply.ok();
    Ok(())
}

pub fn ping(call: &mut Call<'_>) -> Outcome {
    match call.args {
        [] => call.reply.status("PONG"),
        [message] => call.reply.bulk(message),
        _ => return Err(wrong_arity(call.command)),
    }
    Ok(())
}

pub fn echo(call: &mut Call<'_>) -> Outcome {
    call.reply.bulk(call.arg(0));
    Ok(())
}

pub fn quit(call: &mut Call<'_>) -> Outcome {
    call.reply.ok();
    call.close = true;
    Ok(())
}

pub fn select(call: &mut Call<'_>) -> Outcome {
    if integer(call.arg(0))? != 0 {
        return Err("ERR DB index is out of range".into());
    }
    call.reply.ok();
    Ok(())
}

/// `HELLO [2|3] [AUTH user password] [SETNAME name]`; the name is not kept.
pub fn hello(call: &mut Call<'_>) -> Outcome {
    let mut version = *call.version;
    if let Some(wanted) = call.args.first() {
        let number = integer(wanted).map_err(|_| "ERR Protocol version is not an integer or out of range")?;
        version = Version::of(number).ok_or("NOPROTO unsupported protocol version")?;
    }
    let mut rest = call.args.get(1..).unwrap_or_default();
    loop {
        rest = match rest {
            [] => break,
            [option, user, _, rest @ ..] if option.eq_ignore_ascii_case(b"auth") => match *user {
                b"default" => rest,
                _ => return Err(WRONG_PASSWORD.into()),
            },
            [option, _, rest @ ..] if option.eq_ignore_ascii_case(b"setname") => rest,
            [option, ..] => {
                let shown = option.get(..option.len().min(128)).unwrap_or_default().escape_ascii();
                return Err(format!("ERR Syntax error in HELLO option '{shown}'").into());
            }
        };
    }
    *call.version = version;
    let reply = &mut call.reply;
    reply.speak(version);
    reply.map(5);
    // Who looks at these wants to know which commands there are.
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION), ("mode", "standalone"), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(version.number().into());
    Ok(())
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// No password is set, and the user `default` needs none.
pub fn auth(call: &mut Call<'_>) -> Outcome {
    match call.args {
        [_] => Err("ERR AUTH <password> called without any password configured for the default user. \
                    Are you sure your configuration is correct?"
            .into()),
        [b"default", _] => {
            call.reply.ok();
            Ok(())
        }
        [_, _] => Err(WRONG_PASSWORD.into()),
        _ => Err(SYNTAX.into()),
    }
}
