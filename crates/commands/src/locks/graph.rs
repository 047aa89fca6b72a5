//! The graph of who waits for whom, as text for Graphviz and as a picture.

use std::fmt::Write as _;

use kdive_base::{VirtAddr, printable};
use kdive_linux::locking::{Locks, Wait, circles};
use kdive_triage::report::WaitGraph;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Titled;

/// Tasks, and an arrow from each that waits to each that holds what it waits for. What has no holder is a node of its own.
pub(crate) struct Graph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

struct Node {
    label: String,
    /// Whether it is a task, and not something that is waited for.
    is_task: bool,
    in_cycle: bool,
}

struct Edge {
    from: usize,
    to: usize,
    label: String,
    sure: bool,
}

/// What a node stands for.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Task(VirtAddr),
    Thing(String),
}

/// Pictures of more nodes than this are of no use to anyone.
const MOST_NODES: usize = 2000;

impl Graph {
    pub(super) fn new(locks: &Locks, chosen: &dyn Fn(&Wait) -> bool) -> Self {
        let in_cycle: FxHashSet<VirtAddr> =
            locks.cycles.iter().flat_map(|cycle| cycle.tasks.iter().map(|task| task.task)).collect();
        let mut graph = Self { nodes: Vec::new(), edges: Vec::new() };
        let mut known: FxHashMap<Key, usize> = FxHashMap::default();
        let mut node = |graph: &mut Self, key: Key, label: String| {
            *known.entry(key.clone()).or_insert_with(|| {
                let (is_task, in_cycle) = match key {
                    Key::Task(at) => (true, in_cycle.contains(&at)),
                    Key::Thing(_) => (false, false),
                };
                graph.nodes.push(Node { label, is_task, in_cycle });
                graph.nodes.len().saturating_sub(1)
            })
        };
        for wait in locks.waits.iter().filter(|wait| chosen(wait)).take(MOST_NODES) {
            let from = node(&mut graph, Key::Task(wait.task.task), wait.task.to_string());
            let title = Titled { kind: wait.kind, lock: wait.lock, name: wait.name.as_deref() }.to_string();
            if wait.holders.is_empty() {
                let to = node(&mut graph, Key::Thing(title.clone()), title);
                graph.edges.push(Edge { from, to, label: String::new(), sure: true });
                continue;
            }
            for holder in &wait.holders {
                let to = node(&mut graph, Key::Task(holder.task.task), holder.task.to_string());
                graph.edges.push(Edge { from, to, label: title.clone(), sure: holder.sure });
            }
        }
        graph
    }

    /// The waits of a report. A lock whose holder is not known is a node of its own.
    pub(crate) fn of_report(waits: &WaitGraph) -> Self {
        let in_cycle: FxHashSet<usize> = waits.cycles.iter().flatten().copied().collect();
        let nodes = waits.nodes.iter().enumerate().map(|(number, node)| Node {
            label: printable(node.name.as_bytes()),
            is_task: true,
            in_cycle: in_cycle.contains(&number),
        });
        let mut graph = Self { nodes: nodes.collect(), edges: Vec::new() };
        let mut things: FxHashMap<&str, usize> = FxHashMap::default();
        for edge in waits.edges.iter().take(MOST_NODES) {
            let label = printable(edge.lock.as_bytes());
            let (to, label) = match edge.to {
                Some(to) => (to, label),
                None => {
                    let thing = *things.entry(&edge.lock).or_insert_with(|| {
                        graph.nodes.push(Node { label, is_task: false, in_cycle: false });
                        graph.nodes.len().saturating_sub(1)
                    });
                    (thing, String::new())
                }
            };
            graph.edges.push(Edge { from: edge.from, to, label, sure: edge.sure });
        }
        graph
    }

    fn is_red(&self, edge: &Edge) -> bool {
        let in_cycle = |node: usize| self.nodes.get(node).is_some_and(|node| node.in_cycle);
        in_cycle(edge.from) && in_cycle(edge.to)
    }

    /// For `dot`.
    pub(super) fn dot(&self) -> String {
        let mut text = "digraph locks {\n  rankdir=LR;\n  node [fontname=\"monospace\"];\n".to_owned();
        for (number, node) in self.nodes.iter().enumerate() {
            let shape = if node.is_task { "box" } else { "ellipse" };
            let colour = if node.in_cycle { ", color=red" } else { "" };
            let _ = writeln!(text, "  n{number} [label={}, shape={shape}{colour}];", quoted(&node.label));
        }
        for edge in &self.edges {
            let style = if edge.sure { "" } else { ", style=dashed" };
            let colour = if self.is_red(edge) { ", color=red" } else { "" };
            let label = quoted(&edge.label);
            let _ = writeln!(text, "  n{} -> n{} [label={label}{style}{colour}];", edge.from, edge.to);
        }
        text.push_str("}\n");
        text
    }

    /// The column of each node: those that wait for nothing at the right, and each one left of all that it waits for, as far
    /// as circles let it.
    fn columns(&self) -> Vec<usize> {
        let number = |node: usize| VirtAddr(node as u64);
        let edges: Vec<_> = self.edges.iter().map(|edge| (number(edge.from), number(edge.to))).collect();
        let circles = circles(&edges);
        let circle_of: FxHashMap<usize, usize> = circles
            .iter()
            .enumerate()
            .flat_map(|(circle, nodes)| nodes.iter().map(move |node| (node.0 as usize, circle)))
            .collect();
        let together = |edge: &&Edge| {
            let circle = circle_of.get(&edge.from);
            circle.is_some() && circle == circle_of.get(&edge.to)
        };
        let mut columns = vec![0_usize; self.nodes.len()];
        // Within a circle nodes stand one right of the other.
        for nodes in &circles {
            for (place, node) in nodes.iter().enumerate() {
                if let Some(column) = columns.get_mut(node.0 as usize) {
                    *column = place;
                }
            }
        }
        let apart: Vec<&Edge> = self.edges.iter().filter(|edge| !together(edge)).collect();
        // Longest paths; a pass that changes nothing ends it, and there are no longer paths than nodes.
        for _ in 0..self.nodes.len().min(64) {
            let mut changed = false;
            for edge in &apart {
                let wanted = columns.get(edge.to).map_or(0, |column| column.saturating_add(1));
                if let Some(column) = columns.get_mut(edge.from).filter(|column| **column < wanted) {
                    *column = wanted;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        columns
    }

    /// A picture: columns of boxes, each left of what it waits for.
    pub(crate) fn svg(&self) -> String {
        const WIDTH: usize = 250;
        const HEIGHT: usize = 30;
        const STEP_X: usize = 420;
        const STEP_Y: usize = 60;
        let columns = self.columns();
        let last = columns.iter().copied().max().unwrap_or(0);
        let mut rows: FxHashMap<usize, usize> = FxHashMap::default();
        let places: Vec<(usize, usize)> = columns
            .iter()
            .map(|column| {
                let row = rows.entry(*column).or_insert(0);
                *row = row.saturating_add(1);
                (20 + last.saturating_sub(*column) * STEP_X, *row * STEP_Y - 40)
            })
            .collect();
        let right = places.iter().map(|(x, _)| x + WIDTH + 20).max().unwrap_or(200);
        let bottom = places.iter().map(|(_, y)| y + HEIGHT + 40).max().unwrap_or(60);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{right}\" height=\"{bottom}\" \
             font-family=\"monospace\" font-size=\"11\">\n<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" \
             refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        for edge in &self.edges {
            let (Some(from), Some(to)) = (places.get(edge.from), places.get(edge.to)) else { continue };
            // From the side that looks at the other node.
            let forward = from.0 <= to.0;
            let (x1, x2) = if forward { (from.0 + WIDTH, to.0) } else { (from.0, to.0 + WIDTH) };
            let (y1, y2) = (from.1 + HEIGHT / 2, to.1 + HEIGHT / 2);
            let (y1, y2) = if forward { (y1, y2) } else { (y1 + 10, y2 + 10) };
            let colour = if self.is_red(edge) { "red" } else { "black" };
            let dash = if edge.sure { "" } else { " stroke-dasharray=\"5 3\"" };
            let _ = writeln!(
                text,
                "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{colour}\"{dash} marker-end=\"url(#arrow)\"/>"
            );
            let (x, y) = ((x1 + x2) / 2, ((y1 + y2) / 2).saturating_sub(if forward { 4 } else { 0 }));
            let y = if forward { y } else { y + 14 };
            let _ = writeln!(
                text,
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" fill=\"{colour}\" font-size=\"9\">{}</text>",
                escaped(&edge.label)
            );
        }
        for (node, (x, y)) in self.nodes.iter().zip(&places) {
            let colour = if node.in_cycle { "red" } else { "black" };
            let round = if node.is_task { 0 } else { 12 };
            let (middle, base) = (x + WIDTH / 2, y + HEIGHT / 2 + 4);
            let _ = writeln!(
                text,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"{round}\" fill=\"white\" \
                 stroke=\"{colour}\"/><text x=\"{middle}\" y=\"{base}\" text-anchor=\"middle\">{}</text>",
                escaped(&node.label)
            );
        }
        text.push_str("</svg>\n");
        text
    }
}

/// A string of the dot language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Text of XML and HTML, within an attribute too.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
