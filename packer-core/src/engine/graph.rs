//! The order of builds: which wait for which.

use std::collections::{BTreeSet, HashMap};

use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use crate::pipeline::Build;

/// Builds by their place in the pipeline, with what they need and what needs them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) needs: Vec<BTreeSet<usize>>,
    pub(crate) dependents: Vec<Vec<usize>>,
}

impl Graph {
    /// # Errors
    /// One finding for each name that no build has, and one that names the builds of a circle.
    pub(crate) fn of(builds: &[Build]) -> Result<Self, Diagnostics> {
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::with_capacity(builds.len());
        for (i, build) in builds.iter().enumerate() {
            by_name.entry(build.name()).or_default().push(i);
        }
        let mut findings = Diagnostics::new();
        let mut graph =
            Self { needs: vec![BTreeSet::new(); builds.len()], dependents: vec![Vec::new(); builds.len()] };
        for (i, build) in builds.iter().enumerate() {
            for name in &build.needs {
                match by_name.get(name.as_str()) {
                    Some(needed) => graph.needs[i].extend(needed),
                    None => findings.push(unknown(build, name, &by_name)),
                }
            }
        }
        for (i, needs) in graph.needs.iter().enumerate() {
            for needed in needs {
                graph.dependents[*needed].push(i);
            }
        }
        if !findings.has_errors()
            && let Some(circle) = graph.circle()
        {
            let mut names: Vec<_> = circle.iter().map(|i| format!("{:?}", builds[*i].name())).collect();
            names.push(names[0].clone());
            let detail = format!("None of them can start before the others: {}.", names.join(" needs "));
            let mut finding = Diagnostic::error("Builds need each other").detail(detail);
            finding.location = builds[circle[0]].location.clone();
            findings.push(finding);
        }
        findings.into_result(graph)
    }

    /// Builds of which each needs the next and the last the first.
    fn circle(&self) -> Option<Vec<usize>> {
        let mut missing: Vec<usize> = self.needs.iter().map(BTreeSet::len).collect();
        let mut ready: Vec<usize> = (0..missing.len()).filter(|i| missing[*i] == 0).collect();
        while let Some(i) = ready.pop() {
            for d in &self.dependents[i] {
                missing[*d] -= 1;
                if missing[*d] == 0 {
                    ready.push(*d);
                }
            }
        }
        // What is left needs something that is left: following that must come back somewhere.
        let left = |i: usize| missing[i] > 0;
        let mut at = (0..missing.len()).find(|i| left(*i))?;
        let mut seen_at: HashMap<usize, usize> = HashMap::new();
        let mut path = Vec::new();
        loop {
            if let Some(start) = seen_at.insert(at, path.len()) {
                return Some(path.split_off(start));
            }
            path.push(at);
            at = self.needs[at].iter().copied().find(|i| left(*i))?;
        }
    }
}

fn unknown(build: &Build, name: &str, by_name: &HashMap<&str, Vec<usize>>) -> Diagnostic {
    let mut finding = Diagnostic::error("Unknown build").detail(format!(
        "The build {:?} needs the build {name:?}, which is not part of this run.",
        build.name()
    ));
    let mut names: Vec<&str> = by_name.keys().copied().collect();
    names.sort_unstable();
    if let Some(similar) = did_you_mean(name, names) {
        finding = finding.suggest(similar);
    }
    finding.location = build.location.clone();
    finding
}
