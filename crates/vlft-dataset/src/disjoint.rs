//! Disjoint sets of numbers that can be joined (union-find).

pub(crate) struct Sets {
    parent: Vec<u32>,
    /// How many joins brought two sets together.
    pub(crate) joins: usize,
}

impl Sets {
    /// Each number below `count` is a set of its own.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            parent: (0..count as u32).collect(),
            joins: 0,
        }
    }

    /// The smallest number of the set.
    pub(crate) fn root(&mut self, item: usize) -> usize {
        let mut item = item as u32;
        while self.parent[item as usize] != item {
            let above = self.parent[item as usize];
            self.parent[item as usize] = self.parent[above as usize];
            item = above;
        }
        item as usize
    }

    /// The smallest number of the set of each.
    pub(crate) fn roots(&mut self) -> &[u32] {
        for item in 0..self.parent.len() {
            // What is above has a smaller number, and points at its root by now.
            self.parent[item] = self.parent[self.parent[item] as usize];
        }
        &self.parent
    }

    /// Whether they were apart before.
    pub(crate) fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parent[a.max(b)] = a.min(b) as u32;
            self.joins += 1;
        }
        a != b
    }
}
