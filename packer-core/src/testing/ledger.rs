//! The behaviour suite of ledgers.

use std::sync::Arc;

use crate::ledger::{Ledger, Resource};

/// Checks every rule of [`Ledger`] on a new, empty ledger.
///
/// # Panics
/// Where a rule is broken.
pub fn suite(ledger: &dyn Ledger) {
    let names = || -> Vec<String> { ledger.outstanding().into_iter().map(|r| r.name).collect() };
    assert!(names().is_empty(), "a new ledger is empty");
    let resources: Vec<Resource> = ["a", "b", "c", "d"].iter().map(|n| Resource::new("thing", *n)).collect();
    for resource in &resources {
        ledger.record(resource).unwrap();
    }
    assert_eq!(names(), ["a", "b", "c", "d"], "the order of recording stays");

    let mut changed = resources[1].clone().with_details("more");
    changed.name = "b2".to_owned();
    ledger.record(&changed).unwrap();
    assert_eq!(names(), ["a", "b2", "c", "d"], "recording an id again replaces the entry in its place");
    assert_eq!(ledger.outstanding()[1], changed, "an entry comes back whole");

    ledger.released(resources[0].id).unwrap();
    ledger.kept(resources[2].id).unwrap();
    assert_eq!(names(), ["b2", "d"], "what is released or kept is no longer outstanding");
    ledger.released(resources[0].id).unwrap();
    ledger.kept(resources[0].id).unwrap();
    ledger.released(Resource::new("thing", "never").id).unwrap();
    assert_eq!(names(), ["b2", "d"], "striking out what is not there is no error");

    ledger.record(&resources[0]).unwrap();
    assert_eq!(names(), ["b2", "d", "a"], "an id that was struck out may come again");
    for resource in &resources {
        ledger.released(resource.id).unwrap();
    }
    assert!(names().is_empty());
}

/// Checks that a ledger keeps every entry when many threads write at once. The ledger must be empty.
///
/// # Panics
/// Where one is lost.
pub fn suite_concurrent(ledger: Arc<dyn Ledger>) {
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let ledger = ledger.clone();
            std::thread::spawn(move || {
                for i in 0..20 {
                    let resource = Resource::new("thing", format!("{thread}-{i}"));
                    ledger.record(&resource).unwrap();
                    if i % 2 == 0 {
                        ledger.released(resource.id).unwrap();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut names: Vec<String> = ledger.outstanding().into_iter().map(|r| r.name).collect();
    names.sort();
    let mut expected: Vec<String> =
        (0..8).flat_map(|t| (1..20).step_by(2).map(move |i| format!("{t}-{i}"))).collect();
    expected.sort();
    assert_eq!(names, expected, "every entry of every thread is there");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{FileLedger, MemoryLedger};
    use crate::testing::TempFolder;

    #[test]
    fn ours_pass() {
        suite(&MemoryLedger::new());
        suite_concurrent(Arc::new(MemoryLedger::new()));
        let folder = TempFolder::new();
        suite(&FileLedger::open(folder.path().join("one")).unwrap());
        let path = folder.path().join("two");
        suite_concurrent(Arc::new(FileLedger::open(&path).unwrap()));
        assert_eq!(FileLedger::open(&path).unwrap().outstanding().len(), 80, "all of it is in the file");
    }
}
