//! The graph of waits in words: circles first, told so that a newcomer sees who holds what; then each lock and who waits.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kdive_base::{VirtAddr, printable};
use kdive_triage::report::{WaitEdge, WaitGraph};

use crate::render::Age;

/// Lines, and whether each is to be stressed.
pub(super) type Lines = Vec<(String, bool)>;

/// Waiters of one lock, and locks, that are listed.
const MOST: usize = 20;

/// The whole graph.
pub(super) fn lines(graph: &WaitGraph) -> Lines {
    let mut lines = Lines::new();
    for cycle in &graph.cycles {
        circle(graph, cycle, &mut lines);
    }
    locks(graph, &mut lines);
    if graph.left_out > 0 {
        lines.push((format!("{} more tasks wait", graph.left_out), false));
    }
    lines
}

fn name(graph: &WaitGraph, node: usize) -> String {
    graph.nodes.get(node).map_or_else(|| "?".to_owned(), |node| printable(node.name.as_bytes()))
}

fn lock(edge: &WaitEdge) -> String {
    let mut text = printable(edge.lock.as_bytes());
    let digits = edge.at.map(|at| at.to_string()).filter(|digits| !text.contains(digits));
    if let Some(digits) = digits {
        let _ = write!(text, " {digits}");
    }
    text
}

fn edge_between(graph: &WaitGraph, from: usize, to: usize) -> Option<&WaitEdge> {
    graph.edges.iter().find(|edge| edge.from == from && edge.to == Some(to))
}

/// A circle: each task, what it holds and what it waits for.
///
/// ```text
/// Deadlock of 2 tasks:
///   ┌─> dead_a (PID 71)
///   │     holds      mutex lock_a
///   │     waits for  mutex lock_b, since 2m03s, in down_b
///   │   which is held by
///   │   dead_b (PID 72)
///   │     holds      mutex lock_b
///   │     waits for  mutex lock_a
///   └── which is held by dead_a (PID 71)
/// ```
fn circle(graph: &WaitGraph, cycle: &[usize], lines: &mut Lines) {
    let what = if cycle.len() == 1 {
        "1 task that waits for itself".to_owned()
    } else {
        format!("{} tasks", cycle.len())
    };
    lines.push((format!("Deadlock of {what}:"), true));
    for (place, node) in cycle.iter().enumerate() {
        let next = cycle.get(place.saturating_add(1)).or(cycle.first()).copied().unwrap_or(*node);
        let before =
            place.checked_sub(1).and_then(|at| cycle.get(at)).or(cycle.last()).copied().unwrap_or(*node);
        let first = place == 0;
        lines.push((format!("  {} {}", if first { "┌─>" } else { "│  " }, name(graph, *node)), true));
        if let Some(held) = edge_between(graph, before, *node) {
            lines.push((format!("  │     holds      {}", lock(held)), false));
        }
        if let Some(wanted) = edge_between(graph, *node, next) {
            let mut line = format!("  │     waits for  {}", lock(wanted));
            if let Some(age) = graph.nodes.get(*node).and_then(|node| node.age_ns) {
                let _ = write!(line, ", since {}", Age(age));
            }
            if let Some(function) = &wanted.function {
                let _ = write!(line, ", in {}", printable(function.as_bytes()));
            }
            lines.push((line, false));
        }
        let is_last = place.saturating_add(1) == cycle.len();
        lines.push(match is_last {
            true => (format!("  └── which is held by {}", name(graph, next)), true),
            false => ("  │   which is held by".to_owned(), false),
        });
    }
}

/// A lock, its name, who holds it, and whether that is proven.
type Waited<'g> = (Option<VirtAddr>, &'g str, Option<usize>, bool);

/// The waits that are in no circle, by lock and holder.
fn locks(graph: &WaitGraph, lines: &mut Lines) {
    let in_circle = |edge: &WaitEdge| {
        graph.cycles.iter().any(|cycle| {
            let next = |place: usize| cycle.get(place.saturating_add(1)).or(cycle.first()).copied();
            cycle.iter().enumerate().any(|(place, node)| *node == edge.from && next(place) == edge.to)
        })
    };
    let mut by_lock: BTreeMap<Waited<'_>, Vec<&WaitEdge>> = BTreeMap::new();
    for edge in graph.edges.iter().filter(|edge| !in_circle(edge)) {
        by_lock.entry((edge.at, &edge.lock, edge.to, edge.sure)).or_default().push(edge);
    }
    let age = |edge: &WaitEdge| graph.nodes.get(edge.from).and_then(|node| node.age_ns);
    let mut groups: Vec<_> = by_lock.into_iter().collect();
    groups.sort_by_key(|(_, edges)| std::cmp::Reverse(edges.len()));
    let more = groups.len().saturating_sub(MOST);
    for ((_, _, holder, sure), mut edges) in groups.into_iter().take(MOST) {
        edges.sort_by_key(|edge| std::cmp::Reverse(age(edge)));
        let Some(first) = edges.first() else { continue };
        let mut line = lock(first);
        match holder {
            Some(holder) if sure => line.push_str(&format!(", held by {}", name(graph, holder))),
            Some(holder) => line.push_str(&format!(", probably held by {}", name(graph, holder))),
            None => line.push_str(", holder not known"),
        }
        lines.push((line, false));
        for edge in edges.iter().take(MOST) {
            let since = age(edge).map_or_else(String::new, |age| Age(age).to_string());
            let mut line = format!("  {since:>8}  {}", name(graph, edge.from));
            if let Some(function) = &edge.function {
                let _ = write!(line, " in {}", printable(function.as_bytes()));
            }
            lines.push((line, false));
        }
        if let Some(more) = edges.len().checked_sub(MOST).filter(|more| *more > 0) {
            lines.push((format!("            and {more} more"), false));
        }
    }
    if more > 0 {
        lines.push((format!("and {more} more locks"), false));
    }
}
