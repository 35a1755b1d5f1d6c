//! YAML text to a tree in which every node knows its place. Nothing is interpreted and nothing is lost: scalars stay
//! text, duplicate keys stay duplicates, so that the checks that follow can report everything at once (serde would
//! stop at the first). The parser is serde-saphyr's own.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, StructureStyle};

use super::report::Span;

/// Nodes that one file may unfold to, copies made by aliases included: bounds "billion laughs".
const MAX_NODES: usize = 200_000;

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub at: Span,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Scalar {
        text: String,
        /// Written without quotes.
        plain: bool,
        /// Of more than one line: may have swallowed what it should not, by a forgotten quote.
        multiline: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

/// YAML that twemproxy does not read, and partly we neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oddity {
    Flow,
    Anchor,
    Alias,
    Tag,
    DocumentMarker,
    SecondDocument,
}

#[derive(Debug)]
pub(super) struct Tree {
    /// `None`: nothing but blanks and comments.
    pub root: Option<Node>,
    pub oddities: Vec<(Span, Oddity)>,
}

/// Parses one document; a syntax error ends it, with its place and the parser's words.
pub(super) fn parse(text: &str) -> Result<Tree, (Span, String)> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|e| {
            let at = span_at(text, *e.marker(), *e.marker());
            (at, format!("not YAML: {}{}", e.kind(), hint(text, at, &e.kind().to_string())))
        })?;
        let at = span_at(text, span.start, span.end);
        builder.event(event, at, span.end.line() > span.start.line())?;
        if builder.nodes > MAX_NODES {
            return Err((at, format!("too large: the file unfolds to more than {MAX_NODES} values")));
        }
    }
    Ok(Tree { root: builder.root, oddities: builder.oddities })
}

/// What is mostly the matter where the parser's words do not say it.
fn hint(text: &str, at: Span, reason: &str) -> &'static str {
    let special = |c: char| "{}[]&*!%@`|>".contains(c);
    if reason.contains("quoted scalar") {
        "; is there a quote missing, here or above?"
    } else if reason.contains("tab") {
        "; allowed: spaces"
    } else if !reason.contains("unclosed") && text.get(at.start..).is_some_and(|rest| rest.starts_with(special)) {
        "; a value that begins with one of {}[]&*!%@`|> needs quotes"
    } else {
        ""
    }
}

/// Parents that are not closed yet, innermost last.
#[derive(Default)]
struct Builder {
    root: Option<Node>,
    documents: usize,
    open: Vec<Open>,
    /// Anchor id to its finished node and that node's size.
    anchors: HashMap<usize, (Node, usize)>,
    oddities: Vec<(Span, Oddity)>,
    nodes: usize,
}

struct Open {
    node: Node,
    /// The key of a mapping that waits for its value.
    key: Option<Node>,
    anchor: usize,
    /// `Builder::nodes` when it was opened.
    nodes_before: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, at: Span, multiline: bool) -> Result<(), (Span, String)> {
        match event {
            Event::DocumentStart(explicit, _) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.oddities.push((at, Oddity::SecondDocument));
                } else if explicit {
                    self.oddities.push((at, Oddity::DocumentMarker));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.mark(at, anchor, tag.is_some(), false);
                let plain = style == ScalarStyle::Plain;
                // The parser says `~` for a value that is not there.
                let text = if plain && at.start == at.end { String::new() } else { text.into_owned() };
                let kind = Kind::Scalar { text, plain, multiline };
                self.finish(Open { node: Node { at, kind }, key: None, anchor, nodes_before: self.nodes });
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.mark(at, anchor, tag.is_some(), style == StructureStyle::Flow);
                self.open(at, Kind::Sequence(Vec::new()), anchor);
            }
            Event::MappingStart(style, anchor, tag) => {
                self.mark(at, anchor, tag.is_some(), style == StructureStyle::Flow);
                self.open(at, Kind::Mapping(Vec::new()), anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.finish(open);
                }
            }
            Event::Alias(id) => {
                self.oddities.push((at, Oddity::Alias));
                let Some((node, size)) = self.anchors.get(&id) else {
                    return Err((at, "not YAML: an alias inside the value that it stands for".to_owned()));
                };
                // Checked before the copy is made.
                if self.nodes + size > MAX_NODES {
                    return Err((at, format!("too large: the file unfolds to more than {MAX_NODES} values")));
                }
                let (node, nodes_before) = (node.clone(), self.nodes);
                self.nodes += size;
                self.finish(Open { node, key: None, anchor: 0, nodes_before });
            }
            _ => {}
        }
        Ok(())
    }

    fn mark(&mut self, at: Span, anchor: usize, tagged: bool, flow: bool) {
        let found = [(anchor != 0, Oddity::Anchor), (tagged, Oddity::Tag), (flow, Oddity::Flow)];
        self.oddities.extend(found.into_iter().filter(|(is, _)| *is).map(|(_, oddity)| (at, oddity)));
    }

    fn open(&mut self, at: Span, kind: Kind, anchor: usize) {
        self.open.push(Open { node: Node { at, kind }, key: None, anchor, nodes_before: self.nodes });
    }

    /// A node is whole: remembers its anchor and hands it to its parent.
    fn finish(&mut self, done: Open) {
        self.nodes += 1;
        if done.anchor != 0 {
            let size = self.nodes - done.nodes_before;
            self.nodes += size; // The copy counts: anchors inside anchors are copied again.
            self.anchors.insert(done.anchor, (done.node.clone(), size));
        }
        let node = done.node;
        match self.open.last_mut() {
            Some(Open { node: Node { kind: Kind::Sequence(items), .. }, .. }) => items.push(node),
            Some(Open { node: Node { kind: Kind::Mapping(entries), .. }, key, .. }) => match key.take() {
                Some(k) => entries.push((k, node)),
                None => *key = Some(node),
            },
            _ if self.documents <= 1 && self.root.is_none() && !blank(&node) => self.root = Some(node),
            _ => {}
        }
    }
}

/// An empty document is one empty plain scalar.
fn blank(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, plain: true, .. } if text.is_empty())
}

fn span_at(text: &str, start: granit_parser::Marker, end: granit_parser::Marker) -> Span {
    let first = start.byte_offset().unwrap_or(text.len()).min(text.len());
    let last = end.byte_offset().unwrap_or(first).clamp(first, text.len());
    Span { line: start.line().max(1), column: start.col() + 1, start: first, end: last }
}
