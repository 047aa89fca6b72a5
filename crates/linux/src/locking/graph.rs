//! Circles in the graph of who waits for whom.

use kdive_base::VirtAddr;
use rustc_hash::FxHashMap;

/// The circles among `edges` (waiter, holder): each strongly connected set of more than one task, and each task that waits
/// for itself. Tarjan's algorithm without recursion: linear in the number of edges.
///
/// In a circle tasks follow one another as they wait, as far as the set is a single circle; it begins with its lowest
/// address.
#[must_use]
pub fn circles(edges: &[(VirtAddr, VirtAddr)]) -> Vec<Vec<VirtAddr>> {
    let mut index_of: FxHashMap<VirtAddr, usize> = FxHashMap::default();
    let mut nodes = Vec::new();
    let mut index = |at: VirtAddr| {
        *index_of.entry(at).or_insert_with(|| {
            nodes.push(at);
            nodes.len().saturating_sub(1)
        })
    };
    let numbered: Vec<(usize, usize)> = edges.iter().map(|(from, to)| (index(*from), index(*to))).collect();
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (from, to) in &numbered {
        if let Some(targets) = next.get_mut(*from) {
            targets.push(*to);
        }
    }
    let sets = Tarjan::new(&next).run();
    let waits_for_itself = |node: usize| next.get(node).is_some_and(|targets| targets.contains(&node));
    let is_circle = |set: &Vec<usize>| match set.as_slice() {
        [one] => waits_for_itself(*one),
        _ => true,
    };
    let mut found: Vec<Vec<VirtAddr>> = sets
        .into_iter()
        .filter(is_circle)
        .map(|set| in_order(&set, &next, &nodes))
        .filter(|circle| !circle.is_empty())
        .collect();
    found.sort();
    found
}

/// The nodes of a set along its edges, from the lowest address on; those that lie beside that path come last.
fn in_order(set: &[usize], next: &[Vec<usize>], nodes: &[VirtAddr]) -> Vec<VirtAddr> {
    let address = |node: usize| nodes.get(node).copied().unwrap_or_default();
    let mut left: FxHashMap<usize, ()> = set.iter().map(|node| (*node, ())).collect();
    let mut order = Vec::with_capacity(set.len());
    let mut at = set.iter().copied().min_by_key(|node| address(*node));
    while let Some(node) = at {
        left.remove(&node);
        order.push(address(node));
        at = next.get(node).and_then(|targets| targets.iter().copied().find(|to| left.contains_key(to)));
    }
    let mut beside: Vec<VirtAddr> = left.keys().map(|node| address(*node)).collect();
    beside.sort();
    order.extend(beside);
    order
}

/// Tarjan's strongly connected components.
struct Tarjan<'g> {
    next: &'g [Vec<usize>],
    /// When a node was met, and the earliest met that it leads back to.
    met: Vec<Option<(usize, usize)>>,
    open: Vec<usize>,
    is_open: Vec<bool>,
    clock: usize,
    sets: Vec<Vec<usize>>,
}

impl<'g> Tarjan<'g> {
    fn new(next: &'g [Vec<usize>]) -> Self {
        Self {
            next,
            met: vec![None; next.len()],
            open: Vec::new(),
            is_open: vec![false; next.len()],
            clock: 0,
            sets: Vec::new(),
        }
    }

    fn run(mut self) -> Vec<Vec<usize>> {
        for node in 0..self.next.len() {
            if self.met.get(node).is_some_and(Option::is_none) {
                self.visit(node);
            }
        }
        self.sets
    }

    fn enter(&mut self, node: usize) {
        let clock = self.clock;
        self.clock = clock.saturating_add(1);
        if let (Some(met), Some(is_open)) = (self.met.get_mut(node), self.is_open.get_mut(node)) {
            *met = Some((clock, clock));
            *is_open = true;
            self.open.push(node);
        }
    }

    fn lower(&mut self, node: usize, to: usize) {
        if let Some(Some((_, low))) = self.met.get_mut(node) {
            *low = (*low).min(to);
        }
    }

    /// All that is reached from a node: a path of nodes, each with the next of its edges to follow.
    fn visit(&mut self, root: usize) {
        let mut path = vec![(root, 0_usize)];
        self.enter(root);
        while let Some((node, edge)) = path.last_mut() {
            let node = *node;
            let target = self.next.get(node).and_then(|targets| targets.get(*edge)).copied();
            *edge = edge.saturating_add(1);
            match target {
                Some(target) => match self.met.get(target).copied().flatten() {
                    None => {
                        self.enter(target);
                        path.push((target, 0));
                    }
                    Some((met, _)) if self.is_open.get(target) == Some(&true) => self.lower(node, met),
                    Some(_) => {}
                },
                None => {
                    path.pop();
                    self.leave(node, path.last().map(|(caller, _)| *caller));
                }
            }
        }
    }

    fn leave(&mut self, node: usize, caller: Option<usize>) {
        let Some(Some((met, low))) = self.met.get(node).copied() else { return };
        if let Some(caller) = caller {
            self.lower(caller, low);
        }
        if met != low {
            return;
        }
        let mut set = Vec::new();
        while let Some(member) = self.open.pop() {
            if let Some(is_open) = self.is_open.get_mut(member) {
                *is_open = false;
            }
            set.push(member);
            if member == node {
                break;
            }
        }
        self.sets.push(set);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(edges: &[(u64, u64)]) -> Vec<Vec<u64>> {
        let edges: Vec<_> = edges.iter().map(|(from, to)| (VirtAddr(*from), VirtAddr(*to))).collect();
        circles(&edges).into_iter().map(|circle| circle.into_iter().map(|at| at.0).collect()).collect()
    }

    #[test]
    fn circles_are_named_and_who_waits_behind_them_is_not() {
        assert_eq!(of(&[(1, 2), (2, 1), (3, 1), (4, 5)]), [vec![1, 2]]);
        assert_eq!(of(&[(7, 7), (3, 9), (9, 5), (5, 3)]), [vec![3, 9, 5], vec![7]]);
        assert_eq!(of(&[(1, 2), (2, 3), (1, 3)]), Vec::<Vec<u64>>::new());
    }

    #[test]
    fn a_million_edges_end() {
        let chain: Vec<_> = (0..1_000_000).map(|n| (n, n + 1)).collect();
        assert!(of(&chain).is_empty());
        let ring: Vec<_> = (0..1_000_000).map(|n| (n, (n + 1) % 1_000_000)).collect();
        assert_eq!(of(&ring).iter().map(Vec::len).collect::<Vec<_>>(), [1_000_000]);
    }

    proptest! {
        #[test]
        fn a_task_is_in_a_circle_if_it_reaches_itself(
            edges in proptest::collection::vec((0_u64..12, 0_u64..12), 0..40),
        ) {
            let found: BTreeSet<u64> = of(&edges).into_iter().flatten().collect();
            let reaches_itself = |start: u64| {
                let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
                while let Some(at) = open.pop() {
                    for (_, to) in edges.iter().filter(|(from, _)| *from == at) {
                        if seen.insert(*to) { open.push(*to); }
                    }
                }
                seen.contains(&start)
            };
            let expected: BTreeSet<u64> = (0..12).filter(|node| reaches_itself(*node)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
