//! Order among things that refer to each other, and the circles that make one impossible.

/// Who needs whom, by index.
#[derive(Debug, Default)]
pub(super) struct Graph {
    needs: Vec<Vec<usize>>,
}

impl Graph {
    /// A graph of `count` things without references.
    pub(super) fn new(count: usize) -> Self {
        Self { needs: vec![Vec::new(); count] }
    }

    /// Says that one thing needs another (or itself).
    pub(super) fn add(&mut self, from: usize, to: usize) {
        self.needs[from].push(to);
    }

    /// Forgets what a thing needs.
    pub(super) fn clear(&mut self, from: usize) {
        self.needs[from].clear();
    }

    /// What a thing needs.
    pub(super) fn needs(&self, of: usize) -> &[usize] {
        &self.needs[of]
    }

    /// Who waits for each thing.
    pub(super) fn waiting(&self) -> Vec<Vec<usize>> {
        let mut waiting = vec![Vec::new(); self.needs.len()];
        for (from, needs) in self.needs.iter().enumerate() {
            for to in needs {
                waiting[*to].push(from);
            }
        }
        waiting
    }

    /// The groups of things that need each other in a circle, each in the order of its members' indexes. A thing that
    /// needs itself is a group of one.
    ///
    /// Tarjan's algorithm with a stack of its own: a chain of any length is fine.
    pub(super) fn circles(&self) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        let count = self.needs.len();
        let (mut index, mut low, mut on_stack) = (vec![NEW; count], vec![NEW; count], vec![false; count]);
        let (mut stack, mut circles, mut next) = (Vec::new(), Vec::new(), 0);
        for root in 0..count {
            if index[root] != NEW {
                continue;
            }
            let mut path = vec![(root, 0)];
            while let Some((node, edge)) = path.last_mut() {
                let node = *node;
                if *edge == 0 && index[node] == NEW {
                    index[node] = next;
                    low[node] = next;
                    next += 1;
                    stack.push(node);
                    on_stack[node] = true;
                }
                if let Some(&to) = self.needs[node].get(*edge) {
                    *edge += 1;
                    if index[to] == NEW {
                        path.push((to, 0));
                    } else if on_stack[to] {
                        low[node] = low[node].min(index[to]);
                    }
                    continue;
                }
                path.pop();
                if let Some((parent, _)) = path.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
                if low[node] == index[node] {
                    let mut group = Vec::new();
                    while let Some(member) = stack.pop() {
                        on_stack[member] = false;
                        group.push(member);
                        if member == node {
                            break;
                        }
                    }
                    if group.len() > 1 || self.needs[node].contains(&node) {
                        group.sort_unstable();
                        circles.push(group);
                    }
                }
            }
        }
        circles.sort();
        circles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_whole() {
        let mut graph = Graph::new(7);
        for (from, to) in [(0, 1), (1, 2), (2, 1), (3, 3), (4, 5), (5, 6), (6, 4), (0, 3)] {
            graph.add(from, to);
        }
        assert_eq!(graph.circles(), [vec![1, 2], vec![3], vec![4, 5, 6]]);
        assert_eq!(graph.waiting()[1], [0, 2]);
    }

    #[test]
    fn a_long_chain_is_no_circle() {
        let mut graph = Graph::new(200_000);
        for i in 1..200_000 {
            graph.add(i, i - 1);
        }
        assert!(graph.circles().is_empty());
    }
}
