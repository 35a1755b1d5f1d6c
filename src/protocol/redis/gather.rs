//! What all servers of a pool say to one request becomes one reply, of the same kind as theirs: RESP2 or RESP3.

use std::collections::{HashMap, HashSet};

use super::commands::FanOut;
use super::reply;
use super::response::{Elements, elements, integer, text};

/// What a merge needs to know beside the replies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hint {
    /// How many elements are asked for; `None`: all.
    pub count: Option<usize>,
    /// Decides where chance does.
    pub random: u32,
}

/// Writes the one reply. `replies` are whole, none is an error, and there is one of each server; [`FanOut::Random`] has
/// those to DBSIZE behind them. `None`: they are not what the command returns, and nothing was written.
pub fn gather(kind: FanOut, replies: &[&[u8]], hint: Hint, out: &mut Vec<u8>) -> Option<()> {
    let first = *replies.first()?;
    match kind {
        FanOut::Sum => write_number(out, numbers(replies).try_fold(0, |sum: i64, n| sum.checked_add(n?))),
        FanOut::Least => write_number(out, numbers(replies).try_fold(i64::MAX, |least, n| Some(least.min(n?)))),
        FanOut::Greatest => write_number(out, numbers(replies).try_fold(i64::MIN, |most, n| Some(most.max(n?)))),
        FanOut::Equal if replies.iter().any(|reply| *reply != first) => None,
        FanOut::Same | FanOut::Everywhere | FanOut::Flush | FanOut::Any | FanOut::Equal => copy(first, out),
        FanOut::All => all(replies, out),
        FanOut::Concat => concat(replies, out),
        FanOut::Union => {
            let mut seen = HashSet::new();
            let each_once: Vec<_> =
                all_elements(replies)?.into_iter().filter(|element| seen.insert(*element)).collect();
            write_elements(first, &each_once, out)
        }
        FanOut::SumPairs => sum_pairs(replies, out),
        FanOut::Newest => {
            let newest_first = by_number(replies, 1, |time| !time)?;
            let count = hint.count.unwrap_or(usize::MAX).min(newest_first.len());
            write_elements(first, &newest_first[..count], out)
        }
        FanOut::History => write_elements(first, &by_number(replies, 0, |time| time)?, out),
        FanOut::Latest => latest(replies, out),
        FanOut::Running => copy(replies.iter().find(|reply| runs_a_script(reply)).unwrap_or(&first), out),
        FanOut::Random => random(replies, hint.random, out),
        // These have merges of their own.
        FanOut::Scan | FanOut::Info => None,
    }
}

fn copy(reply: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(reply);
    Some(())
}

fn numbers<'a>(replies: &'a [&[u8]]) -> impl Iterator<Item = Option<i64>> + 'a {
    replies.iter().map(|reply| integer(reply))
}

fn write_number(out: &mut Vec<u8>, number: Option<i64>) -> Option<()> {
    reply::write_integer(out, number?);
    Some(())
}

/// True for an array or a set, which a merge may take apart.
fn is_list(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'*' | b'~')) && reply.get(1) != Some(&b'-')
}

fn lists<'a>(replies: &[&'a [u8]]) -> Option<Vec<Elements<'a>>> {
    replies.iter().map(|reply| is_list(reply).then(|| elements(reply))).collect()
}

fn all_elements<'a>(replies: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let lists = lists(replies)?;
    let mut all = Vec::with_capacity(lists.iter().map(Elements::left).sum());
    lists.into_iter().for_each(|list| all.extend(list));
    Some(all)
}

/// All elements one after the other, not one of which is looked at: there may be millions.
fn concat(replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let lists = lists(replies)?;
    out.reserve(replies.iter().map(|reply| reply.len()).sum());
    write_header(replies[0], lists.iter().map(Elements::left).sum(), out);
    lists.iter().for_each(|list| out.extend_from_slice(list.rest()));
    Some(())
}

/// Of an aggregate of the same type as `like`.
fn write_header(like: &[u8], elements: usize, out: &mut Vec<u8>) {
    out.extend(like.first());
    out.extend_from_slice(itoa::Buffer::new().format(elements).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_elements(like: &[u8], elements: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    write_header(like, elements.len(), out);
    elements.iter().for_each(|element| out.extend_from_slice(element));
    Some(())
}

/// Of each place the least number; that is 1 where it is so in all.
fn all(replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let mut everywhere = numbers_of(replies[0])?;
    for reply in &replies[1..] {
        let here = numbers_of(reply).filter(|here| here.len() == everywhere.len())?;
        everywhere.iter_mut().zip(here).for_each(|(all, one)| *all = (*all).min(one));
    }
    reply::write_array_header(out, everywhere.len());
    everywhere.into_iter().for_each(|number| reply::write_integer(out, number));
    Some(())
}

fn numbers_of(list: &[u8]) -> Option<Vec<i64>> {
    is_list(list).then(|| elements(list).map(integer).collect())?
}

/// The servers were asked for the same names, in the same order.
fn sum_pairs(replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let pairs = |reply: &[u8]| is_list(reply) || reply.starts_with(b"%");
    if !replies.iter().all(|reply| pairs(reply)) {
        return None;
    }
    let mut lists: Vec<Elements<'_>> = replies.iter().map(|reply| elements(reply)).collect();
    let (first, others) = lists.split_first_mut()?;
    let mut summed = Vec::with_capacity(replies[0].len());
    while let Some(name) = first.next() {
        let mut sum = integer(first.next()?)?;
        for other in &mut *others {
            other.next().filter(|its| *its == name)?;
            sum = sum.checked_add(integer(other.next()?)?)?;
        }
        summed.extend_from_slice(name);
        reply::write_integer(&mut summed, sum);
    }
    // The header is the first one's, be it a map's.
    let header = replies[0].iter().position(|byte| *byte == b'\n')? + 1;
    out.extend_from_slice(&replies[0][..header]);
    copy(&summed, out)
}

/// All elements, which are arrays themselves, ordered by what `key` makes of the number at that place of theirs.
fn by_number<'a>(replies: &[&'a [u8]], place: usize, key: impl Fn(i64) -> i64) -> Option<Vec<&'a [u8]>> {
    let all = all_elements(replies)?.into_iter();
    let numbered = all.map(|element| Some((key(integer(elements(element).nth(place)?)?), element)));
    let mut numbered: Vec<_> = numbered.collect::<Option<_>>()?;
    numbered.sort_by_key(|(number, _)| *number);
    Some(numbered.into_iter().map(|(_, element)| element).collect())
}

/// LATENCY LATEST: of each event its name, the time of the latest, how long that took, and how long the longest. The
/// latest of all servers, and their longest; numbers that follow (the newest servers have two) are totals.
fn latest(replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let mut names = Vec::new();
    let mut events: HashMap<&[u8], Vec<i64>> = HashMap::new();
    for element in all_elements(replies)? {
        let mut fields = elements(element);
        let name = fields.next()?;
        let here: Vec<i64> = fields.map(integer).collect::<Option<_>>()?;
        let [time, _, longest, ..] = here[..] else { return None };
        let Some(event) = events.get_mut(name) else {
            names.push(name);
            events.insert(name, here);
            continue;
        };
        if time > event[0] {
            event[..2].copy_from_slice(&here[..2]);
        }
        event[2] = event[2].max(longest);
        event[3..].iter_mut().zip(&here[3..]).for_each(|(total, one)| *total = total.saturating_add(*one));
    }
    reply::write_array_header(out, names.len());
    for name in names {
        let event = &events[name];
        reply::write_array_header(out, 1 + event.len());
        out.extend_from_slice(name);
        event.iter().for_each(|number| reply::write_integer(out, *number));
    }
    Some(())
}

/// FUNCTION STATS: whether a script or a function is running, which the first field tells.
fn runs_a_script(stats: &[u8]) -> bool {
    let mut fields = elements(stats);
    fields.next().and_then(text) == Some(b"running_script") && fields.next().is_some_and(|script| !is_null(script))
}

fn is_null(reply: &[u8]) -> bool {
    reply.starts_with(b"_") || reply.starts_with(b"$-") || reply.starts_with(b"*-")
}

/// One of the keys, each server in proportion to the keys that it has.
fn random(replies: &[&[u8]], random: u32, out: &mut Vec<u8>) -> Option<()> {
    let (keys, sizes) = replies.split_at(replies.len() / 2);
    let sizes: Vec<u128> = numbers(sizes).map(|size| u128::try_from(size?).ok()).collect::<Option<_>>()?;
    // One that had a key a moment ago may be empty by now, and the other way around.
    let weight = |(key, size): (&&[u8], &u128)| if is_null(key) { 0 } else { (*size).max(1) };
    let total: u128 = keys.iter().zip(&sizes).map(weight).sum();
    let mut draw = (u128::from(random) * total) >> 32;
    for (key, size) in keys.iter().zip(&sizes) {
        let weight = weight((key, size));
        if draw < weight {
            return copy(key, out);
        }
        draw -= weight;
    }
    copy(keys.first()?, out)
}

#[cfg(test)]
mod tests;
