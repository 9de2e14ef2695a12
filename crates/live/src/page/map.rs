//! The dependency map as SVG: callers on the left, what they call to the right of them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::html::{Escaped, service_class};
use super::index::put;
use crate::analysis::{EdgeKind, ServiceEdge, format_duration};

/// With more nodes a drawing says less than the table under it.
const MAX_NODES: usize = 40;

const BOX: (usize, usize) = (132, 32);
/// From one box's corner to the next one's; the gap between columns holds an edge's label.
const STEP: (usize, usize) = (250, 62);
const MARGIN: usize = 8;

/// Characters of a name that fit a box.
const NAME_LENGTH: usize = 17;

/// The drawing; empty where there is nothing to draw, or too much.
pub(super) fn svg(edges: &[ServiceEdge]) -> String {
    let nodes = nodes(edges);
    if nodes.is_empty() || nodes.len() > MAX_NODES {
        return String::new();
    }
    let places = places(edges, &nodes);
    let columns = places.values().map(|place| place.0).max().unwrap_or(0) + 1;
    let rows = places.values().map(|place| place.1).max().unwrap_or(0) + 1;
    let (width, height) =
        ((columns - 1) * STEP.0 + BOX.0 + 2 * MARGIN, (rows - 1) * STEP.1 + BOX.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg class=\"map\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">"
    );
    for edge in edges {
        if let (Some(from), Some(to)) =
            (places.get(edge.caller.as_str()), places.get(edge.callee.as_str()))
        {
            line(&mut svg, edge, corner(*from), corner(*to));
        }
    }
    for (name, kind) in &nodes {
        if let Some(place) = places.get(name) {
            node(&mut svg, name, *kind, corner(*place));
        }
    }
    svg.push_str("</svg>");
    svg
}

/// By name; what is a service anywhere is drawn as one.
fn nodes(edges: &[ServiceEdge]) -> BTreeMap<&str, EdgeKind> {
    let mut nodes = BTreeMap::new();
    for edge in edges {
        nodes.insert(edge.caller.as_str(), EdgeKind::Service);
        nodes.entry(edge.callee.as_str()).or_insert(edge.kind);
    }
    nodes
}

/// Column and row of each node: the column is the number of calls from the nearest node that nobody calls
/// (or, in a circle that nobody calls into, from its first node).
fn places<'a>(
    edges: &'a [ServiceEdge],
    nodes: &BTreeMap<&'a str, EdgeKind>,
) -> HashMap<&'a str, (usize, usize)> {
    let mut columns: HashMap<&str, usize> = HashMap::new();
    let called = |name: &str| edges.iter().any(|edge| edge.callee == name && edge.caller != name);
    let mut queue: VecDeque<&str> = nodes.keys().copied().filter(|name| !called(name)).collect();
    columns.extend(queue.iter().map(|name| (*name, 0)));
    for start in nodes.keys() {
        while let Some(name) = queue.pop_front() {
            let next = columns.get(name).map_or(0, |column| column + 1);
            for edge in edges.iter().filter(|edge| edge.caller == name) {
                if !columns.contains_key(edge.callee.as_str()) {
                    columns.insert(&edge.callee, next);
                    queue.push_back(&edge.callee);
                }
            }
        }
        if !columns.contains_key(start) {
            columns.insert(start, 0);
            queue.push_back(start);
        }
    }
    let mut rows: HashMap<usize, usize> = HashMap::new();
    nodes
        .keys()
        .map(|name| {
            let column = columns.get(name).copied().unwrap_or(0);
            let row = rows.entry(column).or_default();
            *row += 1;
            (*name, (column, *row - 1))
        })
        .collect()
}

fn corner((column, row): (usize, usize)) -> (usize, usize) {
    (MARGIN + column * STEP.0, MARGIN + row * STEP.1)
}

fn line(svg: &mut String, edge: &ServiceEdge, from: (usize, usize), to: (usize, usize)) {
    let (x1, y1) = (from.0 + BOX.0, from.1 + BOX.1 / 2);
    let (x2, y2) = (to.0, to.1 + BOX.1 / 2);
    let (c1, c2) = (x1 + STEP.0 / 5, x2.saturating_sub(STEP.0 / 5));
    put(
        svg,
        format_args!(
            "<g class=\"edge {} {}\"><path d=\"M{x1} {y1}C{c1} {y1} {c2} {y2} {x2} {y2}\"/>\
             <circle cx=\"{x2}\" cy=\"{y2}\" r=\"3\"/>\
             <text x=\"{}\" y=\"{}\">{}× {}</text></g>",
            if edge.errors > 0 { "bad" } else { "" },
            service_class(&edge.caller),
            (x1 + x2) / 2,
            (y1 + y2) / 2 - 5,
            edge.calls,
            format_duration(edge.p50_ns),
        ),
    );
}

fn node(svg: &mut String, name: &str, kind: EdgeKind, (x, y): (usize, usize)) {
    let mut label: String = name.chars().take(NAME_LENGTH).collect();
    if name.chars().count() > NAME_LENGTH {
        label.push('…');
    }
    let class = match kind {
        EdgeKind::Service => service_class(name),
        EdgeKind::Database | EdgeKind::External => "silent".to_owned(),
    };
    let radius = match kind {
        EdgeKind::Service => 8,
        EdgeKind::Database | EdgeKind::External => 16,
    };
    put(
        svg,
        format_args!(
            "<g class=\"node {class}\"><title>{}</title>\
             <rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"{radius}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text></g>",
            Escaped(name),
            BOX.0,
            BOX.1,
            x + BOX.0 / 2,
            y + BOX.1 / 2 + 4,
            Escaped(label),
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &[(&str, &str)]) -> Vec<ServiceEdge> {
        pairs
            .iter()
            .map(|(caller, callee)| ServiceEdge {
                caller: (*caller).to_owned(),
                callee: (*callee).to_owned(),
                kind: EdgeKind::Service,
                calls: 1,
                errors: 0,
                p50_ns: 1,
                p95_ns: 1,
            })
            .collect()
    }

    fn columns(pairs: &[(&str, &str)]) -> Vec<(String, usize)> {
        let edges = edges(pairs);
        let places = places(&edges, &nodes(&edges));
        let mut columns: Vec<_> =
            places.into_iter().map(|(name, (column, _))| (name.to_owned(), column)).collect();
        columns.sort();
        columns
    }

    #[test]
    fn callers_stand_left_of_what_they_call() {
        assert_eq!(
            columns(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "a2")]),
            [("a", 0), ("a2", 3), ("b", 1), ("c", 1), ("d", 2)]
                .map(|(name, column)| (name.to_owned(), column))
        );
    }

    #[test]
    fn circles_are_drawn_too() {
        assert_eq!(
            columns(&[("a", "b"), ("b", "a"), ("x", "x")]),
            [("a", 0), ("b", 1), ("x", 0)].map(|(name, column)| (name.to_owned(), column))
        );
    }

    #[test]
    fn names_are_escaped_and_a_crowd_is_not_drawn() {
        let drawn = svg(&edges(&[("<a>", "\"b\"")]));
        assert!(drawn.contains("&lt;a&gt;") && !drawn.contains("<a>"));
        let names: Vec<_> = (0..50).map(|n| n.to_string()).collect();
        let crowd: Vec<_> = names.iter().map(|name| ("hub", name.as_str())).collect();
        assert_eq!(svg(&edges(&crowd)), "");
        assert_eq!(svg(&[]), "");
    }
}
